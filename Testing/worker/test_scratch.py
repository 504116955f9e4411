"""Temporary folders, which hold voxels of patients, do not outlive their process for good."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from medseg import scratch

OTHER = """
import sys
from pathlib import Path
from medseg import scratch
folder = scratch.new_folder(Path(sys.argv[1]))
(folder / "input0.raw").write_bytes(bytes(100))
print(folder, flush=True)
sys.stdin.read()
"""


def _other(within: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(within)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_the_folder_of_a_killed_process_goes_with_the_next_one_and_that_of_a_living_one_stays(tmp_path: Path) -> None:
    """Else each crash of Slicer leaves a volume in memory or on the disk, until nothing fits there any more."""
    (living, in_use), (killed, orphan) = _other(tmp_path), _other(tmp_path)
    killed.kill()
    killed.wait()
    foreign = tmp_path / "medseg-of-somebody"  # has no owner file: not ours to judge
    foreign.mkdir()
    try:
        with scratch.temporary(tmp_path) as folder:
            assert not orphan.exists()
            assert (in_use / "input0.raw").stat().st_size == 100
            with scratch.temporary(tmp_path):
                assert folder.exists(), "a second folder of one process took the first away"
    finally:
        living.kill()
        living.wait()
    assert sorted(tmp_path.iterdir()) == sorted([in_use, foreign])


def test_what_children_keep_goes_into_the_same_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a cancelled command leaves the files of its own child processes behind."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with scratch.own_place() as place:
        said = subprocess.check_output([sys.executable, "-c", "import tempfile; print(tempfile.mkdtemp())"], text=True)
        assert Path(said.strip()).parent == place
    assert not list(tmp_path.iterdir())


def test_a_file_system_without_locks_keeps_its_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the folder of a run that is under way would be taken away where nobody can tell."""
    monkeypatch.setattr(scratch, "try_lock", lambda file: None)
    first = scratch.new_folder(tmp_path)
    monkeypatch.setattr(scratch, "_held", {})
    second = scratch.new_folder(tmp_path)
    assert first.exists() and second.exists()

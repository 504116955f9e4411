"""What a command loads before its network runs: each library costs the user a part of a second, each time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

#: Stands in for the network's run, and says what was loaded until then.
_UNTIL_THE_NETWORK = """
import json, os, sys
import medseg.pipeline.labels as labels

def begun(*_, **__):
    print(json.dumps(sorted(sys.modules)), flush=True)
    os._exit(0)

labels.infer = begun
import medseg.cli
medseg.cli.main()
"""
#: Only some models and results need these; scipy.ndimage alone takes a quarter of a second.
_NOT_NEEDED = (
    "scipy.ndimage", "scipy.sparse", "scipy.spatial", "scipy.special", "matplotlib", "highdicom", "jinja2",
    "openvino", "slicer", "vtk", "medseg.library.importer", "medseg.compare.pairs", "medseg.report.page",
)  # fmt: skip


def loaded(model: str, image: Path, folder: Path) -> set[str]:
    """Modules in memory when ``medseg run`` begins the network."""
    command = ["run", model, str(image), "-o", str(folder), "--device", "cpu", "--no-scene", "--modality", "MR"]
    done = subprocess.run(
        [sys.executable, "-c", _UNTIL_THE_NETWORK, *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    ("name", "further"),
    [("image.nii.gz", ()), ("image.nrrd", ("pydicom", "nibabel"))],
    ids=["NIfTI", "NRRD, which needs neither pydicom nor nibabel"],
)
def test_the_network_begins_before_libraries_that_it_does_not_need_are_loaded(
    tmp_path: Path, name: str, further: tuple[str, ...]
) -> None:
    image = sitk.GetImageFromArray(np.random.default_rng(0).normal(100, 9, (8, 24, 24)).astype(np.float32))
    sitk.WriteImage(image, str(tmp_path / name))
    modules = loaded("cmb-compact", tmp_path / name, tmp_path / "out")
    assert "onnxruntime" in modules  # the network was opened
    assert sorted(modules & {*_NOT_NEEDED, *further}) == []


def test_a_warm_worker_reads_the_versions_of_its_packages_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from medseg.pipeline import run as running

    first = running.versions()
    monkeypatch.setattr(running.metadata, "version", lambda name: pytest.fail(f"{name} was looked up again"))
    first["numpy"] = "changed by a caller"
    assert running.versions()["numpy"] == np.__version__


@pytest.mark.skipif(os.name != "posix", reason="closed streams of a POSIX shell")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_command_works_without_its_standard_streams(tmp_path: Path, closed: str) -> None:
    """A service or a job scheduler may start it without them: nothing was run, with an AttributeError."""
    command = f'"{sys.executable}" -m medseg.cli phantom flair -o "{tmp_path / "out"}"'
    done = subprocess.run(["sh", "-c", f"{command} {closed}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert list((tmp_path / "out" / "images").glob("*.nrrd"))


_SAY = ("--help", "run --help", "models list", "models list --json", "models show ich-compact", "devices --json",
        "phantom flair -o {out}", "phantom flair -o {out} --json")  # fmt: skip
_WRONG = "run no-such-model {out} -o {out}"


@pytest.mark.skipif(os.name != "posix", reason="SIGPIPE is of POSIX")
@pytest.mark.parametrize(
    ("words", "closed", "code"),
    [
        *((words, "stdout", 141) for words in _SAY),
        ("models list", "stderr", 0),
        (_WRONG, "stdout", 3),
        (_WRONG, "stderr", 141),
        (f"{_WRONG} --json", "stdout", 141),
    ],
)
def test_a_command_whose_output_nobody_reads_ends_quietly(tmp_path: Path, words: str, closed: str, code: int) -> None:
    """``medseg models list | head -1`` must not look like a fault (code 1) to the script that does it."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "medseg.cli", *words.format(out=tmp_path / "out").split()]
    with (tmp_path / "other").open("w") as other:
        streams = {"stdout": other, "stderr": other} | {closed: writer}
        ended = subprocess.run(command, **streams, check=False).returncode
    os.close(writer)
    said = (tmp_path / "other").read_text()
    assert ended == code and "Traceback" not in said and "Exception" not in said, said

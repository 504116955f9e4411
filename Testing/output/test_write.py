"""Files of a result: what a user loses when these fail is the result itself, or an earlier one."""

from __future__ import annotations

import csv
import errno
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings

from medseg.errors import Cancelled, OutputError
from medseg.geometry.grid import Grid
from medseg.io.segmentations import read_segmentation
from medseg.monitor import Monitor
from medseg.output.files import save_segmentation, write_map, write_segmentation
from medseg.output.folder import check_output, write_result
from medseg.result import Layer, Result, SegmentClass
from support.geometry import grids
from support.mrml_samples import BLEED, labels, overlapping, result, tables, volume


def write(folder: Path, given_result: Result | None = None, **options: object) -> Path:
    options.setdefault("sinks", ())
    return write_result(given_result or result(), folder, volume=volume(), **options)  # type: ignore[arg-type]


def everything_in(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


# -- contents -----------------------------------------------------------------------------------------------


def test_folder_holds_segmentation_tables_and_provenance(tmp_path: Path) -> None:
    folder = write(tmp_path / "new" / "case 1")
    assert everything_in(folder) == ["result.json", "segmentation.seg.nrrd", "segments.csv"]
    summary = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert summary["model"]["id"] == "ich-demo"
    assert summary["warnings"] == ["A told warning."]
    assert summary["seconds"]["infer"] == 0.5
    assert summary["seconds"]["write"] >= 0
    assert summary["tables"]["segments"][2]["unit"] == "ml"
    assert [s["name"] for s in summary["segments"]] == ["Bleed", "Ödem, perifokal"]
    assert sorted(summary["files"]) == everything_in(folder)


def test_csv_has_the_rows_of_the_table(tmp_path: Path) -> None:
    folder = write(tmp_path / "case")
    with (folder / "segments.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["segment"] for row in rows] == ["Bleed", "Ödem, perifokal"]
    assert float(rows[0]["volume"]) == pytest.approx(0.1625)
    assert rows[1]["first_slice"] == ""
    assert len(rows) == len(tables()["segments"].rows)


def test_segmentation_header_says_what_the_labels_mean(tmp_path: Path) -> None:
    folder = write(tmp_path / "case")
    image = sitk.ReadImage(str(folder / "segmentation.seg.nrrd"))
    assert np.array_equal(sitk.GetArrayFromImage(image), labels())
    assert Grid.from_sitk(image).same_as(result().grid, 1e-6)
    assert image.GetMetaData("Segment1_Name") == "Ödem, perifokal"
    assert image.GetMetaData("Segment1_LabelValue") == "7"
    assert f"TerminologyEntry:{BLEED}|" in image.GetMetaData("Segment0_Tags")


def test_overlapping_classes_are_layers_of_a_list_axis(tmp_path: Path) -> None:
    folder = write(tmp_path / "case", overlapping())
    header = (folder / "segmentation.seg.nrrd").read_bytes().split(b"\n\n")[0].decode()
    assert "kinds: list domain domain domain" in header
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "segmentation.seg.nrrd")))
    assert array.shape == (*overlapping().grid.shape, 2)
    for n, layer in enumerate(overlapping().layers):
        assert np.array_equal(array[..., n], layer.labels)


def test_segments_of_one_label_value_in_several_layers_have_identifiers_of_their_own(tmp_path: Path) -> None:
    """Overlapping segments that people draw all have the value 1; Slicer keeps the last of one identifier only."""
    grid = Grid((6, 5, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3))
    layers = [
        Layer((np.arange(120).reshape(4, 5, 6) % n == 0).astype(np.uint8), (SegmentClass(1, name, (1.0, 0.0, 0.0)),))
        for n, name in ((2, "edema"), (3, "core"), (5, "necrosis"))
    ]
    image = sitk.ReadImage(str(save_segmentation(tmp_path / "r.seg.nrrd", layers, grid, "brats")))
    assert [image.GetMetaData(f"Segment{n}_ID") for n in range(3)] == ["brats_1", "brats_1_1", "brats_1_2"]
    back = read_segmentation(tmp_path / "r.seg.nrrd")
    assert [int(back.mask(n).sum()) for n in ("edema", "core", "necrosis")] == [60, 40, 24]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(grid=grids(max_size=6))
def test_any_geometry_survives_the_file(tmp_path: Path, grid: Grid) -> None:
    array = np.arange(np.prod(grid.size), dtype=np.uint16).reshape(grid.shape)
    path = tmp_path / "any.seg.nrrd"
    write_segmentation(path, [Layer(array, (SegmentClass(1, "a", (1, 0, 0)),))], grid)
    image = sitk.ReadImage(str(path))
    assert np.array_equal(sitk.GetArrayFromImage(image), array)
    assert Grid.from_sitk(image).same_as(grid, 1e-4)


def test_probabilities_keep_class_names_and_geometry(tmp_path: Path) -> None:
    given_result = result()
    shape = given_result.grid.shape
    given_result.probabilities = {
        "a/b": np.full(shape, 0.25, np.float16),
        "a:b": np.full(shape, 0.75, np.float32),
    }
    folder = write(tmp_path / "case", given_result)
    assert everything_in(folder / "probabilities") == ["a-b.nii.gz", "a-b_2.nii.gz"]
    image = sitk.ReadImage(str(folder / "probabilities" / "a-b_2.nii.gz"))
    assert np.all(sitk.GetArrayFromImage(image) == np.float32(0.75))
    assert Grid.from_sitk(image).same_as(given_result.grid, 1e-3)


def test_new_folder_is_readable_as_other_new_folders_are(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    folder = write(tmp_path / "case")
    assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE(other.stat().st_mode)


# -- an earlier result, and other files -----------------------------------------------------------------------


def test_earlier_result_is_kept_without_force(tmp_path: Path) -> None:
    folder = write(tmp_path / "case")
    before = {name: (folder / name).read_bytes() for name in everything_in(folder)}
    with pytest.raises(OutputError, match=r"already holds a result.*--force"):
        write(folder, overlapping())
    assert {name: (folder / name).read_bytes() for name in everything_in(folder)} == before


def test_force_replaces_the_result_and_leaves_other_files(tmp_path: Path) -> None:
    first = result()
    first.probabilities = {"Bleed": np.zeros(first.grid.shape, np.float32)}
    folder = write(tmp_path / "case", first)
    (folder / "my notes.txt").write_text("keep me")
    write(folder, overlapping(), force=True)
    # The old table and map belong to the old result; the note is the user's.
    assert everything_in(folder) == ["my notes.txt", "result.json", "segmentation.seg.nrrd"]
    assert json.loads((folder / "result.json").read_text())["model"]["id"] == "overlap"


def test_listed_files_outside_the_folder_are_never_removed(tmp_path: Path) -> None:
    folder = write(tmp_path / "case")
    victim = tmp_path / "victim.txt"
    victim.write_text("not yours")
    summary = json.loads((folder / "result.json").read_text())
    summary["files"] += ["../victim.txt", str(victim)]
    (folder / "result.json").write_text(json.dumps(summary))
    write(folder, force=True)
    assert victim.read_text() == "not yours"


def test_folder_with_other_files_is_used_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "input.nii").write_text("x")
    write(tmp_path)
    assert "input.nii" in everything_in(tmp_path)
    assert "result.json" in everything_in(tmp_path)


# -- failures -----------------------------------------------------------------------------------------------


def test_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(OutputError, match="is a file"):
        write(tmp_path / "out")
    with pytest.raises(OutputError, match="is a file"):
        write(tmp_path / "out" / "deeper")


def test_missing_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The superuser may write everywhere, so the answer of the system is put in place.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(OutputError, match="not writable"):
        check_output(tmp_path / "case")


@pytest.mark.parametrize("existing", [False, True], ids=["new folder", "existing folder"])
def test_full_disk_is_named_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: bool
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("medseg.output.folder.write_segmentation", full)
    target = tmp_path / "a" / "b"
    if existing:
        target.mkdir(parents=True)
    with pytest.raises(OutputError, match="disk is full"):
        write(target)
    assert everything_in(tmp_path) == (["a", "a/b"] if existing else [])


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
@pytest.mark.parametrize("kind", ["segmentation", "probability"])
def test_cut_off_file_is_noticed(tmp_path: Path, kind: str) -> None:
    """SimpleITK reports success for a NIfTI file that the system cut off; a user would keep an unreadable map."""
    grid = Grid((80, 80, 80), (1, 1, 1), (0, 0, 0), np.eye(3))
    noise = np.random.default_rng(0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"[Ff]ile too large"):
            if kind == "segmentation":
                array = noise.integers(0, 255, grid.shape).astype(np.uint8)
                write_segmentation(tmp_path / "x.seg.nrrd", [Layer(array, ())], grid)
            else:
                write_map(tmp_path / "x.nii.gz", noise.random(grid.shape), grid)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_failure_while_moving_in_puts_the_earlier_result_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "case")
    before = {name: (folder / name).read_bytes() for name in everything_in(folder)}
    move = Path.replace

    def locked(self: Path, target: Path) -> Path:
        if self.name == "result.json" and self.parent != folder and not self.parent.name.endswith("-old"):
            raise PermissionError(errno.EACCES, "open in another program")
        return move(self, target)

    monkeypatch.setattr(Path, "replace", locked)
    with pytest.raises(OutputError, match="not writable"):
        write(folder, overlapping(), force=True)
    monkeypatch.undo()
    assert {name: (folder / name).read_bytes() for name in everything_in(folder)} == before


def test_cancel_while_writing_leaves_nothing(tmp_path: Path) -> None:
    monitor = Monitor()

    def stop(*_: object) -> None:
        monitor.cancel()

    with pytest.raises(Cancelled):
        write(tmp_path / "case", monitor=monitor, sinks={"slow": stop})
    assert everything_in(tmp_path) == []


def test_interrupt_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "case", sinks={"slow": interrupt})
    assert everything_in(tmp_path) == []


def test_killed_run_leaves_no_folder_that_looks_complete(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; sys.path[:0] = sys.argv[2].split(os.pathsep)\n"
        "from test_write import write; from pathlib import Path\n"
        "write(Path(sys.argv[1]), sinks={'dies': lambda *_: os.kill(os.getpid(), 9)})"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "case"), os.pathsep.join(sys.path)]
    assert subprocess.run(command, check=False).returncode != 0
    assert not (tmp_path / "case").exists()


# -- sinks --------------------------------------------------------------------------------------------------


def test_failing_sink_is_a_warning_and_takes_its_files_with_it(tmp_path: Path) -> None:
    def fails(_result: object, _volume: object, folder: Path, _model: object, _monitor: object) -> None:
        (folder / "half.png").write_text("half")
        raise RuntimeError("no screen")

    def works(_result: object, _volume: object, folder: Path, _model: object, _monitor: object) -> None:
        (folder / "extra.txt").write_text("all")

    monitor = Monitor()
    folder = write(tmp_path / "case", monitor=monitor, sinks={"picture": fails, "extra": works})
    assert "half.png" not in everything_in(folder)
    assert (folder / "extra.txt").read_text() == "all"
    summary = json.loads((folder / "result.json").read_text())
    assert "extra.txt" in summary["files"]
    assert any("'picture' was not made: no screen" in w for w in summary["warnings"])


def test_unknown_sink_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no sink 'nonsense'"):
        write(tmp_path / "case", sinks=["nonsense"])
    assert everything_in(tmp_path) == []


def test_writing_runs_outside_the_main_thread(tmp_path: Path) -> None:
    """The worker writes from a thread of its own."""
    thread = threading.Thread(target=write, args=(tmp_path / "case",))
    thread.start()
    thread.join(60)
    assert (tmp_path / "case" / "result.json").is_file()

"""What a cohort is made of: each kind of source from its files to the table, since a wrong pairing is never noticed."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from medseg.cli import app
from medseg.cli import cohort as command
from medseg.cohort.one_case import Job, Record, Runner
from medseg.io import series_facts
from medseg.pipeline.options import RunOptions
from medseg.review.cases import find_cases
from support import dicom_images, tiny_networks
from support.cohorts import make_old
from support.io_samples import write_nifti

VOXELS = np.arange(6 * 16 * 16, dtype=np.int16).reshape(6, 16, 16)


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of their own are tested elsewhere and take seconds to start."""

    def crew(source: str, options: RunOptions, jobs: Iterable[Job], workers: int, tell: Any) -> Iterator[Record]:
        runner = Runner(source, options)
        yield from map(runner.do, jobs)

    monkeypatch.setattr(command, "_crew", lambda *_: crew)


def written(folder: Path, weights: list[list[float]], above: float, *channels: str) -> Path:
    """A model with a class where the weighted sum of the channels' voxels is above ``above``."""
    folder.mkdir()
    network = tiny_networks.model(
        [onnx.helper.make_node("Conv", ["x", "w", "b"], ["y"])], {"x": [None, len(channels), None, None]}, ["y"],
        {"w": np.array(weights, np.float32).reshape(2, -1, 1, 1), "b": np.array([0, -above], np.float32)},
    )  # fmt: skip
    network.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("y", 1, [None, 2, None, None]))
    onnx.save(network, folder / "model.onnx")
    inference = {"mode": "slicewise", "plane": "axial"}
    manifest = tiny_networks.manifest(
        inference, {"restore": "labels"}, channels=[{"name": c, "modality": ["MR"]} for c in channels]
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json(exclude_none=True), encoding="utf-8")
    return folder


@pytest.fixture
def one(tmp_path: Path) -> Path:
    return written(tmp_path / "one", [[0], [1]], 499.5, "image")


@pytest.fixture
def two(tmp_path: Path) -> Path:
    return written(tmp_path / "two", [[0, 0], [1, -1]], 0, "T1", "FLAIR")


def ran(tmp_path: Path, model: Path, source: Path, *words: str, code: int = 0) -> dict[str, dict[str, str]]:
    """The rows of cohort.csv by case."""
    done = CliRunner().invoke(app, ["cohort", str(model), str(source), "-o", str(tmp_path / "out"), *words])
    assert done.exit_code == code, done.output
    with (tmp_path / "out" / "cohort.csv").open(encoding="utf-8", newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


def refused(tmp_path: Path, model: Path, source: Path, *words: str) -> str:
    done = CliRunner().invoke(app, ["cohort", str(model), str(source), "-o", str(tmp_path / "out"), *words])
    assert done.exit_code == 2 and not (tmp_path / "out").exists()
    return " ".join(done.output.split())


def nifti(path: Path, add: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_nifti(path, VOXELS + add, qform_code=1)
    return path


def voxels(row: dict[str, str]) -> int:
    return next(int(value) for name, value in row.items() if name.endswith(".voxels"))


def test_bids_takes_the_images_of_one_suffix_and_session(tmp_path: Path, one: Path) -> None:
    data = tmp_path / "bids"
    nifti(data / "sub-01" / "ses-1" / "anat" / "sub-01_ses-1_FLAIR.nii", 10)
    nifti(data / "sub-01" / "ses-2" / "anat" / "sub-01_ses-2_FLAIR.nii", 20)
    nifti(data / "sub-01" / "ses-2" / "anat" / "sub-01_ses-2_T1w.nii", 500)
    nifti(data / "sub-02" / "ses-1" / "anat" / "sub-02_ses-1_run-1_FLAIR.nii", 30)
    nifti(data / "derivatives" / "sub-01" / "anat" / "sub-01_FLAIR.nii", 999)
    assert "FLAIR (3), T1w (1)" in refused(tmp_path, one, data), "which images is never guessed"
    assert "no folders sub-*" in refused(tmp_path, one, data / "derivatives" / "sub-01", "--suffix", "T1w")
    rows = ran(tmp_path, one, data, "--suffix", "FLAIR", "--session", "1")
    assert {case: voxels(row) for case, row in rows.items()} == {
        "sub-01_ses-1_FLAIR": int((VOXELS + 10 > 499.5).sum()),
        "sub-02_ses-1_run-1_FLAIR": int((VOXELS + 30 > 499.5).sum()),
    }


def test_bids_puts_the_channels_of_a_visit_together(tmp_path: Path, two: Path) -> None:
    data = tmp_path / "bids"
    for subject, flair in (("01", -1), ("02", 1), ("03", 1)):
        for suffix, add in (("T1w", 0), ("FLAIR", flair)):
            nifti(data / f"sub-{subject}" / "anat" / f"sub-{subject}_{suffix}.nii", add)
    (data / "sub-03" / "anat" / "sub-03_FLAIR.nii").unlink()
    assert '--suffix "T1=..." --suffix "FLAIR=..."' in refused(tmp_path, two, data)
    rows = ran(tmp_path, two, data, "--suffix", "T1=T1w", "--suffix", "FLAIR=FLAIR", code=2)
    assert voxels(rows["sub-01"]) == VOXELS.size and voxels(rows["sub-02"]) == 0
    assert rows["sub-03"]["problem"] == "sub-03 has 0 images FLAIR, not one each; name the files in a CSV."


def test_a_table_names_the_files_of_each_channel_and_a_missing_one_costs_a_row(tmp_path: Path, two: Path) -> None:
    for name, add in (("a", 0), ("b", -1), ("c", 1)):
        nifti(tmp_path / "data" / f"{name}.nii", add)
    table = tmp_path / "data" / "list.csv"
    table.write_text("case,flair,t1\nfirst,b.nii,a.nii\nsecond,c.nii,a.nii\nthird,gone.nii,a.nii\nfourth,,a.nii\n")
    rows = ran(tmp_path, two, table, code=2)
    assert voxels(rows["first"]) == VOXELS.size and voxels(rows["second"]) == 0
    assert rows["third"]["problem"] == "Row 4 of list.csv: gone.nii is not there."
    assert rows["fourth"]["problem"] == "Row 5 of list.csv: FLAIR is not there."
    listed = find_cases(tmp_path / "out" / "cases.csv")
    assert [c.name for c in listed] == ["third", "fourth", "first", "second"], "failed ones first, all with an image"
    table.write_text("case,t1\nfirst,a.nii\n")
    shutil.rmtree(tmp_path / "out")
    assert "no column for FLAIR" in refused(tmp_path, two, table)


def test_a_plain_folder_is_refused_for_several_channels(tmp_path: Path, two: Path) -> None:
    nifti(tmp_path / "data" / "a.nii")
    assert "columns case, T1, FLAIR" in refused(tmp_path, two, tmp_path / "data")


def series(folder: Path, study: str, add: int, description: str, slices: int = 6, **tags: Any) -> None:
    dicom_images.write_series(
        folder, (VOXELS[:slices] + add).astype(np.int16), [(0, 0, 2 * k) for k in range(slices)], "MR",
        StudyInstanceUID=study, SeriesDescription=description, PatientName="SECRET^NAME", **tags,
    )  # fmt: skip


def test_in_a_tree_of_studies_the_fitting_series_of_each_is_taken(tmp_path: Path, two: Path) -> None:
    tree = tmp_path / "archive"
    for n, visit in enumerate(("p1/2019", "p1/2020", "p2/visit"), start=1):
        series(tree / visit / "a", f"1.2.{n}", 0, "T1 mprage", SeriesNumber=1)
        series(tree / visit / "b", f"1.2.{n}", -n, "T2 FLAIR", SeriesNumber=2)
        series(tree / visit / "c", f"1.2.{n}", 0, "localizer", 3, SeriesNumber=3)
    shutil.rmtree(tree / "p2" / "visit" / "b")
    (tree / "notes").mkdir()
    (tree / "notes" / "readme.txt").write_text("not an image")
    rows = ran(tmp_path, two, tree, code=2)
    assert {case: row["state"] for case, row in rows.items()} == {
        "p1_2019": "done", "p1_2020": "done", "p2_visit": "failed"
    }  # fmt: skip
    assert voxels(rows["p1_2019"]) == voxels(rows["p1_2020"]) == VOXELS.size
    problem = rows["p2_visit"]["problem"]
    assert "FLAIR: No series fits" in problem and "in a CSV" in problem and "--series" not in problem
    everything = "".join(p.read_text(errors="ignore") for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert "SECRET" not in everything


def test_a_study_in_one_flat_folder_and_files_without_a_suffix(tmp_path: Path, one: Path) -> None:
    tree = tmp_path / "archive"
    for n in (1, 2):
        series(
            tree / "p1" / str(n),
            "1.2.9",
            n,
            "T1 mprage" if n == 1 else "localizer",
            SeriesNumber=n,
            SeriesInstanceUID=f"1.2.9.{n}",
        )
        for file in sorted((tree / "p1" / str(n)).iterdir()):
            file.rename(tree / "p1" / f"IM{n}{file.stem}")
        (tree / "p1" / str(n)).rmdir()
    rows = ran(tmp_path, one, tree)
    (listed,) = find_cases(tmp_path / "out" / "cases.csv")
    assert listed.image == tree / "p1" and listed.series == "1.2.9.1", "the tab Review opens the same series"
    assert list(rows) == ["p1"] and voxels(rows["p1"]) == int((VOXELS + 1 > 499.5).sum())


def test_headers_of_a_study_that_did_not_change_are_not_read_again(
    tmp_path: Path, one: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """An archive's headers take days; a run that goes on must not begin with them, nor miss a study that grew."""
    tree, looked = tmp_path / "archive", list[str]()
    list_series = series_facts.list_series
    for n in (1, 2):
        series(tree / f"p{n}" / "a", f"1.2.{n}", n, "T1 mprage", SeriesNumber=1)
    make_old(*tree.rglob("*.dcm"))

    monkeypatch.setattr(series_facts, "list_series", lambda path: looked.append(path.name) or list_series(path))
    first = ran(tmp_path, one, tree)
    assert looked == ["p1", "p2"]
    assert ran(tmp_path, one, tree) == first and looked == ["p1", "p2"]
    series(tree / "p2" / "b", "1.2.3", 9, "T1 mprage", SeriesNumber=1)
    rows = ran(tmp_path, one, tree)
    assert looked == ["p1", "p2", "p2"] and set(rows) == {"p1_a", "p2_a", "p2_b"}

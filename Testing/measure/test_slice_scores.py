"""Haemorrhage scores of a CT series: slices, maxima, the challenge's rows and the images that they belong to."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pydicom
import pytest

from medseg import run
from medseg.io import read_volume
from medseg.output.folder import write_result
from medseg.phantoms import head_ct, write_dicom_series
from support import measurement_models as models


def records(table) -> list[dict]:
    return [dict(zip((c.name for c in table.columns), row, strict=True)) for row in table.rows]


@pytest.fixture(scope="module")
def haemorrhage(tmp_path_factory) -> Path:
    return models.haemorrhage_package(tmp_path_factory.mktemp("models") / "ich")


@pytest.fixture
def series(tmp_path) -> Path:
    """A head CT of eight slices as a wrapped 12-bit DICOM series whose UIDs and file names have no order."""
    phantom = head_ct(3, bleeds=["intraparenchymal"], size=(64, 64, 8), spacing=(3.6, 3.6, 16.0))
    names = np.random.default_rng(0).permutation(90)[:8] + 10
    for path, name in zip(write_dicom_series(phantom, tmp_path / "ct", wrapped_12_bit=True), names, strict=True):
        image = pydicom.dcmread(path)
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.3680043.8.498.7.{name}"
        path.unlink()
        image.save_as(path.with_name(f"{name}.dcm"))
    return tmp_path / "ct"


def uids_by_height(folder: Path) -> list[str]:
    images = [pydicom.dcmread(p, stop_before_pixels=True) for p in folder.iterdir()]
    return [str(i.SOPInstanceUID) for i in sorted(images, key=lambda i: i.ImagePositionPatient[2])]


def test_a_ct_series_gives_slices_scores_and_the_challenge_rows(haemorrhage, series, tmp_path):
    """An ID that belongs to another slice would be scored against another slice's truth."""
    volume = read_volume(series)
    result = run(haemorrhage, volume, device="cpu", threads=1)
    folder = write_result(result, tmp_path / "out", volume=volume, sinks=())
    rows = list(csv.reader((folder / "rsna.csv").open(encoding="utf-8")))
    slices = list(csv.DictReader((folder / "slices.csv").open(encoding="utf-8")))
    order = ["any", "epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural"]
    assert rows[0] == ["ID", "Label"] and len(rows) == 1 + 8 * 6
    expected = uids_by_height(series)
    assert [s["sop_instance_uid"] for s in slices] == expected
    wanted = [
        [f"ID_{uid.rsplit('.', 1)[1]}_{name}", slices[n][name]] for n, uid in enumerate(expected) for name in order
    ]
    assert rows[1:] == wanted
    assert len({s["any"] for s in slices}) == 8, "the slices must differ, or their order is not tested"
    for row in csv.DictReader((folder / "scores.csv").open(encoding="utf-8")):
        column = [float(s[row["class"]]) for s in slices]
        assert float(row["maximum"]) == max(column) and int(row["slice"]) == int(np.argmax(column)) + 1
    assert "Phantom^Synthetic" not in (folder / "rsna.csv").read_text() + (folder / "result.json").read_text()


def test_the_scores_of_the_slices_can_be_plotted(haemorrhage, series):
    """The identifier column must not become a curve, nor hide the six that are."""
    slicer = pytest.importorskip("slicer")
    from medseg_mrml.focus import score_columns
    from medseg_mrml.tables import plot_table, table_to_node

    table = run(haemorrhage, series, device="cpu", threads=1).tables["slices"]
    columns = score_columns(table)
    assert len(columns) == 6
    scene = slicer.vtkMRMLScene()
    node = table_to_node(table, scene)
    chart = plot_table(node, scene, x="slice", columns=columns)
    assert chart.GetNumberOfPlotSeriesNodes() == 6


def test_a_series_with_a_missing_slice_keeps_the_images_of_its_scores(haemorrhage, series):
    gone = sorted(series.iterdir(), key=lambda p: pydicom.dcmread(p).ImagePositionPatient[2])[3]
    gone.unlink()
    result = run(haemorrhage, series, device="cpu", threads=1)
    assert result.tables["slices"].column("sop_instance_uid") == uids_by_height(series)
    assert len(result.tables["rsna"].rows) == 7 * 6


def test_without_image_identifiers_slices_are_numbered_and_told(haemorrhage):
    volume = head_ct(3, bleeds=[], size=(64, 64, 4), spacing=(3.6, 3.6, 30.0)).volume
    result = run(haemorrhage, volume, device="cpu", threads=1)
    assert result.tables["rsna"].column("ID")[:7:6] == ["ID_1_any", "ID_2_any"]
    assert any("called by slice number" in w for w in result.warnings)


def test_images_whose_identifiers_end_alike_keep_the_whole_identifier(haemorrhage, series):
    for n, path in enumerate(sorted(series.iterdir())):
        image = pydicom.dcmread(path)
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{n + 1}.1"
        image.save_as(path)
    names = run(haemorrhage, series, device="cpu", threads=1).tables["rsna"].column("ID")
    assert len(set(names)) == len(names) and names[0].startswith("ID_1.2.3.")

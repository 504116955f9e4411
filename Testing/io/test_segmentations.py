"""A mask made elsewhere is read with its names, colours and codes: a reviewer must not see Segment_1, Segment_2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.errors import InputError
from medseg.geometry.grid import Grid
from medseg.io import read_segmentation
from medseg.io.label_names import read_table
from medseg.monitor import Monitor
from medseg.output.files import save_segmentation
from medseg.result import Layer, SegmentClass
from support.dicom_seg import write_dicom_seg
from support.geometry import grids

LESION = (
    "Segmentation category and type - 3D Slicer General Anatomy list~SCT^49755003^Altered~SCT^52988006^Lesion~^^~~^^~^^"
)
GRID = Grid((9, 8, 7), (1.0, 1.5, 2.0), (3.0, -4.0, 5.0), np.eye(3))


def labels(grid: Grid, seed: int = 0, top: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, top + 1, grid.shape).astype(np.uint8)


def label_map(path: Path, array: np.ndarray, grid: Grid = GRID) -> Path:
    image: Any = sitk.GetImageFromArray(array)
    grid.place(image)
    sitk.WriteImage(image, str(path))
    return path


@settings(max_examples=15, deadline=None)
@given(grid=grids(max_size=6), several=st.booleans())
def test_what_is_saved_is_read_again_on_any_grid(
    tmp_path_factory: pytest.TempPathFactory, grid: Grid, several: bool
) -> None:
    one = SegmentClass(1, "Läsion | links", (1.0, 0.25, 0.0), LESION, lesion=True)
    other = SegmentClass(3, "rest", (0.0, 0.5, 1.0))
    layers = [Layer(labels(grid), (one, other, SegmentClass(2, "middle", (0.0, 1.0, 0.0))))]
    if several:
        layers.append(Layer(labels(grid, 1, 1), (SegmentClass(1, "over", (1.0, 1.0, 0.0)),)))
    path = save_segmentation(tmp_path_factory.mktemp("s") / "a.seg.nrrd", layers, grid, "model-x")
    read = read_segmentation(path)
    assert read.grid.same_as(grid) and read.model_id == "model-x" and not read.warnings
    assert [c.name for c in read.classes] == [c.name for layer in layers for c in layer.classes]
    assert read.classes[0].terminology == LESION and [c.lesion for c in read.classes][:2] == [True, False]
    np.testing.assert_allclose(read.classes[0].color, one.color, atol=1e-5)
    for layer in layers:
        for c in layer.classes:
            np.testing.assert_array_equal(read.mask(c.name), layer.labels == c.value)


def test_what_slicer_writes_is_read_with_names_colours_and_codes(tmp_path: Path, scene: Any, reference: Any) -> None:
    """Two segments that overlap, written by Slicer's own storage node, cropped to what they fill as it does."""
    import slicer
    import vtk

    from medseg_mrml import apply_result
    from support.mrml_samples import overlapping

    result = overlapping()
    node = apply_result(result, scene, reference_node=reference).node
    first = node.GetSegmentation().GetNthSegment(0)
    first.SetName("Blutung rechts")
    first.SetColor(0.2, 0.4, 0.6)
    storage = slicer.vtkMRMLSegmentationStorageNode()
    scene.AddNode(storage)
    storage.SetFileName(str(tmp_path / "slicer.seg.nrrd"))
    assert isinstance(node, vtk.vtkObject) and storage.WriteData(node) == 1
    read = read_segmentation(tmp_path / "slicer.seg.nrrd")
    assert read.classes[0].name == "Blutung rechts"
    np.testing.assert_allclose(read.classes[0].color, (0.2, 0.4, 0.6), atol=1e-5)
    assert len(read.classes) == len(result.classes)
    from medseg.geometry.resample import resample

    for ours, theirs in zip(result.classes, read.classes, strict=True):
        there = resample(
            read.mask(theirs.name).astype(np.uint8), read.grid, result.grid, interpolation="nearest", fill=0
        )
        np.testing.assert_array_equal(there > 0, result.mask(ours.name))


TABLES = {
    "dseg.tsv": "index\tname\tcolor\n1\tvein\t#ff8000\n2\tartery\t#0000ff\n3\tcyst\t#000000\n",
    "seg.csv": "segment,value,voxels\nvein,1,9\n'=artery,2,3\ncyst,3,1\n",
    "slicer.ctbl": "# Color table file x\n# 3 values\n1 vein 255 128 0 255\n2 artery 0 0 255 255\n3 cyst 0 0 0 255\n",
    "snap.label": '# ITK-SnAP\n0 0 0 0 0 0 0 "Clear"\n1 255 128 0 1 1 1 "vein"\n2 0 0 255 1 1 1 "artery"\n'
    '3 0 0 0 1 1 1 "cyst"\n',
    "lut.txt": "#No. Label R G B A\n0 Unknown 0 0 0 0\n1 vein 255 128 0 0\n2 artery 0 0 255 0\n3 cyst 0 0 0 0\n",
    "dataset.json": json.dumps({"labels": {"background": 0, "vein": 1, "artery": 2, "cyst": 3}}),
    "plain.json": json.dumps({"1": "vein", "2": "artery", "3": "cyst"}),
    "list.json": json.dumps([{"value": n, "name": v} for n, v in ((1, "vein"), (2, "artery"), (3, "cyst"))]),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_names_in_all_the_field_s_forms(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(TABLES[name])
    found = read_table(tmp_path / name)
    assert {v: label.name.lstrip("=") for v, label in found.items()} == {1: "vein", 2: "artery", 3: "cyst"}
    if found[1].color is not None:
        np.testing.assert_allclose(found[1].color, (1, 128 / 255, 0))
        assert found[3].color == (0, 0, 0)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_a_label_map_takes_the_table_that_lies_beside_it_and_says_so(tmp_path: Path, suffix: str) -> None:
    path = label_map(tmp_path / f"sub-01_dseg{suffix}", labels(GRID))
    assert [c.name for c in read_segmentation(path).classes] == ["Label 1", "Label 2", "Label 3"]
    (tmp_path / "sub-01_dseg.tsv").write_text(TABLES["dseg.tsv"])
    monitor = Monitor()
    read = read_segmentation(path, monitor=monitor)
    assert [c.name for c in read.classes] == ["vein", "artery", "cyst"]
    assert "sub-01_dseg.tsv" in monitor.notes[0] and read.grid.same_as(GRID)
    np.testing.assert_array_equal(read.mask("artery"), labels(GRID) == 2)


def test_labels_without_a_name_are_kept_and_told(tmp_path: Path) -> None:
    path = label_map(tmp_path / "a.nrrd", labels(GRID))
    (tmp_path / "names.csv").write_text("value,name\n1,vein\n7,nothing\n")
    read = read_segmentation(path, names=tmp_path / "names.csv")
    assert [c.name for c in read.classes] == ["vein", "Label 2", "Label 3", "nothing"]
    assert "2, 3" in read.warnings[0]


def test_nifti_is_read_in_a_plain_slicer_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """nibabel comes with the packages that a reviewer's computer does not have."""
    import builtins

    path = label_map(tmp_path / "m.nii.gz", labels(GRID))
    real = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name.split(".")[0] in ("nibabel", "pydantic", "onnx", "onnxruntime"):
            raise ModuleNotFoundError(name)
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    read = read_segmentation(path)
    np.testing.assert_array_equal(read.mask("Label 3"), labels(GRID) == 3)
    assert read.grid.same_as(GRID)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_dicom_segmentations_come_back_voxel_for_voxel(tmp_path: Path, kind: str) -> None:
    turned = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
    turned[:, 2] *= np.sign(np.linalg.det(turned))
    grid = Grid((10, 9, 12), (0.75, 1.25, 3.0), (10.0, 20.0, -30.0), turned)
    one, two = labels(grid, 2, 1) > 0, labels(grid, 3, 1) > 0
    one[[0, 4, 5]] = two[[0, 4, 5]] = False
    one[1, 2, 3] = True
    masks = {"bleed": one, "bleed old": two & ~one if kind == "LABELMAP" else two}
    read = read_segmentation(write_dicom_seg(tmp_path / "seg.dcm", masks, grid, kind))
    assert [c.name for c in read.classes] == ["bleed", "bleed old"]
    assert "SCT^52988006^Lesion" in read.classes[0].terminology
    np.testing.assert_allclose(read.classes[0].color, (1, 0, 0), atol=0.03)
    assert len(read.layers) == (1 if kind == "LABELMAP" else 2)
    assert read.grid.size == (10, 9, 11)  # the first slice is empty and was not written
    for name, mask in masks.items():
        np.testing.assert_array_equal(read.mask(name), mask[1:])
    np.testing.assert_allclose(read.grid.origin, grid.to_physical([0, 0, 1]), atol=1e-4)
    assert bool(read.warnings) == (kind == "FRACTIONAL")


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.full((3, 4, 5), 0.5, np.float32), "no whole numbers"),
        (np.full((3, 4, 5), -1, np.int16), "from -1"),
        (np.arange(12 * 12 * 12, dtype=np.uint16).reshape(12, 12, 12), "different values"),
    ],
)
def test_what_is_no_mask_is_refused(tmp_path: Path, array: np.ndarray, told: str) -> None:
    image: Any = sitk.GetImageFromArray(array)
    sitk.WriteImage(image, str(tmp_path / "x.nrrd"))
    with pytest.raises(InputError, match=told):
        read_segmentation(tmp_path / "x.nrrd")


def test_a_folder_of_a_run_or_with_one_file_is_its_segmentation(tmp_path: Path) -> None:
    save_segmentation(tmp_path / "case" / "segmentation.seg.nrrd", [Layer(labels(GRID), ())], GRID)
    (tmp_path / "case" / "result.json").write_text("{}")
    read = read_segmentation(tmp_path / "case")
    assert len(read.classes) == 3 and read.name == "case", "all runs have files of one name"
    (tmp_path / "two").mkdir()
    for name in "ab":
        label_map(tmp_path / "two" / f"{name}.nrrd", labels(GRID))
    with pytest.raises(InputError, match="two is a folder"):
        read_segmentation(tmp_path / "two")


def test_saving_keeps_the_old_file_until_the_new_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_segmentation(tmp_path / "a.seg.nrrd", [Layer(labels(GRID), ())], GRID)
    before = path.read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("medseg.output.files.gzip_stream", full)
    with pytest.raises(InputError, match="No space left on device; make room"):
        save_segmentation(path, [Layer(labels(GRID, 9), ())], GRID)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.seg.nrrd"]

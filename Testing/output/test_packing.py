"""Compression in blocks must give files that every reader takes, the same bytes on every machine."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.geometry.grid import Grid
from medseg.output import packing
from medseg.output.files import write_map, write_segmentation
from medseg.result import Layer, SegmentClass

SIZE = (61, 47, 33)
GRID = Grid(SIZE, (0.7, 0.8, 2.5), (-12.0, 5.0, 31.0), np.diag([-1.0, 1.0, 1.0]))


def labels(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.random(SIZE[::-1]) < 0.3).astype(np.uint8)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many blocks from little data."""
    monkeypatch.setattr(packing, "BLOCK", 5000)
    monkeypatch.setattr("medseg.output.files.BLOCK", 5000)


@pytest.mark.parametrize("size", [0, 1, 4999, 5000, 5001, 23456])
def test_the_blocks_are_one_gzip_member_of_the_data(size: int) -> None:
    """Else readers that take the first member only (zlib's own, ITK's) would show a part of the image."""
    data = np.random.default_rng(size).integers(0, 7, size, dtype=np.uint8).tobytes()
    packed = b"".join(packing.gzip_stream(packing.blocks_of(data)))
    assert gzip.decompress(packed) == data
    reader = zlib.decompressobj(zlib.MAX_WBITS | 16)
    assert reader.decompress(packed) == data
    assert reader.eof and reader.unused_data == b""


def test_the_bytes_do_not_depend_on_the_number_of_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same case must give the same file on a laptop and on a server."""
    data = labels().tobytes()
    packed = set()
    for count in (1, 2, 7):
        monkeypatch.setattr(packing, "cores", lambda count=count: count)
        packed.add(b"".join(packing.gzip_stream(packing.blocks_of(data))))
    assert len(packed) == 1


@pytest.mark.parametrize("count", [1, 3])
def test_a_segmentation_of_many_blocks_is_read_back_by_itk_and_slicer(tmp_path: Path, count: int) -> None:
    """A file that only MedSeg can read would be worth nothing."""
    layers = tuple(Layer(labels(n), (SegmentClass(1, f"class {n}", (1, 0, 0)),)) for n in range(count))
    path = tmp_path / "x.seg.nrrd"
    write_segmentation(path, layers, GRID)
    image = sitk.ReadImage(str(path))
    array = sitk.GetArrayFromImage(image).reshape(*SIZE[::-1], -1) if count == 1 else _layers(path, count)
    for n, layer in enumerate(layers):
        np.testing.assert_array_equal(array[..., n], layer.labels)
    slicer = pytest.importorskip("slicer")
    scene = slicer.vtkMRMLScene()
    logic = slicer.vtkSlicerSegmentationsModuleLogic()
    logic.SetMRMLScene(scene)
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    storage = scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(path))
    assert storage.ReadData(node) == 1
    assert node.GetSegmentation().GetNumberOfSegments() == count


def _layers(path: Path, count: int) -> np.ndarray:
    """The layers of a file whose first axis is a list."""
    with path.open("rb") as file:
        header = packing.nrrd_header(file)
        assert f"\nsizes: {count} 61 47 33\n".encode() in header and b"\nkinds: list domain domain domain\n" in header
        data = np.frombuffer(gzip.decompress(file.read()), np.uint8)
    return data.reshape(*SIZE[::-1], count)


def test_a_probability_map_is_the_file_that_itk_would_write(tmp_path: Path) -> None:
    """Values, position and orientation of a map in other programs."""
    values = np.random.default_rng(1).random(SIZE[::-1]).astype(np.float32)
    write_map(tmp_path / "map.nii.gz", values, GRID)
    image = sitk.GetImageFromArray(values)
    GRID.place(image)
    sitk.WriteImage(image, str(tmp_path / "itk.nii"))
    assert gzip.decompress((tmp_path / "map.nii.gz").read_bytes()) == (tmp_path / "itk.nii").read_bytes()


def test_an_uncompressed_nrrd_file_is_packed_as_it_is(tmp_path: Path) -> None:
    """The volume in scene.mrb goes this way."""
    image = sitk.GetImageFromArray(labels().astype(np.int16) * 300 - 100)
    GRID.place(image)
    sitk.WriteImage(image, str(tmp_path / "raw.nrrd"), useCompression=False)
    with (tmp_path / "packed.nrrd").open("wb") as out:
        packing.pack_nrrd(tmp_path / "raw.nrrd", out)
    back = sitk.ReadImage(str(tmp_path / "packed.nrrd"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(image))
    assert back.GetOrigin() == image.GetOrigin() and back.GetDirection() == image.GetDirection()


def test_what_is_compressed_already_is_refused(tmp_path: Path) -> None:
    """Compressed twice, no reader would understand it."""
    sitk.WriteImage(sitk.GetImageFromArray(labels()), str(tmp_path / "x.nrrd"), useCompression=True)
    with pytest.raises(ValueError, match="not the header"):
        packing.pack_nrrd(tmp_path / "x.nrrd", io.BytesIO())

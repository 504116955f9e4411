"""A network that takes images as they are stored gets them as in the file, though Slicer turned the slices round.

Else a head stored as L, I, A reaches an nnU-Net back to front in Slicer, and its labels are others than on the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from medseg import read_volume
from medseg.geometry.grid import Grid
from medseg.geometry.volume import Volume
from medseg.model.manifest.schema import Manifest
from medseg.pipeline.preprocess import prepare
from medseg.pipeline.restore import onto
from support.tiny_networks import manifest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed (pip install 'medseg[slicer]')")

from medseg_mrml import volume_from_node  # noqa: E402

LIA = np.array([[-1.5, 0, 0, 30], [0, 0, 1, -20], [0, -2, 0, 14], [0, 0, 0, 1]])
VALUES = np.random.default_rng(0).random((6, 5, 4)).astype(np.float32)  # x, y, z of the file


def write(path: Path, affine: np.ndarray) -> Path:
    nifti = path.with_suffix(".nii") if path.suffix != ".gz" else path
    image = nibabel.Nifti1Image(VALUES, affine)
    image.set_qform(affine, 1)
    nibabel.save(image, nifti)
    if nifti != path:
        sitk.WriteImage(sitk.ReadImage(str(nifti)), str(path))
    return path


def loaded(path: Path, scene: Any) -> Any:
    """A node that the application's own reader filled."""
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", path.name)
    storage = scene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(path))
    node.SetAndObserveStorageNodeID(storage.GetID())
    assert storage.ReadData(node)
    return node


def as_stored(layout: str = "NCDHW", **changes: Any) -> Manifest:
    return manifest({"mode": "whole"}, {"layout": layout}, **changes)


@pytest.mark.parametrize("name", ["head.nii", "head.nii.gz", "head.nrrd", "head.mha"])
def test_a_left_handed_file_reaches_the_network_as_it_is_stored(scene: Any, tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, LIA)
    volume = volume_from_node(loaded(path, scene))
    assert volume.tags.get("SlicesReversed") is True
    assert np.array_equal(volume.array, VALUES.transpose(2, 1, 0)[::-1]), "Slicer turned it round"
    prepared = prepare(as_stored(), [volume])
    assert np.array_equal(prepared.array[0], read_volume(path).array)
    back = onto(prepared, volume.grid, prepared.array[0], "nearest", 0)
    assert np.array_equal(back, volume.array), "what was found lies where it was found"


def test_what_is_not_turned_round_stays(scene: Any, tmp_path: Path) -> None:
    """Right-handed files, a network that is told the orientation, a classifier, a node changed since, a lost file."""
    straight = volume_from_node(loaded(write(tmp_path / "r.nii", np.diag([-1.5, -1, 2, 1.0])), scene))
    assert "SlicesReversed" not in straight.tags
    path = write(tmp_path / "l.nii", LIA)
    node = loaded(path, scene)
    volume = volume_from_node(node)
    upright = as_stored(preprocessing=[{"step": "orient", "code": volume.grid.orientation}])
    assert np.array_equal(prepare(upright, [volume]).array[0], volume.array)
    classifier = as_stored("NC", task="classification")
    assert np.array_equal(prepare(classifier, [volume]).array[0], volume.array)
    node.SetOrigin(0, 0, 0)
    assert "SlicesReversed" not in volume_from_node(node).tags
    node.SetOrigin(*(volume.grid.origin * np.array([-1, -1, 1])))
    assert volume_from_node(node).tags.get("SlicesReversed")
    path.unlink()
    assert "SlicesReversed" not in volume_from_node(node).tags


@pytest.mark.parametrize("content", [b"", b"\x5c\x01\0\0" * 3, b"\x5c\x01\0\0" + b"\xff" * 400])
def test_a_damaged_header_changes_nothing(scene: Any, tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path / "l.nii", LIA)
    node = loaded(path, scene)
    path.write_bytes(content)
    assert "SlicesReversed" not in volume_from_node(node).tags


def test_a_volume_of_another_reader_is_not_touched() -> None:
    grid = Grid((6, 5, 4), (1, 1, 1), (0, 0, 0), np.eye(3))
    volume = Volume(VALUES.transpose(2, 1, 0).copy(), grid)
    assert np.array_equal(prepare(as_stored(), [volume]).array[0], volume.array)

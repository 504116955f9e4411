"""Volumes of a real MRML scene as the networks' input: voxels, place in the patient, modality and DICOM tags.

A user would lose the right place of the result, or the tags that some preprocessing steps need.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from medseg.errors import InputError
from medseg.geometry.grid import Grid
from medseg.geometry.volume import Volume

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed (pip install 'medseg[slicer]')")
import vtk  # noqa: E402

from medseg_mrml import node_from_volume, volume_from_node  # noqa: E402
from medseg_mrml.hierarchy import item_of, subject_hierarchy  # noqa: E402
from support.geometry import grids  # noqa: E402
from support.mrml_samples import OBLIQUE, volume  # noqa: E402


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(grid=grids(max_size=6))
def test_volume_keeps_voxels_and_place_in_the_patient(scene: Any, grid: Grid) -> None:
    given_volume = volume(grid)
    node = node_from_volume(given_volume, scene)
    back = volume_from_node(node)
    assert back.grid.same_as(grid, 1e-6)
    assert np.array_equal(back.array, given_volume.array)
    # The application's own idea of where a voxel is.
    bounds = [0.0] * 6
    node.GetRASBounds(bounds)
    corners = grid.to_physical([[i, j, k] for i in (-0.5, grid.size[0] - 0.5) for j in (-0.5, grid.size[1] - 0.5)
                                for k in (-0.5, grid.size[2] - 0.5)]) * (-1, -1, 1)  # fmt: skip
    assert np.allclose(bounds[0::2], corners.min(axis=0), atol=1e-3)
    assert np.allclose(bounds[1::2], corners.max(axis=0), atol=1e-3)


def test_reading_a_node_copies_and_changes_nothing(scene: Any) -> None:
    source = volume()
    node = node_from_volume(source, scene)
    before = (node.GetMTime(), node.GetImageData().GetMTime(), node.GetStorageNode())
    read = volume_from_node(node)
    assert np.shares_memory(read.array, source.array)
    assert not read.array.flags.writeable
    assert (node.GetMTime(), node.GetImageData().GetMTime(), node.GetStorageNode()) == before


def test_parent_transform_is_left_out_of_the_grid(scene: Any, reference: Any) -> None:
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 55.0)
    transform.SetMatrixTransformToParent(matrix)
    reference.SetAndObserveTransformNodeID(transform.GetID())
    assert volume_from_node(reference).grid.same_as(OBLIQUE, 1e-6)


def test_colour_volume_has_channels(scene: Any) -> None:
    array = np.arange(4 * 5 * 6 * 3, dtype=np.uint8).reshape(4, 5, 6, 3)
    node = node_from_volume(Volume(array, Grid((6, 5, 4), (1, 1, 1), (0, 0, 0), np.eye(3))), scene)
    assert node.IsA("vtkMRMLVectorVolumeNode")
    assert np.array_equal(volume_from_node(node).array, array)


def test_modality_comes_from_the_series_in_the_subject_hierarchy(scene: Any) -> None:
    node = node_from_volume(Volume(volume().array, OBLIQUE), scene)
    assert volume_from_node(node).modality is None
    tree = subject_hierarchy(scene)
    tree.SetItemAttribute(item_of(scene, node), "DICOM.Modality", "MR")
    assert volume_from_node(node).modality == "MR"


def test_values_of_the_dicom_database_reach_the_steps(scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without BitsStored and the like the 12-bit correction of head CT would be left out in Slicer alone."""

    class Database:
        isOpen = True

        def instanceValue(self, uid: str, tag: str) -> str:
            assert uid == "1.2.3"
            return {"0028,0101": "12", "0028,1052": "-1024", "0008,0060": "CT", "0028,1050": "40\\400"}.get(tag, "")

    monkeypatch.setattr(slicer, "dicomDatabase", Database(), raising=False)
    node = node_from_volume(Volume(volume().array, OBLIQUE), scene)
    node.SetAttribute("DICOM.instanceUIDs", "1.2.3 1.2.4")
    read = volume_from_node(node)
    assert read.modality == "CT"
    assert read.tags == {"BitsStored": 12, "RescaleIntercept": -1024.0, "WindowCenter": 40.0}


@pytest.mark.parametrize("reverse", [False, True], ids=["as stored", "reversed"])
def test_slices_know_their_dicom_instances(scene: Any, monkeypatch: pytest.MonkeyPatch, reverse: bool) -> None:
    """With another order the rows of the RSNA table would name the wrong images."""
    count = OBLIQUE.size[2]
    uids = [f"1.2.{k}" for k in range(count)]
    positions = {
        uid: "\\".join(f"{v:.4f}" for v in OBLIQUE.to_physical((0, 0, k))) for k, uid in enumerate(uids)
    }  # fmt: skip

    class Database:
        isOpen = True

        def instanceValue(self, uid: str, tag: str) -> str:
            return positions[uid] if tag == "0020,0032" else ""

    monkeypatch.setattr(slicer, "dicomDatabase", Database(), raising=False)
    node = node_from_volume(Volume(volume().array, OBLIQUE), scene)
    node.SetAttribute("DICOM.instanceUIDs", " ".join(uids[::-1] if reverse else uids))
    assert volume_from_node(node).tags == {"SOPInstanceUID": uids}
    positions[uids[-1]] = positions[uids[0]]
    assert volume_from_node(node).tags == {}, "slices at other places than the node's"
    node.SetAttribute("DICOM.instanceUIDs", " ".join(uids[:-1]))
    assert volume_from_node(node).tags == {}, "another number of images"


def test_node_without_voxels_is_refused_by_name(scene: Any) -> None:
    empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "never loaded")
    with pytest.raises(InputError, match="never loaded holds no voxels"):
        volume_from_node(empty)
    with pytest.raises(InputError, match="choose a volume"):
        volume_from_node(None)

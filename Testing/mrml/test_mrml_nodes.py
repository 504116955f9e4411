"""Results as nodes of a real MRML scene: a user loses edits, other segments or the right place in the patient."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from medseg.errors import InputError
from medseg.geometry.grid import Grid
from medseg.geometry.volume import Volume
from medseg.output.files import segment_id as file_segment_id
from medseg.result import Layer, Result, SegmentClass

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed (pip install 'medseg[slicer]')")
import vtk  # noqa: E402

from medseg_mrml import (  # noqa: E402
    apply_result,
    node_from_volume,
    plot_table,
    probability_nodes,
    restore,
    table_from_node,
    table_to_node,
    take_snapshot,
    undo,
    volume_from_node,
)
from medseg_mrml.hierarchy import item_of, subject_hierarchy  # noqa: E402
from medseg_mrml.segmentation import segment_id  # noqa: E402
from medseg_mrml.snapshot import BINARY  # noqa: E402
from support.geometry import grids  # noqa: E402
from support.mrml_samples import BLEED, CLASSES, OBLIQUE, labels, overlapping, result, scores, tables, volume  # noqa: E402


def mask_of(node: Any, identifier: str) -> np.ndarray:
    """The voxels of a segment, by the application's own function."""
    array = slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, identifier)
    return array == node.GetSegmentation().GetSegment(identifier).GetLabelValue()


def ids(node: Any) -> list[str]:
    return list(node.GetSegmentation().GetSegmentIDs())


def add_own_segment(node: Any, name: str, grid: Grid, array: np.ndarray) -> Any:
    """A segment as a user would have painted it."""
    own = node_from_volume(Volume(array, grid, name="painted"), node.GetScene(), labelmap=True)
    image = slicer.vtkOrientedImageData()
    image.DeepCopy(own.GetImageData())
    matrix = vtk.vtkMatrix4x4()
    own.GetIJKToRASMatrix(matrix)
    image.SetImageToWorldMatrix(matrix)
    segment = slicer.vtkSegment()
    segment.SetName(name)
    segment.SetLabelValue(1)
    segment.AddRepresentation(BINARY, image)
    node.GetSegmentation().AddSegment(segment, name)
    return image


# -- segmentation -------------------------------------------------------------------------------------------


def test_segments_have_voxels_names_colours_and_terminology(scene: Any, reference: Any) -> None:
    applied = apply_result(result(), scene, reference_node=reference)
    assert list(applied.segment_ids) == ids(applied.node) == ["ich-demo_1", "ich-demo_7"]
    for item, identifier in zip(CLASSES, applied.segment_ids, strict=True):
        segment = applied.node.GetSegmentation().GetSegment(identifier)
        assert np.array_equal(mask_of(applied.node, identifier), labels() == item.value)
        assert segment.GetName() == item.name
        assert segment.GetColor() == pytest.approx(item.color)
    assert applied.node.GetSegmentation().GetSegment("ich-demo_1").GetTerminology() == BLEED
    assert applied.node.GetSegmentation().GetNumberOfLayers() == 1
    assert applied.node.GetName() == "head segmentation"


def test_segment_ids_are_those_of_the_file(scene: Any) -> None:
    for model, value in (("ich-demo", 1), ("", 3), ("a b/c", 2), ("unet.v1_x", 9)):
        assert segment_id(model, value) == file_segment_id(model, value)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(grid=grids(max_size=5))
def test_segment_is_where_the_volume_is(scene: Any, grid: Grid) -> None:
    reference = node_from_volume(volume(grid), scene)
    full = Layer(np.ones(grid.shape, np.uint8), (SegmentClass(1, "all", (1, 0, 0)),))
    node = apply_result(Result(grid, (full,)), scene, reference_node=reference).node
    place, expected = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    node.GetSegmentation().GetSegment(ids(node)[0]).GetRepresentation(BINARY).GetImageToWorldMatrix(place)
    reference.GetIJKToRASMatrix(expected)
    elements = [(r, c) for r in range(4) for c in range(4)]
    assert np.allclose([place.GetElement(*e) for e in elements], [expected.GetElement(*e) for e in elements])


def test_labels_are_used_without_a_copy_and_stay_alive(scene: Any, reference: Any) -> None:
    array = labels()
    given_result = result()
    given_result.layers = (Layer(array, CLASSES),)
    node = apply_result(given_result, scene, reference_node=reference).node
    shared = slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, "ich-demo_1")
    assert np.shares_memory(shared, array)
    expected = array.copy()
    del array, given_result, shared
    gc.collect()
    assert np.array_equal(slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, "ich-demo_1"), expected)


def test_read_only_labels_are_copied_so_that_editing_cannot_end_slicer(
    scene: Any, reference: Any, tmp_path: Path
) -> None:
    np.save(tmp_path / "labels.npy", labels())
    given_result = result()
    given_result.layers = (Layer(np.load(tmp_path / "labels.npy", mmap_mode="r"), CLASSES),)
    node = apply_result(given_result, scene, reference_node=reference).node
    slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, "ich-demo_1")[:] = 0
    assert np.array_equal(np.load(tmp_path / "labels.npy"), labels())


def test_copy_on_write_map_is_shared_and_the_file_unchanged(scene: Any, reference: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", labels())
    mapped = np.load(tmp_path / "labels.npy", mmap_mode="c")
    given_result = result()
    given_result.layers = (Layer(mapped, CLASSES),)
    node = apply_result(given_result, scene, reference_node=reference).node
    array = slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, "ich-demo_1")
    assert np.shares_memory(array, mapped)
    array[:] = 0
    assert np.array_equal(np.load(tmp_path / "labels.npy"), labels())


def test_overlapping_classes_keep_all_their_voxels(scene: Any, reference: Any) -> None:
    node = apply_result(overlapping(), scene, reference_node=reference).node
    assert node.GetSegmentation().GetNumberOfLayers() == 2
    for layer, identifier in zip(overlapping().layers, ids(node), strict=True):
        assert np.array_equal(mask_of(node, identifier), layer.labels != 0)


def test_result_stands_under_the_same_transform_and_study(scene: Any, reference: Any) -> None:
    tree = subject_hierarchy(scene)
    study = tree.CreateStudyItem(tree.GetSceneItemID(), "study")
    tree.SetItemParent(item_of(scene, reference), study)
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    reference.SetAndObserveTransformNodeID(transform.GetID())
    node = apply_result(result(), scene, reference_node=reference).node
    assert node.GetTransformNodeID() == transform.GetID()
    assert tree.GetItemParent(item_of(scene, node)) == study
    assert node.GetNodeReferenceID(node.GetReferenceImageGeometryReferenceRole()) == reference.GetID()


def test_names_are_predictable_and_unique(scene: Any, reference: Any) -> None:
    nodes = [apply_result(result(), scene, reference_node=reference).node for _ in range(3)]
    assert [n.GetName() for n in nodes] == ["head segmentation", "head segmentation_1", "head segmentation_2"]


def test_second_run_replaces_its_own_segments_only(scene: Any, reference: Any) -> None:
    node = apply_result(result(), scene, reference_node=reference).node
    apply_result(overlapping(), scene, reference_node=reference, output_node=node)
    own = np.zeros(OBLIQUE.shape, np.uint8)
    own[0, 0, 0] = 1
    image = add_own_segment(node, "mine", OBLIQUE, own)
    changed = result()
    changed.layers = (Layer(np.flip(labels(), 0).copy(), CLASSES),)
    told: list[str] = []
    applied = apply_result(changed, scene, reference_node=reference, output_node=node, warn=told.append)
    assert applied.node is node
    assert ids(node) == ["overlap_1", "overlap_2", "mine", "ich-demo_1", "ich-demo_7"]
    assert np.array_equal(mask_of(node, "ich-demo_1"), np.flip(labels(), 0) == 1)
    assert np.array_equal(mask_of(node, "overlap_2"), overlapping().layers[1].labels != 0)
    assert node.GetSegmentation().GetSegment("mine").GetRepresentation(BINARY) is image
    assert told == []


def test_own_segment_of_another_geometry_stays_untouched_and_saving_is_told(scene: Any, reference: Any) -> None:
    other = Grid((4, 5, 6), (2.0, 3.0, 4.0), (7, 8, 9), np.eye(3))
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "edited")
    own = np.ones(other.shape, np.uint8)
    image = add_own_segment(node, "mine", other, own)
    stamp = image.GetMTime()
    told: list[str] = []
    applied = apply_result(result(), scene, reference_node=reference, output_node=node, warn=told.append)
    assert applied.node is node
    assert node.GetSegmentation().GetSegment("mine").GetRepresentation(BINARY) is image
    assert image.GetMTime() == stamp
    assert image.GetDimensions() == other.size
    assert np.array_equal(mask_of(node, "ich-demo_7"), labels() == 7)
    assert len(told) == 1
    assert "another reference volume" in told[0]


def test_own_segment_in_a_shared_labelmap_survives_a_second_run(scene: Any, reference: Any) -> None:
    """The Segment Editor puts a new segment into the labelmap of the others: replacing those must not take it along."""
    node = apply_result(result(), scene, reference_node=reference).node
    shared = node.GetSegmentation().GetSegment("ich-demo_1").GetRepresentation(BINARY)
    slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, "ich-demo_1")[6, 8, 12] = 9
    segment = slicer.vtkSegment()
    segment.SetName("mine")
    segment.SetLabelValue(9)
    segment.AddRepresentation(BINARY, shared)
    node.GetSegmentation().AddSegment(segment, "mine")
    applied = apply_result(overlapping(), scene, reference_node=reference, output_node=node, model_id="ich-demo")
    assert ids(node) == ["mine", *applied.segment_ids]
    assert np.argwhere(mask_of(node, "mine")).tolist() == [[6, 8, 12]]
    left = slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, "mine")
    assert set(np.unique(left)) == {0, 9}
    assert applied.before is not None
    restore(node, applied.before)
    assert np.array_equal(mask_of(node, "ich-demo_1"), labels() == 1)
    assert np.argwhere(mask_of(node, "mine")).tolist() == [[6, 8, 12]]


@pytest.mark.parametrize("obstacle", ["transform", "surface"])
def test_result_that_cannot_join_a_node_goes_into_a_new_one(scene: Any, reference: Any, obstacle: str) -> None:
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "edited")
    if obstacle == "transform":
        add_own_segment(node, "mine", OBLIQUE, labels())
        transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        node.SetAndObserveTransformNodeID(transform.GetID())
    else:
        sphere = vtk.vtkSphereSource()
        sphere.Update()
        node.GetSegmentation().SetSourceRepresentationName("Closed surface")
        node.AddSegmentFromClosedSurfaceRepresentation(sphere.GetOutput(), "mine")
    before = ids(node)
    told: list[str] = []
    applied = apply_result(result(), scene, reference_node=reference, output_node=node, warn=told.append)
    assert applied.node is not node
    assert applied.before is None
    assert ids(node) == before
    assert len(told) == 1
    assert "new segmentation" in told[0]


def test_changed_volume_geometry_is_told(scene: Any, reference: Any) -> None:
    given_result = result()
    reference.SetSpacing(1.0, 2.0, 3.0)
    told: list[str] = []
    apply_result(given_result, scene, reference_node=reference, warn=told.append)
    assert any("geometry of head changed" in t for t in told)


def test_scores_alone_make_no_segmentation(scene: Any, reference: Any) -> None:
    count = scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")
    with pytest.raises(InputError, match="no segments"):
        apply_result(scores(), scene, reference_node=reference)
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == count


# -- undo ---------------------------------------------------------------------------------------------------


def test_undo_brings_the_previous_segmentation_back(scene: Any, reference: Any) -> None:
    node = apply_result(result(), scene, reference_node=reference).node
    other = node_from_volume(volume(Grid((5, 5, 5), (1, 1, 1), (0, 0, 0), np.eye(3))), scene, name="other")
    changed = overlapping(Grid((5, 5, 5), (1, 1, 1), (0, 0, 0), np.eye(3)))
    changed.provenance = result().provenance
    applied = apply_result(changed, scene, reference_node=other, output_node=node)
    assert ids(node) == ["ich-demo_1", "ich-demo_2"]
    assert applied.before is not None
    restore(node, applied.before)
    assert ids(node) == ["ich-demo_1", "ich-demo_7"]
    for item, identifier in zip(CLASSES, ids(node), strict=True):
        assert np.array_equal(mask_of(node, identifier), labels() == item.value)
        assert node.GetSegmentation().GetSegment(identifier).GetName() == item.name
    assert node.GetNodeReferenceID(node.GetReferenceImageGeometryReferenceRole()) == reference.GetID()


def test_undo_keeps_what_the_user_edited_in_own_segments(scene: Any, reference: Any) -> None:
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "edited")
    add_own_segment(node, "mine", OBLIQUE, (labels() == 1).astype(np.uint8))
    applied = apply_result(result(), scene, reference_node=reference, output_node=node)
    slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, "mine")[0, 0, 0] = 1
    assert applied.before is not None
    restore(node, applied.before)
    assert ids(node) == ["mine"]
    assert mask_of(node, "mine")[0, 0, 0]


def test_undo_removes_a_new_segmentation_and_only_that(scene: Any, reference: Any) -> None:
    kept = apply_result(result(), scene, reference_node=reference).node
    count = scene.GetNumberOfNodes()
    applied = apply_result(overlapping(), scene, reference_node=reference)
    undo(applied)
    assert scene.GetNumberOfNodes() == count
    assert scene.GetFirstNodeByName("head segmentation") is kept
    undo(applied)  # the user pressed twice


def test_snapshot_can_be_restored_twice(scene: Any, reference: Any) -> None:
    node = apply_result(result(), scene, reference_node=reference).node
    state = take_snapshot(node)
    for _ in range(2):
        node.GetSegmentation().RemoveAllSegments()
        restore(node, state)
        assert ids(node) == ["ich-demo_1", "ich-demo_7"]


def test_probability_volumes_lie_on_the_reference(scene: Any, reference: Any) -> None:
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    reference.SetAndObserveTransformNodeID(transform.GetID())
    given_result = result()
    given_result.probabilities = {"Bleed": np.linspace(0, 1, labels().size, dtype=np.float16).reshape(labels().shape)}
    node = probability_nodes(given_result, scene, reference_node=reference)["Bleed"]
    assert np.array_equal(volume_from_node(node).array, given_result.probabilities["Bleed"].astype(np.float32))
    assert volume_from_node(node).grid.same_as(OBLIQUE, 1e-6)
    assert node.GetTransformNodeID() == transform.GetID()
    assert node.GetName() == "head Bleed probability"


# -- tables and plots ---------------------------------------------------------------------------------------


def test_table_columns_are_typed_and_come_back(scene: Any) -> None:
    table = tables()["segments"]
    node = table_to_node(table, scene)
    kinds = [type(node.GetTable().GetColumn(n)).__name__ for n in range(node.GetNumberOfColumns())]
    assert kinds == [
        "vtkStringArray",
        "vtkIntArray",
        "vtkDoubleArray",
        "vtkDoubleArray",
        "vtkBitArray",
        "vtkDoubleArray",
    ]
    assert node.GetColumnUnitLabel("volume") == "ml"
    assert node.GetColumnDescription("voxels") == "number of voxels"
    assert table_from_node(node) == table


def test_table_node_can_be_filled_anew(scene: Any) -> None:
    node = table_to_node(tables()["segments"], scene)
    again = table_to_node(scores().tables["slices"], scene, node=node)
    assert again is node
    assert table_from_node(node) == scores().tables["slices"]


def test_plot_has_a_series_for_each_class(scene: Any, reference: Any) -> None:
    node = table_to_node(scores().tables["slices"], scene)
    colors = {"any": (1.0, 0.0, 0.0), "subdural": (0.0, 0.5, 1.0)}
    chart = plot_table(node, scene, x="slice", columns=["any", "subdural"], colors=colors, reference_node=reference)
    assert chart.GetNumberOfPlotSeriesNodes() == 2
    series = chart.GetNthPlotSeriesNode(1)
    assert series.GetYColumnName() == "subdural"
    assert series.GetColor() == pytest.approx((0.0, 0.5, 1.0))
    assert series.GetTableNodeID() == node.GetID()
    assert chart.GetXAxisTitle() == "slice"

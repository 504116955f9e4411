"""The mask under review in the scene: without it a reader loses drawn voxels, names or the place in the patient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medseg.errors import InputError
from medseg.geometry.grid import Grid
from medseg.geometry.volume import Volume
from medseg.result import Layer, SegmentClass

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed (pip install 'medseg[slicer]')")

import vtk  # noqa: E402

from medseg_mrml import node_from_volume  # noqa: E402
from medseg_mrml.arrays import array_of, oriented_image  # noqa: E402
from medseg_mrml.looking import Curtain, Faded, Spotlight, Turned, look_at  # noqa: E402
from medseg_mrml.reviewed import ReviewedNode, masks_of  # noqa: E402
from medseg_mrml.snapshot import BINARY  # noqa: E402
from support.geometry import grids  # noqa: E402

CODE = "Segmentation category and type - DICOM master list~SCT^85756007^Tissue~SCT^49755003^Lesion"
CLASSES = (
    SegmentClass(1, "normal", (0.0, 0.5, 1.0), CODE.replace("Lesion", "Mass"), True),
    SegmentClass(4, "abnormal", (1.0, 0.0, 0.0), CODE, True),
)
GRID = Grid((14, 12, 9), (1.0, 1.5, 3.0), (-10.0, 4.0, 7.0), np.eye(3))


def spots(grid: Grid, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random(grid.shape) < 0.2, rng.choice([1, 4], grid.shape), 0).astype(np.uint8)


def image(scene: Any, grid: Grid = GRID) -> Any:
    return node_from_volume(Volume(np.zeros(grid.shape, np.int16), grid, "MR", "flair"), scene)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(grid=grids(max_size=9), seed=st.integers(0, 99))
def test_the_node_shows_and_gives_back_the_same_voxels_names_and_codes(scene: Any, grid: Grid, seed: int) -> None:
    """A peer turns the names into Segment_1, Segment_2; here they survive, in any orientation."""
    labels, reference = spots(grid, seed), image(scene, grid)
    shown = ReviewedNode([Layer(labels, CLASSES)], scene, reference, "reviewed", "wmh")
    found = masks_of(shown.node, reference)
    assert found.warnings == () and found.model_id == "wmh"
    assert (found.layers[0].labels == labels).all() and found.layers[0].classes == CLASSES
    assert (shown.drawn(0, labels) == labels).all()
    had, labels[...] = labels.copy(), 0
    assert (shown.drawn(0, labels) == had).all(), "the node's voxels are its own"
    scene.Clear(0)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 999))
def test_a_box_that_was_decided_on_is_shown_wherever_the_editor_put_the_voxels(scene: Any, seed: int) -> None:
    """Slicer's editor cuts labelmaps to what was drawn and gives segments labelmaps of their own."""
    rng = np.random.default_rng(seed)
    labels, reference = spots(GRID, seed), image(scene)
    shown = ReviewedNode([Layer(labels, CLASSES)], scene, reference, "reviewed")
    segmentation = shown.node.GetSegmentation()
    if seed % 3:
        second = segmentation.GetSegment(shown.segment_of(0, 4))
        mask = labels == 4
        low = [int(a.min()) for a in np.nonzero(mask)] if mask.any() else [0, 0, 0]
        cut = np.ascontiguousarray(mask[low[0] :, low[1] :, low[2] :]).astype(np.uint8)
        at = tuple(float(v) for v in GRID.to_physical(low[::-1]))
        second.AddRepresentation(BINARY, oriented_image(cut, Grid(cut.shape[::-1], GRID.spacing, at, GRID.direction)))
        second.SetLabelValue(1)
        array_of(segmentation.GetSegment(shown.segment_of(0, 1)).GetRepresentation(BINARY))[mask] = 0
    assert (shown.drawn(0, labels) == labels).all()
    start = [int(rng.integers(0, n)) for n in GRID.shape]
    box = tuple(slice(s, int(rng.integers(s + 1, n + 1))) for s, n in zip(start, GRID.shape, strict=True))
    labels[box] = rng.choice([0, 1, 4], labels[box].shape)
    shown.show(0, box, labels[box])
    assert (shown.drawn(0, labels) == labels).all()
    found = masks_of(shown.node, reference)
    for c in CLASSES:
        (mask,) = [layer.labels == n.value for layer in found.layers for n in layer.classes if n.name == c.name]
        assert (mask == (labels == c.value)).all(), c.name
    scene.Clear(0)


def test_a_mask_of_another_geometry_is_brought_onto_the_image_and_told(scene: Any) -> None:
    """Labels drawn on a resampled copy: the lesion must lie where it lay in the patient."""
    fine = Grid((28, 24, 18), (0.5, 0.75, 1.5), GRID.to_physical([-0.25, -0.25, -0.25]), np.eye(3))
    labels = np.zeros(fine.shape, np.uint8)
    labels[8:12, 6:14, 10:18] = 1
    node = ReviewedNode([Layer(labels, CLASSES[:1])], scene, image(scene, fine), "fine").node
    found = masks_of(node, image(scene))
    assert "another geometry" in found.warnings[0] and "normal" in found.warnings[0]
    expected = np.zeros(GRID.shape, bool)
    expected[4:6, 3:7, 5:9] = True
    assert np.logical_xor(found.layers[0].labels == 1, expected).sum() <= 0.35 * expected.sum()


def test_overlapping_segments_are_layers_and_strangers_are_named(scene: Any) -> None:
    reference = image(scene)
    one, two = spots(GRID, 1), spots(GRID, 2)
    other = (SegmentClass(1, "edema", (0.0, 1.0, 0.0)),)
    shown = ReviewedNode([Layer(one, CLASSES), Layer((two == 1).astype(np.uint8), other)], scene, reference, "r")
    found = masks_of(shown.node, reference)
    assert [[c.name for c in layer.classes] for layer in found.layers] == [["normal", "abnormal"], ["edema"]]
    assert (found.layers[1].labels == (two == 1)).all()
    assert shown.strangers() == []
    shown.node.GetSegmentation().AddEmptySegment("mine", "mine")
    assert shown.strangers() == ["mine"]


def test_views_go_to_a_finding_with_its_surroundings(scene: Any) -> None:
    """Zoomed so far that a lesion fills the view, nobody can say where it is."""
    big = Grid((200, 200, 100), (1.0, 1.0, 1.5), (-100.0, -100.0, -75.0), np.eye(3))
    reference = image(scene, big)
    view = scene.AddNewNodeByClass("vtkMRMLSliceNode")
    view.SetDimensions(400, 300, 1)
    camera = scene.AddNewNodeByClass("vtkMRMLCameraNode")
    look_at(scene, reference, (12.0, -7.0, 21.0), (20.0, 4.0, 3.0))
    assert view.GetFieldOfView()[:2] == pytest.approx((400 / 300 * 100, 100))
    matrix = view.GetSliceToRAS()
    assert [matrix.GetElement(n, 3) for n in range(3)] == pytest.approx([12, -7, 21])
    assert camera.GetFocalPoint() == pytest.approx((12, -7, 21))
    look_at(scene, reference, (0.0, 0.0, 0.0), (900.0, 1.0, 1.0))
    assert view.GetFieldOfView()[1] == pytest.approx(200), "never farther out than the volume"


@pytest.mark.parametrize(("slices", "turned"), [(1, ["Red"]), (20, ["Red", "Green"])])
def test_a_film_is_turned_in_one_view_only(scene: Any, slices: int, turned: list[str]) -> None:
    """A chest X-ray stood on its head in a second view and lay on its side in a third."""
    angle = np.radians(19)
    tilted = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    reference = image(scene, Grid((60, 50, slices), (1.0, 1.0, 5.0), (0.0, 0.0, 0.0), tilted))
    views = {name: scene.AddNewNodeByClass("vtkMRMLSliceNode", name) for name in ("Red", "Green")}
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
    for name, orientation in (("Red", "Axial"), ("Green", "Coronal")):
        views[name].SetOrientation(orientation)

    def directions() -> dict[str, Any]:
        return {n: [v.GetSliceToRAS().GetElement(r, c) for r in range(3) for c in range(3)] for n, v in views.items()}

    before, kept = directions(), Turned()
    assert kept.turn(scene, reference) > 10
    assert [n for n, v in directions().items() if v != before[n]] == turned
    kept.undo(scene)
    assert directions() == {n: pytest.approx(v) for n, v in before.items()}


def test_the_outline_lies_on_its_finding_and_is_never_saved(scene: Any) -> None:
    reference, light = image(scene), Spotlight(scene)
    mask = np.ones((2, 3, 4), bool)
    light.show(reference, GRID, (slice(3, 5), slice(2, 5), slice(6, 10)), mask)
    node = scene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    array = masks_of(node, reference).layers[0].labels
    expected = np.zeros(GRID.shape, bool)
    expected[3:5, 2:5, 6:10] = True
    assert ((array > 0) == expected).all()
    assert node.GetHideFromEditors() and not node.GetSaveWithScene()
    light.remove()
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


def test_what_was_faded_or_hidden_comes_back_as_it_was(scene: Any) -> None:
    reference = image(scene)
    shown = ReviewedNode([Layer(spots(GRID), CLASSES)], scene, reference, "r")
    hidden = ReviewedNode([Layer(spots(GRID), CLASSES)], scene, reference, "other")
    display = shown.node.GetDisplayNode()
    display.SetOpacity2DFill(0.7)
    hidden.node.GetDisplayNode().SetVisibility(False)
    faded, curtain = Faded(), Curtain(scene)
    faded.fade(shown.node)
    faded.fade(shown.node)
    assert display.GetOpacity2DFill() < 0.3
    faded.undo(scene)
    assert display.GetOpacity2DFill() == pytest.approx(0.7)
    curtain.close()
    assert not display.GetVisibility()
    curtain.open()
    assert display.GetVisibility() and not hidden.node.GetDisplayNode().GetVisibility()


def test_a_segment_that_was_removed_comes_back_with_its_voxels(scene: Any) -> None:
    """One wrong click in the Segment Editor: the findings of a whole class were gone, and undo could not show them."""
    labels, reference = spots(GRID, 5), image(scene)
    shown = ReviewedNode([Layer(labels, CLASSES)], scene, reference, "r")
    segmentation = shown.node.GetSegmentation()
    segmentation.RemoveSegment(shown.segment_of(0, 1))
    drawn = labels.copy()
    drawn[0, 0, 0] = drawn[np.unravel_index(np.argmax(labels == 1), labels.shape)] = 4
    array_of(segmentation.GetSegment(shown.segment_of(0, 4)).GetRepresentation(BINARY))[...] = 4 * (drawn == 4)
    assert shown.bring_back([labels]) == ["normal"] and shown.bring_back([labels]) == []
    assert (shown.drawn(0, labels) == drawn).all(), "what was drawn meanwhile holds"
    back = segmentation.GetSegment(shown.segment_of(0, 1))
    assert back.GetName() == "normal" and back.GetTerminology() == CLASSES[0].terminology
    assert back.GetColor() == CLASSES[0].color
    assert all(c.lesion for layer in masks_of(shown.node, reference).layers for c in layer.classes)
    shown.show(0, tuple(slice(0, n) for n in GRID.shape), labels)
    assert (shown.drawn(0, labels) == labels).all()


def test_segments_of_one_name_are_told_apart(scene: Any) -> None:
    """Decisions, versions and files know a class by its name: of two, both would have got the voxels of the first."""
    reference = image(scene)
    labels, other = spots(GRID, 1), (spots(GRID, 2) == 1).astype(np.uint8)
    shown = ReviewedNode([Layer(labels, CLASSES), Layer(other, (CLASSES[0],))], scene, reference, "r")
    segmentation = shown.node.GetSegmentation()
    for identifier in segmentation.GetSegmentIDs():
        segmentation.GetSegment(identifier).SetName("lesion")
    segmentation.GetSegment(segmentation.GetNthSegmentID(2)).SetName(" lesion\n")  # files keep no such spaces
    found = masks_of(shown.node, reference)
    assert [[c.name for c in layer.classes] for layer in found.layers] == [["lesion", "lesion 2"], ["lesion 3"]]
    assert "lesion 2, lesion 3" in found.warnings[0]


def test_what_is_drawn_on_a_stranger_is_no_part_of_the_review_and_stays(scene: Any) -> None:
    """The Segment Editor puts a new segment into the labelmap of the others: its value is none of ours."""
    labels = spots(GRID, 1)
    shown = ReviewedNode([Layer(labels, CLASSES)], scene, image(scene), "r")
    segmentation = shown.node.GetSegmentation()
    shared = segmentation.GetSegment(shown.segment_of(0, 1)).GetRepresentation(BINARY)
    mine = slicer.vtkSegment()
    mine.SetName("mine")
    mine.SetLabelValue(7)
    mine.AddRepresentation(BINARY, shared)
    segmentation.AddSegment(mine, "mine")
    drawn = (slice(1, 3), slice(2, 6), slice(2, 6))
    array_of(shared)[drawn] = 7
    expected = labels.copy()
    expected[drawn] = 0
    assert (shown.drawn(0, labels) == expected).all() and shown.strangers() == ["mine"]
    box = (slice(0, 4), slice(0, 8), slice(0, 8))
    shown.show(0, box, expected[box])
    assert (array_of(shared)[drawn] == 7).all(), "the reader's own segment was erased"
    assert (shown.drawn(0, labels) == expected).all()


def test_a_mask_under_another_transform_lies_where_it_is_seen(scene: Any) -> None:
    """An image that was registered, and its mask that was not (or the other way round)."""
    reference = image(scene)
    labels = spots(GRID, 3)
    node = ReviewedNode([Layer(labels, CLASSES)], scene, image(scene), "r").node
    transform = scene.AddNewNodeByClass("vtkMRMLTransformNode")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, GRID.spacing[0] * 2)  # to the right in the patient: i runs to the left
    transform.SetMatrixTransformToParent(matrix)
    node.SetAndObserveTransformNodeID(transform.GetID())
    found = masks_of(node, reference)
    assert "transform" in found.warnings[0]
    for layer, c in zip(found.layers, CLASSES, strict=True):
        expected = np.zeros(GRID.shape, bool)
        expected[:, :, :-2] = labels[:, :, 2:] == c.value
        assert ((layer.labels > 0) == expected).all()
    reference.SetAndObserveTransformNodeID(transform.GetID())
    same = masks_of(node, reference)
    assert same.warnings == () and (same.layers[0].labels == labels).all()
    warp = slicer.vtkOrientedGridTransform()
    transform.SetAndObserveTransformToParent(warp)
    node.SetAndObserveTransformNodeID(None)
    with pytest.raises(InputError, match="different transforms"):
        masks_of(node, reference)

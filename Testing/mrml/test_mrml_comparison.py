"""Comparisons and follow-ups in the scene: a reader must see which voxels differ, go there, and be rid of it again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medseg.compare.align import Alignment
from medseg.compare.cohort import Evaluation
from medseg.compare.followup import STATES, Change, follow_up
from medseg.errors import InputError
from medseg.geometry.grid import Grid
from medseg.geometry.volume import Volume
from medseg.result import Layer, SegmentClass
from support.geometry import rotation

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed (pip install 'medseg[slicer]')")

import vtk  # noqa: E402

from medseg_mrml import node_from_volume, table_from_node  # noqa: E402
from medseg_mrml.arrays import grid_of  # noqa: E402
from medseg_mrml.box_plots import box_outline, show_evaluation  # noqa: E402
from medseg_mrml.comparison import compare_nodes, show_comparison  # noqa: E402
from medseg_mrml.followup import show_alignment, show_follow_up  # noqa: E402
from medseg_mrml.hierarchy import subject_hierarchy  # noqa: E402
from medseg_mrml.looking import in_world, nodes_of  # noqa: E402
from medseg_mrml.reviewed import ReviewedNode, masks_of  # noqa: E402

GRID = Grid((24, 20, 10), (1.0, 1.0, 3.0), (-10.0, 4.0, 7.0), rotation((0.1, -0.2, 0.3)))
CLASSES = (SegmentClass(1, "lesion", (1.0, 0.0, 0.0), lesion=True), SegmentClass(2, "ventricle", (0.0, 0.0, 1.0)))
PLACE = ("centre_r_mm", "centre_a_mm", "centre_s_mm")


def image(scene: Any, name: str = "flair") -> Any:
    return node_from_volume(Volume(np.zeros(GRID.shape, np.int16), GRID, "MR", name), scene)


def masks() -> tuple[np.ndarray, np.ndarray]:
    """Two readers' labels: one lesion in both (of 18 and 12 voxels), one of each reader alone, a ventricle."""
    one, other = np.zeros((2, *GRID.shape), np.uint8)
    one[2:4, 3:6, 3:6], other[2:4, 3:6, 3:5] = 1, 1
    one[6, 10:14, 10] = 1
    other[8, 15:17, 18:20] = 1
    for labels in (one, other):
        labels[5, 2, 12:16] = 2
    return one, other


def counts(scene: Any) -> dict[str, int]:
    kinds = ("Segmentation", "SegmentationDisplay", "Table", "PlotChart", "PlotSeries", "LinearTransform")
    found = {kind: len(nodes_of(scene, f"vtkMRML{kind}Node")) for kind in kinds}
    tree = subject_hierarchy(scene)
    ids = vtk.vtkIdList()
    tree.GetItemChildren(tree.GetSceneItemID(), ids, True)
    return found | {"items": ids.GetNumberOfIds()}


def place_of(table: Any, row: int, reference: Any) -> tuple[int, int, int]:
    """The voxel (k, j, i) that a click on a row goes to."""
    r, a, s = (float(table.column(name)[row] or 0) for name in PLACE)
    i, j, k = np.rint(grid_of(reference).to_index([-r, -a, s])).astype(int)
    return int(k), int(j), int(i)


def test_what_agrees_and_differs_is_three_named_segments_and_rows_go_there(scene: Any) -> None:
    reference = image(scene)
    one, other = masks()
    a = ReviewedNode([Layer(one, CLASSES)], scene, reference, "model").node
    b = ReviewedNode([Layer(other, CLASSES)], scene, reference, "reader").node
    before = counts(scene)
    comparison = compare_nodes(a, b, reference, pairs={"lesion": "lesion"})
    nodes = show_comparison(comparison, scene, reference, names=("model", "reader"))
    found = masks_of(nodes.segmentation, reference)
    (layer,) = found.layers
    assert [c.name for c in layer.classes] == ["Agree (TP)", "Only in model (FP)", "Only in reader (FN)"]
    ours, theirs = one == 1, other == 1
    for value, mask in ((1, ours & theirs), (2, ours & ~theirs), (3, theirs & ~ours)):
        assert ((layer.labels == value) == mask).all()
    table = table_from_node(nodes.tables["lesions"])
    assert sorted(map(str, table.column("found"))) == ["in both", "only in model", "only in reader"]
    for row, (words, labels) in enumerate(zip(table.column("found"), table.column("class"), strict=True)):
        assert labels == "lesion"
        k, j, i = place_of(table, row, reference)
        assert {"in both": ours & theirs, "only in model": ours, "only in reader": theirs}[str(words)][k, j, i]
    assert table.column("found")[-1] == "in both", "what differs comes first"
    ml = GRID.voxel_volume / 1000
    assert table.column("volume_a_ml")[-1] == pytest.approx(18 * ml)
    assert table.column("volume_b_ml")[-1] == table.column("shared_ml")[-1] == pytest.approx(12 * ml)
    chart = nodes.charts["volumes"]
    assert [chart.GetNthPlotSeriesNode(n).GetYColumnName() for n in range(3)] == ["agree", "only_a", "only_b"]
    assert counts(scene) != before
    nodes.remove()
    assert counts(scene) == before, "nothing of it stays, and nothing else went"


def test_all_classes_of_two_segmentations_are_compared_where_none_is_chosen(scene: Any) -> None:
    reference = image(scene)
    one, other = masks()
    a = ReviewedNode([Layer(one, CLASSES)], scene, reference, "first reader with a name that is far too long").node
    b = ReviewedNode([Layer(other, CLASSES)], scene, reference, "reader").node
    comparison = compare_nodes(a, b, reference)
    nodes = show_comparison(comparison, scene, reference, names=(a.GetName(), b.GetName()))
    names = [c.name for layer in masks_of(nodes.segmentation, reference).layers for c in layer.classes]
    assert len(names) == 6 and names[3] == "ventricle: Agree (TP)" and len(nodes.name) < 60
    assert table_from_node(nodes.tables["figures"]).column("dice")[1] == 1
    colors = {nodes.segmentation.GetSegmentation().GetNthSegment(n).GetColor() for n in range(3)}
    assert len(colors) == 3
    with pytest.raises(InputError, match="no class 'tumour'"):
        compare_nodes(a, b, reference, pairs={"tumour": "lesion"})
    scene.RemoveNode(nodes.segmentation)  # by the user, in the Data module
    nodes.remove()
    nodes.remove()


def test_the_follow_up_is_moved_for_approval_and_put_back(scene: Any) -> None:
    """A wrong sign would move the lesions to the other side, and each would be called new."""
    baseline, later = image(scene), image(scene, "later")
    parent = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "table")
    baseline.SetAndObserveTransformNodeID(parent.GetID())
    later.SetAndObserveTransformNodeID(parent.GetID())
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation((0.1, 0.05, -0.2)), (4.0, -3.0, 9.0)
    alignment = Alignment(matrix)
    preview = show_alignment(alignment, scene, baseline, later)
    point = np.array([3.0, -8.0, 12.0])  # LPS of the baseline
    there = matrix[:3, :3] @ point + matrix[:3, 3]  # LPS of the follow-up
    flip = np.array([-1, -1, 1])
    np.testing.assert_allclose(in_world(flip * there, later), in_world(flip * point, baseline), atol=1e-9)
    np.testing.assert_allclose(preview.alignment().matrix, matrix, atol=1e-9)
    preview.take_back()
    assert later.GetTransformNodeID() == parent.GetID() and preview.node.GetScene() is None
    with pytest.raises(InputError, match="align the images again"):
        preview.alignment()


def test_lesions_of_two_dates_are_coloured_by_what_became_of_them(scene: Any) -> None:
    baseline = image(scene)
    one, other = (labels == 1 for labels in masks())
    found = follow_up("lesion", one, GRID, other, GRID, Alignment(np.eye(4)), Change(ml=0.01))
    before = counts(scene)
    nodes = show_follow_up(found, scene, baseline, ("2020", "2024"))
    layer = masks_of(nodes.segmentation, baseline).layers[0]
    assert [c.name for c in layer.classes] == [f"lesion: {s}" for s in STATES]
    assert (layer.labels == found.labels).all()
    table = table_from_node(nodes.tables["lesions"])
    assert sorted(map(str, table.column("state"))) == ["gone", "new", "shrunk"]
    for row, state in enumerate(table.column("state")):
        assert found.labels[place_of(table, row, baseline)] == STATES.index(str(state)) + 1
    chart = nodes.charts["lesions"]
    names = [chart.GetNthPlotSeriesNode(n).GetName() for n in range(chart.GetNumberOfPlotSeriesNodes())]
    assert names == ["new", "gone", "shrunk", "unchanged"] and chart.GetYAxisTitle() == "2024 (ml)"
    nodes.remove()
    assert counts(scene) == before


def test_a_box_has_its_quartiles_and_each_case_a_dot(scene: Any) -> None:
    values = [0.1, 0.7, 0.8, 0.9, 0.95]
    heights = {y for _, y in box_outline(values, 1)}
    assert heights == {0.7, 0.8, 0.9, 0.95}, "0.1 is an outlier: the whisker ends at 0.7"
    side = Evaluation([(f"case {n}", "lesion", {"dice": v, "hd95": None}) for n, v in enumerate(values)])
    nodes = show_evaluation({"model": side}, scene, image(scene))
    assert list(nodes.charts) == ["dice"]
    assert table_from_node(nodes.tables["dice cases 1"]).column("dice") == values
    chart = nodes.charts["dice"]
    assert [chart.GetNthPlotSeriesNode(n).GetName() for n in range(2)] == ["lesion: box", "lesion: cases"]
    nodes.remove()
    assert nodes_of(scene, "vtkMRMLTableNode") == []

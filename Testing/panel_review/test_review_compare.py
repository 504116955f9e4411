"""Versions, report, comparison and follow-up from the Review tab: what a reader can show to somebody else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg.geometry.grid import Grid
from medseg.output.files import save_segmentation
from medseg.result import Layer, SegmentClass
from qt_host.fixtures import Opened, grid, host, opened, scores_result  # noqa: F401
from support.review_tab import SIZE, draw, kept, lesions, press, rows, segmentations, shown, started, tab  # noqa: F401

# ruff: noqa: F811  (fixtures are arguments)


def test_versions_are_kept_listed_and_taken_back(tab: Any) -> None:
    reviewing = started(tab)
    press(tab, "S")
    press(tab, "X")
    press(tab, "S")
    assert len(reviewing.kept.versions) == 2
    tab.opened.dialogs.row = 1
    tab.keeping.take_back()
    _, listed = tab.opened.dialogs.lists[-1]
    assert [r[0] for r in listed] == ["2", "1"] and (shown(tab) == lesions()).all()
    assert "Version 1 was taken back" in tab.ui.status.text
    press(tab, "Z")
    assert not (shown(tab) == lesions()).all()


def test_versions_are_compared_and_the_report_holds_the_decisions(tab: Any, tmp_path: Path) -> None:
    started(tab)
    press(tab, "S")
    press(tab, "X")
    tab.opened.dialogs.row = 0
    tab.keeping.compare()
    _, text = tab.opened.dialogs.texts[-1]
    assert "version 1" in text and "<td>0.27&nbsp;" in text
    tab.opened.dialogs.path = str(tmp_path / "report.html")
    import slicer

    slicer.app._testing = True  # no browser
    tab.keeping.report()
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    tab.opened.dialogs.path = str(tmp_path / "report.pdf")
    tab.keeping.report()
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF") and "report.pdf" in tab.ui.status.text
    assert "rejected" in html and "data:image/png" in html


def test_two_masks_are_compared_and_a_click_goes_there(tab: Any) -> None:
    """The model's mask against the reader's: what differs must be seen where it is."""
    import slicer

    reviewing = started(tab)
    press(tab, "X")
    tab.compare.section.collapsed = False
    assert tab.compare.image.currentNode() is reviewing.volume and tab.compare.other.currentNode() is tab.mask_node
    tab.compare.compare()
    assert tab.opened.dialogs.errors == []
    made = [n for n in segmentations(tab) if "compared" in n.GetName()]
    names = [made[0].GetSegmentation().GetNthSegment(n).GetName() for n in range(6)]
    assert names[0].startswith("normal: Agree (TP)") and any("Only in flair lesions (FN)" in n for n in names)
    model = tab.compare.table.model()
    texts = [[str(model.index(r, c).data()) for c in range(model.columnCount())] for r in range(model.rowCount())]
    missed = next(n for n, row in enumerate(texts) if any("FN" in t or "only" in t.lower() for t in row))
    tab.compare._row_clicked(model.index(missed, 0))
    matrix = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode().GetSliceToRAS()
    place = [matrix.GetElement(n, 3) for n in range(3)]
    assert place == pytest.approx(reviewing.review.findings[1].centre, abs=2.0)
    tab.compare.remove()
    assert not [n for n in segmentations(tab) if "compared" in n.GetName()]


def test_two_dates_are_aligned_for_approval_then_compared(tab: Any) -> None:
    from medseg.geometry.grid import Grid
    from medseg.geometry.volume import Volume
    from medseg.result import Layer, SegmentClass
    from medseg_mrml import node_from_volume
    from medseg_mrml.reviewed import ReviewedNode

    first = tab.ui.volume.currentNode()
    where = grid(SIZE)
    moved = Grid(where.size, where.spacing, tuple(o + 3 for o in where.origin), where.direction)
    from medseg_mrml import volume_from_node

    values = np.array(volume_from_node(first).array)
    later = node_from_volume(Volume(values, moved, "MR", "flair later"), tab.opened.scene)
    labels = (lesions() > 0).astype(np.uint8)
    labels[2:5, 3:7, 4:9] = 0  # gone
    classes = (SegmentClass(1, "lesion", (1.0, 0.0, 0.0), "", True),)
    before = ReviewedNode([Layer((lesions() > 0).astype(np.uint8), classes)], tab.opened.scene, first, "a").node
    after = ReviewedNode([Layer(labels, classes)], tab.opened.scene, later, "b").node
    section = tab.compare
    section.mode.currentIndex = 1
    section.first_image.setCurrentNode(first)
    section.first_mask.setCurrentNode(before)
    section.later_image.setCurrentNode(later)
    section.later_mask.setCurrentNode(after)
    assert not section.accept.enabled
    section.align()
    assert tab.opened.dialogs.errors == [] and section.accept.enabled
    matrix = later.GetParentTransformNode().GetMatrixTransformToParent()
    assert [matrix.GetElement(n, 3) for n in range(3)] == pytest.approx([3, 3, -3], abs=0.6)
    section.follow_up()
    assert tab.opened.dialogs.errors == []
    model = section.table.model()
    states = [str(model.index(r, c).data()) for r in range(model.rowCount()) for c in range(model.columnCount())]
    assert states.count("gone") == 1 and states.count("stable") == 4
    seen = [node.GetDisplayNode().GetVisibility() for node in (before, after)]
    assert seen == [0, 0], "five colours over those of two masks cannot be told apart"
    section.remove()
    assert before.GetDisplayNode().GetVisibility() and after.GetDisplayNode().GetVisibility()
    assert later.GetParentTransformNode() is None


def folders_of_masks(tab: Any, folder: Path, cases: int) -> Any:
    """Masks of a model and a reader in two folders, which are chosen next; the section."""
    for n in range(cases):
        one = np.zeros((6, 10, 10), np.uint8)
        one[1:4, 2:6, 2 : 5 + n % 4] = 1
        where = Grid((10, 10, 6), (1.0, 1.0, 3.0), (0.0, 0.0, 0.0), np.eye(3))
        for name, labels in (("model", one), ("reader", np.roll(one, n % 4, axis=2))):
            layers = [Layer(labels, (SegmentClass(1, "lesion", (1.0, 0.4, 0.0)),))]
            save_segmentation(folder / name / f"case{n}.seg.nrrd", layers, where)
    chosen = iter([str(folder / "model"), str(folder / "reader")])
    tab._dialogs.folder = lambda title: next(chosen, "")
    tab.compare.mode.setCurrentIndex(2)
    return tab.compare


def test_two_folders_of_masks_are_evaluated_with_box_plots(tab: Any, tmp_path: Path) -> None:
    """Who has twenty cases wants to see at once which one is bad, and work on while they are compared."""
    section = folders_of_masks(tab, tmp_path, 4)
    (tmp_path / "reader" / "other.seg.nrrd").write_bytes(b"")
    section.folders.evaluate()
    assert section.folders.running and not section.folders.start.enabled, "it is done elsewhere"
    tab.opened.host.wait_for(lambda: not section.folders.running)
    assert "dice" in section._nodes.charts and section._nodes.charts["dice"].GetNumberOfPlotSeriesNodes() == 2
    keys = [section.which.itemData(n) for n in range(section.which.count)]
    assert keys == ["cases model", "summary model"], "what only draws a box is no table to read"
    assert section._shown.GetNumberOfRows() == 4 and "Each dot is a case" in tab.ui.status.text
    assert "no partner: other.seg.nrrd." in tab.ui.status.text
    assert section.folders.start.enabled and section.folders._errand is None
    section.remove()
    assert section._nodes is None


def test_comparing_many_cases_can_be_stopped_and_begun_again(tab: Any, tmp_path: Path) -> None:
    section = folders_of_masks(tab, tmp_path, 4)
    section.folders.evaluate()
    section.folders.cancel.click()
    assert not section.folders.running and section._nodes is None and "cancelled" in tab.ui.status.text
    section = folders_of_masks(tab, tmp_path, 4)
    section.folders.evaluate()
    tab.opened.host.wait_for(lambda: not section.folders.running)
    assert tab.opened.dialogs.errors == [] and section._shown.GetNumberOfRows() == 4


def test_why_many_cases_cannot_be_compared_is_told(tab: Any, tmp_path: Path) -> None:
    """Neither folders that do not belong together nor a process that was ended may leave the panel waiting."""
    section = folders_of_masks(tab, tmp_path, 1)
    (tmp_path / "reader" / "case0.seg.nrrd").rename(tmp_path / "reader" / "nobody.seg.nrrd")
    section.folders.evaluate()
    tab.opened.host.wait_for(lambda: not section.folders.running)
    assert "No file of model belongs to one of reader" in tab.opened.dialogs.errors[-1]
    section = folders_of_masks(tab, tmp_path, 1)
    section.folders.evaluate()
    section.folders._errand._process._process.kill()
    tab.opened.host.wait_for(lambda: not section.folders.running)
    assert "ended unexpectedly" in tab.opened.dialogs.errors[-1] and section.folders.start.enabled

"""The Review tab on real nodes: a reader goes through a mask by key, corrects it, and loses nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qt_host.fixtures import Opened, grid, host, opened, scores_result  # noqa: F401
from support.review_tab import SIZE, draw, kept, lesions, press, rows, segmentations, shown, started, tab  # noqa: F401

# ruff: noqa: F811  (fixtures are arguments)


def test_one_key_decides_and_goes_to_the_next_finding(tab: Any) -> None:
    """Two keys a finding are twice the time of a cohort."""
    reviewing = started(tab)
    assert [r[2] for r in rows(tab)] == ["normal", "abnormal", "normal", "normal", "abnormal"]
    visited = []
    for key in ("A", "X", "U", "A", "X"):
        visited.append(reviewing.current)
        press(tab, key)
    assert visited == [int(r[1]) for r in rows(tab)], "largest first, each once"
    assert [r[0] for r in rows(tab)] == ["\u2714", "\u2716", "?", "\u2714", "\u2716"]
    assert "All findings are reviewed" in tab.ui.status.text
    assert [f["state"] for f in kept(tab)["findings"]].count("accepted") == 2
    expected = lesions()
    expected[8:11, 10:13, 10:14] = 0
    expected[17:19, 5:7, 35:37] = 0
    assert (shown(tab) == expected).all(), "rejected voxels left the reviewed mask"
    assert (
        tab.mask_node.GetSegmentation().GetNumberOfSegments()
    ) == 2 and not tab.mask_node.GetDisplayNode().GetVisibility()
    for _ in range(5):
        press(tab, "Z")
    assert (shown(tab) == lesions()).all() and reviewing.review.left == 5
    press(tab, "Y")
    assert reviewing.review.left == 4


def test_the_views_go_to_the_finding_and_its_outline_stands_out(tab: Any) -> None:
    import slicer

    reviewing = started(tab)
    press(tab, "N")
    finding = reviewing.review.findings[reviewing.current]
    node = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode()
    matrix = node.GetSliceToRAS()
    there = np.array([matrix.GetElement(n, 3) for n in range(3)]) * (-1, -1, 1)
    index = reviewing.review.grid.to_index(there)
    assert index == pytest.approx(np.rint(index), abs=1e-6), "a slice as it was acquired, none between two"
    centre = reviewing.review.grid.to_index(np.array(finding.centre) * (-1, -1, 1))
    assert np.abs(index - centre).max() <= 0.5 + 1e-6
    outline = [n for n in segmentations(tab) if n.GetName() == "MedSeg finding"]
    assert len(outline) == 1 and outline[0].GetDisplayNode().GetVisibility()
    assert reviewing.shown.node.GetDisplayNode().GetOpacity2DFill() < 0.3
    tab.fade.checked = False
    assert reviewing.shown.node.GetDisplayNode().GetOpacity2DFill() > 0.3


def test_views_lie_in_the_planes_of_a_tilted_image_while_it_is_read(opened: Opened, tab: Any) -> None:
    """Across thick tilted slices a lesion looks like parts of several, and what is painted has steps."""
    import slicer

    from medseg.geometry.grid import Grid
    from medseg.geometry.volume import Volume
    from medseg.result import Layer, SegmentClass
    from medseg_mrml import node_from_volume
    from medseg_mrml.reviewed import ReviewedNode
    from support.geometry import rotation

    tilted = Grid(SIZE, (1.0, 1.0, 6.0), (-10.0, -12.0, -18.0), rotation((np.radians(14.0), 0.0, 0.0)))
    volume = node_from_volume(Volume(lesions().astype(np.int16), tilted, "MR", "tilted"), opened.scene)
    classes = tuple(SegmentClass(n, f"class {n}", (1.0, 0.0, 0.0), "", True) for n in (1, 2))
    mask = ReviewedNode([Layer(lesions(), classes)], opened.scene, volume, "mask").node
    node = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode()
    normal = lambda: np.array([node.GetSliceToRAS().GetElement(n, 2) for n in range(3)])  # noqa: E731
    before = normal()
    tab.ui.volume.setCurrentNode(volume)
    tab.ui.mask.setCurrentNode(mask)
    started(tab)
    acquired = tilted.direction[:, 2] * (-1, -1, 1)
    assert abs(normal() @ acquired) == pytest.approx(1.0, abs=1e-6) and "14 degrees" in tab.ui.status.text
    tab.leave()
    assert normal() == pytest.approx(before)


def test_undo_goes_back_to_the_finding_that_it_concerns(tab: Any) -> None:
    """A wrong key is seen when the next finding is there already; taken back out of sight it would stay a doubt."""
    reviewing = started(tab)
    first = reviewing.current
    press(tab, "X")
    second = reviewing.current
    press(tab, "A")
    press(tab, "Z")
    assert reviewing.current == second
    press(tab, "Z")
    assert reviewing.current == first and not reviewing.review.decision(first).state
    press(tab, "Y")
    assert reviewing.current == first and reviewing.review.decision(first).state == "rejected"


def test_a_held_key_hides_the_overlays_until_it_is_let_go(tab: Any) -> None:
    reviewing = started(tab)
    press(tab, "H")
    press(tab, "H")
    assert not reviewing.shown.node.GetDisplayNode().GetVisibility()
    tab.opened.host.wait_for(lambda: reviewing.shown.node.GetDisplayNode().GetVisibility(), 3)


def test_a_relabelled_finding_is_shown_in_its_new_class(tab: Any) -> None:
    reviewing = started(tab)
    press(tab, "C")
    assert (shown(tab)[2:5, 3:7, 4:9] == 2).all()
    assert reviewing.review.class_of(reviewing.current) == "abnormal" and rows(tab)[0][2] == "abnormal"


def test_drawing_becomes_findings_and_can_be_undone(tab: Any) -> None:
    """A missed lesion that is drawn but not in the list would be lost from every table."""
    reviewing = started(tab)
    press(tab, "E")
    editor = tab.actions.editor._editor
    assert editor.segmentationNode() is reviewing.shown.node and editor.sourceVolumeNode() is reviewing.volume
    assert editor.currentSegmentID() == reviewing.shown.segment_of(0, 1) and editor.activeEffect() == "Paint"
    assert 1.0 <= float(editor.mrmlSegmentEditorNode().GetAttribute("BrushAbsoluteDiameter")) <= 5
    assert not tab.rating.widget.isVisibleTo(tab.widget), "the editor needs the room"
    tab.actions.editor.similar.checked = True
    low, high = editor.mrmlSegmentEditorNode().GetSourceVolumeIntensityMaskRange()
    assert low > 60 and high < 200
    draw(tab, (slice(10, 12), slice(30, 33), slice(5, 9)), 1)
    tab.opened.host.wait_for(lambda: len(reviewing.review.findings) == 6, 3)
    (new,) = [r for r in rows(tab) if r[1] == "6"]
    assert new[0].endswith("+") and "New findings: 6" in tab.ui.status.text
    press(tab, "Z")
    assert len(reviewing.review.findings) == 5 and (shown(tab) == lesions()).all()
    press(tab, "Y")
    tab.actions.editor.close()
    assert tab.rating.widget.isVisibleTo(tab.widget) and tab.compare.section.isVisibleTo(tab.widget)
    tab.opened.host.wait_for(lambda: "ml" in tab.changes.text, 3)
    assert "normal: +0.108 ml" in tab.changes.text


def test_a_killed_program_loses_no_decision_and_no_drawing(tab: Any) -> None:
    reviewing = started(tab)
    press(tab, "A")
    press(tab, "X")
    draw(tab, (slice(10, 12), slice(30, 33), slice(5, 9)), 2)
    tab.opened.host.wait_for(lambda: len(reviewing.review.findings) == 6, 3)
    current, voxels = reviewing.current, shown(tab).copy()
    tab.opened.host.wait_for(lambda: kept(tab)["finding"] == current, 3)
    # Nothing of this process's state is used again: as after a kill.
    tab.reviewing = None
    reviewing.close()
    again = started(tab)
    assert again.current == current and again.review.left == 3 and (shown(tab) == voxels).all()
    press(tab, "Z")
    assert len(again.review.findings) == 5, "undo goes back to before the restart"


def test_leaving_saves_and_brings_the_scene_back(tab: Any) -> None:
    reviewing = started(tab)
    press(tab, "X")
    folder = reviewing.work.folder
    tab.start_button.click()
    assert tab.reviewing is None and tab.mask_node.GetDisplayNode().GetVisibility()
    assert [n.GetName() for n in segmentations(tab)] == ["flair lesions"]
    assert (folder / "reviewed.seg.nrrd").is_file() and "kept in" in tab.ui.status.text
    from medseg.io import read_segmentation

    saved = read_segmentation(folder / "reviewed.seg.nrrd")
    assert [c.name for c in saved.classes] == ["normal", "abnormal"] and all(c.lesion for c in saved.classes)
    assert not saved.layers[0].labels[2:5, 3:7, 4:9].any()


def test_filters_and_orders(tab: Any) -> None:
    started(tab)
    tab.list.of_class.currentIndex = 1
    assert {r[2] for r in rows(tab)} == {"abnormal"}
    tab.list.of_class.currentIndex = 0
    tab.list.least.value = 0.1
    assert len(rows(tab)) == 3
    tab.list.least.value = 0
    press(tab, "A")
    tab.list.open_only.checked = True
    assert len(rows(tab)) == 4
    tab.list.order.currentIndex = 2
    places = [tab.reviewing.review.findings[int(r[1])].centre[2] for r in rows(tab)]
    assert places == sorted(places, reverse=True)


def test_two_thousand_findings_are_filled_little_by_little(tab: Any) -> None:
    """A list that is filled at once stops the program for a second at every filter."""
    labels = np.zeros((60, 120, 120), np.uint8)
    labels[1:-1:3, 1:-1:12, 1:-1:12] = 1
    from medseg.geometry.volume import Volume
    from medseg.result import Layer, SegmentClass
    from medseg_mrml import node_from_volume
    from medseg_mrml.reviewed import ReviewedNode

    volume = node_from_volume(Volume(labels.astype(np.int16), grid((120, 120, 60))), tab.opened.scene, name="many")
    mask = ReviewedNode([Layer(labels, (SegmentClass(1, "spot", (1, 0, 0)),))], tab.opened.scene, volume, "m").node
    tab.ui.volume.setCurrentNode(volume)
    tab.ui.mask.setCurrentNode(mask)
    reviewing = started(tab)
    assert len(reviewing.review.findings) == 2000 and tab.list._filled < 200
    press(tab, "X")
    tab.opened.host.wait_for(lambda: tab.list._filled == tab.list.count, 20)
    assert rows(tab)[0][0] == "\u2716"


def test_a_result_of_the_segment_tab_is_taken_over_with_its_scores(opened: Opened, tab: Any) -> None:
    volume = opened.add_volume()
    opened.choose("ct-bleeds")
    opened.ui.applyButton.click()
    opened.finish(scores_result())
    assert tab.ui.volume.currentNode() is volume and tab.ui.mask.currentNode() is None
    reviewing = started(tab)
    assert [r[2] for r in rows(tab)] == ["subdural", "any"] and rows(tab)[0][4] != ""
    press(tab, "A")
    press(tab, "X")
    assert reviewing.review.left == 0 and not tab.actions.correct_button.enabled


def test_probabilities_that_do_not_fit_are_told(tab: Any) -> None:
    """Without a word the reader would look for the slider."""
    from medseg.geometry.volume import Volume
    from medseg_mrml import node_from_volume
    from medseg_panel.review.work import work_of_nodes

    node = node_from_volume(Volume(np.ones((4, 4, 4), np.float32), grid((4, 4, 4))), tab.opened.scene, name="other")
    work, _ = work_of_nodes(tab.ui.volume.currentNode(), tab.mask_node, tab.root, probabilities={"normal": node})
    assert tab.open(work)
    assert "probabilities of normal" in tab.ui.status.text and not tab.threshold.widget.isVisibleTo(tab.widget)


def test_a_threshold_regrows_the_finding_with_a_live_outline(tab: Any) -> None:
    """The reader sees what the model was less sure of before it becomes part of the mask."""
    from medseg.geometry.volume import Volume
    from medseg_mrml import node_from_volume
    from medseg_panel.review.work import work_of_nodes

    sure = np.where(lesions() == 1, 0.9, 0.0).astype(np.float32)
    sure[2:5, 3:7, 9:12] = 0.3
    node = node_from_volume(Volume(sure, grid(SIZE)), tab.opened.scene, name="flair normal probability")
    volume, mask = tab.ui.volume.currentNode(), tab.mask_node
    work, _ = work_of_nodes(volume, mask, tab.root, probabilities={"normal": node})
    assert tab.open(work)
    reviewing = tab.reviewing
    assert rows(tab)[0][4] == "0.90" and tab.threshold.widget.isVisibleTo(tab.widget)
    tab.threshold.slider.value = 25
    outline = next(n for n in segmentations(tab) if n.GetName() == "MedSeg finding")
    from medseg_mrml.reviewed import masks_of

    assert masks_of(outline, volume).layers[0].labels.sum() == 60 + 36 and (shown(tab) == lesions()).all()
    tab.threshold._take()
    assert (shown(tab)[2:5, 3:7, 4:12] == 1).all() and reviewing.review.findings[reviewing.current].voxels == 96
    press(tab, "Z")
    assert (shown(tab) == lesions()).all()
    tab.threshold.all.checked = True
    tab.threshold.slider.value = 95
    tab.threshold._take()
    assert set(np.unique(shown(tab))) == {0, 2}


def test_the_scene_is_closed_in_the_middle(tab: Any) -> None:
    reviewing = started(tab)
    press(tab, "X")
    tab.opened.scene.Clear(0)
    assert tab.reviewing is None
    assert (reviewing.work.folder / "reviewed.seg.nrrd").is_file()


def test_the_image_is_removed_in_the_middle(tab: Any) -> None:
    started(tab)
    press(tab, "X")
    tab.opened.scene.RemoveNode(tab.reviewing.volume)
    assert tab.reviewing is None and "removed" in tab.ui.status.text


def test_views_rest_while_a_key_does_its_work(tab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each view was drawn up to three times for a key, so that readers waited twice as long for the next finding."""
    import slicer

    reviewing = started(tab)
    seen = []
    for key in "AXNPZYC":
        with monkeypatch.context() as patch:
            go = reviewing.go
            patch.setattr(reviewing, "go", lambda *a, g=go, **k: (seen.append(slicer.app.renders_paused), g(*a, **k)))
            press(tab, key)
    assert len(seen) >= 6 and all(seen) and slicer.app.renders_paused == 0
    monkeypatch.setattr(reviewing, "decide", lambda *_: (_ for _ in ()).throw(RuntimeError("full")))
    with pytest.raises(RuntimeError, match="full"):
        tab.actions.decide("accepted")
    assert slicer.app.renders_paused == 0, "views that are never drawn again"


def test_a_mask_that_nobody_drew_on_is_not_compared_for_each_key(tab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparing all voxels took longer than all else that a key does; what was drawn must not be missed for it."""
    reviewing = started(tab)
    compared = []
    drawn = reviewing.shown.drawn
    monkeypatch.setattr(reviewing.shown, "drawn", lambda *a: (compared.append(a[0]), drawn(*a))[1])
    for key in "AXAZY":
        press(tab, key)
    assert len(compared) <= 1
    draw(tab, (slice(10, 12), slice(30, 33), slice(5, 9)), 2)
    press(tab, "A")
    assert len(reviewing.review.findings) == 6
    image = reviewing.shown.node.GetSegmentation().GetNthSegment(0).GetRepresentation("Binary labelmap")
    from medseg_mrml.arrays import array_of

    # As a script may that tells nobody: noticed when a version is saved at the latest.
    array_of(image)[14:16, 30:33, 5:9] = 1
    reviewing.save()
    assert len(reviewing.review.findings) == 7


def test_a_larger_font_cuts_no_name(tab: Any) -> None:
    """Slicer's setting of the font left the columns as narrow as before: "abnorm..." said nothing."""
    import slicer
    from PySide6 import QtWidgets

    from qt_host.bridge import unwrap

    started(tab)
    table, before = unwrap(tab.list.table), QtWidgets.QApplication.font()
    larger = QtWidgets.QApplication.font()
    larger.setPointSizeF(1.5 * before.pointSizeF())
    QtWidgets.QApplication.setFont(larger)
    try:
        assert tab._font_changed in slicer.app.connected["fontChanged(QFont)"]
        tab._font_changed(larger)
        name = table.fontMetrics().horizontalAdvance("abnormal")
        assert table.columnWidth(2) > name and table.rowHeight(0) >= table.fontMetrics().height()
    finally:
        QtWidgets.QApplication.setFont(before)
    tab.cleanup()
    assert tab._font_changed not in slicer.app.connected["fontChanged(QFont)"], "a panel that is gone would be called"


def test_a_finding_among_voxels_that_are_no_numbers_is_corrected_too(tab: Any) -> None:
    """Quantitative maps have holes of NaN: Correct (E) failed on a finding that touched one, or painted nothing."""
    from medseg.geometry.volume import Volume
    from medseg_mrml import node_from_volume

    image = np.where(lesions() > 0, 100.0, 0.0).astype(np.float32)
    image[2:5, 3:5, 4:9] = np.nan  # half of the largest finding
    image[8:11, 10:13, 10:14] = np.inf  # all of the second
    holes = node_from_volume(Volume(image, grid(SIZE), "MR", "map"), tab.opened.scene)
    tab.ui.volume.setCurrentNode(holes)
    reviewing = started(tab)
    editor = tab.actions.editor
    assert reviewing.review.findings[reviewing.current].voxels == 60
    press(tab, "E")
    assert editor.is_open and editor.similar.enabled and "Only similar voxels (100 to 100)" in editor.similar.text
    low, high = reviewing.intensities(reviewing.current)
    assert 99 < low < 100 < high < 101
    press(tab, "E")
    tab.go(next(f.id for f in reviewing.review.findings.values() if f.voxels == 36))
    press(tab, "E")
    assert editor.is_open and not editor.similar.enabled, "there is no range of intensities to keep to"
    assert tab.opened.dialogs.errors == []

"""Reviews that cannot be kept or opened, and nodes that somebody else changes: the reader's work is never lost."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from qt_host.fixtures import Opened, grid, host, opened  # noqa: F401
from support.review_tab import SIZE, lesions, press, segmentations, shown, started, tab  # noqa: F401

# ruff: noqa: F811  (fixtures are arguments)


def test_a_mask_that_cannot_be_saved_on_leaving_stays_in_the_scene(tab: Any) -> None:
    """A full disk, a drive that was pulled: the voxels would be gone with the node, and nobody could save them."""
    reviewing = started(tab)
    press(tab, "X")
    folder, voxels = reviewing.work.folder, shown(tab)
    shutil.rmtree(folder)
    folder.write_text("in the way")
    tab.start_button.click()
    assert tab.reviewing is None and [n.GetName() for n in segmentations(tab)] == ["flair lesions", "flair reviewed"]
    node, image = segmentations(tab)[1], reviewing.volume
    assert "flair reviewed" in tab.opened.dialogs.errors[-1] and "could not be kept" in tab.ui.status.text
    from medseg_mrml.reviewed import masks_of

    assert (masks_of(node, image).layers[0].labels == voxels).all()


def test_a_review_that_cannot_be_opened_is_told(tab: Any, monkeypatch: Any) -> None:
    """A folder that may not be read, say: nothing happened at the press of the button."""
    reviewing = started(tab)
    press(tab, "X")
    tab.start_button.click()

    def refused(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refused)
        tab.start_button.click()
    assert tab.reviewing is None and "Permission denied" in tab.opened.dialogs.errors[-1]
    assert started(tab).review.left == reviewing.review.left


def test_a_segment_that_is_removed_from_the_reviewed_mask_comes_back(tab: Any) -> None:
    reviewing = started(tab)
    press(tab, "X")
    before, steps = shown(tab), reviewing.review.steps
    reviewing.shown.node.GetSegmentation().RemoveSegment(reviewing.shown.segment_of(0, 1))
    tab.actions.take_drawing()
    assert "came back" in tab.ui.status.text and reviewing.review.steps == steps
    assert (shown(tab) == before).all() and len(reviewing.review.findings) == 5
    press(tab, "Z")
    assert (shown(tab) == lesions()).all()


def test_a_review_is_found_again_when_the_image_got_another_name(tab: Any) -> None:
    reviewing = started(tab)
    press(tab, "X")
    tab.start_button.click()
    tab.ui.volume.currentNode().SetName("FLAIR of Monday")
    again = started(tab)
    assert again.work.folder == reviewing.work.folder and again.review.left == 4
    assert "goes on there" in tab.ui.status.text


def test_two_patients_with_empty_masks_of_one_name_do_not_share_a_review(tab: Any) -> None:
    """Two normal findings, both called after their series: the second opened with rating and comment of the first."""
    from medseg.geometry.volume import Volume
    from medseg_mrml import node_from_volume

    folders = set()
    for brightness in (1, 2):
        image = np.full(SIZE[::-1], brightness, np.int16)
        volume = node_from_volume(Volume(image, grid(SIZE), "MR", "t2"), tab.opened.scene)
        volume.SetName("t2")
        mask = tab.opened.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "empty")
        mask.GetSegmentation().AddEmptySegment("lesion", "lesion")
        tab.ui.volume.setCurrentNode(volume)
        tab.ui.mask.setCurrentNode(mask)
        folders.add(started(tab).work.folder)
        tab.start_button.click()
    assert len(folders) == 2


def test_what_was_said_of_one_case_is_not_said_of_the_next(tab: Any) -> None:
    started(tab)
    tab.start_button.click()
    assert "is kept in" in tab.ui.status.text
    started(tab)
    assert "is kept in" not in tab.ui.status.text

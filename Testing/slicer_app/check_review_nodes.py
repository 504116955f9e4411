"""What becomes of a review whose nodes somebody else changes: segments, names, the scene file, Slicer's own editor."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import common
import numpy as np
import slicer
from reviews import flair_and_masks, kept_apart, segmentation, shown
from session import Session, equal, true


def begin(tab: Any) -> tuple[Any, str]:
    """The review of the usual mask, open, and what image it is."""
    what, volume, labels = flair_and_masks()
    tab.ui.volume.setCurrentNode(volume)
    tab.ui.mask.setCurrentNode(segmentation(labels, volume, "mask"))
    tab.start()
    true(tab.reviewing is not None, "the review was not opened")
    return tab.reviewing, what


def check_review_beside_a_segment_of_the_readers_own(session: Session) -> str:
    """The Segment Editor puts a new segment into the labelmap of those under review: neither spoils the other."""
    with kept_apart(session) as tab:
        reviewing, what = begin(tab)
        node, before = reviewing.shown.node, reviewing.review.labels[0].copy()
        node.GetSegmentation().AddEmptySegment("mine", "mine")
        slicer.util.selectModule("SegmentEditor")
        editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
        editor.setSegmentationNode(node)
        editor.setSourceVolumeNode(reviewing.volume)
        editor.setCurrentSegmentID("mine")
        editor.setActiveEffectByName("Threshold")
        effect = editor.activeEffect()
        lowest = float(np.percentile(slicer.util.arrayFromVolume(reviewing.volume), 99))
        effect.setParameter("MinimumThreshold", str(lowest))
        effect.setParameter("MaximumThreshold", "1000000")
        effect.self().onApply()
        editor.setActiveEffect(None)
        common.pause(0.5)
        slicer.util.selectModule(common.MODULE.stem)

        def mine() -> np.ndarray:
            array = slicer.util.arrayFromSegmentBinaryLabelmap(node, "mine", reviewing.volume)
            return np.asarray(array > 0)

        tab.actions.take_drawing()
        drawn, labels = mine(), reviewing.review.labels[0]
        true(drawn.any(), "nothing was drawn")
        equal(set(np.unique(labels)) - {0, 1, 2}, set(), "values that are no class under review")
        equal(labels, np.where(drawn, 0, before), "the reviewed mask")
        for id in [f.id for f in reviewing.review.listed()][:3]:
            tab.go(id)
            tab.actions.decide("rejected")
        equal(mine(), drawn, "the reader's own segment")
        true("mine" in tab.ui.status.text or reviewing.shown.strangers() == ["mine"], "the stranger is not told")
    return f"{what}; {int(drawn.sum())} voxels drawn on a segment of its own, which stayed"


def check_review_of_a_mask_whose_segment_is_removed(session: Session) -> str:
    """A click on Remove in the Segment Editor takes no class out of the review."""
    with kept_apart(session) as tab:
        reviewing, _ = begin(tab)
        tab.actions.decide("rejected")
        before, count = shown(tab), len(reviewing.review.findings)
        reviewing.shown.node.GetSegmentation().RemoveSegment(reviewing.shown.segment_of(0, 2))
        common.wait(lambda: "came back" in tab.ui.status.text, 5)
        true("came back" in tab.ui.status.text, f"it is not told: {tab.ui.status.text}")
        equal(shown(tab), before, "what is shown")
        equal(len(reviewing.review.findings), count, "findings")
        return tab.ui.status.text


def check_review_goes_on_after_a_saved_scene_is_loaded(session: Session) -> str:
    """MRB, another name of the image: the review that was begun goes on."""
    folder = Path(tempfile.mkdtemp())
    with kept_apart(session, folder / "reviews") as tab:
        reviewing, _ = begin(tab)
        tab.actions.decide("rejected")
        left, kept = reviewing.review.left, reviewing.work.folder
        true(slicer.util.saveScene(str(folder / "scene.mrb")), "the scene was not saved")
        slicer.mrmlScene.Clear(0)
        common.pause(0.3)
        true(tab.reviewing is None, "the review is still open")
        slicer.util.loadScene(str(folder / "scene.mrb"))
        common.pause(0.5)
        volume = slicer.util.getNode("flair")
        volume.SetName("of Monday")
        tab.ui.volume.setCurrentNode(volume)
        tab.ui.mask.setCurrentNode(slicer.util.getNode("mask"))
        tab.start()
        true(tab.reviewing is not None, f"the review was not opened: {session.errors}")
        equal((tab.reviewing.review.left, tab.reviewing.work.folder), (left, kept), "findings left, and the folder")
        return tab.ui.status.text

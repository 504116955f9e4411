"""The Review tab with a mask of five lesions, for tests: what it shows, and what a reader does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qt_host.fixtures import Opened, grid, host, opened  # noqa: F401

# ruff: noqa: F811  (fixtures are arguments)

SIZE = (40, 36, 20)


def lesions() -> np.ndarray:
    """Five lesions of two classes, (K, J, I), of 60, 36, 24, 8 and 8 voxels."""
    labels = np.zeros(SIZE[::-1], np.uint8)
    labels[2:5, 3:7, 4:9] = 1
    labels[8:11, 10:13, 10:14] = 2
    labels[14:16, 20:23, 20:24] = 1
    labels[5:7, 25:27, 30:32] = 1
    labels[17:19, 5:7, 35:37] = 2
    return labels


@pytest.fixture
def tab(opened: Opened, tmp_path: Path) -> Any:
    """The Review tab before the reader did anything, with a volume and a mask in the scene."""
    import slicer

    from medseg.geometry.volume import Volume
    from medseg.result import Layer, SegmentClass
    from medseg_mrml import node_from_volume
    from medseg_mrml.reviewed import ReviewedNode

    slicer.app.userSettings().setValue("MedSeg/ReviewFolder", str(tmp_path / "reviews"))
    where = grid(SIZE)
    image = np.random.default_rng(0).integers(0, 50, where.shape).astype(np.int16) + 100 * (lesions() > 0)
    volume = node_from_volume(Volume(image.astype(np.int16), where, "MR", "flair"), opened.scene)
    classes = (
        SegmentClass(1, "normal", (0.0, 0.5, 1.0), "", True),
        SegmentClass(2, "abnormal", (1.0, 0.4, 0.0), "", True),
    )
    mask = ReviewedNode([Layer(lesions(), classes)], opened.scene, volume, "flair lesions", "wmh").node
    made = opened.widget.panel.tabs[1]
    opened.ui.tabs.currentIndex = 1
    made.ui.volume.setCurrentNode(volume)
    made.ui.mask.setCurrentNode(mask)
    made.mask_node, made.opened = mask, opened
    return made


def started(tab: Any) -> Any:
    tab.start_button.click()
    assert tab.reviewing is not None, tab.opened.dialogs.errors
    return tab.reviewing


def press(tab: Any, key: str) -> None:
    """What a key does."""
    next(k for k in tab.actions.keys._keys if k.name == key).work()


def shown(tab: Any) -> np.ndarray:
    """The voxels that the reviewed node shows, with the review's label values."""
    return np.asarray(tab.reviewing.shown.drawn(0, lesions()))


def kept(tab: Any) -> dict[str, Any]:
    return json.loads((tab.reviewing.work.folder / "review.json").read_text())


def rows(tab: Any) -> list[list[str]]:
    table = tab.list.table
    return [[table.item(r, c).text() for c in range(table.columnCount)] for r in range(table.rowCount)]


def segmentations(tab: Any) -> list[Any]:
    scene = tab.opened.scene
    count = scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")
    return [scene.GetNthNodeByClass(n, "vtkMRMLSegmentationNode") for n in range(count)]


def draw(tab: Any, box: tuple[slice, ...], value: int) -> None:
    """What the Segment Editor does: it writes voxels and says so."""
    import slicer

    from medseg_mrml.arrays import array_of

    segmentation = tab.reviewing.shown.node.GetSegmentation()
    identifier = tab.reviewing.shown.segment_of(0, value)
    image = segmentation.GetSegment(identifier).GetRepresentation("Binary labelmap")
    array_of(image)[box] = value
    image.Modified()
    segmentation.InvokeEvent(slicer.vtkSegmentation.SourceRepresentationModified)

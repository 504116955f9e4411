"""Volumes that are frames of a sequence (4D)."""

from __future__ import annotations

from typing import Any


def browser_of(volume: Any) -> Any:
    """The sequence browser node that shows its frames through ``volume``, or None."""
    scene = volume.GetScene()
    for n in range(scene.GetNumberOfNodesByClass("vtkMRMLSequenceBrowserNode")):
        browser = scene.GetNthNodeByClass(n, "vtkMRMLSequenceBrowserNode")
        if browser.GetSequenceNode(volume) is not None:
            return browser
    return None


def frame_count(volume: Any) -> int:
    """How many frames there are; 1 for a volume of no sequence."""
    browser = browser_of(volume)
    return browser.GetNumberOfItems() if browser is not None else 1


def frame(volume: Any, number: int) -> Any:
    """The data node of frame ``number`` of the sequence that ``volume`` shows (not a node of the scene)."""
    sequence = browser_of(volume).GetSequenceNode(volume)
    return sequence.GetNthDataNode(number)


class SegmentationSequence:
    """Collects one segmentation a frame in a sequence beside that of ``volume``."""

    def __init__(self, volume: Any, name: str) -> None:
        self._browser = browser_of(volume)
        self._master = self._browser.GetSequenceNode(volume)
        scene = volume.GetScene()
        self.sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", scene.GenerateUniqueName(name))
        self.sequence.SetIndexName(self._master.GetIndexName())
        self.sequence.SetIndexUnit(self._master.GetIndexUnit())
        self.sequence.SetIndexType(self._master.GetIndexType())

    def keep(self, number: int, segmentation: Any) -> None:
        """Keep a copy of the node ``segmentation`` as frame ``number``."""
        self.sequence.SetDataNodeAtValue(segmentation, self._master.GetNthIndexValue(number))

    def show(self, segmentation: Any) -> None:
        """From now on the browser shows its frames through the node ``segmentation``."""
        self._browser.AddProxyNode(segmentation, self.sequence, False)

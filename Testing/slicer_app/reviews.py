"""What the checks of the Review tab share: the tab, where reviews are kept, a FLAIR with a reader's mask."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import common
import numpy as np
import slicer
from session import Session, true

FOLDER_SETTING = "MedSeg/ReviewFolder"
#: A patient with many lesions of both classes.
CASE = "104252"


def review_tab(session: Session) -> Any:
    """The Review tab, in front."""
    widget = session.widget
    found = [tab for tab in widget.panel.tabs if tab.title == "Review"]
    true(found, "there is no Review tab; why not stands in the log of the Segment tab")
    probe = slicer.util.findChildren(slicer.util.mainWindow(), "DataProbeCollapsibleWidget")
    if probe:
        probe[0].collapsed = True
    widget.ui.tabs.currentIndex = widget.panel.tabs.index(found[0])
    common.pause(0.2)
    return found[0]


@contextlib.contextmanager
def kept_apart(session: Session, folder: Path | None = None) -> Iterator[Any]:
    """The Review tab, whose reviews go to ``folder``, else a temporary one; what was opened is left at the end."""
    settings = slicer.app.userSettings()
    before = settings.value(FOLDER_SETTING)
    with tempfile.TemporaryDirectory() as temporary:
        settings.setValue(FOLDER_SETTING, str(folder or temporary))
        tab = review_tab(session)
        try:
            yield tab
        finally:
            tab.leave()
            tab.cases.close_list()
            tab.compare.remove()
            session.widget.ui.tabs.currentIndex = 0
            if before:
                settings.setValue(FOLDER_SETTING, before)
            else:
                settings.remove(FOLDER_SETTING)


def flair_and_masks() -> tuple[str, Any, np.ndarray]:
    """What it is, a volume node, and a reader's labels (K, J, I): 1 normal, 2 abnormal; a phantom without real data."""
    folder = common.REAL_DATA / "images" / "wmh" / CASE
    if (folder / "flair.nii.gz").is_file():
        node = slicer.util.loadVolume(str(folder / "flair.nii.gz"))
        node.SetName("flair")
        node.SetAttribute("DICOM.Modality", "MR")
        labels = np.zeros(slicer.util.arrayFromVolume(node).shape, np.uint8)
        for value, name in ((1, "nWMH"), (2, "abWMH")):
            other = slicer.util.loadVolume(str(folder / f"{name}.nii.gz"), {"show": False})
            labels[slicer.util.arrayFromVolume(other) > 0] = value
            slicer.mrmlScene.RemoveNode(other)
        return f"the FLAIR of patient {CASE} with manual masks", node, labels
    from medseg.phantoms import flair
    from medseg_mrml import node_from_volume

    phantom = flair(3, lesions=14)
    node = node_from_volume(phantom.volume, slicer.mrmlScene, name="flair")
    labels = np.where(np.asarray(phantom.labels) == 2, 2, 0).astype(np.uint8)
    return f"a phantom, since there is no real data ({common.REAL_DATA.name} is not here)", node, labels


def segmentation(labels: np.ndarray, volume: Any, name: str, classes: tuple[Any, ...] = ()) -> Any:
    """A segmentation node of ``labels`` (K, J, I) on the grid of ``volume``."""
    from medseg.result import Layer, SegmentClass
    from medseg_mrml.reviewed import ReviewedNode

    own = (SegmentClass(1, "normal WMH", (0.34, 0.71, 0.91), "", True),
           SegmentClass(2, "abnormal WMH", (0.84, 0.37, 0.0), "", True))  # fmt: skip
    return ReviewedNode([Layer(labels, classes or own)], slicer.mrmlScene, volume, name).node


def shown(tab: Any, layer: int = 0) -> np.ndarray:
    """The voxels that the reviewed node shows, a copy."""
    return np.array(tab.reviewing.shown.drawn(layer, tab.reviewing.review.labels[layer]))


def only_in_view(name: str) -> None:
    """One slice view as large as the window lets it be, or ("") four views."""
    layout = slicer.vtkMRMLLayoutNode
    numbers = {"Red": layout.SlicerLayoutOneUpRedSliceView, "": layout.SlicerLayoutFourUpView}
    slicer.app.layoutManager().setLayout(numbers[name])
    common.pause(0.3)

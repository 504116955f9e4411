"""Drawn volumes in Slicer's module *Sample Data*, under *MedSeg*: to try the models on, without a download."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
from slicer.i18n import tr as _

CATEGORY = "MedSeg"
#: Title -> function of `medseg.phantoms`, seed, further arguments.
SAMPLES: dict[str, tuple[str, int, dict[str, Any]]] = {
    _("FLAIR, drawn"): ("flair", 5, {}),
    _("SWI, drawn"): ("swi", 5, {"microbleeds": 8}),
    _("Head CT, drawn"): ("head_ct", 7, {"bleeds": ["intraparenchymal", "subdural"]}),
    _("Chest X-ray, drawn"): ("chest_xray", 1, {}),
}


def register(logic: Any, icon: str) -> None:
    """Offer the samples. ``logic``: ``SampleData.SampleDataLogic``; ``icon``: picture file of the buttons."""
    for title, (name, seed, more) in SAMPLES.items():
        logic.registerCustomSampleDataSource(
            category=CATEGORY, sampleName=title, uris="", fileNames=title, nodeNames=title, thumbnailFileName=icon,
            customDownloader=_drawer(title, name, seed, more),
        )  # fmt: skip


def _drawer(title: str, name: str, seed: int, more: dict[str, Any]) -> Callable[[Any], list[Any]]:
    """What a click on the sample's button does; it takes a second or two."""

    def draw(_source: Any = None) -> list[Any]:
        import medseg.phantoms
        from medseg_mrml import node_from_volume

        with slicer.util.tryWithErrorDisplay(_("The sample could not be drawn."), waitCursor=True):
            phantom = getattr(medseg.phantoms, name)(seed, **more)
            node = node_from_volume(phantom.volume, slicer.mrmlScene, name=title)
            slicer.util.setSliceViewerLayers(background=node, fit=True)
            return [node]
        return []

    return draw

"""Whether what went in and came out can be right: what a reader would notice at once is said by itself.

Nothing here changes a result. Warnings are for what is probably wrong, notes for what is a plain fact of the result.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..geometry.volume import PROJECTIONS, Volume
from ..model.manifest.schema import Manifest, OutputClass
from ..monitor import Monitor
from ..result import Result
from .preprocess.state import Prepared

_AIR_HU = -300.0  # below this only air and foam in CT; magnitudes and 8-bit pictures have no such values
_AIR_SHARE = 0.02
_FULL = 0.98
_LISTED = 6


def check_modality(volume: Volume, wanted: list[str], title: str, monitor: Monitor) -> None:
    """Tell where ``volume`` is not of the modality that the model ``title`` was trained on (``wanted``: DICOM codes).

    A file that does not state its modality is noted once, and warned of where its values contradict the model.
    """
    if not wanted or volume.modality in wanted:
        return
    words = " or ".join(wanted)
    if volume.modality is not None:
        monitor.warn(f"{volume.name} is {volume.modality}, but {title} was trained on {words}: expect wrong results.")
    elif reason := _contradiction(volume, set(wanted)):
        monitor.warn(f"{volume.name} {reason}, but {title} was trained on {words}: expect wrong results.")
    else:
        monitor.note(f"{volume.name} does not state its modality; it was taken for {words}.")


def _contradiction(volume: Volume, wanted: set[str]) -> str:
    """Why the values cannot be of one of the modalities ``wanted``, or ""."""
    sample = volume.array[tuple(slice(None, None, max(1, n // 64)) for n in volume.grid.shape)]
    air = float(np.mean(sample < _AIR_HU))
    if "CT" not in wanted and air > _AIR_SHARE:
        return f"has values like CT numbers ({air:.0%} of its voxels are below {_AIR_HU:.0f})"
    if wanted == {"CT"} and float(sample.min()) >= 0:
        return "has no negative values, so it is not in Hounsfield units"
    if wanted <= PROJECTIONS and min(volume.grid.size) > 1:
        return "is a volume of several slices, not a film"
    return ""


def check_classes(
    manifest: Manifest, result: Result, prepared: Prepared, highest: dict[str, Any], monitor: Monitor
) -> None:
    """Tell of organs that are not there or fill everything, and of lesions of which none was found.

    ``highest``: the highest probability of each class, as far as it was seen.
    """
    present = {row[0]: int(row[1] or 0) for row in _voxels(result)}
    if not present:
        return
    total = int(np.prod(result.grid.shape))
    organs = [c for c in manifest.classes if not c.lesion]
    empty = [c for c in organs if present.get(c.name, 0) == 0]
    full = [c for c in organs if present.get(c.name, 0) > _FULL * total]
    if organs and len(empty) == len(organs):
        monitor.warn(f"{_listed(empty)}: nothing was found. {_seen(prepared, empty, highest)}")
    for c in full:
        monitor.warn(f"{c.name} fills the whole volume. {_seen(prepared, [c], highest)}")
    for c in manifest.classes:
        if c.lesion and present.get(c.name, 0) == 0:
            monitor.note(f"No {c.name[:1].lower()}{c.name[1:]} was found.")


def _voxels(result: Result) -> list[tuple[Any, Any]]:
    table = result.tables.get("segments")
    if table is None or not result.layers:
        return []
    names = [c.name for c in table.columns]
    count = next((n for n in ("voxels", "pixels") if n in names), "")
    return list(zip(table.column("segment"), table.column(count), strict=True)) if count else []


def _listed(classes: list[OutputClass]) -> str:
    names = [c.name for c in classes[:_LISTED]]
    return ", ".join(names) + (f" and {len(classes) - _LISTED} more" if len(classes) > _LISTED else "")


def _seen(prepared: Prepared, classes: list[OutputClass], highest: dict[str, Any]) -> str:
    array = prepared.array
    low, high, mean = float(array.min()), float(array.max()), float(array.mean(dtype=np.float64))
    known = [f"{c.name} {highest[c.name]:.2g}" for c in classes[:_LISTED] if c.name in highest]
    most = f" and gave at most these probabilities: {', '.join(known)}" if known else ""
    return (
        f"The network saw values from {low:.3g} to {high:.3g} (mean {mean:.3g}){most}. Check that this is the volume, "
        "modality and orientation that the model is meant for, and its intensity steps (medseg explain shows them)."
    )

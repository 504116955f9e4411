"""Files and DICOM series -> `medseg.geometry.volume.Volume`, geometry kept exactly, every assumption told."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .files import read_volume

if TYPE_CHECKING:
    from .dicom_series import SeriesInfo as SeriesInfo
    from .dicom_series import list_series as list_series
    from .segmentations import Segmentation as Segmentation
    from .segmentations import read_segmentation as read_segmentation

# Loaded on first use: who reads a NIfTI file does not wait for pydicom.
_LATER = {
    "Segmentation": "segmentations",
    "SeriesInfo": "dicom_series",
    "list_series": "dicom_series",
    "read_segmentation": "segmentations",
}
__all__ = ["Segmentation", "SeriesInfo", "list_series", "read_segmentation", "read_volume"]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(importlib.import_module(f".{_LATER[name]}", __name__), name)
    raise AttributeError(f"module 'medseg.io' has no attribute {name!r}")

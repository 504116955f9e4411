"""Files and DICOM series -> `medseg.geometry.volume.Volume`, geometry kept exactly, every assumption told."""

from .dicom_series import SeriesInfo, list_series
from .files import read_volume

__all__ = ["SeriesInfo", "list_series", "read_volume"]

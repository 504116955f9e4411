"""Files and DICOM series -> `medseg.geometry.volume.Volume`, geometry kept exactly, every assumption told."""

from .dicom_series import SeriesInfo, list_series
from .files import read_volume
from .segmentations import Segmentation, read_segmentation

__all__ = ["Segmentation", "SeriesInfo", "list_series", "read_segmentation", "read_volume"]

"""Masks of a DICOM Segmentation on the frames of its images, as acquired: nothing is put onto a regular grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom

from ..errors import InputError, damage_is
from ..io.dicom_source import DicomSource
from .frames import frame_places
from .library import quietly


def masks_on_frames(path: str | Path, source: DicomSource) -> dict[str, npt.NDArray[np.bool_]]:
    """Mask (frame, row, column) of each segment by its label; fractions of at least one half count.

    Raises `InputError` where the file is damaged or refers to other images than ``source``.
    """
    path = Path(path)
    with quietly(), damage_is(InputError, path.name):
        dataset = pydicom.dcmread(path)
        pixels = np.asarray(dataset.pixel_array)
        pixels = pixels[np.newaxis] if pixels.ndim == 2 else pixels
        try:
            places = frame_places(dataset, source)
        except KeyError as error:
            raise InputError(f"{path.name} refers to other images than those of {source.name}.") from error
        half = float(dataset.get("MaximumFractionalValue") or 1) / 2
        shape = (len(source.frames), *pixels.shape[1:])
        found: dict[str, Any] = {}
        for segment in dataset.SegmentSequence:
            number = int(segment.SegmentNumber)
            if number == 0:  # the background of a label map
                continue
            mask = np.zeros(shape, bool)
            for frame, (of, at) in zip(pixels, places, strict=True):
                if of in (0, number):
                    mask[at] |= (frame == number) if of == 0 else (frame >= half)
            found[str(segment.SegmentLabel)] = mask
    return found

"""Key images: the slice through a finding in radiological orientation, with the outline of the mask, as PNG."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..geometry.grid import Grid
from ..geometry.resample import resample

#: Plane by the axis (i, j, k of an LPS grid) it is normal to: name, letters at its left, right, top, bottom.
_PLANES = {2: ("axial", "RLAP"), 1: ("coronal", "RLSI"), 0: ("sagittal", "APSI")}


@dataclass(frozen=True)
class Picture:
    """``letters``: at left, right, top, bottom of the image."""

    png: bytes
    plane: str
    letters: str


def window_of(array: npt.NDArray[Any], modality: str | None = None) -> tuple[float, float]:
    """(lowest, highest) value shown: a soft tissue window for CT, else the 1st to 99.5th percentile above the least."""
    if modality == "CT":
        return -160.0, 240.0
    sample = array.ravel()[:: max(1, array.size // 500_000)]
    sample = sample[np.isfinite(sample)]
    inside = sample[sample > sample.min()] if sample.size else sample
    if not inside.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(inside, (1, 99.5)))
    return low, max(high, low + 1e-6)


def key_image(
    array: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    grid: Grid,
    centre_ras: tuple[float, float, float],
    colors: dict[int, tuple[float, float, float]],
    window: tuple[float, float],
    height: int = 360,
) -> Picture:
    """The slice through ``centre_ras``, normal to the thickest axis of the voxels; each label's outline in its colour.

    ``array``, ``labels``: (K, J, I) on ``grid``. An oblique volume is shown along its own axes, under the names of the
    nearest anatomical ones. ``height``: of the picture in pixels.
    """
    from scipy import ndimage

    upright = grid.reoriented("LPS")
    r, a, s = centre_ras
    index = np.rint(upright.to_index([-r, -a, s])).astype(int)
    # A volume of cubes is shown axially.
    axis = max((2, 1, 0), key=lambda n: round(upright.spacing[n], 3))
    at = int(np.clip(index[axis], 0, upright.size[axis] - 1))
    plane = upright.slice(axis, at)
    shown = np.squeeze(resample(array, grid, plane, interpolation="nearest"), 2 - axis)
    marked = np.squeeze(resample(labels, grid, plane, interpolation="nearest"), 2 - axis)
    across, down = [n for n in (0, 1, 2) if n != axis]
    if axis != 2:  # the head is up
        shown, marked = shown[::-1], marked[::-1]
    rows, columns = shown.shape
    size = (height, max(1, round(height * columns * upright.spacing[across] / (rows * upright.spacing[down]))))
    low, high = window
    grey = np.nan_to_num(np.clip((shown.astype(np.float32) - low) / (high - low), 0, 1))
    grey = np.clip(
        ndimage.zoom(grey, (size[0] / rows, size[1] / columns), order=1, grid_mode=True, mode="nearest"), 0, 1
    )
    where = [
        np.minimum((np.arange(n) + 0.5) * m / n, m - 1).astype(int) for n, m in zip(size, (rows, columns), strict=True)
    ]
    large = marked[np.ix_(*where)]
    picture = np.repeat((grey * 255).astype(np.uint8)[..., np.newaxis], 3, axis=2)
    for value, color in colors.items():
        mask = large == value
        picture[mask & ~ndimage.binary_erosion(mask)] = [round(255 * c) for c in color]
    name, letters = _PLANES[axis]
    return Picture(png_of(picture), name, letters)


def png_of(picture: npt.NDArray[np.uint8]) -> bytes:
    """RGB (rows, columns, 3) as the bytes of a PNG file."""
    import SimpleITK as sitk

    with tempfile.TemporaryDirectory(prefix="medseg-") as folder:
        path = Path(folder) / "picture.png"
        sitk.WriteImage(sitk.GetImageFromArray(picture, isVector=True), str(path))
        return path.read_bytes()

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

#: What is no darker than so much of the window is patient; a row with a smaller share of it is noise.
_AIR, _STRAY = 0.06, 0.02
#: Of the corners around a finding: pixels between them and its edge, and colour.
_MARGIN, _YELLOW = 6, (255, 225, 0)


@dataclass(frozen=True)
class Picture:
    """``letters``: at left, right, top, bottom of the image. ``size``: width and height in pixels."""

    png: bytes
    plane: str
    letters: str
    size: tuple[int, int]


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
    box: tuple[tuple[int, int], ...] | None = None,
    crop: bool = False,
) -> Picture:
    """The slice through ``centre_ras``, normal to the thickest axis of the voxels; each label's outline in its colour.

    ``array``, ``labels``: (K, J, I) on ``grid``. An oblique volume is shown along its own axes, under the names of the
    nearest anatomical ones. ``height``: of the picture in pixels. ``box``: half-open voxel ranges (k, j, i) of the
    finding that is marked by yellow corners. ``crop``: leave out the air around the patient.
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
    low, high = window
    around = _seen(shown > low + _AIR * (high - low), marked > 0) if crop else (slice(0, None), slice(0, None))
    first = (around[0].start, around[1].start)
    whole = shown.shape[0]
    shown, marked = shown[around], marked[around]
    rows, columns = shown.shape
    size = (height, max(1, round(height * columns * upright.spacing[across] / (rows * upright.spacing[down]))))
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
    if box is not None:
        _mark(picture, _corners(box, grid, upright), (rows, columns), first, (down, across), whole if axis != 2 else 0)
    name, letters = _PLANES[axis]
    return Picture(png_of(picture), name, letters, (picture.shape[1], picture.shape[0]))


def _seen(body: npt.NDArray[np.bool_], marked: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns around the patient and all that is outlined, with a rim."""
    ranges = []
    for axis, size in enumerate(body.shape):
        hits = np.flatnonzero((body.mean(axis=1 - axis) > _STRAY) | marked.any(axis=1 - axis))
        rim = max(1, size // 50)
        ranges.append(slice(max(0, int(hits[0]) - rim), int(hits[-1]) + 1 + rim) if hits.size else slice(0, size))
    return ranges[0], ranges[1]


def _corners(box: tuple[tuple[int, int], ...], grid: Grid, upright: Grid) -> tuple[list[float], list[float]]:
    """The least and greatest index (i, j, k of ``upright``) of the voxels of ``box``, at their edges."""
    (k0, k1), (j0, j1), (i0, i1) = box
    ends = [[i, j, k] for i in (i0, i1 - 1) for j in (j0, j1 - 1) for k in (k0, k1 - 1)]
    index = upright.to_index(grid.to_physical(np.array(ends, dtype=float)))
    return (index.min(axis=0) - 0.5).tolist(), (index.max(axis=0) + 0.5).tolist()


def _mark(
    picture: npt.NDArray[np.uint8],
    ends: tuple[list[float], list[float]],
    shape: tuple[int, int],
    start: tuple[int, int],
    axes: tuple[int, int],
    turned: int,
) -> None:
    """Draw yellow corners around what lies between ``ends`` along ``axes`` (of the rows, of the columns).

    ``shape``, ``start``: (rows, columns) of voxels that are shown, and the first. ``turned``: of so many rows where
    the first is the last of the slice, else 0.
    """
    ranges = []
    for n, axis in enumerate(axes):
        low, high = ends[0][axis] + 0.5, ends[1][axis] + 0.5
        if n == 0 and turned:
            low, high = turned - high, turned - low
        low, high = low - start[n], high - start[n]
        scale = picture.shape[n] / shape[n]
        first = round(low * scale) - _MARGIN
        last = max(round(high * scale) + _MARGIN, first + 2 * _MARGIN)
        ranges.append((max(0, first), min(picture.shape[n] - 1, last)))
    (top, bottom), (left, right) = ranges
    arm = max(4, min(bottom - top, right - left) // 4)
    for r, down in ((top, 1), (bottom, -1)):
        for c, along in ((left, 1), (right, -1)):
            stop_r, stop_c = sorted((r, r + down * arm)), sorted((c, c + along * arm))
            thick_r, thick_c = sorted((r, r + down)), sorted((c, c + along))
            picture[max(0, stop_r[0]) : stop_r[1] + 1, max(0, thick_c[0]) : thick_c[1] + 1] = _YELLOW
            picture[max(0, thick_r[0]) : thick_r[1] + 1, max(0, stop_c[0]) : stop_c[1] + 1] = _YELLOW


def png_of(picture: npt.NDArray[np.uint8]) -> bytes:
    """RGB (rows, columns, 3) as the bytes of a PNG file."""
    import SimpleITK as sitk

    with tempfile.TemporaryDirectory(prefix="medseg-") as folder:
        path = Path(folder) / "picture.png"
        sitk.WriteImage(sitk.GetImageFromArray(picture, isVector=True), str(path))
        return path.read_bytes()

"""The per-slice head preparation of the white matter hyperintensity (WMH) networks.

Unsharp mask, an ellipse around the head, the normalisation that uses it, and the crop that lets the head fill the
frame. The rules are those of the networks' public training code; its image operations (OpenCV's border following with
compressed straight runs, ellipse fit and filled ellipse, scikit-image's resize) are done here with numpy and scipy,
because neither library is needed for anything else. All constants are in pixels: the networks were trained on pixels of
about 0.9 mm.

Slices are 2D arrays (rows, columns). A few roundings depend on which way a slice lies; they are done as in the training
data, whose rows grew to the Left and columns to Anterior. `fit_head` takes the way from the grid; the others expect
rows to Posterior and columns to the Left (a volume oriented LPS). Any other way moves the brain's border by single
pixels, which was seen to move normalised values by up to 0.0004.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

from ...geometry.grid import Grid
from ...monitor import Monitor

FloatArray = npt.NDArray[np.floating[Any]]
BoolArray = npt.NDArray[np.bool_]

# Background around the slice while the outline is sought, so that closing and the ellipse may reach over its edge.
_MARGIN = 28
# A pixel belongs to the head above this value where the slice's maximum is 255.
_HEAD_ABOVE = 25
# The ellipse runs along the scalp; this many pixels further in is brain.
_SCALP = 20
# In-plane pixel sizes, in mm, that the constants were made for (0.9), with room.
_PIXEL_MM = (0.7, 1.15)

# Written out: scipy.ndimage takes a quarter of a second to load, which only models that seek a head should wait for.
_ALL_NEIGHBOURS = np.ones((3, 3), bool)
# The eight neighbours (row, column) in order of rotation, starting to the right.
_AROUND = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))


@dataclass(frozen=True)
class Ellipse:
    """``row``, ``column``: centre in pixels of the slice. ``long_axis``, ``short_axis``: full lengths in pixels.
    ``angle``: of the long axis, in radians from the direction of growing columns towards growing rows."""

    row: float
    column: float
    long_axis: float
    short_axis: float
    angle: float


def unsharp_mask(slice2d: FloatArray, sigma: float = 1.0, amount: float = 1.5) -> FloatArray:
    """``x + amount * (x - gaussian(x, sigma))``, clipped to the range of ``x``; float64, same shape.

    The division by the maximum in the published rule, and the multiplication after it, cancel and are left out, so a
    slice whose maximum is 0 needs no exception. The Gaussian is cut at 4 sigma and mirrors the edge pixels.
    """
    x = np.asarray(slice2d, dtype=np.float64)
    sharp = x + amount * (x - scipy.ndimage.gaussian_filter(x, sigma))
    return np.asarray(np.clip(sharp, x.min(), x.max()))


def head_ellipse(slice2d: FloatArray) -> Ellipse | None:
    """The ellipse along the outline of the largest object in the slice; None where there is none to be fitted.

    An object is what is brighter than 25/255 of the maximum after opening, closing and dilation by a diamond of radius
    1 and closing by one of radius 4.
    """
    x = np.asarray(slice2d, dtype=np.float64)
    if not x.size or x.max() <= 0:
        return None
    mask = np.pad(255 * (x / x.max()) > _HEAD_ABOVE, _MARGIN)
    mask = dilated(eroded(mask))
    mask = eroded(dilated(mask))
    mask = eroded(dilated(mask, 1 + 4), 4)
    outline = _largest_outline(mask)
    return None if outline is None else fit_ellipse(outline - _MARGIN)


def head_mask(slice2d: FloatArray, ellipse: Ellipse | None = None) -> BoolArray:
    """The head's ellipse, eroded by a diamond of radius 20 pixels (taxicab distance); empty where there is no head."""
    shape = (int(slice2d.shape[0]), int(slice2d.shape[1]))
    ellipse = ellipse or head_ellipse(slice2d)
    if ellipse is None:
        return np.zeros(shape, dtype=bool)
    # Turned to the frame of the training data: its rows are the columns here, its columns the rows backwards.
    turned = replace(
        ellipse,
        row=ellipse.column + _MARGIN,
        column=shape[0] - 1 - ellipse.row + _MARGIN,
        angle=ellipse.angle + math.pi / 2,
    )
    filled = fill_ellipse(turned, (shape[1] + 2 * _MARGIN, shape[0] + 2 * _MARGIN)).T[::-1]
    return eroded(filled, _SCALP, beyond=True)[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]


def eroded(mask: BoolArray, times: int = 1, *, beyond: bool = False) -> BoolArray:
    """``mask`` (rows, columns) eroded by a diamond of radius ``times``; ``beyond``: what lies outside the slice.

    By shifts of whole rows: scipy's erosion, which looks at one pixel at a time, took half of the head's preparation.
    """
    padded = np.full((mask.shape[0] + 2, mask.shape[1] + 2), beyond)
    inner = padded[1:-1, 1:-1]
    inner[...] = mask
    for _ in range(times):
        smaller = inner & padded[:-2, 1:-1]
        for other in (padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]):
            smaller &= other
        inner[...] = smaller
    return inner


def dilated(mask: BoolArray, times: int = 1) -> BoolArray:
    """``mask`` (rows, columns) dilated by a diamond of radius ``times``."""
    return ~eroded(~mask, times, beyond=True)


def normalise_head(slice2d: FloatArray, minimum_pixels: int = 2800) -> FloatArray:
    """The slice scaled to 0..1 between its background and its brightest scalp; float64, same shape.

    With the pixels inside `head_mask` set to 0, the range of values is cut into ten bins; 0 is the mean of the pixels
    in the lowest bin, 1 that of those in the highest. All 0 where the mask has at most ``minimum_pixels`` pixels, or
    where all values are the same.
    """
    x = np.asarray(slice2d, dtype=np.float64)
    inside = head_mask(x)
    outside = np.where(inside, 0.0, x)
    if int(inside.sum()) <= minimum_pixels or x.min() == x.max() or outside.min() == outside.max():
        return np.zeros_like(x)
    edges = np.linspace(outside.min(), outside.max(), 11)
    lowest = outside[outside < edges[1]].mean()
    highest = outside[outside > edges[-2]].mean()
    return np.asarray((np.clip(x, lowest, highest) - lowest) / (highest - lowest))


def fit_head(
    array: npt.NDArray[Any], grid: Grid, axis: int, size: int, monitor: Monitor
) -> tuple[npt.NDArray[np.float32], tuple[Grid, ...]]:
    """Crop each slice to the square of its head's long axis and resize it to ``size`` x ``size`` pixels.

    ``array``: (C, K, J, I) on ``grid``; ``axis``: numpy axis (1..3) normal to the slices. The ellipse is found in the
    first channel; all channels get the same box. Returns the array with ``size`` pixels along both in-plane axes (their
    order and direction are kept) and, for each slice, the grid of its result; where the square was cut off by the edge
    of the slice, that grid is anisotropic in plane. A slice without a head is resized whole. Warns of such slices, and
    of pixels that are not about 0.9 mm squares.
    """
    normal = 3 - axis
    # numpy's first in-plane axis is the later index axis.
    in_plane = [a for a in (2, 1, 0) if a != normal]
    _check_pixels([grid.spacing[a] for a in in_plane], monitor)
    shape = list(array.shape)
    for a in in_plane:
        shape[3 - a] = size
    result = np.empty(shape, dtype=np.float32)
    slices, results = np.moveaxis(array, axis, 1), np.moveaxis(result, axis, 1)
    grids, headless = [], 0
    for n in range(array.shape[axis]):
        monitor.checkpoint()
        channels = slices[:, n].astype(np.float64)
        box = _head_box(channels[0], [grid.anatomical_axes[a] for a in in_plane])
        if box is None:
            headless += 1
            box = ((0, channels.shape[1]), (0, channels.shape[2]))
        (top, bottom), (left, right) = box
        for c, channel in enumerate(channels):
            results[c, n] = resize_slice(channel[top:bottom, left:right], (size, size))
        start, length, target = [0, 0, 0], [1, 1, 1], [1, 1, 1]
        for a, (first, stop) in zip(in_plane, box, strict=True):
            start[a], length[a], target[a] = first, stop - first, size
        grids.append(grid.slice(normal, n).cropped(start, length).resized(target))
    if headless:
        monitor.warn(
            f"No head was found in {headless} of {array.shape[axis]} slices; they went to the network uncropped, "
            "so do not rely on the result there."
        )
    return result, tuple(grids)


def resize_slice(slice2d: FloatArray, size: tuple[int, int]) -> FloatArray:
    """Linear interpolation over the same extent, after a Gaussian of sigma (factor - 1) / 2 along axes that shrink.

    Same numbers as ``skimage.transform.resize(..., order=1, anti_aliasing=True)``.
    """
    x = np.asarray(slice2d, dtype=np.float64)
    factors = [old / new for old, new in zip(x.shape, size, strict=True)]
    smooth = scipy.ndimage.gaussian_filter(x, [max(0.0, (f - 1) / 2) for f in factors], mode="mirror")
    return np.asarray(scipy.ndimage.zoom(smooth, [1 / f for f in factors], order=1, mode="mirror", grid_mode=True))


def fit_ellipse(points: npt.ArrayLike) -> Ellipse | None:
    """Least-squares ellipse of ``points`` (n, 2), each (row, column); None where fewer than 5 or not on an ellipse.

    The linear algebraic fit of Fitzgibbon and Fisher ("A Buyer's Guide to Conic Fitting", BMVC 1995) with the constant
    term fixed, about the points' centroid, gives the centre; a second one, of the quadratic terms about that centre,
    gives axes and angle. That is OpenCV's ``fitEllipse``.
    """
    positions = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    if len(positions) < 5:
        return None
    centroid = positions.mean(axis=0)
    y, x = (positions - centroid).T
    scale = max(float(np.abs(positions - centroid).max()), 1e-12)
    y, x = y / scale, x / scale
    ones = np.ones(len(positions))
    (a, b, c, d, e), _, rank, _ = np.linalg.lstsq(np.stack([x * x, x * y, y * y, x, y], axis=1), ones, rcond=None)
    if rank < 5 or 4 * a * c - b * b <= 0:
        return None
    # The centre is where the gradient of a x^2 + b x y + c y^2 + d x + e y vanishes.
    x0, y0 = np.linalg.solve([[2 * a, b], [b, 2 * c]], [-d, -e])
    u, v = x - x0, y - y0
    p, q, r = np.linalg.lstsq(np.stack([u * u, u * v, v * v], axis=1), ones, rcond=None)[0]
    values, vectors = np.linalg.eigh([[p, q / 2], [q / 2, r]])
    if values[0] <= 0:
        return None
    long_axis, short_axis = 2 * scale / np.sqrt(values)
    angle = math.atan2(vectors[1, 0], vectors[0, 0]) % math.pi
    row, column = y0 * scale + centroid[0], x0 * scale + centroid[1]
    return Ellipse(float(row), float(column), float(long_axis), float(short_axis), angle)


def fill_ellipse(ellipse: Ellipse, shape: tuple[int, int]) -> BoolArray:
    """Mask of ``shape`` with the pixels that OpenCV's filled ``ellipse`` paints.

    That is a polygon with a corner every 5 degrees, its angle rounded to a whole degree, painted row by row between its
    edges and along its outline. One bright pixel more at the brain's border moves the normalisation, hence the detail.
    """
    turn = math.radians(round(math.degrees(ellipse.angle)))
    t = np.radians(np.arange(0, 360, 5))
    along, across = ellipse.long_axis / 2 * np.cos(t), ellipse.short_axis / 2 * np.sin(t)
    rows = ellipse.row + along * math.sin(turn) + across * math.cos(turn)
    columns = ellipse.column + along * math.cos(turn) - across * math.sin(turn)
    corners = np.round(np.stack([rows, columns], axis=1) * 65536) / 65536
    first = np.full(shape[0], shape[1])
    last = np.full(shape[0], -1)
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        painted = np.floor(np.concatenate([_edge_by_rows(start, end), _edge_by_steps(start, end)]) + 0.5).astype(int)
        row, column = painted[(painted[:, 0] >= 0) & (painted[:, 0] < shape[0])].T
        np.minimum.at(first, row, column)
        np.maximum.at(last, row, column)
    position = np.arange(shape[1])
    return np.asarray((position >= first[:, None]) & (position <= last[:, None]))


def _edge_by_rows(start: FloatArray, end: FloatArray) -> FloatArray:
    """Where an edge crosses pixel rows, its ends taken to lie on their nearest row; (n, 2)."""
    (y0, y1) = (math.floor(start[0] + 0.5), math.floor(end[0] + 0.5))
    if y0 == y1:
        return np.empty((0, 2))
    rows = np.arange(min(y0, y1), max(y0, y1) + 1)
    return np.stack([rows, start[1] + (rows - y0) * (end[1] - start[1]) / (y1 - y0)], axis=1)


def _edge_by_steps(start: FloatArray, end: FloatArray) -> FloatArray:
    """Points one pixel apart along an edge's longer direction, from its lower end, and its upper end; (n, 2)."""
    longer = int(abs(end[1] - start[1]) > abs(end[0] - start[0]))
    if end[longer] < start[longer]:
        start, end = end, start
    extent = end - start
    steps = np.arange(math.floor(extent[longer]) + 1)[:, None]
    return np.concatenate([start + steps * extent / max(float(extent[longer]), 1e-12), end[None]])


def _head_box(slice2d: FloatArray, axes: list[tuple[int, int]]) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Rows and columns (start, stop) of the square of the long axis around the head, clipped to the slice.

    ``axes``: (LPS axis, sign) of rows and columns. Centre and half side are rounded down in the frame in which the
    networks' data were made, whose axes grow to Left, Anterior and Superior, so that the box does not depend on how the
    volume is stored.
    """
    ellipse = head_ellipse(slice2d)
    if ellipse is None:
        return None
    half = math.floor(ellipse.long_axis / 2)
    box = []
    for centre, length, (lps_axis, sign) in zip((ellipse.row, ellipse.column), slice2d.shape, axes, strict=True):
        backwards = sign != (-1 if lps_axis == 1 else 1)
        middle = math.floor(length - 1 - centre if backwards else centre)
        start, stop = max(middle - half, 0), min(middle + half, length)
        if stop <= start:
            return None
        box.append((length - stop, length - start) if backwards else (start, stop))
    return box[0], box[1]


def _check_pixels(spacing: list[float], monitor: Monitor) -> None:
    low, high = _PIXEL_MM
    size = f"{spacing[1]:.3g} x {spacing[0]:.3g} mm"
    if abs(spacing[0] - spacing[1]) > 0.01 * max(spacing):
        monitor.warn(f"The head fit expects square pixels, but they are {size}: the head is distorted for the network.")
    elif not low <= spacing[0] <= high:
        monitor.warn(f"The head preparation was made for pixels of about 0.9 mm, but they are {size}.")


def _largest_outline(mask: BoolArray) -> npt.NDArray[np.float64] | None:
    """Corners (n, 2) of the outer border that encloses the largest area among the 8-connected objects, or None."""
    labels, _ = scipy.ndimage.label(mask, _ALL_NEIGHBOURS)
    boxes = scipy.ndimage.find_objects(labels)
    largest, area = None, -1.0
    order = sorted(range(len(boxes)), key=lambda n: -math.prod(s.stop - s.start for s in boxes[n]))
    for n in order:
        if math.prod(s.stop - s.start for s in boxes[n]) <= area:
            break
        corners = _outline(labels[boxes[n]] == n + 1) + [s.start for s in boxes[n]]
        enclosed = _polygon_area(corners)
        if enclosed > area:
            largest, area = corners, enclosed
    return largest


def _outline(component: BoolArray) -> npt.NDArray[np.float64]:
    """Corners (n, 2) of one object's outer border (Moore neighbour tracing): its pixels where the border turns.

    Only corners count in OpenCV's compressed contours, so the fit weighs jagged stretches more than straight ones.
    """
    padded = np.pad(component, 1)
    inside = padded.tolist()
    row, column = divmod(int(np.argmax(padded)), padded.shape[1])
    # The first pixel in raster order has nothing above it or to its left: entering it rightwards starts on background.
    start, heading, first_heading, path = (row, column), 0, None, []
    while True:
        for turn in range(8):
            step = (heading + 5 + turn) % 8
            if inside[row + _AROUND[step][0]][column + _AROUND[step][1]]:
                break
        else:
            return np.array([(row - 1, column - 1)], dtype=float)
        if (row, column) == start and step == first_heading:
            break
        if first_heading is None:
            first_heading = step
        path.append((row, column, step))
        row, column, heading = row + _AROUND[step][0], column + _AROUND[step][1], step
    corners = [(r - 1, c - 1) for n, (r, c, step) in enumerate(path) if step != path[n - 1][2]]
    return np.array(corners, dtype=float)


def _polygon_area(corners: npt.NDArray[np.float64]) -> float:
    """Area inside the closed polygon, in square pixels."""
    rows, columns = corners.T
    return abs(float(rows @ np.roll(columns, 1) - columns @ np.roll(rows, 1))) / 2

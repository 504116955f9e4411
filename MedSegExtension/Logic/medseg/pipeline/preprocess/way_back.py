"""Spatial steps that are undone one by one, each by its own rule (``output.way_back: steps``).

Every step leaves a `Way` in ``Prepared.ways``; `walk_back` goes them from the last to the first. A step without a rule
of its own (orient, crop, pad) goes back by position, and what it cut off is 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy  # its parts load on first use

from ...geometry.grid import Grid
from ...geometry.line_resample import area_mean, corner_positions, extent_positions, pytorch_positions, sample_lines
from ...geometry.resample import resample
from ...model.manifest import steps as s

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Way:
    """``grid``: before the step. ``back``: takes an array (K, J, I) there; its second argument: nearest, for labels."""

    grid: Grid
    back: Callable[[Array, bool], Array]


def walk_back(ways: Sequence[Way], array: Array, *, nearest: bool) -> Array:
    """``array`` (K, J, I) of the network's grid on the grid before the first step."""
    for way in reversed(ways):
        array = way.back(array, nearest)
    return array


def by_position(before: Grid, after: Grid) -> Way:
    """The way back of a step without a rule of its own; 0 out of view."""

    def back(array: Array, nearest: bool) -> Array:
        return resample(array, after, before, interpolation="nearest" if nearest else "linear", fill=0)

    return Way(before, back)


Moved = tuple[Array, Grid, Way]


def resample_from_first(step: s.ResampleFromFirst, array: Array, grid: Grid) -> Moved:
    """Channels (C, K, J, I) resampled, their grid, and the way back."""
    spacing = [float(old if new is None else new) for new, old in zip(step.spacing, grid.spacing, strict=True)]
    if step.unless_between is not None:
        low, high = step.unless_between
        for a, old in enumerate(grid.spacing):
            least = spacing[a] if low[a] is None else min(float(low[a] or 0), spacing[a])
            most = spacing[a] if high[a] is None else max(float(high[a] or 0), spacing[a])
            spacing[a] = old if least - 1e-3 <= old <= most + 1e-3 else spacing[a]
    else:
        # A spacing that is the wanted one up to the rounding of a header is left as it is.
        spacing = [old if abs(old - new) <= 1e-3 else new for old, new in zip(grid.spacing, spacing, strict=True)]
    ratio = [new / old for new, old in zip(spacing, grid.spacing, strict=True)]
    size = [max(1, int(np.round((n - 1) / r + 1.0))) for n, r in zip(grid.size, ratio, strict=True)]
    after = Grid((size[0], size[1], size[2]), (spacing[0], spacing[1], spacing[2]), grid.origin, grid.direction)
    if after.size == grid.size and spacing == list(grid.spacing):
        return array.astype(np.float32, copy=False), grid, Way(grid, lambda x, labels: x)
    # MONAI solves for these with matrices: products with reciprocals.
    out = [(old * (1 / math.sqrt(old * old))) * new * (1 / old) for new, old in zip(spacing, grid.spacing, strict=True)]
    home = [old * (1 / (old * r)) for r, old in zip(out, grid.spacing, strict=True)]
    forth = [pytorch_positions(grid.size[a], size[a], out[a]) for a in (2, 1, 0)]
    back = [pytorch_positions(size[a], grid.size[a], home[a]) for a in (2, 1, 0)]
    nearest = step.interpolation == "nearest"
    moved = np.stack([sample_lines(c, forth, nearest=nearest, exact=True) for c in array])
    return moved, after, Way(grid, lambda x, labels: sample_lines(x, back, nearest=labels or nearest))


def resample_to_ras(step: s.ResampleToRas, array: Array, grid: Grid) -> Moved:
    """As `resample_from_first`, onto axes that are the patient's."""
    least = min(grid.spacing)
    spacing = [least if v is None else float(v) for v in step.spacing]
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * (np.array(grid.size) - 1)
    # In RAS millimetres; the new index axes i, j, k are Superior, Anterior, Right.
    world = (grid.to_physical(corners) * [-1, -1, 1])[:, ::-1]
    low, high = world.min(axis=0), world.max(axis=0)
    size = [math.ceil((b - a) / v - 1e-9) + 1 for a, b, v in zip(low, high, spacing, strict=True)]
    direction = np.array([[0, 0, -1], [0, -1, 0], [1, 0, 0]], dtype=float)
    origin = low[::-1] * [-1, -1, 1]
    after = Grid((size[0], size[1], size[2]), (spacing[0], spacing[1], spacing[2]),
                 (float(origin[0]), float(origin[1]), float(origin[2])), direction)  # fmt: skip
    order = 0 if step.interpolation == "nearest" else 1
    moved = np.stack([_affine(c, grid, after, order) for c in array])
    return moved, after, Way(grid, lambda x, labels: _affine(x, after, grid, 0 if labels else 1))


def _affine(array: Array, source: Grid, target: Grid, order: int) -> Array:
    """Linear or nearest in double precision, 0 outside the source's voxel centres (scipy's constant mode)."""
    matrix = source.index_map_from(target)
    matrix[:3] = np.where(np.abs(matrix[:3] - np.rint(matrix[:3])) < 1e-9, np.rint(matrix[:3]), matrix[:3])
    turned = matrix[2::-1, 2::-1]
    offset = matrix[2::-1, 3]
    out = scipy.ndimage.affine_transform(
        array.astype(np.float64), turned, offset, output_shape=target.shape, order=order, mode="constant", cval=0.0
    )
    return np.asarray(out.astype(array.dtype if order == 0 else np.float32))


def resize_within(step: s.ResizeWithin, array: Array, grid: Grid) -> Moved:
    """As `resample_from_first`, to a size."""
    old = grid.size
    size = [n if new is None else int(new) for new, n in zip(step.size, old, strict=True)]
    if step.follow is not None:
        ratio = size[step.follow] / old[step.follow]
        size = [int(n * ratio) if new is None else m for new, n, m in zip(step.size, old, size, strict=True)]
    shape = (size[2], size[1], size[0])
    nearest = step.interpolation == "nearest"

    def there(channel: Array) -> Array:
        if channel.shape == shape:
            return channel
        if step.interpolation == "area":
            return area_mean(channel, shape)
        x = channel
        if step.antialias:
            sigma = [max(0.0, (a / b - 1) / 2) for a, b in zip(channel.shape, shape, strict=True)]
            x = scipy.ndimage.gaussian_filter(channel.astype(np.float64), sigma, mode=_ends(step.edges))
        return _over_extent(x, shape, nearest, step.edges)

    def back(x: Array, labels: bool) -> Array:
        if x.shape == grid.shape:
            return x
        if step.back == "corners":
            where = [corner_positions(a, b) for a, b in zip(x.shape, grid.shape, strict=True)]
            return sample_lines(x, where, nearest=labels)
        if step.interpolation == "area" and not labels:
            return area_mean(x, grid.shape)
        return _over_extent(x, grid.shape, labels or nearest, "repeat")

    return np.stack([there(c) for c in array]), grid.resized(size), Way(grid, back)


def _over_extent(x: Array, shape: Sequence[int], nearest: bool, edges: str) -> Array:
    if nearest:
        # PyTorch's rule: the voxel in which the new one begins.
        for axis, new in enumerate(shape):
            x = np.take(x, np.minimum(np.arange(new) * x.shape[axis] // new, x.shape[axis] - 1), axis=axis)
        return np.ascontiguousarray(x)
    where = [extent_positions(a, b) for a, b in zip(x.shape, shape, strict=True)]
    return sample_lines(x, where, edges=edges)


def _ends(edges: str) -> str:
    return "mirror" if edges == "mirror" else "nearest"


def pad(step: s.Pad, array: Array, grid: Grid) -> tuple[Array, Grid]:
    """Channels (C, K, J, I) padded, and their grid."""
    margins: list[tuple[int, int]] = []
    for a, n in enumerate(grid.size):
        if step.border is not None:
            margins.append((step.border[a], step.border[a]))
            continue
        if step.size is not None:
            missing = max(0, (step.size[a] or n) - n)
        else:
            assert step.multiple is not None
            missing = -n % (step.multiple[a] or 1)
        half = -(-missing // 2) if step.where == "both_up" else missing // 2
        margins.append(
            (0, missing) if step.where == "end" else (half, half if step.where == "both_up" else missing - half)
        )
    start = [-before for before, _ in margins]
    size = [n + before + after for n, (before, after) in zip(grid.size, margins, strict=True)]
    more: dict[str, Any] = {"constant_values": step.value} if step.mode == "constant" else {}
    padded = np.pad(array, ((0, 0), *reversed(margins)), mode=step.mode, **more)
    return padded, grid.cropped(start, size)


def crop_centre(step: s.CropCentre, grid: Grid) -> Grid:
    """The grid of the middle."""
    start, size = [], []
    for n, wanted in zip(grid.size, step.size, strict=True):
        m = n if wanted is None else min(n, wanted)
        start.append(0 if m == n else max(n // 2 - m // 2, 0))
        size.append(m)
    return grid.cropped(start, size)


def crop_box(step: s.CropBox, array: Array, grid: Grid, stored: Array | None = None) -> Grid | None:
    """The grid of the box around the foreground; None where there is no foreground. ``stored``: as in `Prepared`."""
    if step.as_stored and stored is not None:
        array = stored[np.newaxis]
    if step.range_fraction is not None:
        first = array[0]
        limit = int((float(first.max()) - float(first.min())) * step.range_fraction)
        mask = first >= limit
    else:
        chosen = array if step.channels is None else array[step.channels]
        mask = (chosen > step.above).any(axis=0)
    if not mask.any():
        return None
    start, size = [], []
    for a, n in enumerate(grid.size):
        hits = np.flatnonzero(mask.any(axis=tuple(d for d in range(3) if d != 2 - a)))
        low, high = int(hits[0]) - step.margin[a], int(hits[-1]) + 1 + step.margin[a]
        if not step.beyond:
            low, high = max(low, 0), min(high, n)
        more = -(high - low) % step.divisible[a]
        start.append(low - more // 2)
        size.append(high - low + more)
    return grid.cropped(start, size)

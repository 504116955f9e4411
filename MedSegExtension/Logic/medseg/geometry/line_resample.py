"""Sampling an array at positions along its own axes, axis by axis, as PyTorch and scikit-image do."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]
# Two thirds of 3 are 2.0000000000000004: positions are whole numbers up to this.
_NOISE = 1e-9


def sample_lines(
    array: npt.NDArray[Any],
    positions: Sequence[FloatArray],
    *,
    nearest: bool = False,
    edges: str = "repeat",
    exact: bool = False,
) -> npt.NDArray[Any]:
    """``array`` (3D) at the fractional index ``positions`` of each of its axes; float32, its own dtype for ``nearest``.

    ``edges``: beyond the outer voxel centres ``repeat`` them, ``mirror`` about them, or ``zero``. Computed in double
    precision, an axis at a time. ``nearest``: half is rounded to even, as PyTorch's grid_sample does.
    ``exact``: positions are taken to the last bit; else those that are whole up to rounding are made whole.
    """
    out = array
    for axis, position in enumerate(positions):
        position = np.asarray(position, dtype=np.float64)
        if not exact:
            if len(position) == out.shape[axis] and np.abs(position - np.arange(len(position))).max() < _NOISE:
                continue
            whole = np.rint(position)
            position = np.where(np.abs(position - whole) < _NOISE, whole, position)
        out = _one_axis(out, axis, position, nearest, edges)
    return np.ascontiguousarray(out if nearest else out.astype(np.float32, copy=False))


def _one_axis(x: npt.NDArray[Any], axis: int, position: FloatArray, nearest: bool, edges: str) -> npt.NDArray[Any]:
    n = x.shape[axis]
    outside = (position < 0) | (position > n - 1)
    if nearest:
        outside = (np.rint(position) < 0) | (np.rint(position) > n - 1)
        index = np.clip(np.rint(position), 0, n - 1).astype(int)
        out = np.take(x, index, axis=axis)
    else:
        if edges == "mirror":
            position = np.abs(position)
            position = np.where(position > n - 1, 2 * (n - 1) - position, position)
        position = np.clip(position, 0, n - 1)
        low = np.minimum(np.floor(position).astype(int), max(n - 2, 0))
        shape = [1, 1, 1]
        shape[axis] = len(position)
        share = (position - low).reshape(shape)
        first = np.take(x, low, axis=axis).astype(np.float64)
        last = np.take(x, np.minimum(low + 1, n - 1), axis=axis).astype(np.float64)
        out = first + (last - first) * share
    if edges == "zero" and outside.any():
        place: list[Any] = [slice(None)] * 3
        place[axis] = outside
        out[tuple(place)] = 0
    return out


def extent_positions(old: int, new: int) -> FloatArray:
    """Where ``new`` voxels over the extent of ``old`` ones lie among them."""
    return (np.arange(new) + 0.5) * (old / new) - 0.5


def pytorch_positions(old: int, new: int, ratio: float) -> FloatArray:
    """Where ``new`` voxels, ``ratio`` old ones apart from the first on, lie among ``old`` ones, as PyTorch counts them.

    Its affine_grid and grid_sample go through coordinates from -1 to 1. The positions are ``arange(new) * ratio`` but
    for the last bit. That bit says where a label halfway between two voxels goes (of 0.75 mm brought to 1.5 mm and
    back, every second voxel of an axis), and whether a voxel beside the body is 0 or next to nothing, which a
    normalisation of what is not 0 tells apart.
    """
    step = Fraction(2 / (new - 1)) if new > 1 else Fraction(0)
    # One rounding of product and sum together, as the fused instruction of a processor does.
    line = [float(step * i - 1) if i < new // 2 else float(1 - step * (new - 1 - i)) for i in range(new)]
    base = np.array(line) * (new - 1) / new
    inward, outward = (np.array([[2 / n, 1 / n - 1], [0, 1]]) for n in (old, new))
    matrix = inward @ np.diag([ratio, 1.0]) @ np.linalg.inv(outward)
    return np.asarray(((base * matrix[0, 0] + matrix[0, 1] + 1) * old - 1) / 2)


def corner_positions(old: int, new: int) -> FloatArray:
    """Where ``new`` voxels from the first to the last centre of ``old`` ones lie among them."""
    return np.arange(new) * ((old - 1) / (new - 1) if new > 1 else 0.0)


def area_mean(array: npt.NDArray[Any], shape: Sequence[int]) -> npt.NDArray[np.float32]:
    """Mean of the voxels from ``floor(i n / m)`` to ``ceil((i + 1) n / m)`` along each axis (adaptive average)."""
    out = np.asarray(array, dtype=np.float64)
    for axis, new in enumerate(shape):
        old = out.shape[axis]
        if old == new:
            continue
        sums = np.concatenate([np.zeros_like(np.take(out, [0], axis)), np.cumsum(out, axis=axis)], axis=axis)
        first = np.arange(new) * old // new
        last = -(-(np.arange(new) + 1) * old // new)
        size = [1, 1, 1]
        size[axis] = new
        out = (np.take(sums, last, axis) - np.take(sums, first, axis)) / (last - first).reshape(size)
    return out.astype(np.float32)

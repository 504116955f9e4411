"""Linear resampling between grids whose axes are parallel: ITK's numbers, three to four times as fast.

ITK finds the place of each voxel anew; here the places along each axis are found once, and each slice of the source is
brought into the plane of the target once. Sums are in double precision and rounded at the end, as ITK's.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from ..cores import cores

Float32Array = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]
Box = tuple[slice, slice, slice]

#: Voxels of the result that are worth a thread.
_VOXELS = 1 << 19
#: Voxels of a slice from which on threads do not mostly wait for Python's lock (measured: 2^14 slower, 2^16 faster).
_SLICE = 1 << 15
#: A voxel so near to the outer face of the source might be counted in or out.
_EDGE = 1e-6


class _Axis:
    """The two source samples of each target sample along an axis, the weight of the second, and which lie outside.

    Samples are counted from ``first``; ``stop`` is behind the last that is needed. ``box``: only these target samples.
    """

    def __init__(self, positions: FloatArray, count: int, box: slice) -> None:
        positions = positions[box]
        low = np.floor(positions).astype(np.intp)
        self.weight = positions - low
        self.low, self.high = np.clip(low, 0, count - 1), np.clip(low + 1, 0, count - 1)
        self.first, self.stop = int(self.low.min()), int(self.high.max()) + 1
        self.low -= self.first
        self.high -= self.first
        self.outside = (positions < -0.5) | (positions >= count - 0.5)


def near_an_edge(positions: Sequence[FloatArray], shape: Sequence[int]) -> bool:
    """Whether some position lies on an outer face of the source, where rounding decides about in or out."""
    return any(
        bool((np.abs(p - face) < _EDGE).any())
        for p, n in zip(positions, shape, strict=True)
        for face in (-0.5, n - 0.5)
    )


def resample_linear(
    source: npt.NDArray[Any], positions: Sequence[FloatArray], fill: float, box: Box | None = None
) -> Float32Array | None:
    """``source`` (K, J, I) at ``positions`` (voxels of the source, for each axis); None where it is not finite.

    Beyond the outermost centres the edge value is used, beyond the outer faces ``fill``. ``box``: only these voxels of
    the result, which are the same as in the whole.
    """
    whole = (slice(None), slice(None), slice(None))
    axes = [_Axis(p, n, s) for p, n, s in zip(positions, source.shape, box or whole, strict=True)]
    source = source[tuple(slice(a.first, a.stop) for a in axes)]
    # A sum of numbers is one, unless it is too large; it needs no array.
    if source.dtype.kind == "f" and not np.isfinite(source.sum()) and not np.isfinite(source).all():
        return None
    out = np.empty([len(a.low) for a in axes], np.float32)
    threads = max(1, min(cores(), out.size // _VOXELS, len(out))) if out[0].size >= _SLICE else 1
    first, *others = pairwise(np.linspace(0, len(out), threads + 1).astype(int).tolist())
    # The calling thread does its share: it would only wait.
    with ThreadPoolExecutor(max(1, len(others)), "medseg-resampling") as pool:
        waiting = [pool.submit(_slices, source, axes, out, *part) for part in others]
        _slices(source, axes, out, *first)
        for part in waiting:
            part.result()
    for n, axis in enumerate(axes):
        if axis.outside.any():
            np.moveaxis(out, n, 0)[axis.outside] = fill
    return out


def _slices(source: npt.NDArray[Any], axes: Sequence[_Axis], out: Float32Array, start: int, stop: int) -> None:
    """The slices ``start`` to ``stop`` of ``out``. All is done in a few planes of memory, which stay in the cache."""
    k_axis, j_axis, i_axis = axes
    j_weight = j_axis.weight[:, np.newaxis]
    given = np.empty(source.shape[1:])
    rows, rows_after = (np.empty((out.shape[1], source.shape[2])) for _ in range(2))
    after, between, *free = (np.empty(out.shape[1:]) for _ in range(4))
    kept: dict[int, FloatArray] = {}

    def in_plane(k: int) -> FloatArray:
        found = free.pop()
        given[...] = source[k]
        # Places are within the array; without ``clip`` NumPy checks them and takes a copy.
        given.take(j_axis.low, axis=0, out=rows, mode="clip")
        given.take(j_axis.high, axis=0, out=rows_after, mode="clip")
        _move_to(rows, rows_after, j_weight)
        rows.take(i_axis.low, axis=1, out=found, mode="clip")
        rows.take(i_axis.high, axis=1, out=after, mode="clip")
        _move_to(found, after, i_axis.weight)
        return found

    for k in range(start, stop):
        low, high, weight = int(k_axis.low[k]), int(k_axis.high[k]), float(k_axis.weight[k])
        wanted = {low, high} if weight else {low}
        free += [kept.pop(s) for s in list(kept) if s not in wanted]
        kept |= {s: in_plane(s) for s in wanted if s not in kept}
        if not weight:
            out[k] = kept[low]
            continue
        np.subtract(kept[high], kept[low], out=between)
        np.multiply(between, weight, out=between)
        np.add(kept[low], between, out=between)
        out[k] = between


def _move_to(low: FloatArray, high: FloatArray, weight: FloatArray) -> None:
    """``low`` becomes ``low + (high - low) * weight``; ``high`` is used up."""
    np.subtract(high, low, out=high)
    np.multiply(high, weight, out=high)
    np.add(low, high, out=low)

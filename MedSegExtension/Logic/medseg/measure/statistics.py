"""Mean, spread and range of the values in a mask, slab by slab, so that they are never held a second time.

Whole numbers of at most 16 bits are counted, which gives exact sums; others are summed in double precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..geometry.components import Mask

_SLAB_VOXELS = 1 << 19


@dataclass(frozen=True)
class Statistics:
    """``std``: population standard deviation; all of the ``count`` values in the mask."""

    count: int
    mean: float
    std: float
    minimum: float
    maximum: float


def statistics_of(values: npt.NDArray[Any], mask: Mask) -> Statistics:
    """Of ``values`` (K, J, I) where ``mask`` (K, J, I), which must not be empty, is True."""
    if values.dtype.kind in "iu" and values.dtype.itemsize <= 2 and values.dtype.isnative:
        return _counted(values, mask)
    return _summed(values, mask)


def _slabs(values: npt.NDArray[Any], mask: Mask) -> Iterator[npt.NDArray[Any]]:
    """The values inside, some slices at a time."""
    step = max(1, _SLAB_VOXELS // max(1, mask[0].size))
    for k in range(0, len(mask), step):
        yield values[k : k + step][mask[k : k + step]]


def _counted(values: npt.NDArray[Any], mask: Mask) -> Statistics:
    bits = 8 * values.dtype.itemsize
    counts = np.zeros(1 << bits, np.int64)
    for inside in _slabs(values, mask):
        counts += np.bincount(inside.view(f"u{values.dtype.itemsize}"), minlength=1 << bits)
    levels = np.arange(1 << bits).astype(f"u{values.dtype.itemsize}").view(values.dtype)
    present = np.flatnonzero(counts)
    level, number = levels[present].astype(np.int64), counts[present]
    count = int(number.sum())
    mean = int((level * number).sum()) / count
    std = float(np.sqrt((number * np.square(level - mean)).sum() / count))
    return Statistics(count, mean, std, float(level.min()), float(level.max()))


def _summed(values: npt.NDArray[Any], mask: Mask) -> Statistics:
    count, total, low, high = 0, 0.0, np.inf, -np.inf
    for inside in _slabs(values, mask):
        if inside.size:
            count += inside.size
            total += float(inside.sum(dtype=np.float64))
            low, high = min(low, float(inside.min())), max(high, float(inside.max()))
    mean = total / count
    squares = sum(float(np.square(inside.astype(np.float64) - mean).sum()) for inside in _slabs(values, mask))
    return Statistics(count, mean, float(np.sqrt(squares / count)), low, high)

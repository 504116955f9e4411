"""Resampling extent to extent, there and back: what the step ``resample_extent`` does and leaves for restoring."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...geometry.grid import Grid
from ...geometry.spline_resize import Window, resize, resize_thick, thick_axis
from ...model.manifest.steps import ResampleExtent, ThickAxis


@dataclass(frozen=True, eq=False)
class Extent:
    """``grid``: the grid before the step. ``step``: the step. ``wanted``: the spacing (i, j, k) that it asked for."""

    grid: Grid
    step: ResampleExtent
    wanted: tuple[float, float, float]

    def back(self, array: npt.NDArray[Any], window: Window | None = None) -> npt.NDArray[Any]:
        """``array`` (K, J, I) of the network's grid on `grid`, in the order the step names, in its own dtype.

        ``window``: the part of `grid` that is wanted.
        """
        step, shape = self.step, self.grid.shape
        moved = resized(
            array, shape, step.restore_order, step.restore_thick_axis, self.wanted, self.grid.spacing, window
        )
        return moved.astype(array.dtype)

    def reached(self, start: Sequence[int], size: Sequence[int], shape: Sequence[int]) -> Window:
        """The part of `grid` (K, J, I) that a box of the network's grid (i, j, k), of ``shape``, can change.

        Linear interpolation looks at the two nearest voxels; one more is taken for the rounding.
        """
        window = []
        for axis, (old, new) in enumerate(zip(shape, self.grid.shape, strict=True)):
            low, high = start[2 - axis], start[2 - axis] + size[2 - axis]
            first = math.floor((low - 0.5) * new / old - 0.5) - 1
            last = math.ceil((high + 0.5) * new / old - 0.5) + 1
            window.append(slice(max(0, first), min(new, last + 1)))
        return tuple(window)


def resized(
    array: npt.NDArray[Any],
    shape: Sequence[int],
    order: int,
    thick: ThickAxis | None,
    before: Sequence[float],
    after: Sequence[float],
    window: Window | None = None,
) -> npt.NDArray[np.floating[Any]]:
    """``array`` (K, J, I) with ``shape`` (K, J, I); ``before``, ``after``: spacings (i, j, k).

    ``window``: the part of the result that is wanted.
    """
    part = window or (slice(None),) * 3
    if array.shape == tuple(shape):
        return array[part]
    axis = None if thick is None else thick_axis(before, after, thick.ratio)
    if thick is None or axis is None:
        return resize(array, shape, order, window)
    return resize_thick(array, shape, order, 2 - axis, thick.order)[part]

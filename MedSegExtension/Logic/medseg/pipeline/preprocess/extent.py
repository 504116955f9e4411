"""Resampling extent to extent, there and back: what the step ``resample_extent`` does and leaves for restoring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...geometry.grid import Grid
from ...geometry.spline_resize import resize, resize_thick, thick_axis
from ...model.manifest.steps import ResampleExtent, ThickAxis


@dataclass(frozen=True, eq=False)
class Extent:
    """``grid``: the grid before the step. ``step``: the step. ``wanted``: the spacing (i, j, k) that it asked for."""

    grid: Grid
    step: ResampleExtent
    wanted: tuple[float, float, float]

    def back(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """``array`` (K, J, I) of the network's grid on `grid`, in the order the step names, in its own dtype."""
        step, shape = self.step, self.grid.shape
        moved = resized(array, shape, step.restore_order, step.restore_thick_axis, self.wanted, self.grid.spacing)
        return moved.astype(array.dtype)


def resized(
    array: npt.NDArray[Any],
    shape: Sequence[int],
    order: int,
    thick: ThickAxis | None,
    before: Sequence[float],
    after: Sequence[float],
) -> npt.NDArray[np.floating[Any]]:
    """``array`` (K, J, I) with ``shape`` (K, J, I); ``before``, ``after``: spacings (i, j, k)."""
    if array.shape == tuple(shape):
        return array
    axis = None if thick is None else thick_axis(before, after, thick.ratio)
    if thick is None or axis is None:
        return resize(array, shape, order)
    return resize_thick(array, shape, order, 2 - axis, thick.order)

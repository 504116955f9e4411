"""Resampling extent to extent, there and back: what the step ``resample_extent`` does and leaves for restoring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...geometry.greatest_channel import Line
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

    def lines(self, shape: Sequence[int]) -> list[Line] | None:
        """What `back` does to arrays of ``shape`` along each axis; None where it is more than linear interpolation."""
        step = self.step
        thick = self._thick()
        if step.restore_order != 1 or (thick is not None and thick[1] > 1):
            return None
        lines = [Line.linear(old, new) for old, new in zip(shape, self.grid.shape, strict=True)]
        if thick is not None and thick[1] == 0:
            axis = thick[0]
            lines[axis] = Line.nearest(shape[axis], self.grid.shape[axis])
        return lines

    def _thick(self) -> tuple[int, int] | None:
        """The axis (of K, J, I) that goes back apart, and the order for it."""
        thick = self.step.restore_thick_axis
        axis = None if thick is None else thick_axis(self.wanted, self.grid.spacing, thick.ratio)
        return None if thick is None or axis is None else (2 - axis, thick.order)


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

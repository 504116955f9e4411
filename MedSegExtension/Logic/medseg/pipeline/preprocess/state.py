"""What preprocessing carries from step to step, and what the network gets in the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ...geometry.grid import Grid
from .extent import Extent
from .on_demand import OnDemand
from .way_back import Way


@dataclass
class Prepared:
    """The network's input.

    ``array``: (C, K, J, I), float32 once preparation is done; of a large volume for a slice-wise network it may be an
    `on_demand.OnDemand`, of which `slices` makes those that are fed. ``grid``: where its voxels are. ``plane``: in
    which slices count. ``slice_grids``: set once a per-slice step (the head fit) gave each slice a grid of its own;
    then ``grid`` only has the right shape and axes, and ``stack_grid`` is the grid from which the slices were taken
    (slice n of one is slice n of the other). ``extent``: set by ``resample_extent``, what the way back needs.
    ``nonzero``: where ``crop_to_nonzero`` saw values that are not 0, holes filled (K, J, I); only where
    ``keep_nonzero``, for a later step. ``ways``: how each spatial step is undone, where ``keep_ways``.
    ``stored``: the first channel (I, J, K) before the first spatial step, where ``keep_stored``. ``trace``: a sentence
    a step, for `explain` and the provenance.
    """

    array: npt.NDArray[Any]
    grid: Grid
    plane: str
    slice_grids: tuple[Grid, ...] | None = None
    stack_grid: Grid | None = None
    extent: Extent | None = None
    nonzero: npt.NDArray[np.bool_] | None = None
    keep_nonzero: bool = False
    keep_ways: bool = False
    keep_stored: bool = False
    stored: npt.NDArray[Any] | None = None
    ways: list[Way] = field(default_factory=list)
    tags: dict[str, Any] = field(default_factory=dict)
    trace: list[str] = field(default_factory=list)

    @property
    def slice_axis(self) -> int:
        """numpy axis (1, 2 or 3) of `array` that is normal to the slices."""
        return 3 - self.grid.axis_of(self.plane)

    @property
    def slice_count(self) -> int:
        """Number of slices in `plane`."""
        return int(self.array.shape[self.slice_axis])

    def slices(self, positions: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
        """Slices in `plane` at ``positions`` (N,): (N, C, and the two spatial axes that are left)."""
        if isinstance(self.array, OnDemand):
            return self.array.slices(self.slice_axis, positions)
        return np.asarray(np.moveaxis(self.array, self.slice_axis, 0)[positions])

    def slice_grid(self, position: int) -> Grid:
        """The one-voxel-thick grid of slice ``position``."""
        if self.slice_grids is not None:
            return self.slice_grids[position]
        return self.grid.slice(self.grid.axis_of(self.plane), position)

    def note(self, sentence: str) -> None:
        """Add a sentence to the trace."""
        self.trace.append(sentence)

    def value_range(self) -> str:
        """Least and greatest value, for the trace."""
        return f"{float(self.array.min()):.4g} to {float(self.array.max()):.4g}"

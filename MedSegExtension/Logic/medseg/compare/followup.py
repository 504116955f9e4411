"""The same patient at two dates: which lesions are new, gone, grown, shrunk or stable.

The follow-up's mask is brought onto the baseline's grid by the alignment; lesions that touch belong together, and
such a family is judged by its volume at both dates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ..geometry.components import Mask, structure
from ..geometry.grid import Grid
from ..geometry.resample import resample
from ..result import Cell, Column, Layer, SegmentClass, Table
from .align import Alignment

STATES = ("new", "gone", "grown", "shrunk", "stable")
#: Colours that colour-blind readers tell apart (Okabe and Ito, 2008).
_COLORS = {
    "new": (0.84, 0.37, 0.0), "gone": (0.34, 0.71, 0.91), "grown": (0.90, 0.62, 0.0), "shrunk": (0.0, 0.45, 0.70),
    "stable": (0.0, 0.62, 0.45),
}  # fmt: skip


def state_color(state: str) -> tuple[float, float, float]:
    """RGB of a state, from 0 to 1."""
    return _COLORS[state]


@dataclass(frozen=True)
class Change:
    """When a lesion has changed: by at least ``percent`` of its volume and by at least ``ml``. ``touch_mm``: lesions
    that are at most so far apart are one family, since alignment is not exact.
    """

    percent: float = 25.0
    ml: float = 0.02
    touch_mm: float = 1.5
    connectivity: int = 26


@dataclass(frozen=True)
class LesionChange:
    """One family of lesions. Volumes in ml; ``centre``: RAS mm in the baseline's space."""

    state: str
    baseline_ml: float
    follow_up_ml: float
    baseline_lesions: int
    follow_up_lesions: int
    centre: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class FollowUp:
    """``labels``: (K, J, I) on ``grid`` (the baseline's), 0 or 1 + the number in `STATES`."""

    name: str
    grid: Grid
    labels: npt.NDArray[np.uint8]
    lesions: tuple[LesionChange, ...]

    def table(self) -> Table:
        """A row a family: state, volumes, change; the greatest change first."""
        columns = (
            Column("lesion", "int"), Column("state", "str"), Column("baseline", "float", "ml"),
            Column("follow_up", "float", "ml"), Column("change", "float", "ml"),
            Column("change_percent", "float", "%", "of the volume at the baseline"),
            Column("baseline_lesions", "int", "", "components at the baseline"),
            Column("follow_up_lesions", "int", "", "components at the follow-up"),
            *(Column(f"centre_{axis}_mm", "float", "mm") for axis in "ras"),
        )  # fmt: skip
        rows: list[tuple[Cell, ...]] = []
        for n, one in enumerate(self.lesions, start=1):
            change = one.follow_up_ml - one.baseline_ml
            percent = 100 * change / one.baseline_ml if one.baseline_ml else None
            rows.append((n, one.state, one.baseline_ml, one.follow_up_ml, change, percent, one.baseline_lesions,
                         one.follow_up_lesions, *one.centre))  # fmt: skip
        return Table("followup", columns, tuple(rows))

    def summary(self) -> Table:
        """A row a state, and all: families and volumes."""
        columns = (
            Column("state", "str"), Column("lesions", "int"), Column("baseline", "float", "ml"),
            Column("follow_up", "float", "ml"),
        )  # fmt: skip
        rows: list[tuple[Cell, ...]] = []
        for state in (*STATES, "all"):
            own = [one for one in self.lesions if state in (one.state, "all")]
            rows.append((state, len(own), sum(o.baseline_ml for o in own), sum(o.follow_up_ml for o in own)))
        return Table("summary", columns, tuple(rows))

    def layer(self) -> Layer:
        """Segments new, gone, grown, shrunk, stable."""
        classes = [SegmentClass(n, f"{self.name}: {s}", state_color(s)) for n, s in enumerate(STATES, start=1)]
        return Layer(self.labels, tuple(classes))


def follow_up(
    name: str,
    baseline: Mask,
    baseline_grid: Grid,
    later: Mask,
    later_grid: Grid,
    alignment: Alignment,
    change: Change | None = None,
) -> FollowUp:
    """Lesions of the masks ``baseline`` and ``later`` (K, J, I on their own grids) held against each other."""
    change = change or Change()
    moved = resample(
        later.astype(np.uint8), alignment.grid_of(later_grid), baseline_grid, interpolation="nearest", fill=0
    )
    one, other = baseline.astype(bool), np.asarray(moved > 0)
    near = _spread(one | other, baseline_grid, change.touch_mm)
    families, count = ndimage.label(near, structure=structure(change.connectivity, 0))
    neighbours = structure(change.connectivity, 0)
    first, first_count = ndimage.label(one, structure=neighbours)
    second, second_count = ndimage.label(other, structure=neighbours)
    voxel = baseline_grid.voxel_volume / 1000
    volumes = [np.bincount(families[mask], minlength=count + 1) * voxel for mask in (one, other)]
    numbers = [
        np.bincount(families.ravel()[_firsts(labels, n)], minlength=count + 1)
        for labels, n in ((first, first_count), (second, second_count))
    ]
    centres = ndimage.center_of_mass(one | other, families, range(1, count + 1)) if count else []
    states = np.zeros(count + 1, np.uint8)
    lesions = []
    for n in range(1, count + 1):
        before, after = float(volumes[0][n]), float(volumes[1][n])
        state = _state(before, after, change)
        states[n] = STATES.index(state) + 1
        k, j, i = centres[n - 1]
        x, y, z = (float(v) for v in baseline_grid.to_physical([i, j, k]))
        lesions.append(LesionChange(state, before, after, int(numbers[0][n]), int(numbers[1][n]), (-x, -y, z)))
    labels = np.where(one | other, states[families], 0).astype(np.uint8)
    lesions.sort(key=lambda c: -abs(c.follow_up_ml - c.baseline_ml))
    return FollowUp(name, baseline_grid, labels, tuple(lesions))


def _state(before: float, after: float, change: Change) -> str:
    if not before:
        return "new"
    if not after:
        return "gone"
    difference = after - before
    if abs(difference) < change.ml or 100 * abs(difference) < change.percent * before:
        return "stable"
    return "grown" if difference > 0 else "shrunk"


def _spread(mask: Mask, grid: Grid, mm: float) -> Any:
    """The mask grown by half of ``mm``: two lesions closer than ``mm`` meet."""
    if mm <= 0 or not mask.any():
        return mask
    return ndimage.distance_transform_edt(~mask, sampling=grid.spacing[::-1]) <= mm / 2


def _firsts(labels: npt.NDArray[Any], count: int) -> npt.NDArray[np.int64]:
    """Flat index of the first voxel of each component."""
    if not count:
        return np.zeros(0, np.int64)
    numbers, first = np.unique(labels.ravel(), return_index=True)
    return np.asarray(first[numbers > 0], np.int64)

"""How far a case's measurements lie from those of the cohort, by the modified z-score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..result import Cell

#: Iglewicz and Hoaglin's bound: what lies farther is a potential outlier.
ODD = 3.5
#: Cases from which on it is said what is odd among them.
LEAST = 10
#: Columns that are compared, by their last word. Voxels say again what volumes say, positions say little.
_SIZES = ("volume_ml", "volume_mm3", "area_cm2", "lesions", "rows")
_VALUES = ("mean", "left_right_ratio")
_SCORES_TABLE, _SCORES = "scores", "maximum"
#: Probabilities nearer to 0 or 1 are not told apart: a network's .0001 and .00001 are both a no.
_LEAST_P = 0.001

FORMULA = (
    "Modified z-score 0.6745 (x - median) / MAD, where MAD is the median of |x - median|; where MAD is 0, "
    "(x - median) / (1.2533 mean |x - median|). More than 3.5 is odd. Volumes, areas and counts are compared as "
    "log(1 + x), since they are skewed, probabilities as log(p / (1 - p)) "
    "with p kept within .001 and .999. Of fewer than 10 cases nothing is said. "
    "Iglewicz and Hoaglin, How to Detect and Handle Outliers, ASQC 1993."
)


@dataclass(frozen=True)
class Measure:
    """One compared column over all cases. ``values`` and ``z``: (cases,) float64, NaN where a case has none."""

    name: str
    values: npt.NDArray[np.float64]
    z: npt.NDArray[np.float64]

    @property
    def median(self) -> float:
        return float(np.nanmedian(self.values))


class Compared:
    """The columns of many rows that are compared, collected row by row."""

    def __init__(self, cases: int) -> None:
        self._cases = cases
        self._columns: dict[str, npt.NDArray[np.float64]] = {}

    def add(self, case: int, row: Mapping[str, Cell]) -> None:
        """The measurements of the case with the number ``case``, from 0."""
        for name, value in row.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool) and is_compared(name):
                column = self._columns.get(name)
                if column is None:
                    column = self._columns[name] = np.full(self._cases, np.nan)
                column[case] = value

    def measures(self) -> list[Measure]:
        """Every column in which cases differ, where there are enough of them."""
        if self._cases < LEAST:
            return []
        found = [Measure(n, v, modified_z(compared_as(n, v))) for n, v in self._columns.items()]
        return [m for m in found if np.nanmin(m.values) < np.nanmax(m.values)]


def is_compared(name: str) -> bool:
    """Whether a column (``table.row.column``) is one whose odd values are worth a look."""
    table, _, rest = name.partition(".")
    last = rest.rpartition(".")[2]
    return last in _VALUES or is_size(name) or (table == _SCORES_TABLE and last == _SCORES)


def is_size(name: str) -> bool:
    """Whether a column is a volume, an area or a count."""
    return name.rpartition(".")[2] in _SIZES


def compared_as(name: str, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """``values`` of the column ``name`` on the scale on which they are compared: see `FORMULA`."""
    if is_size(name):
        return np.log1p(values)
    if name.partition(".")[0] == _SCORES_TABLE:
        p = np.clip(values, _LEAST_P, 1 - _LEAST_P)
        return np.asarray(np.log(p / (1 - p)))
    return values


def modified_z(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Modified z-scores of ``values`` (n,); NaN stays NaN, and where all are equal all are 0.

    Iglewicz and Hoaglin, How to Detect and Handle Outliers, ASQC 1993. 0.6745 is the third quartile of the standard
    normal distribution, 1.2533 the ratio of its standard deviation to its mean absolute deviation.
    """
    off = values - np.nanmedian(values)
    spread = float(np.nanmedian(np.abs(off))) / 0.6745
    if spread == 0:
        spread = 1.253314 * float(np.nanmean(np.abs(off)))
    return off / spread if spread else np.where(np.isnan(off), np.nan, 0.0)


def oddness(measures: Sequence[Measure], cases: int) -> npt.NDArray[np.float64]:
    """The greatest |z| of each case, 0 where it has no measurement."""
    odd = np.zeros(cases)
    for measure in measures:
        np.fmax(odd, np.abs(measure.z), out=odd)
    return odd

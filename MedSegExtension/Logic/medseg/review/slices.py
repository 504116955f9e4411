"""The findings of a classifier: slices whose score is above a threshold, with decisions as of `decisions.Review`."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..geometry.grid import Grid
from ..io.segmentations import Segmentation
from ..result import Table
from .decisions import Decision, Review, Step
from .findings import Finding

_POSITION = ("centre_r_mm", "centre_a_mm", "centre_s_mm")


def slice_findings(table: Table, threshold: float = 0.5) -> list[Finding]:
    """A finding for each run of neighbouring slices whose score of one class is at least ``threshold``.

    ``table``: ``slices`` of a result, with a position (RAS mm) and a score for each class. The finding lies at the
    slice of the greatest score, which is its ``probability``; ``voxels`` counts slices, and it has no volume. Raises
    `InputError` where the table has no positions or no scores.
    """
    names = [c.name for c in table.columns]
    scores = [c.name for c in table.columns if c.type == "float" and not c.unit and c.name not in _POSITION]
    if not set(_POSITION) <= set(names) or not scores:
        raise InputError(f"The table {table.name} has no scores of slices with their positions.")
    centres = list(zip(*(table.column(name) for name in _POSITION), strict=True))
    found: list[Finding] = []
    for value, name in enumerate(scores, start=1):
        column = [float(v) if isinstance(v, int | float) else 0.0 for v in table.column(name)]
        for start, stop in _runs(column, threshold):
            best = max(range(start, stop), key=lambda n: (column[n], -n))
            place = [float(v) if isinstance(v, int | float) else 0.0 for v in centres[best]]
            ends = np.array([[float(v or 0.0) for v in centres[n]] for n in (start, stop - 1)])
            length = float(np.linalg.norm(ends[1] - ends[0]))
            found.append(
                Finding(
                    len(found) + 1,
                    name,
                    0,
                    value,
                    stop - start,
                    0.0,
                    ((start, stop), (0, 0), (0, 0)),
                    (place[0], place[1], place[2]),
                    (0.0, 0.0, length),
                    column[best],
                )
            )
    return found


def _runs(column: list[float], threshold: float) -> list[tuple[int, int]]:
    """Half-open ranges of neighbouring rows at or above ``threshold``."""
    runs: list[tuple[int, int]] = []
    for n, score in enumerate(column):
        if score >= threshold:
            runs = [*runs[:-1], (runs[-1][0], n + 1)] if runs and runs[-1][1] == n else [*runs, (n, n + 1)]
    return runs


class SliceReview(Review):
    """The review of a classifier's result: decisions on slices, no voxels to change."""

    def __init__(self, findings: Iterable[Finding], grid: Grid, name: str, model_id: str = "") -> None:
        super().__init__(Segmentation(grid, (), name, model_id))
        self.findings = {f.id: f for f in findings}

    def mask(self, id: int) -> npt.NDArray[np.bool_]:
        """No voxels."""
        self._known(id)
        return np.zeros((0, 0, 0), bool)

    def classes_beside(self, id: int) -> list[str]:
        """The classes that the model knows."""
        return list(dict.fromkeys(f.name for f in self.findings.values()))

    def _value(self, layer: int, name: str) -> int | None:
        return next((f.value for f in self.findings.values() if f.name == name), None)

    def _settle(self, finding: Finding, decision: Decision) -> None:
        before = self.decision(finding.id)
        if decision != before:
            self._do(Step({finding.id: (finding, before)}, {finding.id: (finding, decision)}))

"""The findings of a classifier: slices whose score is above a threshold, with decisions as of `decisions.Review`.

The reader decides on a run of slices at once, and says where it begins and ends; the answer is one for each slice
(`SliceReview.answers`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..geometry.grid import Grid
from ..io.segmentations import Segmentation
from ..io.slice_scores import POSITION, classes_in
from ..result import Cell, Column, Table
from .decisions import Decision, Review, Step
from .findings import Finding

Entries = dict[int, tuple[Finding | None, Decision | None]]
#: What `SliceReview.answers` says of a slice and class, by the reader's decision; "" where no finding covers it.
ANSWERS = {"accepted": "yes", "rejected": "no", "uncertain": "unsure", "": "not reviewed"}


def slice_findings(table: Table, threshold: float = 0.5) -> list[Finding]:
    """A finding for each run of neighbouring slices whose score of one class is at least ``threshold``.

    ``table``: ``slices`` of a result, with a position (RAS mm) and a score for each class. The finding lies at the
    slice of the greatest score, which is its ``probability``; ``voxels`` counts slices, and it has no volume; its
    ``box`` says which rows of the table it covers, from 0, half-open. Raises `InputError` where the table has no
    positions or no scores.
    """
    found: list[Finding] = []
    for name in classes_in(table):
        for start, stop in _runs(_numbers(table, name), threshold):
            found.append(_finding(table, len(found) + 1, name, start, stop))
    return found


def numbers_in(table: Table, finding: Finding) -> tuple[int, int]:
    """The numbers of the first and the last slice of a finding, as ``table`` has them; from 1 where it has none."""
    start, stop = finding.box[0]
    column = table.column("slice") if any(c.name == "slice" for c in table.columns) else []
    numbers = [int(v) if isinstance(v, int | float) else n for n, v in enumerate(column, start=1)]
    return (numbers[start], numbers[stop - 1]) if numbers else (start + 1, stop)


def _finding(table: Table, id: int, name: str, start: int, stop: int) -> Finding:
    column = _numbers(table, name)
    best = max(range(start, stop), key=lambda n: (column[n], -n))
    centres = np.array([_numbers(table, axis) for axis in POSITION]).T
    length = float(np.linalg.norm(centres[stop - 1] - centres[start]))
    r, a, s = (float(v) for v in centres[best])
    value = classes_in(table).index(name) + 1
    box = ((start, stop), (0, 0), (0, 0))
    return Finding(id, name, 0, value, stop - start, 0.0, box, (r, a, s), (0.0, 0.0, length), column[best])


def _numbers(table: Table, name: str) -> list[float]:
    """A column; what is empty or no number counts as 0."""
    column = [float(v) if isinstance(v, int | float) else 0.0 for v in table.column(name)]
    return [v if np.isfinite(v) else 0.0 for v in column]


def _runs(column: list[float], threshold: float) -> list[tuple[int, int]]:
    """Half-open ranges of neighbouring rows at or above ``threshold``."""
    runs: list[tuple[int, int]] = []
    for n, score in enumerate(column):
        if score >= threshold:
            runs = [*runs[:-1], (runs[-1][0], n + 1)] if runs and runs[-1][1] == n else [*runs, (n, n + 1)]
    return runs


class SliceReview(Review):
    """The review of a classifier's result: decisions on slices, no voxels to change.

    ``table``: as of `slice_findings`, whose ``threshold`` the findings are of when the review is begun.
    """

    def __init__(self, table: Table, grid: Grid, name: str, model_id: str = "", threshold: float = 0.5) -> None:
        super().__init__(Segmentation(grid, (), name, model_id))
        self.table = table
        self.findings = {f.id: f for f in slice_findings(table, threshold)}
        self._last = max(self.findings, default=0)

    def mask(self, id: int) -> npt.NDArray[np.bool_]:
        """No voxels."""
        self._known(id)
        return np.zeros((0, 0, 0), bool)

    def classes_beside(self, id: int) -> list[str]:
        """The classes that the model knows."""
        return classes_in(self.table)

    def _value(self, layer: int, name: str) -> int | None:
        names = classes_in(self.table)
        return names.index(name) + 1 if name in names else None

    def _settle(self, finding: Finding, decision: Decision) -> None:
        before = self.decision(finding.id)
        if decision != before:
            self._do(Step({finding.id: (finding, before)}, {finding.id: (finding, decision)}))

    # -- slices -------------------------------------------------------------------------------------------------

    def rows_of(self, id: int) -> tuple[int, int]:
        """The rows of `table` that a finding covers: from 0, half-open."""
        return self._known(id).box[0]

    def numbers_of(self, id: int) -> tuple[int, int]:
        """The numbers of its first and last slice, as the table has them."""
        return numbers_in(self.table, self._known(id))

    @property
    def classes(self) -> list[str]:
        """The classes that the table has scores of."""
        return classes_in(self.table)

    def scores_at(self, row: int) -> tuple[int, dict[str, float]]:
        """The number of the slice in ``row`` of the table, and its score of each class."""
        number = numbers_in(self.table, _finding(self.table, 1, self.classes[0], row, row + 1))[0]
        return number, {name: _numbers(self.table, name)[row] for name in self.classes}

    def nearest_row(self, place: tuple[float, float, float], normal: tuple[float, float, float]) -> int:
        """The row of the slice whose plane is nearest to ``place`` (RAS mm); ``normal``: of the planes."""
        centres = np.array([_numbers(self.table, axis) for axis in POSITION])
        return int(np.argmin(np.abs(np.array(normal) @ (centres - np.array(place)[:, np.newaxis]))))

    def add(self, name: str, start: int, stop: int) -> int:
        """The reader saw ``name`` on the rows from ``start`` up to ``stop`` where the model did not; the finding's id.

        Raises `InputError` for a class that the table does not have, or rows that it does not have.
        """
        self._check(name, start, stop)
        self._last += 1
        finding = _finding(self.table, self._last, name, start, stop)
        decision = Decision("accepted", added=True)
        self._do(Step({finding.id: (None, None)}, {finding.id: (finding, decision)}))
        return finding.id

    def stretch(self, id: int, start: int, stop: int) -> None:
        """A finding covers the rows from ``start`` up to ``stop`` instead; its decision stays. Raises `InputError`."""
        old = self._known(id)
        self._check(old.name, start, stop)
        if (start, stop) != self.rows_of(id):
            decision = self.decision(id)
            new = _finding(self.table, id, old.name, start, stop)
            self._do(Step({id: (old, decision)}, {id: (new, decision)}))

    def at_threshold(self, threshold: float) -> None:
        """List the findings of another threshold. Those that the reader decided on or added stay as they are.

        Of a run of slices only those are a further finding that none of these, of the same class, covers.
        """
        wanted = slice_findings(self.table, threshold)
        runs = {(f.name, *f.box[0]) for f in wanted}
        # A finding that the reader only stretched is the model's run no more: it goes like one without a decision.
        stay = [id for id in self.findings if self.decision(id) != Decision()]
        same = [id for id in self.findings if (self.findings[id].name, *self.rows_of(id)) in runs]
        gone = [id for id in self.findings if id not in stay and id not in same]
        covered = {(self.class_of(id), n) for id in {*stay, *same} for n in range(*self.rows_of(id))}
        before: Entries = {id: (self.findings[id], None) for id in gone}
        after: Entries = dict.fromkeys(gone, (None, None))
        for f in wanted:
            free = [0.0 if (f.name, n) in covered else 1.0 for n in range(f.box[0][1])]
            for start, stop in _runs([*[0.0] * f.box[0][0], *free[f.box[0][0] :]], 0.5):
                self._last += 1
                before[self._last] = (None, None)
                after[self._last] = (_finding(self.table, self._last, f.name, start, stop), None)
        if before:
            self._do(Step(before, after))

    def _check(self, name: str, start: int, stop: int) -> None:
        if name not in classes_in(self.table):
            raise InputError(f"There is no class {name!r}; there are: {', '.join(classes_in(self.table))}.")
        if not 0 <= start < stop <= len(self.table.rows):
            raise InputError(f"Rows {start} to {stop} are no slices; there are {len(self.table.rows)}.")

    # -- the answer ---------------------------------------------------------------------------------------------

    def answers(self) -> Table:
        """Table ``slices_reviewed``: `table` with a column ``NAME reviewed`` beside the score of each class.

        yes, no, unsure: as the reader decided; ``not reviewed``: in a finding without a decision; empty: in none. Where
        two findings of a class meet on a slice, the surest counts, in this order.
        """
        names = classes_in(self.table)
        said: Mapping[str, list[str]] = {name: [""] * len(self.table.rows) for name in names}
        order = ["", *reversed(ANSWERS.values())]
        for id in self.findings:
            decision = self.decision(id)
            for n in range(*self.rows_of(id)):
                column, answer = said[self.class_of(id)], ANSWERS[decision.state]
                column[n] = max(column[n], answer, key=_rank(order))
                if decision.name:  # it was called another class: it is not the model's
                    first = said[self.findings[id].name]
                    first[n] = max(first[n], "no", key=_rank(order))
        columns: list[Column] = []
        for one in self.table.columns:
            columns.append(one)
            if one.name in names:
                columns.append(Column(f"{one.name} reviewed", "str", "", "the reader's answer"))
        rows = []
        for n, row in enumerate(self.table.rows):
            cells: list[Cell] = []
            for one, cell in zip(self.table.columns, row, strict=True):
                cells += [cell, said[one.name][n]] if one.name in names else [cell]
            rows.append(tuple(cells))
        return Table("slices_reviewed", tuple(columns), tuple(rows))


def _rank(order: list[str]) -> Any:
    return lambda answer: order.index(answer)

"""A list of cases as one reader goes through it: what is done, what is next, what a filter leaves. No widgets here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError
from ..monitor import Monitor
from .case_file import CaseReview, read_case
from .cases import Case, case_folder, left_of

_FINISHED = ("done", "skipped")


class WorkList:
    """The cases of a list, by number from 0, with what ``reader`` did on each.

    What is kept of a case is read when it is asked for, or by `read_some`, so that a long list is there at once.
    """

    def __init__(self, cases: Sequence[Case], root: str | Path, reader: str = "") -> None:
        """``root``: the folder of the list's reviews, see `cases.case_folder`."""
        self.cases, self.root, self.reader = list(cases), Path(root), reader
        #: Case -> what went wrong with it, as a sentence.
        self.problems: dict[int, str] = {}
        self._kept: list[CaseReview | None] = [None] * len(self.cases)
        self._next = 0

    def __len__(self) -> int:
        return len(self.cases)

    def folder(self, n: int) -> Path:
        """Where the review of a case is kept."""
        return case_folder(self.root, self.cases[n].name, self.reader)

    def number_of(self, name: str) -> int:
        """The number of the case of this name, -1 where there is none."""
        return next((n for n, case in enumerate(self.cases) if case.name == name), -1)

    # -- what is kept -------------------------------------------------------------------------------------------

    def kept(self, n: int) -> CaseReview:
        """What is kept of a case; a new review where nothing is, or (told in `problems`) where it cannot be read."""
        found = self._kept[n]
        if found is None:
            found = self._kept[n] = self._read(n)
        return found

    def known(self, n: int) -> bool:
        """Whether `kept` of a case costs nothing."""
        return self._kept[n] is not None

    def put(self, n: int, kept: CaseReview) -> None:
        """What is kept of a case now; it may go on changing."""
        self._kept[n] = kept

    def read_some(self, seconds: float = 0.02) -> bool:
        """Read what is kept of further cases, for about so long; True where all were read."""
        end = time.monotonic() + seconds
        while self._next < len(self.cases):
            self.kept(self._next)
            self._next += 1
            if time.monotonic() > end:
                break
        return self._next >= len(self.cases)

    def all_kept(self) -> list[CaseReview]:
        """Of all cases, in their order."""
        return [self.kept(n) for n in range(len(self.cases))]

    def _read(self, n: int) -> CaseReview:
        case = self.cases[n]
        image, mask = ("" if p is None else p.name for p in (case.image, case.result))
        new = CaseReview(case.name, image, mask, reader=self.reader)
        monitor = Monitor()
        try:
            found = read_case(self.folder(n), monitor)
        except InputError as error:
            self.problems[n] = str(error)
            return new
        if monitor.warnings:
            self.problems[n] = " ".join(monitor.warnings)
        return found or new

    # -- which is next ------------------------------------------------------------------------------------------

    def wanted(self, state: str = "", words: str = "", only: set[str] | None = None) -> list[int]:
        """The cases that a filter leaves. ``state``: one of `CASE_STATES`, or "" for all.

        ``words``: all of them are in the name, the comment or the problem of the case, whatever their case.
        ``only``: names of the cases that are looked at, None for all.
        """
        parts = words.casefold().split()
        found = []
        for n, case in enumerate(self.cases):
            if only is not None and case.name not in only:
                continue
            if state and self.kept(n).state != state:
                continue
            if parts:
                comment = self.kept(n).comment if self.known(n) else ""
                text = f"{case.name} {comment} {self.problems.get(n, '')}".casefold()
                if not all(part in text for part in parts):
                    continue
            found.append(n)
        return found

    @staticmethod
    def after(n: int, step: int, shown: Sequence[int]) -> int:
        """The case ``step`` (1 or -1) on from case ``n`` among those that are shown, -1 where the list ends.

        Where ``n`` itself is not shown (its state left the filter), the nearest one on that side.
        """
        beyond = [m for m in shown if (m > n if step > 0 else m < n)]
        return -1 if not beyond else beyond[0] if step > 0 else beyond[-1]

    def first_open(self) -> int:
        """The first case that is neither done nor skipped, else the first; -1 for an empty list."""
        for n in range(len(self.cases)):
            if self.kept(n).state not in _FINISHED:
                return n
        return 0 if self.cases else -1

    def counts(self) -> dict[str, int]:
        """How many of the cases that were read are in each state."""
        found: dict[str, int] = {}
        for kept in self._kept:
            if kept is not None:
                found[kept.state] = found.get(kept.state, 0) + 1
        return found


def finished(kept: CaseReview) -> bool:
    """Whether a case that is left counts as done: it was rated, or each of its findings was decided."""
    return kept.rating is not None or bool(kept.findings and left_of(kept) == 0)

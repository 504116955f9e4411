"""Two readers of the same cases: how far their ratings, decisions and masks agree, and on which cases they do not.

Each reader's reviews are in a folder of their own (`cases.case_folder`), which only this module looks at together.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..compare.lesions import LesionMatch, detection_figures
from ..compare.masks import Matching
from ..compare.pairs import compare_segmentations
from ..errors import InputError, MedSegError
from ..monitor import Monitor
from ..output.files import save_text
from ..result import Cell, Column, Table
from .agreement import Agreement, agreement, kappa
from .case_file import RATINGS, CaseReview, newest_mask
from .cases import Case, reviews_of
from .decisions import STATES

#: A finding is the same for both readers where its number is and it lies within so many mm: drawing moves its centre.
_SAME_MM = 10.0
#: Findings that readers drew themselves, or of masks numbered differently, are the same within so many mm.
_NEAR_MM = 3.0


@dataclass(frozen=True)
class ClassAgreement:
    """One class of both readers' masks; overlap is None where both are empty."""

    name: str
    dice: float | None
    one_ml: float
    other_ml: float
    lesions: LesionMatch


@dataclass(frozen=True)
class CaseAgreement:
    """``decisions``: of findings that both decided on: (number, class, one's, other's). ``problem``: why masks were

    not compared, "" where they were. ``only_one``, ``only_other``: findings that only one reader has, not rejected.
    """

    case: str
    ratings: tuple[int | None, int | None]
    classes: tuple[ClassAgreement, ...] = ()
    decisions: tuple[tuple[int, str, str, str], ...] = ()
    only_one: int = 0
    only_other: int = 0
    problem: str = ""

    @property
    def differ(self) -> list[tuple[int, str, str, str]]:
        """The decisions that are not the same."""
        return [d for d in self.decisions if d[2] != d[3]]

    def why(self, dice: float) -> list[str]:
        """Why this case is to be read again, as short sentences; none where the readers agree."""
        found = []
        a, b = self.ratings
        if a is not None and b is not None and a != b:
            found.append(f"rated {a} and {b}")
        if self.differ:
            n = len(self.differ)
            found.append(f"{n} decisions differ" if n > 1 else "1 decision differs")
        for one in self.classes:
            if one.dice is not None and one.dice < dice:
                found.append(f"Dice of {one.name} {one.dice:.2f}")
            counts = one.lesions.counts
            if counts.fp + counts.fn:
                n = counts.fp + counts.fn
                found.append(f"{n} lesion{'s' if n > 1 else ''} of {one.name} in one mask only")
        return found


@dataclass(frozen=True)
class ReadersAgreement:
    """``one``, ``other``: what the readers are called. ``missing``: cases that only one of them has done."""

    one: str
    other: str
    cases: tuple[CaseAgreement, ...]
    ratings: Agreement
    missing: tuple[str, ...] = field(default=())

    @property
    def decisions(self) -> list[tuple[int, str, str, str]]:
        """Of all cases."""
        return [d for case in self.cases for d in case.decisions]

    @property
    def decisions_kappa(self) -> float | None:
        """Cohen's kappa of the decisions on findings; None where it is not defined."""
        return kappa([d[2] for d in self.decisions], [d[3] for d in self.decisions], STATES)

    @property
    def mean_dice(self) -> float | None:
        """Mean of all cases and classes in which it is defined."""
        values = [c.dice for case in self.cases for c in case.classes if c.dice is not None]
        return sum(values) / len(values) if values else None

    @property
    def lesion_f1(self) -> float | None:
        """2 tp / (2 tp + fp + fn) of the lesions of all cases: the same whichever reader is the reference."""
        return detection_figures([c.lesions for case in self.cases for c in case.classes]).micro_f1

    def table(self, dice: float = 0.8) -> Table:
        """One row a case and class; a case without masks has a row without a class."""
        columns = (
            Column("case", "str"),
            Column("rating_one", "int", "", self.one), Column("rating_other", "int", "", self.other),
            Column("decisions", "int", "", "findings on which both decided"),
            Column("decisions_equal", "int"), Column("class", "str"), Column("dice", "float"),
            Column("volume_one_ml", "float", "ml", self.one), Column("volume_other_ml", "float", "ml", self.other),
            Column("lesions_both", "int"), Column("lesions_only_one", "int", "", self.one),
            Column("lesions_only_other", "int", "", self.other), Column("lesion_f1", "float"),
            Column("differ", "str", "", "why the case is to be read again"),
            Column("problem", "str", "", "why masks were not compared"),
        )  # fmt: skip
        rows: list[tuple[Cell, ...]] = []
        for case in self.cases:
            equal = len(case.decisions) - len(case.differ)
            head: tuple[Cell, ...] = (case.case, *case.ratings, len(case.decisions), equal)
            tail: tuple[Cell, ...] = ("; ".join(case.why(dice)), case.problem)
            for one in case.classes:
                n = one.lesions.counts
                rows.append((*head, one.name, one.dice, one.one_ml, one.other_ml, n.tp, n.fp, n.fn, n.f1, *tail))
            if not case.classes:
                rows.append((*head, "", *[None] * 7, *tail))
        return Table("agreement", columns, tuple(rows))


def compare_readers(
    one: str | Path, other: str | Path, *, matching: Matching | None = None, monitor: Monitor | None = None
) -> ReadersAgreement:
    """Hold the reviews in one reader's folder against those in another's, case by case.

    Lesions are matched one to one (by one shared voxel where ``matching`` is None). A case whose masks cannot be
    compared keeps its ratings and decisions, and says why. Raises `InputError` where the readers have no case in
    common.
    """
    monitor = monitor or Monitor()
    first, second = (reviews_of(folder, monitor) for folder in (one, other))
    both = [case for case in first if case in second]
    if not both:
        raise InputError(
            f"{Path(one).name} and {Path(other).name} have no case in common; give the folders of two readers "
            "(reader-...) of the same cases."
        )
    found = []
    with monitor.stage("compare"):
        for n, case in enumerate(both):
            found.append(_compared(first[case], second[case], matching or Matching(overlap=1), monitor))
            monitor.progress(n + 1, len(both), case)
    rated = agreement({c.case: c.ratings[0] for c in found}, {c.case: c.ratings[1] for c in found}, sorted(RATINGS))
    names = _names(Path(one), Path(other), first.values(), second.values())
    return ReadersAgreement(*names, tuple(found), rated, tuple(sorted(set(first) ^ set(second))))


Kept = tuple[Path, CaseReview]


def _names(one: Path, other: Path, first: Iterable[Kept], second: Iterable[Kept]) -> tuple[str, str]:
    a, b = (
        {kept.reader for _, kept in reviews}.pop() if len({kept.reader for _, kept in reviews}) == 1 else path.name
        for path, reviews in ((one, list(first)), (other, list(second)))
    )
    a, b = a or one.name, b or other.name
    return (a, b) if a != b else (one.name, other.name)


def _compared(one: Kept, other: Kept, matching: Matching, monitor: Monitor) -> CaseAgreement:
    (folder, kept), (other_folder, other_kept) = one, other
    decisions, alone, other_alone = _decisions(kept, other_kept)
    ratings = (kept.rating, other_kept.rating)
    classes: tuple[ClassAgreement, ...] = ()
    try:
        classes = _masks(folder, kept, other_folder, other_kept, matching, monitor)
        problem = ""
    except MedSegError as error:
        problem = str(error)
        monitor.warn(f"{kept.case}: {problem}")
    return CaseAgreement(kept.case, ratings, classes, decisions, alone, other_alone, problem)


def _masks(
    folder: Path, kept: CaseReview, other_folder: Path, other_kept: CaseReview, matching: Matching, monitor: Monitor
) -> tuple[ClassAgreement, ...]:
    masks = [newest_mask(at, review, monitor) for at, review in ((folder, kept), (other_folder, other_kept))]
    if masks[0] is None or masks[1] is None:
        if not kept.versions and not other_kept.versions:
            return ()  # a classifier's slices, or decisions only: there is nothing to compare
        without = " and ".join(f"reader {r.reader or 'without initials'}" for r, m in zip((kept, other_kept), masks,
                               strict=True) if m is None)  # fmt: skip
        raise InputError(f"the masks were not compared, since {without} saved none.")
    found = compare_segmentations(masks[0], masks[1], matching=matching, monitor=monitor)
    return tuple(
        ClassAgreement(
            c.name, c.figures.counts.dice, c.figures.prediction_ml, c.figures.reference_ml, c.figures.lesions
        )
        for c in found.classes
        if c.figures.lesions is not None
    )


def _decisions(one: CaseReview, other: CaseReview) -> tuple[tuple[tuple[int, str, str, str], ...], int, int]:
    """The decisions of both on the same findings; how many findings only one and only the other reader has."""
    by_id = {int(f["id"]): f for f in other.findings}
    taken: set[int] = set()
    pairs, alone = [], []
    for finding in one.findings:
        twin = by_id.get(int(finding["id"]))
        own = finding.get("added", False)
        if twin is not None and not own and not twin.get("added") and _apart(finding, twin) <= _SAME_MM:
            taken.add(int(twin["id"]))
            pairs.append((finding, twin))
        else:
            alone.append(finding)
    left = []
    for finding in alone:
        free = [f for id, f in by_id.items() if id not in taken]
        twin = min(free, key=lambda f: _apart(finding, f), default=None)
        if twin is not None and _apart(finding, twin) <= _NEAR_MM:
            taken.add(int(twin["id"]))
            pairs.append((finding, twin))
        else:
            left.append(finding)
    decided = tuple(
        (int(a["id"]), str(a.get("class", "")), str(a["state"]), str(b["state"]))
        for a, b in pairs
        if a.get("state") in STATES and b.get("state") in STATES
    )
    others = [f for id, f in by_id.items() if id not in taken]
    return decided, _standing(left), _standing(others)


def _apart(one: Mapping[str, Sequence[float]], other: Mapping[str, Sequence[float]]) -> float:
    return math.dist([float(v) for v in one["centre"]], [float(v) for v in other["centre"]])


def _standing(findings: Iterable[Mapping[str, object]]) -> int:
    return sum(f.get("state") != "rejected" for f in findings)


def write_disagreements(
    path: str | Path, found: ReadersAgreement, one: str | Path, cases: Iterable[Case] = (), *, dice: float = 0.8
) -> list[str]:
    """Write the cases on which the readers differ as a table that `cases.find_cases` reads; their names.

    ``cases``: the list that was read, for the places of images and first masks; a case that is not in it gets the
    mask of the reader in folder ``one``. Paths are relative to the table where that is possible. Raises `OutputError`.
    """
    path = Path(path).resolve()
    known = {case.name: case for case in cases}
    folders = {name: folder for name, (folder, _) in reviews_of(one).items()}
    columns = tuple(Column(name, "str") for name in ("case", "image", "mask", "why"))
    rows: list[tuple[Cell, ...]] = []
    for case in found.cases:
        if not (why := case.why(dice)):
            continue
        listed = known.get(case.case)
        image = listed.image if listed is not None else None
        mask = listed.mask if listed is not None else folders[case.case] / "reviewed.seg.nrrd"
        places = [_relative(p, path.parent) if p is not None and p.exists() else "" for p in (image, mask)]
        rows.append((case.case, *places, "; ".join(why)))
    save_text(path, Table("disagreements", columns, tuple(rows)).to_csv())
    return [str(row[0]) for row in rows]


def _relative(place: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(place.resolve(), folder)).as_posix()
    except ValueError:  # another drive of Windows
        return str(place.resolve())

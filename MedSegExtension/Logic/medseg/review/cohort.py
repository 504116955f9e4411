"""Tables of a whole review: ``cohort.csv``, and the CSV of the SegmentationReview extension, read and written."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import InputError
from ..output.files import save_text
from ..result import Cell, Column, Table, csv_text
from .case_file import RATINGS, CaseReview
from .cases import left_of, read_rows

_STATES = ("accepted", "rejected", "uncertain")
_PEER = ("Filename", "Rating", "Comments", "Mask_filename", "Mask_status")


def cohort_table(reviews: Iterable[CaseReview]) -> Table:
    """One row a case; a column a question of the form, after the fixed ones."""
    kept = list(reviews)
    asked = sorted({name for one in kept for name in one.fields})
    columns = (
        Column("case", "str"), Column("state", "str"),
        Column("rating", "int", "", "; ".join(f"{n} {words}" for n, words in RATINGS.items())),
        Column("findings", "int"), Column("left", "int", "", "findings without a decision"),
        *(Column(name, "int") for name in _STATES),
        Column("seconds", "float", "s", "time spent, without idle time"), Column("reader", "str"),
        Column("comment", "str"), Column("image", "str"), Column("mask", "str"), Column("versions", "int"),
        *(Column(f"form {name}", "str") for name in asked),
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    for one in kept:
        counts = [sum(f.get("state") == state for f in one.findings) for state in _STATES]
        answers = ["" if one.fields.get(name) is None else str(one.fields[name]) for name in asked]
        rows.append(
            (one.case, one.state, one.rating, len(one.findings), left_of(one), *counts, one.seconds, one.reader,
             one.comment, one.image, one.mask, len(one.versions), *answers)
        )  # fmt: skip
    return Table("cohort", columns, tuple(rows))


def write_cohort(path: str | Path, reviews: Iterable[CaseReview]) -> Path:
    """Write ``cohort.csv``, all or nothing. Raises `OutputError`."""
    return save_text(Path(path), cohort_table(reviews).to_csv())


def write_segmentation_review(path: str | Path, reviews: Sequence[CaseReview]) -> Path:
    """Write the CSV of SegmentationReview, all or nothing; a missing rating is empty. Raises `OutputError`."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_PEER)
    for one in reviews:
        changed = "edited" if one.versions else "original"
        row = (one.image or one.case, "" if one.rating is None else one.rating, one.comment, one.mask, changed)
        writer.writerow([csv_text(cell) if isinstance(cell, str) else cell for cell in row])
    return save_text(Path(path), out.getvalue())


def read_segmentation_review(path: str | Path) -> list[CaseReview]:
    """The ratings and comments of a SegmentationReview CSV. A rated case is done.

    Raises `InputError` where columns are missing or a rating is not from 1 to 5.
    """
    path = Path(path)
    rows = read_rows(path)
    if rows and not {"filename", "rating"} <= set(rows[0]):
        raise InputError(f"{path.name} needs the columns Filename and Rating; it has {', '.join(rows[0])}.")
    found = []
    for row in rows:
        text = row.get("rating") or ""
        try:
            rating = int(float(text)) if text else None
        except (ValueError, OverflowError):
            rating = 0
        if rating is not None and rating not in RATINGS:
            raise InputError(f"{path.name}: the rating {text[:40]!r} is no number from 1 to 5.")
        name = Path(row["filename"].replace("\\", "/")).name
        mask = Path((row.get("mask_filename") or "").replace("\\", "/")).name
        state = "to do" if rating is None else "done"
        found.append(CaseReview(name, name, mask, state=state, rating=rating, comment=row.get("comments") or ""))
    return found

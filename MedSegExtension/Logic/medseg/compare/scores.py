"""A classifier's scores of slices held against the truth, read from the tables that both are kept in.

Understood are ``slices.csv`` of runs, ``slices_reviewed.csv`` of a reader, tables of 0 and 1 with a column a class
(and ``case``, ``slice`` or ``sop_instance_uid``), and the RSNA challenge's ``ID_<image>_<subtype>, Label``.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..monitor import Monitor
from ..result import Cell, Column, Table, text_of_csv
from .classification import calibration, counts_at, log_loss, roc_auc, weighted_log_loss

SLICES, REVIEWED = "slices.csv", "slices_reviewed.csv"
RSNA = ("any", "epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural")
_ANSWERS = {"yes": 1.0, "no": 0.0, "": 0.0, "unsure": None, "not reviewed": None}
_KEYS = ("case", "slice", "frame", "image", "sop_instance_uid")
_END = " reviewed"

#: (case, slice) -> class -> value. An image that is named by its UID has the case "".
Values = dict[tuple[str, str], dict[str, float]]


def is_scores(path: Path) -> bool:
    """Whether a file or folder holds scores of slices, and no masks."""
    if path.is_file():
        return path.suffix.lower() == ".csv"
    tables = next(iter(path.rglob(SLICES)), None) or next(iter(path.rglob(REVIEWED)), None)
    return tables is not None and not any(path.rglob("*.seg.nrrd"))


def read_values(path: str | Path, monitor: Monitor | None = None) -> Values:
    """The values of each slice in a table, or in the tables of a folder. Raises `InputError` where there are none.

    A reader's answers: yes is 1; no, and a slice that is in no finding, 0; unsure and not reviewed are left out, told.
    """
    path = Path(path)
    found: Values = {}
    left = 0
    files = [path] if path.is_file() else sorted([*path.rglob(SLICES), *path.rglob(REVIEWED)])
    for file in files:
        left += _read(file, file.parent.name if path.is_dir() else "", found)
    if not found:
        raise InputError(f"{path.name} holds no table of slices with a value for each class.")
    if left and monitor is not None:
        monitor.warn(f"{left} answers of {path.name} are unsure or not reviewed and were left out.")
    return found


def _read(file: Path, case: str, found: Values) -> int:
    try:
        rows = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8-sig"), newline="")))
    except (OSError, UnicodeError, csv.Error) as error:
        raise InputError(f"{file.name} cannot be read as a table ({type(error).__name__}).") from error
    columns = [name for name in (rows[0] if rows else ()) if name]
    if {"ID", "Label"} <= set(columns):
        for row in rows:
            image, _, name = (row["ID"] or "").rpartition("_")
            found.setdefault(("", image.removeprefix("ID_")), {})[name.casefold()] = _number(row["Label"], file)
        return 0
    answers = [name for name in columns if name.endswith(_END)]
    classes = answers or [c for c in columns if c.casefold() not in _KEYS and not c.startswith("centre_")]
    left = 0
    for n, row in enumerate(rows, start=1):
        values = {}
        for name in classes:
            cell = text_of_csv((row[name] or "").strip())
            value = _ANSWERS.get(cell) if answers else _number(cell, file)
            if value is None:
                left += 1
            else:
                values[name.removesuffix(_END).casefold()] = value
        where = row.get("case") or case
        key = (where, str(row.get("slice") or n)) if where or not row.get("sop_instance_uid") else None
        found.setdefault(key or ("", str(row["sop_instance_uid"])), {}).update(values)
    return left


def _number(text: str | None, file: Path) -> float:
    try:
        number = float(text or "")
    except ValueError:
        number = float("nan")
    if not 0 <= number <= 1:
        raise InputError(f"{file.name}: {str(text)[:40]!r} is no value from 0 to 1.")
    return number


@dataclass(frozen=True)
class ScoreEvaluation:
    """``classes``: name -> (truth, scores) of the slices that both tables have. ``cases``: how many there are."""

    classes: Mapping[str, tuple[np.ndarray, np.ndarray]]
    cases: int
    threshold: float
    weighted: float | None = None
    notes: Sequence[str] = field(default=())

    def table(self) -> Table:
        """One row a class. What is not defined (no positives, for example) is empty."""
        columns = (
            Column("class", "str"), Column("slices", "int"), Column("positive", "int", "", "slices, by the reference"),
            Column("auc", "float", "", "area under the ROC curve"),
            Column("sensitivity", "float", "", f"at the threshold {self.threshold:g}"), Column("specificity", "float"),
            Column("precision", "float"), Column("log_loss", "float", "", "natural logarithm"),
            Column("brier", "float"), Column("calibration_error", "float", "", "expected, 10 bins"),
        )  # fmt: skip
        rows: list[tuple[Cell, ...]] = []
        for name, (truth, scores) in self.classes.items():
            counts, bins = counts_at(truth, scores, self.threshold), calibration(truth, scores)
            rows.append((
                name, len(truth), int(truth.sum()), roc_auc(truth, scores), counts.recall, counts.specificity,
                counts.precision, log_loss(truth, scores), bins.brier if bins else None, bins.error if bins else None,
            ))  # fmt: skip
        return Table("classes", columns, tuple(rows))

    def calibration(self) -> Table:
        """One row a class and bin that holds slices: mean score, and how often the reference says yes."""
        columns = (
            Column("class", "str"), Column("from", "float"), Column("to", "float"), Column("slices", "int"),
            Column("mean_score", "float"), Column("frequency", "float", "", "share of positives by the reference"),
        )  # fmt: skip
        rows: list[tuple[Cell, ...]] = []
        for name, (truth, scores) in self.classes.items():
            bins = calibration(truth, scores)
            for n in range(len(bins.count) if bins else 0):
                assert bins is not None
                if bins.count[n]:
                    ends = (float(bins.edges[n]), float(bins.edges[n + 1]))
                    rows.append((name, *ends, int(bins.count[n]), float(bins.probability[n]), float(bins.frequency[n])))
        return Table("calibration", columns, tuple(rows))


def evaluate_scores(scores: Values, truth: Values, *, threshold: float = 0.5) -> ScoreEvaluation:
    """Hold ``scores`` against ``truth`` on the slices and classes that both have.

    The weighted log loss of the RSNA challenge is counted where its six classes are there. Raises `InputError` where
    the two have no slice or no class in common, or the truth is neither 0 nor 1.
    """
    both = [key for key in scores if key in truth]
    if not both:
        raise InputError("The scores and the reference have no slice in common; both name a case and a slice.")
    names = [
        name for name in dict.fromkeys(n for key in scores for n in scores[key]) if any(name in truth[k] for k in both)
    ]
    if not names:
        raise InputError("The scores and the reference have no class in common.")
    notes = []
    missing = len(scores) - len(both), len(truth) - len(both)
    if any(missing):
        notes.append(f"{missing[0]} slices have no reference and {missing[1]} of it no scores; they were left out.")
    found = {}
    for name in names:
        keys = [k for k in both if name in scores[k] and name in truth[k]]
        y = np.array([truth[k][name] for k in keys])
        if np.any((y != 0) & (y != 1)):
            raise InputError(f"The reference of {name} is neither 0 nor 1 everywhere.")
        found[name] = (y, np.array([scores[k][name] for k in keys]))
    weighted = None
    if set(RSNA) <= set(found):
        whole = [k for k in both if all(n in scores[k] and n in truth[k] for n in RSNA)]
        table = [np.array([[values[k][n] for n in RSNA] for k in whole]) for values in (truth, scores)]
        weighted = weighted_log_loss(*table) if whole else None
    return ScoreEvaluation(found, len({k[0] for k in both}), threshold, weighted, tuple(notes))

"""The table of a classifier's result, ``slices.csv``: where each slice lies, and a score for each class."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

from ..errors import InputError
from ..result import Cell, Column, Table, text_of_csv

FILE, RESULT = "slices.csv", "result.json"
POSITION = ("centre_r_mm", "centre_a_mm", "centre_s_mm")
_NO_SCORES = ("slice", "frame", *POSITION)
_MOST_BYTES = 64 << 20


def classes_in(table: Table) -> list[str]:
    """Names of the classes that ``table`` has scores of, in its order.

    Raises `InputError` where it has no positions (RAS mm) or no scores.
    """
    names = [c.name for c in table.columns]
    scores = [c.name for c in table.columns if c.type == "float" and not c.unit and c.name not in _NO_SCORES]
    if not set(POSITION) <= set(names) or not scores:
        raise InputError(f"The table {table.name} has no scores of slices with their positions.")
    return scores


def is_slice_table(path: Path) -> bool:
    """Whether a CSV file begins as the table of a classifier's result does."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            head = file.readline(1 << 16).strip().split(",")
    except (OSError, UnicodeError):
        return False
    return set(POSITION) <= set(head)


def read_slices(path: str | Path) -> tuple[Table, str]:
    """The table in ``path``, or in the folder of a run, and the id of the model that ``result.json`` beside it names.

    A column whose cells are all numbers from 0 to 1 is a score. Raises `InputError`, which names the file.
    """
    path = Path(path)
    path = path / FILE if path.is_dir() else path
    name = f"{path.parent.name}/{path.name}"
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{name} is larger than a table of slices can be.")
        header, *lines = csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""))
    except (OSError, UnicodeError, csv.Error, ValueError) as error:
        raise InputError(f"{name} cannot be read as a table of slices ({type(error).__name__}).") from error
    header = [text_of_csv(cell) for cell in header]
    if len(set(header)) != len(header):
        raise InputError(f"{name} has two columns of one name.")
    lines = [line for line in lines if line]
    if bad := [n for n, line in enumerate(lines, start=2) if len(line) != len(header)]:
        raise InputError(f"{name}: line {bad[0]} has {len(lines[bad[0] - 2])} cells instead of {len(header)}.")
    columns = tuple(_column(one, [line[n] for line in lines]) for n, one in enumerate(header))
    for axis in POSITION:
        if axis in header and any(_number(line[header.index(axis)]) is None for line in lines):
            raise InputError(f"{name}: a cell of {axis} is no number.")
    rows = tuple(tuple(_cell(cell, c) for c, cell in zip(columns, line, strict=True)) for line in lines)
    table = Table("slices", columns, rows)
    classes_in(table)
    return table, _model_beside(path)


def write_slices(path: Path, table: Table, model_id: str) -> None:
    """Write ``table`` and, beside it, which model it is of, as `read_slices` reads them. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.parent / RESULT).write_text(json.dumps({"model": {"id": model_id}}) + "\n", encoding="utf-8")
    part = path.with_name(f".{path.name}.part")
    part.write_text(table.to_csv(), encoding="utf-8", newline="")
    part.replace(path)


def _column(name: str, cells: list[str]) -> Column:
    if name in POSITION:
        return Column(name, "float", "mm")
    numbers = [_number(cell) for cell in cells if cell]
    if name == "slice" and all(n is not None and n.is_integer() for n in numbers):
        return Column(name, "int")
    if name not in _NO_SCORES and numbers and all(n is not None and 0 <= n <= 1 for n in numbers):
        return Column(name, "float")
    return Column(name, "str")


def _cell(text: str, column: Column) -> Cell:
    number = _number(text)
    if column.type == "str" or number is None:
        return text_of_csv(text) if column.type == "str" else None
    return int(number) if column.type == "int" else number


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _model_beside(path: Path) -> str:
    try:
        about = json.loads((path.parent / RESULT).read_text(encoding="utf-8"))
        return str(about["model"]["id"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return ""

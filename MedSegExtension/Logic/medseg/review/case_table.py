"""A list of cases as a table that `cases.find_cases` reads: what a batch leaves beside its results."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ..errors import InputError
from ..output.files import save_text
from ..result import Cell, Column, Table
from .cases import Case, find_cases

FILE = "cases.csv"


def write_cases(path: str | Path, cases: Iterable[Case], *, add: bool = False) -> Path:
    """Write ``cases`` as a table, all or nothing. Raises `OutputError`.

    Results are named relative to the table, so that the folder can be moved with them; images by their whole path.
    ``add``: cases of a table that is there already stay, where they have another name and their files still exist.
    """
    path = Path(path)
    listed = list(cases)
    if add and path.is_file():
        try:
            names = {case.name for case in listed}
            listed = [*(case for case in find_cases(path) if case.name not in names), *listed]
        except InputError:
            pass  # it names files that are gone, or is no list: the new one takes its place
    found = [("case", [c.name for c in listed]), ("image", [_text(c.image) for c in listed])]
    for name, places in (("mask", [c.mask for c in listed]), ("slices", [c.slices for c in listed])):
        if name == "mask" or any(places):
            found.append((name, [_beside(path, p) for p in places]))
    if any(c.series for c in listed):
        found.append(("series", [c.series for c in listed]))
    rows: tuple[tuple[Cell, ...], ...] = tuple(zip(*(cells for _, cells in found), strict=True))
    return save_text(path, Table("cases", tuple(Column(name, "str") for name, _ in found), rows).to_csv())


def _text(place: Path | None) -> str:
    return "" if place is None else str(place.absolute())


def _beside(table: Path, place: Path | None) -> str:
    if place is None:
        return ""
    try:
        relative = Path(os.path.relpath(place.absolute(), table.absolute().parent))
    except ValueError:  # another drive of Windows
        return str(place.absolute())
    return relative.as_posix() if ".." not in relative.parts else str(place.absolute())

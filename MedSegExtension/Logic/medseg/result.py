"""What a run gives back. Sinks (files in `medseg.output.folder`, nodes in `medseg_mrml`) take it and change nothing."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .geometry.grid import Grid

Cell = str | int | float | bool | None


@dataclass(frozen=True)
class SegmentClass:
    """One class of a model as a segment. ``color``: RGB 0 to 1. ``terminology``: Slicer's seven-part entry or ""."""

    value: int
    name: str
    color: tuple[float, float, float]
    terminology: str = ""
    lesion: bool = False


@dataclass(frozen=True, eq=False)
class Layer:
    """A labelmap (K, J, I), uint8 or uint16, on the result's grid, and the classes that its values mean.

    Classes that may overlap (sigmoid outputs) are in layers of their own.
    """

    labels: npt.NDArray[Any]
    classes: tuple[SegmentClass, ...]


def classes_of(layers: Iterable[Layer]) -> tuple[SegmentClass, ...]:
    """The classes of all ``layers``, in their order."""
    return tuple(c for layer in layers for c in layer.classes)


def mask_of(layers: Iterable[Layer], name: str) -> npt.NDArray[np.bool_]:
    """Boolean mask (K, J, I) of the class called ``name``; `KeyError` where there is none."""
    for layer in layers:
        for c in layer.classes:
            if c.name == name:
                return np.asarray(layer.labels == c.value)
    raise KeyError(name)


@dataclass(frozen=True)
class Column:
    """A typed table column. ``unit`` is "" where there is none; ``description`` says how it is computed."""

    name: str
    type: Literal["str", "int", "float", "bool"]
    unit: str = ""
    description: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of cells under typed columns. ``name``: segments, lesions or slices."""

    name: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...] = ()

    def column(self, name: str) -> list[Cell]:
        """All cells of the column ``name``; `KeyError` where there is none."""
        for n, column in enumerate(self.columns):
            if column.name == name:
                return [row[n] for row in self.rows]
        raise KeyError(name)

    def to_csv(self) -> str:
        """RFC 4180 text with a header line; floats with 6 significant digits, text as `csv_text` writes it."""
        lines = [[csv_text(c.name) for c in self.columns], *([_csv_cell(v) for v in row] for row in self.rows)]
        return "".join(map(_csv_line, lines))

    @classmethod
    def from_csv(cls, name: str, columns: tuple[Column, ...], text: str) -> Table:
        """The table that `to_csv` wrote. Raises `ValueError` where its header is not that of ``columns``."""
        try:
            header, *lines = csv.reader(io.StringIO(text, newline=""))
        except csv.Error as error:
            raise ValueError(f"{name} is not a table: {error}") from error
        if [text_of_csv(h) for h in header] != [c.name for c in columns]:
            raise ValueError(f"the columns of {name} are {', '.join(header)}")
        rows = [tuple(_cell_of_csv(cell, c) for c, cell in zip(columns, line, strict=True)) for line in lines]
        return cls(name, columns, tuple(rows))


#: What a spreadsheet takes for a formula at the start of a cell, and the mark that is put before it.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
_MARK = "'"


def csv_text(text: str) -> str:
    """``text`` as a spreadsheet shows it and does not run it: an apostrophe goes before what would start a formula.

    It also goes before an apostrophe, so that `text_of_csv` gives back every text. Numbers are no text.
    """
    return _MARK + text if text.startswith((*_FORMULA_STARTS, _MARK)) else text


def text_of_csv(cell: str) -> str:
    """The text that `csv_text` made into ``cell``."""
    return cell.removeprefix(_MARK)


def _cell_of_csv(cell: str, column: Column) -> Cell:
    if column.type == "str":
        return text_of_csv(cell)
    if cell == "":
        return None
    if column.type == "bool":
        return cell == "True"
    return int(cell) if column.type == "int" else float(cell)


def _csv_line(cells: list[Any]) -> str:
    out = io.StringIO(newline="")
    csv.writer(out).writerow(cells)  # with its usual line end, else it does not quote a carriage return
    return out.getvalue().removesuffix("\r\n") + "\n"


def _csv_cell(value: Cell) -> Any:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str):
        return csv_text(value)
    return "" if value is None else value


@dataclass(eq=False)
class Result:
    """Everything that a run produced, on the grid of its first input.

    ``layers``: empty for classification. ``probabilities``: class name -> (K, J, I) float16/float32, only where asked
    for. ``tables``: by name. ``provenance``: plain JSON values (model, hash, provider, versions, parameters, seconds).
    ``warnings``, ``notes``: sentences (what may be wrong; plain facts). ``plane``: of a slice-wise model, else "".
    """

    grid: Grid
    layers: tuple[Layer, ...] = ()
    probabilities: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    plane: str = ""

    @property
    def classes(self) -> tuple[SegmentClass, ...]:
        """The classes of all layers, in the model's order."""
        return classes_of(self.layers)

    def mask(self, name: str) -> npt.NDArray[np.bool_]:
        """Boolean mask (K, J, I) of the class called ``name``; `KeyError` where there is none."""
        return mask_of(self.layers, name)

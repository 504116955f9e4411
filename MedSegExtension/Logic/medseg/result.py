"""What a run gives back. Sinks (files in `medseg.output.folder`, nodes in `medseg_mrml`) take it and change nothing."""

from __future__ import annotations

import csv
import io
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
        """RFC 4180 text with a header line; floats with 6 significant digits."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([c.name for c in self.columns])
        for row in self.rows:
            writer.writerow([f"{v:.6g}" if isinstance(v, float) else ("" if v is None else v) for v in row])
        return out.getvalue()


@dataclass(eq=False)
class Result:
    """Everything that a run produced, on the grid of its first input.

    ``layers``: empty for classification. ``probabilities``: class name -> (K, J, I) float16/float32, only where asked
    for. ``tables``: by name. ``provenance``: plain JSON values (model, hash, provider, versions, parameters, seconds).
    ``warnings``: sentences. ``plane``: the plane in which a slice-wise model ran, or "".
    """

    grid: Grid
    layers: tuple[Layer, ...] = ()
    probabilities: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    plane: str = ""

    @property
    def classes(self) -> tuple[SegmentClass, ...]:
        """The classes of all layers, in the model's order."""
        return tuple(c for layer in self.layers for c in layer.classes)

    def mask(self, name: str) -> npt.NDArray[np.bool_]:
        """Boolean mask (K, J, I) of the class called ``name``; `KeyError` where there is none."""
        for layer in self.layers:
            for c in layer.classes:
                if c.name == name:
                    return np.asarray(layer.labels == c.value)
        raise KeyError(name)

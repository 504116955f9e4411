"""Classification scores as tables: one row a slice, and what they say about the volume."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .grid import Grid
from .result import Cell, Column, Table

Scores = npt.NDArray[np.float32]


def slice_table(scores: Scores, names: Sequence[str], grids: Sequence[Grid]) -> Table:
    """Table ``slices``: number (from 1), position, and a probability for each class.

    ``scores``: (slices, classes), 0 to 1. ``grids``: the one-voxel-thick grid of each slice.
    """
    rows: list[tuple[Cell, ...]] = []
    for number, (row, grid) in enumerate(zip(scores, grids, strict=True), start=1):
        right, anterior, superior = grid.to_physical((np.array(grid.size) - 1) / 2) * (-1, -1, 1) + 0.0  # no -0
        rows.append((number, float(right), float(anterior), float(superior), *(float(v) for v in row)))
    columns = (
        Column("slice", "int", "", "number of the slice, from 1"),
        Column("centre_r_mm", "float", "mm", "centre of the slice, RAS, towards the patient's right"),
        Column("centre_a_mm", "float", "mm", "centre of the slice, RAS, towards anterior"),
        Column("centre_s_mm", "float", "mm", "centre of the slice, RAS, towards superior"),
        *(Column(name, "float", "", f"probability of {name}, 0 to 1") for name in names),
    )
    return Table("slices", columns, tuple(rows))


def volume_scores(scores: Scores, names: Sequence[str]) -> Table:
    """Table ``scores``: for each class its greatest probability, the slice (from 1) that has it, and the mean.

    ``scores``: (slices, classes). The slice is empty where there is one row only (whole volume, radiograph); the first
    of equals is named.
    """
    rows: list[tuple[Cell, ...]] = []
    for n, name in enumerate(names):
        column = scores[:, n].astype(np.float64)
        top = int(np.argmax(column))
        rows.append((name, float(column[top]), top + 1 if len(column) > 1 else None, float(column.mean())))
    columns = (
        Column("class", "str", "", "name of the class"),
        Column("maximum", "float", "", "greatest probability over the slices, 0 to 1"),
        Column("slice", "int", "", "number of the slice with the greatest probability, from 1"),
        Column("mean", "float", "", "mean probability over the slices, 0 to 1"),
    )
    return Table("scores", columns, tuple(rows))

"""The lesions of two masks as a list to go through: which are in both, which in one only, and where they lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ..geometry.components import structure
from ..geometry.grid import Grid
from ..result import Cell, Column, Table
from .lesions import match_labelled
from .masks import Matching
from .pairs import ComparedClass, Comparison

Labels = npt.NDArray[Any]


def lesion_table(
    comparison: Comparison, matching: Matching | None = None, names: tuple[str, str] = ("A", "B")
) -> Table:
    """One row a lesion of either mask, a matched pair is one row; what differs first, largest first.

    ``names``: of the prediction and the reference, as the words in ``found`` say them. Lesions are matched as
    `compare.lesions.match_lesions` does. ``centre_*``: RAS mm of the voxel that is nearest to the centre of mass.
    ``shared``: ml of the lesion that is also in the other mask; more than nothing in an unmatched lesion means that it
    touches one that was matched with another.
    """
    matching = matching or Matching()
    columns = (
        Column("lesion", "int"), Column("class", "str"), Column("found", "str", "", "in both masks, or in one only"),
        Column("volume_a_ml", "float", "ml", f"in {names[0]}"), Column("volume_b_ml", "float", "ml", f"in {names[1]}"),
        Column("shared_ml", "float", "ml", "in both masks"), Column("dice", "float", "", "of a matched pair"),
        *(Column(f"centre_{axis}_mm", "float", "mm") for axis in "ras"),
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    for one in comparison.classes:
        found = _rows(one, comparison.grid, matching, names)
        rows += sorted(found, key=lambda r: (r[1] == IN_BOTH, -max(float(r[2] or 0), float(r[3] or 0))))
    return Table("lesion_comparison", columns, tuple((n, *row) for n, row in enumerate(rows, start=1)))


#: The word of a matched pair in the column ``found``.
IN_BOTH = "in both"


def _rows(one: ComparedClass, grid: Grid, rule: Matching, names: tuple[str, str]) -> list[tuple[Cell, ...]]:
    neighbours = structure(rule.connectivity, 0)
    ours, predicted = ndimage.label(one.prediction, structure=neighbours)
    theirs, referenced = ndimage.label(one.reference, structure=neighbours)
    match = match_labelled(
        ours, predicted, theirs, referenced, grid.spacing[::-1],
        overlap=rule.overlap, iou=rule.iou, distance_mm=rule.distance_mm,
    )  # fmt: skip
    ml = grid.voxel_volume / 1000
    a, b = (np.bincount(labels.ravel()) * ml for labels in (ours, theirs))
    in_a, in_b = _shared(ours, one.reference, predicted) * ml, _shared(theirs, one.prediction, referenced) * ml
    place_a, place_b = _places(ours, grid), _places(theirs, grid)
    rows: list[tuple[Cell, ...]] = []
    for (p, r), dice in zip(match.pairs, match.dice, strict=True):
        both = dice * (float(a[p]) + float(b[r])) / 2
        rows.append((one.name, IN_BOTH, float(a[p]), float(b[r]), both, dice, *place_a[p]))
    matched_p, matched_r = {p for p, _ in match.pairs}, {r for _, r in match.pairs}
    for p in sorted(set(range(1, predicted + 1)) - matched_p):
        rows.append((one.name, f"only in {names[0]}", float(a[p]), 0.0, float(in_a[p]), None, *place_a[p]))
    for r in sorted(set(range(1, referenced + 1)) - matched_r):
        rows.append((one.name, f"only in {names[1]}", 0.0, float(b[r]), float(in_b[r]), None, *place_b[r]))
    return rows


def _shared(labels: Labels, other: Labels, count: int) -> npt.NDArray[np.int64]:
    """Voxels of each component that are also in ``other``."""
    return np.bincount(labels[other], minlength=count + 1)


def _places(labels: Labels, grid: Grid) -> dict[int, tuple[float, float, float]]:
    """RAS mm of a voxel of each component, so that a view that goes there shows it."""
    found = {}
    for n, box in enumerate(ndimage.find_objects(labels), start=1):
        where = np.argwhere(labels[box] == n)
        centre = where[np.argmin(((where - where.mean(axis=0)) ** 2).sum(axis=1))]
        k, j, i = (int(c) + s.start for c, s in zip(centre, box, strict=True))
        x, y, z = (float(v) for v in grid.to_physical([i, j, k]))
        found[n] = (-x, -y, z)
    return found

"""Classification scores as tables: one row a slice, and what they say about the volume."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..geometry.grid import Grid
from ..monitor import Monitor
from ..result import Cell, Column, Table

Scores = npt.NDArray[np.float32]


def slice_table(
    scores: Scores, names: Sequence[str], grids: Sequence[Grid], images: Sequence[str] | None = None
) -> Table:
    """Table ``slices``: number (from 1), position, and a probability for each class.

    ``scores``: (slices, classes), 0 to 1. ``grids``: the one-voxel-thick grid of each slice. ``images``: the SOP
    Instance UID of each slice, as a last column, where it is known.
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
    if images is not None:
        columns = (*columns, Column("sop_instance_uid", "str", "", "SOP Instance UID of the image"))
        rows = [(*row, image) for row, image in zip(rows, images, strict=True)]
    return Table("slices", columns, tuple(rows))


def rsna_table(slices: Table, subtypes: Sequence[str], name: str, monitor: Monitor) -> Table:
    """Table ``rsna``: rows ``ID_<image>_<subtype>`` and probability, slice by slice in the order of ``subtypes``.

    ``slices``: a table of `slice_table`. ``image``: the last component of the SOP Instance UID (the RSNA challenge's
    own images are called ID_<image>), the whole UID where that is ambiguous, else the number of the slice. ``name``: of
    the volume, for the warning.
    """
    numbers = [str(n) for n in slices.column("slice")]
    uids = (
        [str(u) for u in slices.column("sop_instance_uid")] if _has(slices, "sop_instance_uid") else [""] * len(numbers)
    )
    tails = [uid.rsplit(".", 1)[-1].removeprefix("ID_") for uid in uids]
    images = next((c for c in (tails, uids) if all(c) and len(set(c)) == len(c)), None)
    if images is None:
        images = numbers
        monitor.warn(f"{name} has no SOP Instance UID for each slice; the images in rsna are called by slice number.")
    scores = [slices.column(subtype) for subtype in subtypes]
    rows = tuple(
        (f"ID_{image}_{subtype}", column[n])
        for n, image in enumerate(images)
        for subtype, column in zip(subtypes, scores, strict=True)
    )
    columns = (
        Column("ID", "str", "", "ID_<image>_<subtype>: the end of the image's SOP Instance UID, or the slice's number"),
        Column("Label", "float", "", "probability, 0 to 1"),
    )
    return Table("rsna", columns, rows)


def _has(table: Table, column: str) -> bool:
    return any(c.name == column for c in table.columns)


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

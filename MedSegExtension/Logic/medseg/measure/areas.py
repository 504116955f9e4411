"""Areas on a frontal film, and which part of them lies on the patient's right and left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

from ..geometry.components import Mask
from ..geometry.volume import Volume
from ..monitor import Monitor
from ..result import Cell, Column, Table

# The other lung is the largest component beside the largest one (it shares at most half of its width) of at least this
# share of its area.
_LEAST_SHARE = 0.05
# One component is taken for two lungs where each side of the film's middle has at least this share of it.
_LEAST_ON_EACH_SIDE = 0.15


@dataclass(frozen=True)
class Sides:
    """Pixels on the side of low and of high column numbers. ``note``: what was assumed, or ""."""

    low: int
    high: int
    note: str = ""


def split_sides(mask: Mask) -> Sides:
    """Split ``mask`` (rows, columns) of both lungs into the one at low and the one at high columns.

    By component (8-connected): the largest and the largest one beside it; smaller ones go to the nearer side. Lungs
    that touch are one component across the film's middle: they are cut at the column with the fewest pixels in the
    middle third of their width. A component on one side of the film's middle is a single lung.
    """
    numbers, count = scipy.ndimage.label(mask, structure=np.ones((3, 3)))
    if not count:
        return Sides(0, 0, "the segment is empty")
    sizes = np.bincount(numbers.ravel())[1:]
    columns = [box[1] for box in scipy.ndimage.find_objects(numbers)]
    order = np.argsort(-sizes, kind="stable")
    main = int(order[0])
    for other in (int(n) for n in order[1:] if sizes[n] >= _LEAST_SHARE * sizes[main]):
        a, b = columns[main], columns[other]
        shared = max(0, min(a.stop, b.stop) - max(a.start, b.start))
        if shared <= 0.5 * min(a.stop - a.start, b.stop - b.start):
            left, right = (a, b) if a.start + a.stop < b.start + b.stop else (b, a)
            cut = (left.stop + right.start) / 2
            centres = np.array(scipy.ndimage.center_of_mass(mask, numbers, range(1, count + 1)))[:, 1] + 0.5
            centres[main], centres[other] = (a.start + a.stop) / 2, (b.start + b.stop) / 2
            low = int(sizes[centres < cut].sum())
            return Sides(low, int(sizes.sum()) - low)
    profile = mask.sum(axis=0)
    total, middle = int(profile.sum()), mask.shape[1] / 2
    before = int(profile[: int(middle)].sum())
    if min(before, total - before) < _LEAST_ON_EACH_SIDE * total:
        note = "only one lung was found"
        return Sides(total, 0, note) if before * 2 > total else Sides(0, total, note)
    first, last = columns[main].start, columns[main].stop
    third = (last - first) // 3
    inner = profile[first + third : last - third]
    near = np.abs(np.arange(len(inner)) - (len(inner) - 1) / 2)
    cut_column = first + third + int(np.lexsort((near, inner))[0])
    low = int(profile[:cut_column].sum())
    return Sides(low, total - low, "the lungs touch: they were split at the narrowest column of the middle")


def area_table(name: str, mask: npt.NDArray[Any], volume: Volume, monitor: Monitor) -> Table:
    """Table ``areas``: one row for ``mask`` (K, J, I) on the film ``volume``.

    The patient's side is taken from the grid: on a film that is hung as usual, the left lung is on the image's right.
    Cells that cannot be known (spacing, sides of a lateral film, ratio to an empty lung) are empty, with a note.
    """
    grid = volume.grid
    thin = [a for a in range(3) if grid.size[a] == 1]
    if not thin:
        monitor.warn(f"{volume.name} is not a film (one slice) but has {grid}; no areas were measured.")
        return Table("areas", _columns())
    normal = thin[-1]
    across = next((a for a, (axis, _) in enumerate(grid.anatomical_axes) if axis == 0), normal)
    notes: list[str] = []
    pixel = grid.voxel_volume / grid.spacing[normal] / 100
    known = volume.pixel_spacing_known
    if not known:
        notes.append("the pixel spacing is not known, so areas are given in pixels only")
    elif volume.tags.get("SpacingAtDetector"):
        notes.append("areas are measured at the detector; in the patient they are smaller")
    pixels = int(np.count_nonzero(mask))
    sides: Sides | None = None
    if across == normal:
        notes.append("the film is not frontal, so right and left cannot be told apart")
    else:
        flat = np.moveaxis(np.squeeze(mask, axis=2 - normal), *_across_last(across, normal))
        sides = split_sides(flat)
        if sides.note:
            notes.append(sides.note)
    for note in notes:
        monitor.warn(f"{volume.name}: {note}.")
    right = left = None
    if sides is not None:
        # A positive sign means that the index grows towards the patient's left.
        grows_left = grid.anatomical_axes[across][1] > 0
        right, left = (sides.low, sides.high) if grows_left else (sides.high, sides.low)

    def area(count: int | None) -> float | None:
        return count * pixel if known and count is not None else None

    row: tuple[Cell, ...] = (
        name, pixels, right, left, area(pixels), area(right), area(left),
        left / right if left is not None and right else None,
        "; ".join(notes),
    )  # fmt: skip
    return Table("areas", _columns(), (row,))


def _across_last(across: int, normal: int) -> tuple[int, int]:
    """Arguments of moveaxis that put index axis ``across`` last in an array without the axis ``normal``."""
    left = [a for a in (2, 1, 0) if a != normal]
    return left.index(across), 1


def _columns() -> tuple[Column, ...]:
    side = "of the lung on the patient's {}, which is on the image's {} as films are hung"
    return (
        Column("segment", "str", "", "what was measured"),
        Column("pixels", "int", "", "number of pixels"),
        Column("right_pixels", "int", "", "number of pixels " + side.format("right", "left")),
        Column("left_pixels", "int", "", "number of pixels " + side.format("left", "right")),
        Column("area_cm2", "float", "cm2", "pixels times the area of a pixel; empty where the spacing is not known"),
        Column("right_area_cm2", "float", "cm2", "area " + side.format("right", "left")),
        Column("left_area_cm2", "float", "cm2", "area " + side.format("left", "right")),
        Column("left_right_ratio", "float", "", "left over right area; empty where the right one is missing"),
        Column("note", "str", "", "what was assumed"),
    )

"""Small results with known voxels for the tests of files and nodes."""

from __future__ import annotations

import numpy as np

from medseg.geometry.grid import Grid
from medseg.geometry.volume import Volume
from medseg.result import Column, Layer, Result, SegmentClass, Table
from support.geometry import rotation

BLEED = (
    "Segmentation category and type - 3D Slicer General Anatomy list~SCT^49755003^Morphologically Altered Structure"
    "~SCT^50960005^Hemorrhage~^^~Anatomic codes - DICOM master list~SCT^12738006^Brain~^^"
)
CLASSES = (
    SegmentClass(1, "Bleed", (0.9, 0.1, 0.2), BLEED, lesion=True),
    SegmentClass(7, "Ödem, perifokal", (0.2, 0.6, 1.0)),
)
OBLIQUE = Grid((13, 9, 7), (0.9, 1.1, 5.5), (-31.0, 22.5, 104.0), rotation((0.21, -0.34, 0.5)) @ np.diag([1, -1, 1]))


def volume(grid: Grid = OBLIQUE) -> Volume:
    """Ramps in three directions, so that no permutation or flip goes unseen."""
    k, j, i = np.indices(grid.shape)
    return Volume((i + 20 * j + 400 * k).astype(np.int16), grid, "CT", "head")


def labels(grid: Grid = OBLIQUE) -> np.ndarray:
    """Two boxes of different size, off centre."""
    array = np.zeros(grid.shape, np.uint8)
    array[1:3, 2:5, 3:8] = 1
    array[4:6, 1:3, 8:12] = 7
    return array


def tables() -> dict[str, Table]:
    """Every column type, a unit, a description and missing values."""
    columns = (
        Column("segment", "str", "", "name of the segment"),
        Column("voxels", "int", "", "number of voxels"),
        Column("volume", "float", "ml", "voxels times the volume of a voxel"),
        Column("largest_mm", "float", "mm", "greatest diameter"),
        Column("touches_border", "bool", "", "reaches the edge of the volume"),
        Column("first_slice", "int", "", "number of its first slice, empty where there is none"),
    )
    rows = (("Bleed", 30, 0.1625, 4.5, False, 2), ("Ödem, perifokal", 16, 0.08666, None, True, None))
    return {"segments": Table("segments", columns, rows)}


def result(grid: Grid = OBLIQUE) -> Result:
    """Two classes in one layer, with a table."""
    provenance = {"model": {"id": "ich-demo", "title": "Bleeds"}, "seconds": {"infer": 0.5}}
    return Result(grid, (Layer(labels(grid), CLASSES),), {}, tables(), provenance, ("A told warning.",), "axial")


def overlapping(grid: Grid = OBLIQUE) -> Result:
    """Two classes that share voxels, each in a layer of its own."""
    first, second = np.zeros(grid.shape, np.uint8), np.zeros(grid.shape, np.uint8)
    first[1:5, 1:7, 1:9] = 1
    second[3:6, 4:8, 5:12] = 2
    classes = (SegmentClass(1, "Brain", (0.8, 0.8, 0.5)), SegmentClass(2, "Lesion", (1.0, 0.2, 0.0)))
    layers = (Layer(first, classes[:1]), Layer(second, classes[1:]))
    return Result(grid, layers, provenance={"model": {"id": "overlap"}})


def scores(grid: Grid = OBLIQUE) -> Result:
    """Per-slice scores of two classes; the highest is on slice 5."""
    columns = (
        Column("slice", "int"),
        Column("centre_r_mm", "float", "mm"),
        Column("centre_a_mm", "float", "mm"),
        Column("centre_s_mm", "float", "mm"),
        Column("any", "float", "", "probability"),
        Column("subdural", "float", "", "probability"),
    )
    middle = [(n - 1) / 2 for n in grid.size]
    rows = []
    for k in range(grid.size[2]):
        right, anterior, superior = grid.to_physical([middle[0], middle[1], k]) * (-1, -1, 1)
        rows.append((k + 1, right, anterior, superior, 0.9 if k == 4 else 0.1 * k / 7, 0.05))
    table = Table("slices", columns, tuple(rows))
    return Result(grid, tables={"slices": table}, provenance={"model": {"id": "scores"}}, plane="acquisition")

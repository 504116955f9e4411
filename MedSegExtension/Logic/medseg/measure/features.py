"""Further features of a lesion by their PyRadiomics definitions, with the codes of the Image Biomarker Standardisation
Initiative (A. Zwanenburg et al., Radiology 295:328-338, 2020).

PyRadiomics' MeshVolume has no counterpart here: `volume_mm3` of the lesions is its VoxelVolume.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..geometry.components import Box, Mask
from ..geometry.grid import FloatArray, Grid
from ..result import Cell, Column
from .lesions import principal_variances, surface_area, surface_points

_AXES = {"row": 0, "column": 1, "slice": 2}  # PyRadiomics' planes, by the index axis that is normal to them


def shape_columns() -> tuple[Column, ...]:
    """Columns of `shape_cells`."""
    planes = {"slice": "i and j", "column": "i and k", "row": "j and k"}
    return (
        Column("surface_area_mm2", "float", "mm2", "SurfaceArea (IBSI C0JK) by Crofton's formula over 13 directions, "
               "not from a mesh; empty for small lesions"),
        Column("surface_volume_ratio", "float", "1/mm", "SurfaceVolumeRatio (IBSI 2PR5) of these"),
        *(
            Column(f"maximum_2d_diameter_{name}_mm", "float", "mm", f"Maximum2DDiameter{name.title()}: greatest "
                   f"distance of two surface points in one plane of the volume's axes {axes}")
            for name, axes in planes.items()
        ),
        Column("major_axis_length_mm", "float", "mm", "MajorAxisLength (IBSI TDIC): 4 times the root of the first "
               "principal variance of the voxel centres"),
        Column("minor_axis_length_mm", "float", "mm", "MinorAxisLength (IBSI P9VJ): the same of the second"),
        Column("least_axis_length_mm", "float", "mm", "LeastAxisLength (IBSI 7J51): the same of the third"),
    )  # fmt: skip


def shape_cells(box: Box, mask: Mask, grid: Grid) -> tuple[Cell, ...]:
    """Cells of one lesion under `shape_columns`; ``mask``: (k, j, i) in ``box`` of a volume on ``grid``."""
    area = surface_area(mask, grid)
    index = (np.argwhere(mask) + [b.start for b in box])[:, ::-1]
    volume = len(index) * grid.voxel_volume
    if len(index) > 1:
        least, minor, major = 4 * np.sqrt(principal_variances(grid.to_physical(index)))
    else:
        least = minor = major = 0.0
    points = surface_points(mask)
    return (
        area,
        None if area is None else area / volume,
        *(_plane_diameter(points, _AXES[name], grid) for name in ("slice", "column", "row")),
        float(major),
        float(minor),
        float(least),
    )


def _plane_diameter(points: FloatArray, axis: int, grid: Grid) -> float:
    """Greatest distance in mm of two of ``points`` (n, 3: i, j, k) that share their index on ``axis``."""
    from scipy.spatial import ConvexHull
    from scipy.spatial.distance import cdist

    order = np.argsort(points[:, axis], kind="stable")
    levels = points[order, axis]
    best = 0.0
    for part in np.split(points[order], np.flatnonzero(np.diff(levels)) + 1):
        flat = np.delete(part, axis, axis=1)
        if len(flat) > 64 and np.ptp(flat, axis=0).min() > 0:
            part = part[ConvexHull(flat).vertices]
        at = (part - points[0]) @ grid.affine[:3, :3].T
        best = max(best, float(cdist(at, at).max()))
    return best


def first_order_columns(unit: str, bin_width: float) -> tuple[Column, ...]:
    """Columns of `first_order_cells`. ``unit``: of the input's values. The mean is in the lesions table already."""
    squared = f"{unit}2" if unit else ""
    bins = f"bins of {bin_width:g} {unit}".rstrip() + " that begin at a multiple of it"
    return (
        Column("minimum", "float", unit, "Minimum (IBSI 1GSF) of the first input over the lesion"),
        Column("percentile_10", "float", unit, "10Percentile (IBSI QG58)"),
        Column("median", "float", unit, "Median (IBSI Y12H)"),
        Column("percentile_90", "float", unit, "90Percentile (IBSI 8DWT)"),
        Column("maximum", "float", unit, "Maximum (IBSI 84IY)"),
        Column("range", "float", unit, "Range (IBSI 2OJQ)"),
        Column("interquartile_range", "float", unit, "InterquartileRange (IBSI SALO)"),
        Column("mean_absolute_deviation", "float", unit, "MeanAbsoluteDeviation (IBSI 4FUA) from the mean"),
        Column("robust_mean_absolute_deviation", "float", unit,
               "RobustMeanAbsoluteDeviation (IBSI 1128): of the values from the 10th to the 90th percentile"),
        Column("root_mean_squared", "float", unit, "RootMeanSquared (IBSI 5ZWQ)"),
        Column("variance", "float", squared, "Variance (IBSI ECT3), population"),
        Column("skewness", "float", "", "Skewness (IBSI KE2A); 0 where all values are equal"),
        Column("kurtosis", "float", "", "Kurtosis as PyRadiomics has it, not less 3 (IBSI IPH6 is less 3)"),
        Column("energy", "float", squared, "Energy (IBSI N8CA): sum of squares"),
        Column("total_energy", "float", f"{squared} mm3".strip(), "TotalEnergy: energy times the volume of a voxel"),
        Column("entropy", "float", "bit", f"Entropy (IBSI TLU2), {bins}"),
        Column("uniformity", "float", "", f"Uniformity (IBSI BJ5W), {bins}"),
    )  # fmt: skip


def first_order_cells(values: npt.NDArray[Any], bin_width: float, voxel_volume: float) -> tuple[Cell, ...]:
    """Cells under `first_order_columns` of a lesion whose voxels have ``values`` (n,)."""
    x = values.astype(np.float64)
    low, first, median, third, high = np.percentile(x, [10, 25, 50, 75, 90])
    inner = x[(x >= low) & (x <= high)]
    away = x - x.mean()
    variance = float(np.mean(away**2))
    shares = np.unique(np.floor(x / bin_width), return_counts=True)[1] / len(x)
    energy = float(np.sum(x**2))
    cells = (
        x.min(),
        low,
        median,
        high,
        x.max(),
        np.ptp(x),
        third - first,
        np.mean(np.abs(away)),
        np.mean(np.abs(inner - inner.mean())) if inner.size else 0.0,
        np.sqrt(energy / len(x)),
        variance,
        np.mean(away**3) / variance**1.5 if variance > 0 else 0.0,
        np.mean(away**4) / variance**2 if variance > 0 else 0.0,
        energy,
        energy * voxel_volume,
        -np.sum(shares * np.log2(shares)) + 0.0,
        np.sum(shares**2),
    )
    return tuple(float(c) for c in cells)

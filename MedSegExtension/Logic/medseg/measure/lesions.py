"""Lesions: the connected components of a class, one table row each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..geometry.components import Box, Mask
from ..geometry.grid import FloatArray, Grid
from ..result import Cell, Column

# Below this many voxels the estimated surface is wrong by more than about 5 % (digital balls).
_LEAST_FOR_SPHERICITY = 30
_ROWS = 1024


def lesion_columns(unit: str, connectivity: int) -> tuple[Column, ...]:
    """Columns of the ``lesions`` table. ``unit``: of the input's values."""
    corner = "along the volume's {} axis, outer voxel faces"
    return (
        Column("segment", "str", "", "name of the class"),
        Column("lesion", "int", "", f"number within the class, largest first ({connectivity}-connected components)"),
        Column("centre_r_mm", "float", "mm", "centroid of the voxel centres, RAS, towards the patient's right"),
        Column("centre_a_mm", "float", "mm", "centroid of the voxel centres, RAS, towards anterior"),
        Column("centre_s_mm", "float", "mm", "centroid of the voxel centres, RAS, towards superior"),
        Column("centre_i", "int", "", "voxel nearest to the centroid, index along i, from 0"),
        Column("centre_j", "int", "", "voxel nearest to the centroid, index along j, from 0"),
        Column("centre_k", "int", "", "voxel nearest to the centroid, index along k, from 0"),
        Column("voxels", "int", "", "number of voxels"),
        Column("volume_mm3", "float", "mm3", "voxels times the volume of a voxel"),
        Column("equivalent_radius_mm", "float", "mm", "radius of the ball of this volume, (3 V / (4 pi))^(1/3)"),
        Column(
            "maximum_diameter_mm",
            "float",
            "mm",
            "greatest distance of two points of the surface half-way between lesion and other voxels "
            "(IBSI maximum 3D diameter, L0JK)",
        ),
        Column("size_i_mm", "float", "mm", "extent " + corner.format("i")),
        Column("size_j_mm", "float", "mm", "extent " + corner.format("j")),
        Column("size_k_mm", "float", "mm", "extent " + corner.format("k")),
        Column("mean", "float", unit, "mean of the first input over the lesion"),
        Column(
            "sphericity",
            "float",
            "",
            "(36 pi V^2)^(1/3) / A, at most 1; A by Crofton's formula over 13 directions (Lehmann and Legland 2012); "
            f"empty below {_LEAST_FOR_SPHERICITY} voxels",
        ),
        Column(
            "elongation",
            "float",
            "",
            "square root of second over first principal variance of the voxel centres (IBSI Q3CK): 1 is round, "
            "0 a line; empty for one voxel",
        ),
        Column(
            "flatness",
            "float",
            "",
            "square root of third over first principal variance of the voxel centres (IBSI N17B): 1 is round, 0 flat; "
            "empty for one voxel",
        ),
        Column("first_slice", "int", "", "first slice along k that the lesion reaches, from 1"),
        Column("last_slice", "int", "", "last slice along k that the lesion reaches, from 1"),
    )


def lesion_rows(
    segment: str, parts: Sequence[tuple[Box, Mask]], values: npt.NDArray[Any], grid: Grid
) -> list[tuple[Cell, ...]]:
    """Rows under `lesion_columns`, in the order of ``parts``, which are numbered from 1.

    ``parts``: (box, mask there) of each lesion in the volume ``values`` (K, J, I) on ``grid``, largest first.
    """
    rows: list[tuple[Cell, ...]] = []
    for number, (box, mask) in enumerate(parts, start=1):
        index = (np.argwhere(mask) + [b.start for b in box])[:, ::-1]
        low, high = index.min(axis=0), index.max(axis=0)
        centroid = index.mean(axis=0)
        i, j, k = (int(v) for v in np.rint(centroid))
        right, anterior, superior = grid.to_physical(centroid) * (-1, -1, 1) + 0.0  # no -0
        volume = len(index) * grid.voxel_volume
        extent = (high - low + 1) * np.array(grid.spacing)
        elongation, flatness = _roundness_of_axes(grid.to_physical(index))
        rows.append(
            (
                segment,
                number,
                float(right),
                float(anterior),
                float(superior),
                i,
                j,
                k,
                len(index),
                volume,
                float((3 * volume / (4 * np.pi)) ** (1 / 3)),
                maximum_diameter(mask, grid),
                *(float(e) for e in extent),
                float(values[box][mask].astype(np.float64).mean()),
                _sphericity(volume, surface_area(mask, grid)),
                elongation,
                flatness,
                int(low[2]) + 1,
                int(high[2]) + 1,
            )
        )
    return rows


def maximum_diameter(mask: Mask, grid: Grid) -> float:
    """Maximum 3D (Feret) diameter in mm of ``mask`` (k, j, i), anywhere on ``grid``'s lattice.

    The surface points lie half-way between each voxel and its face neighbours outside, as a marching-cubes mesh of the
    mask has them (Image Biomarker Standardisation Initiative, L0JK). Exact: the two farthest points are corners of the
    convex hull.
    """
    # Loaded on first use: runs without lesions do not wait for it.
    from scipy.spatial import ConvexHull
    from scipy.spatial.distance import cdist

    points = surface_points(mask)
    # Taking the shift off keeps digits where the origin is far away; distances do not depend on it.
    corners = (points - points.mean(axis=0)) @ grid.affine[:3, :3].T
    corners = corners[ConvexHull(corners).vertices]
    return float(max(cdist(corners[n : n + _ROWS], corners).max() for n in range(0, len(corners), _ROWS)))


def surface_points(mask: Mask) -> FloatArray:
    """(n, 3) indices i, j, k half-way between each voxel and its face neighbours outside, of ``mask`` padded by one."""
    padded = np.pad(mask, 1).astype(np.int8)
    parts = []
    for axis in range(3):
        points = np.argwhere(np.diff(padded, axis=axis)).astype(np.float64)
        points[:, axis] += 0.5
        parts.append(points)
    return np.concatenate(parts)[:, ::-1]


def _roundness_of_axes(positions: FloatArray) -> tuple[float | None, float | None]:
    """Elongation and flatness from the principal variances of ``positions`` (n, 3) in mm; None for one point."""
    if len(positions) < 2:
        return None, None
    least, middle, most = principal_variances(positions)
    return float(np.sqrt(middle / most)), float(np.sqrt(least / most))


def principal_variances(positions: FloatArray) -> FloatArray:
    """Variances of ``positions`` (n, 3) in mm along their principal axes, in mm2, least first."""
    return np.asarray(np.linalg.eigvalsh(np.cov(positions.T, bias=True)).clip(min=0))


def surface_area(mask: Mask, grid: Grid) -> float | None:
    """Surface in mm2, or None where the mask is too small or the axes are not at right angles.

    ITK's estimator: intercepts along 13 directions, weighted by Crofton's formula for the spacing (G. Lehmann,
    D. Legland, Efficient N-dimensional surface estimation using Crofton formula and run-length encoding, 2012).
    """
    right_angles = np.allclose(grid.direction.T @ grid.direction, np.eye(3), atol=1e-3)
    if np.count_nonzero(mask) < _LEAST_FOR_SPHERICITY or not right_angles:
        return None
    import SimpleITK

    itk: Any = SimpleITK  # its Python classes carry no types
    # Intercepts at the border of the array are not counted, hence a rim of background.
    image = itk.GetImageFromArray(np.pad(mask, 1).astype(np.uint8))
    image.SetSpacing(grid.spacing)
    shape = itk.LabelShapeStatisticsImageFilter()
    shape.ComputePerimeterOn()
    shape.ComputeFeretDiameterOff()
    shape.Execute(image)
    return float(shape.GetPerimeter(1))


def _sphericity(volume: float, surface: float | None) -> float | None:
    if surface is None:
        return None
    return float(min(1.0, (36 * np.pi * volume**2) ** (1 / 3) / surface))

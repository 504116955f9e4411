"""Which slices a reader should see first: those through the finding, or those with the highest score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.geometry.grid import Grid
from medseg.result import Result, Table

_PLANES = ("sagittal", "coronal", "axial")
_LEVEL_SHARES = (0.15, 0.5, 0.85)
_NEIGHBOUR_MM = 5.0


@dataclass(frozen=True)
class Focus:
    """``point``: LPS mm in the finding. ``plane``: in which ``levels`` (LPS mm points on further slices) are shown."""

    point: tuple[float, float, float]
    plane: str
    levels: tuple[tuple[float, float, float], ...]
    finding: str


def focus_of(result: Result, grid: Grid) -> Focus:
    """Where to look at ``result``.

    With lesions: the largest lesion. With other segments: the middle of all segments, on its largest slice. With scores
    of slices: the slice of the maximum. Otherwise the middle of the volume. Further levels spread over the segments'
    area, or are the slices about 5 mm beside the maximum and the highest score farther away; they are in the order from
    right, anterior or inferior.
    """
    plane = _plane(result, grid)
    axis = grid.axis_of(plane)
    mask = _finding_mask(result)
    if mask is not None and mask.any():
        lesions = any(c.lesion for c in result.classes)
        index = _largest_lesion(mask) if lesions else _middle(mask, axis)
        others = np.logical_or.reduce([layer.labels != 0 for layer in result.layers])
        # Slices with lesions first, then slices with other segments, then any.
        area = _areas(mask, axis) + 1e-3 * _areas(others, axis)
        positions = _spread(area, index[axis])
        finding = "largest lesion" if lesions else "middle of the segments"
        return _focus(grid, plane, axis, index, positions, finding)
    index = [(n - 1) // 2 for n in grid.size]
    table = result.tables.get("slices")
    columns = score_columns(table)
    centres = _slice_centres(table)
    if table is not None and columns and len(centres):
        scores = np.array([[float(v or 0.0) for v in table.column(name)] for name in columns])
        which, best = np.unravel_index(int(scores.argmax()), scores.shape)
        middle = np.clip(np.rint(grid.to_index(centres[int(best)])), 0, np.array(grid.size) - 1)
        index = [int(n) for n in middle]
        step = max(1, round(_NEIGHBOUR_MM / grid.spacing[axis]))
        positions = [index[axis] - step, index[axis] + step]
        elsewhere = scores.max(axis=0)
        elsewhere[np.abs(np.arange(elsewhere.size) - int(best)) <= step] = -1.0
        if elsewhere.max() >= 0:
            next_best = grid.to_index(centres[int(elsewhere.argmax())])[axis]
            positions.append(round(float(next_best)))
        return _focus(grid, plane, axis, index, positions, f"highest score: {columns[int(which)]}")
    size = grid.size[axis]
    return _focus(grid, plane, axis, index, [size // 4, size // 2, 3 * size // 4], "middle of the volume")


def _areas(mask: npt.NDArray[np.bool_], axis: int) -> npt.NDArray[Any]:
    """Voxels of ``mask`` (K, J, I) on each slice along index axis ``axis``."""
    return mask.sum(axis=tuple(n for n in range(3) if n != 2 - axis))


def _spread(area: npt.NDArray[Any], shown: int) -> list[int]:
    """Different slices that divide ``area`` into parts, without ``shown``; neighbours where there are too few."""
    share = np.cumsum(area) / area.sum()
    positions: list[int] = []
    for part in _LEVEL_SHARES:
        wanted = int(np.searchsorted(share, part))
        free = [n for n in range(area.size) if n != shown and n not in positions]
        if free:
            positions.append(min(free, key=lambda n: (area[n] == 0, abs(n - wanted))))
    return positions


def _slice_centres(table: Table | None) -> npt.NDArray[np.float64]:
    """LPS positions (slices, 3) of the rows of a table of slices; empty where it has none."""
    names = [f"centre_{letter}_mm" for letter in "ras"]
    if table is None or not table.rows or not set(names) <= {c.name for c in table.columns}:
        return np.empty((0, 3))
    ras = np.array([[float(v or 0.0) for v in table.column(name)] for name in names]).T
    return ras * (-1.0, -1.0, 1.0)


def score_columns(table: Table | None) -> list[str]:
    """The columns of a table of scores that hold one class's score: floats without a unit, in 0..1."""
    if table is None:
        return []
    names = [c.name for c in table.columns if c.type == "float" and not c.unit]
    return [n for n in names if all(v is None or 0 <= float(v) <= 1 for v in table.column(n))]


def _plane(result: Result, grid: Grid) -> str:
    if result.plane in _PLANES:
        return result.plane
    if result.plane == "acquisition":
        return _PLANES[grid.anatomical_axes[2][0]]
    return "axial"


def _focus(grid: Grid, plane: str, axis: int, index: list[int], positions: list[int], finding: str) -> Focus:
    levels = []
    for position in sorted({int(np.clip(p, 0, grid.size[axis] - 1)) for p in positions}):
        there = list(index)
        there[axis] = position
        levels.append(_point(grid, there))
    levels.sort(key=lambda point: point[grid.anatomical_axes[axis][0]])
    return Focus(_point(grid, index), plane, tuple(levels), finding)


def _point(grid: Grid, index: list[int]) -> tuple[float, float, float]:
    x, y, z = grid.to_physical(index)
    return (float(x), float(y), float(z))


def _finding_mask(result: Result) -> npt.NDArray[np.bool_] | None:
    """Lesion voxels, or those of all segments; None without segments."""
    wanted = [c for c in result.classes if c.lesion] or list(result.classes)
    mask = None
    for layer in result.layers:
        values = [c.value for c in layer.classes if c in wanted]
        part = np.isin(layer.labels, values)
        mask = part if mask is None else mask | part
    if mask is not None and not mask.any():
        # No lesion was found: the other segments show that the model ran at all.
        every = [layer.labels != 0 for layer in result.layers]
        mask = np.logical_or.reduce(every)
    return mask


def _largest_lesion(mask: npt.NDArray[np.bool_]) -> list[int]:
    """A voxel (i, j, k) of the largest 26-connected component: in its largest slice along k, nearest to its centre."""
    from scipy import ndimage

    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    return _nearest_to_centre(np.argwhere(labels == int(sizes.argmax())))


def _middle(mask: npt.NDArray[np.bool_], axis: int) -> list[int]:
    """The voxel nearest to the centre of gravity, on the slice along ``axis`` with the largest area."""
    area = _areas(mask, axis)
    ramps = [np.arange(n, dtype=float) for n in mask.shape]
    total = float(mask.sum())
    centre = [float((mask.sum(axis=tuple(m for m in range(3) if m != n)) * ramps[n]).sum() / total) for n in range(3)][
        ::-1
    ]
    index = [round(c) for c in centre]
    index[axis] = int(area.argmax())
    return index


def _nearest_to_centre(voxels: npt.NDArray[Any]) -> list[int]:
    distance = ((voxels - voxels.mean(axis=0)) ** 2).sum(axis=1)
    k, j, i = voxels[int(distance.argmin())]
    return [int(i), int(j), int(k)]

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
    box = None if mask is None else _box(mask)
    if mask is not None and box is not None:
        lesions = any(c.lesion for c in result.classes)
        inside = mask[box]
        start = [b.start for b in box][::-1]
        inner = _largest_lesion(inside) if lesions else _middle(inside, axis)
        index = [n + s for n, s in zip(inner, start, strict=True)]
        # Slices with lesions first, then slices with other segments, then any.
        area = np.zeros(grid.size[axis])
        area[box[2 - axis]] += _areas(inside, axis)
        area += 1e-3 * _areas(_any_segment(result), axis)
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


def _box(mask: npt.NDArray[np.bool_]) -> tuple[slice, slice, slice] | None:
    """Slices around the True voxels of (K, J, I), None where there are none."""
    front, top = np.logical_or.reduce(mask, axis=0), np.logical_or.reduce(mask, axis=1)
    hits = [np.flatnonzero(h) for h in (top.any(axis=1), front.any(axis=1), front.any(axis=0))]
    if not len(hits[0]):
        return None
    k, j, i = (slice(int(h[0]), int(h[-1]) + 1) for h in hits)
    return (k, j, i)


def _areas(mask: npt.NDArray[np.bool_], axis: int) -> npt.NDArray[Any]:
    """Voxels of ``mask`` (K, J, I) on each slice along index axis ``axis``."""
    if axis == 2:
        return np.array([np.count_nonzero(plane) for plane in mask])
    # Slice after slice: a whole volume of bools summed along its other axes takes ten times as long.
    area = np.zeros(mask.shape[2 - axis], np.int64)
    for plane in mask:
        area += np.add.reduce(plane.view(np.uint8), axis=axis, dtype=np.uint32)  # (J, I): over J for i, over I for j
    return area


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
    mask: npt.NDArray[np.bool_] | None = None
    for layer in result.layers:
        part = _with_values(layer.labels, [c.value for c in layer.classes if c in wanted])
        mask = part if mask is None else np.logical_or(mask, part, out=mask)
    if mask is not None and not mask.any():
        # No lesion was found: the other segments show that the model ran at all.
        return _any_segment(result)
    return mask


def _any_segment(result: Result) -> npt.NDArray[np.bool_]:
    mask = result.layers[0].labels != 0
    for layer in result.layers[1:]:
        np.logical_or(mask, layer.labels, out=mask)
    return mask


def _with_values(labels: npt.NDArray[Any], values: list[int]) -> npt.NDArray[np.bool_]:
    if len(values) == 1:
        return np.asarray(labels == values[0])
    table = np.zeros(max(int(labels.max(initial=0)), *values, 0) + 1, dtype=bool)
    table[values] = True
    return table[labels.view(np.uint8) if labels.dtype == np.bool_ else labels]


def _largest_lesion(mask: npt.NDArray[np.bool_]) -> list[int]:
    """A voxel (i, j, k) of the largest 26-connected component: in its largest slice along k, nearest to its centre."""
    from scipy import ndimage

    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    return _nearest_to_centre(np.argwhere(labels == int(sizes.argmax())))


def _middle(mask: npt.NDArray[np.bool_], axis: int) -> list[int]:
    """The voxel nearest to the centre of gravity, on the slice along ``axis`` with the largest area."""
    areas = [_areas(mask, n) for n in range(3)]
    index = [round(float(area @ np.arange(area.size)) / float(area.sum())) for area in areas]
    index[axis] = int(areas[axis].argmax())
    return index


def _nearest_to_centre(voxels: npt.NDArray[Any]) -> list[int]:
    distance = ((voxels - voxels.mean(axis=0)) ** 2).sum(axis=1)
    k, j, i = voxels[int(distance.argmin())]
    return [int(i), int(j), int(k)]

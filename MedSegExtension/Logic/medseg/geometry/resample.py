"""Resampling from one grid onto another by physical position: the only inverse that MedSeg has.

Where both grids lie on one lattice (permutation, flip, crop, pad) voxels are copied exactly; where their axes are
parallel the interpolation goes along them (`parallel_resample`), otherwise SimpleITK interpolates. Voxels outside the
source's extent (its outer voxel faces) get ``fill``; between the outermost centres and the faces the edge value is
used, as ITK does.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .grid import Grid, Index
from .parallel_resample import Box, near_an_edge, resample_linear
from .turning import contiguous

Interpolation = Literal["nearest", "linear", "bspline"]
_INTERPOLATORS = {"nearest": "sitkNearestNeighbor", "linear": "sitkLinear", "bspline": "sitkBSpline"}

# Headers carry float32 numbers: lattices closer than this (in voxels, over the whole volume) are the same lattice.
_LATTICE_TOLERANCE = 2e-3


def lattice_map(source: Grid, target: Grid) -> tuple[Index, Index, Index] | None:
    """How ``target`` indices read ``source`` exactly, or None where the lattices differ.

    Returns (axis, sign, start): target axis a runs along source axis ``axis[a]`` in direction ``sign[a]``, and target
    index 0 lies at source index ``start[axis[a]]`` (which may be outside the source).
    """
    matrix = source.index_map_from(target)
    linear, offset = matrix[:3, :3], matrix[:3, 3]
    rounded = np.rint(linear)
    if not np.array_equal(np.abs(rounded).sum(axis=0), [1, 1, 1]) or not np.array_equal(
        np.abs(rounded).sum(axis=1), [1, 1, 1]
    ):
        return None
    # How far the corners of the target drift from the rounded map.
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * (np.array(target.size) - 1)
    drift = corners @ (linear - rounded).T + (offset - np.rint(offset))
    if np.abs(drift).max() > _LATTICE_TOLERANCE:
        return None
    axis = tuple(int(np.argmax(np.abs(rounded[:, a]))) for a in range(3))
    sign = tuple(int(rounded[axis[a], a]) for a in range(3))
    start = tuple(int(v) for v in np.rint(offset))
    return axis, sign, start  # type: ignore[return-value]


def resample(
    array: npt.NDArray[Any],
    source: Grid,
    target: Grid,
    *,
    interpolation: Interpolation = "linear",
    fill: float = 0.0,
    box: Box | None = None,
) -> npt.NDArray[Any]:
    """``array`` (K, J, I) on ``source`` as an array on ``target``, or only the voxels ``box`` of that.

    Exact copies and ``nearest`` keep the dtype; ``linear`` and ``bspline`` return float32.
    """
    lattice = lattice_map(source, target)
    if lattice is None and interpolation == "linear":
        parallel = _linear_along_axes(array, source, target, fill, box)
        if parallel is not None:
            return parallel
    if box is not None:
        low = [s.start for s in reversed(box)]
        window = target.cropped(low, [s.stop - s.start for s in reversed(box)])
        return resample(array, source, window, interpolation=interpolation, fill=fill)
    if lattice is not None:
        return _copy(array, target, *lattice, fill)
    if interpolation == "nearest":
        separable = _nearest_along_axes(array, source, target, fill)
        if separable is not None:
            return separable
    else:
        array = np.ascontiguousarray(array, dtype=np.float32)
    import SimpleITK as sitk  # a third of a second, which exact copies need not wait for

    dtype = array.dtype
    carried = array.astype(np.uint8) if dtype == np.bool_ else array
    if carried.dtype == np.float16:
        carried = carried.astype(np.float32)
    image = sitk.GetImageFromArray(np.ascontiguousarray(carried))
    image.SetOrigin(source.origin)
    image.SetSpacing(source.spacing)
    image.SetDirection(source.direction.ravel())
    moved = sitk.Resample(
        image,
        target.size,
        sitk.Transform(3, sitk.sitkIdentity),
        getattr(sitk, _INTERPOLATORS[interpolation]),
        target.origin,
        target.spacing,
        target.direction.ravel(),
        float(fill),
        image.GetPixelID(),
    )
    return np.asarray(sitk.GetArrayFromImage(moved)).astype(dtype, copy=False)


def _parallel(
    array: npt.NDArray[Any], source: Grid, target: Grid
) -> tuple[npt.NDArray[Any], list[npt.NDArray[np.float64]]] | None:
    """``array`` with its axes in the target's order, and where along them the target's voxels lie, in voxels.

    None where the grids' axes are not parallel.
    """
    matrix = source.index_map_from(target)
    axis = [int(np.argmax(np.abs(matrix[:3, a]))) for a in range(3)]
    off_axis = matrix[:3, :3].copy()
    for a in range(3):
        off_axis[axis[a], a] = 0
    if sorted(axis) != [0, 1, 2] or np.abs(off_axis).max() * max(target.size) > _LATTICE_TOLERANCE:
        return None
    view = array.transpose([2 - axis[2 - n] for n in range(3)])
    return view, [np.arange(target.size[a]) * matrix[axis[a], a] + matrix[axis[a], 3] for a in (2, 1, 0)]


def _linear_along_axes(
    array: npt.NDArray[Any], source: Grid, target: Grid, fill: float, box: Box | None
) -> npt.NDArray[Any] | None:
    """Linear interpolation where the grids' axes are parallel, or None."""
    found = _parallel(_in_single(array), source, target)
    return None if found is None or near_an_edge(found[1], found[0].shape) else resample_linear(*found, fill, box)


def _in_single(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """``array`` with values that float32 holds; whole numbers of 16 bits are left as they are, which costs nothing."""
    exact = array.dtype.kind in "iu" and array.dtype.itemsize <= 2
    return array if exact else array.astype(np.float32, copy=False)


def reached(box: Box, source: Grid, target: Grid) -> Box:
    """The voxels of ``target`` to which linear interpolation carries something of the voxels ``box`` of ``source``."""
    low = np.array([max(0, s.start - 1) for s in reversed(box)])
    high = np.minimum([s.stop + 1 for s in reversed(box)], source.size)
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * (high - low) + low - 0.5
    index = target.to_index(source.to_physical(corners))
    first = np.clip(np.floor(index.min(axis=0)).astype(int), 0, np.array(target.size) - 1)
    stop = np.clip(np.ceil(index.max(axis=0)).astype(int) + 1, first + 1, target.size)
    k, j, i = (slice(int(a), int(b)) for a, b in zip(first[::-1], stop[::-1], strict=True))
    return (k, j, i)


def _nearest_along_axes(array: npt.NDArray[Any], source: Grid, target: Grid, fill: float) -> npt.NDArray[Any] | None:
    """Nearest voxels where the grids' axes are parallel, or None. Halfway, the voxel of greater index is taken.

    ITK's rounding of halfway positions depends on float noise; a pixel that is chosen by chance is not reproducible.
    """
    found = _parallel(array, source, target)
    if found is None:
        return None
    view, positions = found
    for n, position in enumerate(positions):
        index = np.floor(position + 0.5 + 1e-6).astype(int)
        outside = (index < 0) | (index >= view.shape[n])
        view = np.take(view, np.clip(index, 0, view.shape[n] - 1), axis=n)
        if outside.any():
            place: list[Any] = [slice(None)] * 3
            place[n] = outside
            view[tuple(place)] = fill
    return np.ascontiguousarray(view)


def _copy(
    array: npt.NDArray[Any], target: Grid, axis: Index, sign: Index, start: Index, fill: float
) -> npt.NDArray[Any]:
    # numpy axes are K, J, I: index axis a is numpy axis 2 - a.
    view = array.transpose([2 - axis[2 - n] for n in range(3)])
    source_slices: list[slice] = []
    target_slices: list[slice] = []
    whole = True
    for n in range(3):
        a = 2 - n
        size, length = target.size[a], view.shape[n]
        if sign[a] < 0:
            view = np.flip(view, axis=n)
            first = length - 1 - start[axis[a]]
        else:
            first = start[axis[a]]
        low, high = max(0, -first), min(size, length - first)
        target_slices.append(slice(low, max(low, high)))
        source_slices.append(slice(first + low, first + max(low, high)))
        whole &= low == 0 and high == size
    part = view[tuple(source_slices)]
    if whole:
        return contiguous(part)
    out = np.full(target.shape, fill, dtype=array.dtype)
    out[tuple(target_slices)] = part
    return out

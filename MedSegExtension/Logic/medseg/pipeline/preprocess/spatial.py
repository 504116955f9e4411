"""The spatial preprocessing steps. Each takes an array on a grid to an array on another grid; none keeps an inverse."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

from ...errors import InputError, ModelError
from ...geometry.grid import Grid
from ...geometry.resample import Interpolation, resample
from ...model.manifest import steps as s
from ...monitor import Monitor
from ...result import Result
from .append_labels import append_labels
from .channel_schemes import nonzero_mask
from .extent import Extent, resized
from .head import fit_head
from .state import Prepared
from .way_back import (
    Moved,
    by_position,
    crop_box,
    crop_centre,
    pad,
    resample_from_first,
    resample_to_ras,
    resize_within,
)

Masks = Mapping[str, Result]


def apply_spatial(step: s.Step, state: Prepared, masks: Masks, monitor: Monitor) -> None:
    """Apply one spatial step to ``state`` in place."""
    if state.slice_grids is not None:
        raise ModelError(f"preprocessing: the spatial step {step.step!r} cannot follow fit_head.")  # type: ignore[attr-defined]
    if state.extent is not None and not isinstance(step, s.AppendLabels):
        raise ModelError(f"preprocessing: the spatial step {step.step!r} cannot follow resample_extent.")  # type: ignore[attr-defined]
    if state.keep_stored and state.stored is None:
        # A copy: later steps may change the array in place.
        state.stored = state.array[0].transpose(2, 1, 0).copy()
    before, known = state.grid, len(state.ways)
    SPATIAL[type(step)](step, state, masks, monitor)
    if state.keep_ways and len(state.ways) == known and not isinstance(step, s.AppendLabels | s.ApplyMask):
        state.ways.append(by_position(before, state.grid))


def move(state: Prepared, grid: Grid, interpolation: Interpolation, fill: float = 0.0) -> None:
    """Resample all channels of ``state`` onto ``grid``."""
    state.array = stacked(
        [resample(channel, state.grid, grid, interpolation=interpolation, fill=fill) for channel in state.array]
    )
    state.grid = grid


def stacked(channels: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """(C, K, J, I) of ``channels`` (K, J, I); of one channel without a copy."""
    return channels[0][np.newaxis] if len(channels) == 1 else np.stack(channels)


def _orient(step: s.Orient, state: Prepared, masks: Masks, monitor: Monitor) -> None:
    move(state, state.grid.reoriented(step.code), "nearest")


def _permute(step: s.Permute, state: Prepared, masks: Masks, monitor: Monitor) -> None:
    letters = state.grid.orientation
    move(state, state.grid.reoriented("".join(letters[a] for a in step.axes)), "nearest")


def _resample(step: s.Resample, state: Prepared, masks: Masks, monitor: Monitor) -> None:
    if step.to_patient_axes:
        grid = state.grid.along_patient_axes(step.spacing)
        move(state, grid, step.interpolation, float(state.array.min()))
    elif step.align_corners:
        _zoom(step, state)
    else:
        move(state, state.grid.with_spacing(step.spacing), step.interpolation)


def _zoom(step: s.Resample, state: Prepared) -> None:
    """Scipy's own zoom in double precision, axes in its order x, y, z: decimals may be cut off afterwards."""
    old = state.grid
    asked = zip(old.size, old.spacing, step.spacing, strict=True)
    size = [n if w is None else max(1, round(n * s / w)) for n, s, w in asked]
    grid = old.resized(size, align_corners=True)
    if step.interpolation != "linear":
        move(state, grid, step.interpolation)
        return
    factors = [new / n for new, n in zip(size, old.size, strict=True)]
    moved = [scipy.ndimage.zoom(c.T, factors, output=np.float64, order=1, mode="nearest").T for c in state.array]
    state.array, state.grid = np.stack(moved), grid


def _resample_extent(step: s.ResampleExtent, state: Prepared, masks: Masks, monitor: Monitor) -> None:
    if state.extent is not None:
        raise ModelError("preprocessing: resample_extent can stand there only once.")
    old = state.grid
    wanted = [o if w is None else float(w) for w, o in zip(step.spacing, old.spacing, strict=True)]
    size = [max(1, round(o / w * n)) for o, w, n in zip(old.spacing, wanted, old.size, strict=True)]
    new = [resized(c, size[::-1], step.order, step.thick_axis, old.spacing, wanted) for c in state.array]
    state.extent = Extent(old, step, (wanted[0], wanted[1], wanted[2]))
    state.array, state.grid = np.stack(new).astype(np.float32), old.resized(size)


def _resize(step: s.Resize, state: Prepared, masks: Masks, monitor: Monitor) -> None:
    old = state.grid.size
    size = _fill(step.size, old)
    factor = np.array(old) / np.array(size)
    if step.keep_aspect:
        resized = [n is not None for n in step.size]
        factor = np.where(resized, factor[resized].max() if any(resized) else 1.0, 1.0)
    if step.antialias:
        sigma = [max(0.0, (factor[a] - 1) / 2) for a in (2, 1, 0)]
        state.array = np.stack(
            [scipy.ndimage.gaussian_filter(c.astype(np.float32), sigma, mode="mirror") for c in state.array]
        )
    if step.keep_aspect:
        start = ((np.array(old) - 1) - (np.array(size) - 1) * factor) / 2
        spacing = np.array(state.grid.spacing) * factor
        grid = Grid(size, tuple(spacing), tuple(state.grid.to_physical(start)), state.grid.direction)
    else:
        grid = state.grid.resized(size, align_corners=step.align_corners)
    move(state, grid, step.interpolation, step.pad_value)


def _crop_or_pad(step: s.CropOrPad, state: Prepared, masks: Masks, monitor: Monitor) -> None:
    old = state.grid.size
    size = _fill(step.size, old)
    start = [_centred_start(old[a], size[a]) for a in range(3)]
    move(state, state.grid.cropped(start, size), "nearest", step.pad_value)


def _centred_start(old: int, new: int) -> int:
    """First index of a centred window; an odd remainder is cropped or padded at the far end."""
    return (old - new) // 2 if old >= new else -((new - old) // 2)


def _crop(step: s.Crop, state: Prepared, masks: Masks, monitor: Monitor) -> None:
    start = [0 if v is None else v for v in step.start]
    size = [state.grid.size[a] - start[a] if v is None else v for a, v in enumerate(step.size)]
    for a in range(3):
        if start[a] < 0 or size[a] < 1 or start[a] + size[a] > state.grid.size[a]:
            raise InputError(
                f"The model crops from voxel {start} a window of {size}, which is outside the volume of "
                f"{state.grid.size} voxels (i, j, k); the volume is too small for it."
            )
    move(state, state.grid.cropped(start, size), "nearest")


def _crop_to_foreground(step: s.CropToForeground, state: Prepared, masks: Masks, monitor: Monitor) -> None:
    first = state.array[0]
    threshold = step.above if step.above is not None else (step.above_fraction or 0.0) * float(first.max())
    _crop_to(first > threshold, step.margin, state, monitor, f"no voxel is above {threshold:g}")


def _crop_to_nonzero(step: s.CropToNonzero, state: Prepared, masks: Masks, monitor: Monitor) -> None:
    _crop_to((state.array != 0).any(axis=0), 0, state, monitor, "every value is 0")
    if state.keep_nonzero:
        state.nonzero = nonzero_mask(state.array)


def _crop_to_mask(step: s.CropToMask, state: Prepared, masks: Masks, monitor: Monitor) -> None:
    mask = required_mask(step.of, step.segments, state.grid, masks)
    _crop_to(mask, step.margin, state, monitor, f"the mask of {step.of!r} is empty")


def _crop_to(mask: npt.NDArray[np.bool_], margin: int, state: Prepared, monitor: Monitor, why: str) -> None:
    if not mask.any():
        monitor.warn(f"The volume was not cropped to its foreground: {why}.")
        return
    start, size = bounding_box(mask, margin)
    move(state, state.grid.cropped(start, size), "nearest")


def _apply_mask(step: s.ApplyMask, state: Prepared, masks: Masks, monitor: Monitor) -> None:
    mask = required_mask(step.of, step.segments, state.grid, masks)
    if not mask.any():
        monitor.warn(f"The mask of {step.of!r} is empty: every voxel was set to {step.outside:g}.")
    state.array = np.where(mask, state.array, np.asarray(step.outside, dtype=state.array.dtype))


def _fit_head(step: s.FitHead, state: Prepared, masks: Masks, monitor: Monitor) -> None:
    axis = state.slice_axis
    state.stack_grid = state.grid
    state.array, state.slice_grids = fit_head(
        np.asarray(state.array, dtype=np.float32), state.grid, axis, step.size, monitor
    )
    # Only the shape and the axes of this grid are meaningful from here on: each slice has its own.
    state.grid = state.grid.resized(tuple(int(n) for n in state.array.shape[:0:-1]))


def _moved(moved: Moved, state: Prepared) -> None:
    state.array, state.grid, way = moved
    state.ways.append(way)


def _resample_from_first(step: s.ResampleFromFirst, state: Prepared, masks: Masks, monitor: Monitor) -> None:
    _moved(resample_from_first(step, state.array, state.grid), state)


def _resample_to_ras(step: s.ResampleToRas, state: Prepared, masks: Masks, monitor: Monitor) -> None:
    _moved(resample_to_ras(step, state.array, state.grid), state)


def _resize_within(step: s.ResizeWithin, state: Prepared, masks: Masks, monitor: Monitor) -> None:
    _moved(resize_within(step, state.array, state.grid), state)


def _pad(step: s.Pad, state: Prepared, masks: Masks, monitor: Monitor) -> None:
    state.array, state.grid = pad(step, state.array, state.grid)


def _crop_centre(step: s.CropCentre, state: Prepared, masks: Masks, monitor: Monitor) -> None:
    move(state, crop_centre(step, state.grid), "nearest")


def _crop_box(step: s.CropBox, state: Prepared, masks: Masks, monitor: Monitor) -> None:
    grid = crop_box(step, state.array, state.grid, state.stored)
    if grid is None:
        monitor.warn("The volume was not cropped to its foreground: there is none.")
    else:
        move(state, grid, "nearest")


SPATIAL: dict[type[s.Step], Callable[[Any, Prepared, Masks, Monitor], None]] = {
    s.Orient: _orient,
    s.Permute: _permute,
    s.Resample: _resample,
    s.ResampleExtent: _resample_extent,
    s.Resize: _resize,
    s.CropOrPad: _crop_or_pad,
    s.Crop: _crop,
    s.CropToForeground: _crop_to_foreground,
    s.CropToNonzero: _crop_to_nonzero,
    s.CropToMask: _crop_to_mask,
    s.ApplyMask: _apply_mask,
    s.FitHead: _fit_head,
    s.AppendLabels: append_labels,
    s.ResampleFromFirst: _resample_from_first,
    s.ResampleToRas: _resample_to_ras,
    s.ResizeWithin: _resize_within,
    s.Pad: _pad,
    s.CropCentre: _crop_centre,
    s.CropBox: _crop_box,
}


def required_mask(name: str, segments: Sequence[str] | None, grid: Grid, masks: Masks) -> npt.NDArray[np.bool_]:
    """Union of ``segments`` (all where None) of the required model ``name`` as a mask (K, J, I) on ``grid``."""
    if name not in masks:
        raise ModelError(f"The output of the required model {name!r} is missing.")
    result = masks[name]
    wanted = [c.name for c in result.classes] if segments is None else list(segments)
    union = np.zeros(result.grid.shape, dtype=bool)
    for segment in wanted:
        try:
            union |= result.mask(segment)
        except KeyError:
            raise ModelError(f"The required model {name!r} has no segment {segment!r}.") from None
    return resample(union, result.grid, grid, interpolation="nearest", fill=0).astype(bool)


def bounding_box(mask: npt.NDArray[np.bool_], margin: int = 0) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(start, size) in i, j, k of the True voxels of ``mask`` (K, J, I), grown by ``margin`` within the array."""
    start, size = [], []
    for a in range(3):
        other = tuple(n for n in range(3) if n != 2 - a)
        hits = np.flatnonzero(mask.any(axis=other))
        low = max(0, int(hits[0]) - margin)
        high = min(mask.shape[2 - a], int(hits[-1]) + 1 + margin)
        start.append(low)
        size.append(high - low)
    return tuple(start), tuple(size)


def _fill(wanted: s.OptionalSize, old: tuple[int, int, int]) -> tuple[int, int, int]:
    i, j, k = (o if w is None else w for w, o in zip(wanted, old, strict=True))
    return (i, j, k)

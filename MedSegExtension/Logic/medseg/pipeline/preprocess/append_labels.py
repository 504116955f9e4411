"""The step ``append_labels``: what a model that ran before found, as further channels of the network's input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import ModelError
from ...geometry.resample import lattice_map, resample
from ...geometry.spline_resize import nearest_samples, resize, thick_axis
from ...model.manifest.steps import AppendLabels, ThickAxis
from ...monitor import Monitor
from ...result import Result
from .state import Prepared

IntArray = npt.NDArray[np.int32]
# Where `crop_to_nonzero` saw nothing: a label of its own, as for nnU-Net, that no background is mixed with.
_OUTSIDE = -1


def append_labels(step: AppendLabels, state: Prepared, masks: Mapping[str, Result], monitor: Monitor) -> None:
    """Add a channel of 0 and 1 for each of the step's values to ``state``; `ModelError` where nothing ran before."""
    if step.of not in masks:
        raise ModelError(f"The output of the required model {step.of!r} is missing.")
    result = masks[step.of]
    labels = np.zeros(result.grid.shape, np.uint16)
    for layer in result.layers:
        np.copyto(labels, layer.labels, where=layer.labels > 0, casting="unsafe")
    found: npt.NDArray[Any]
    if state.extent is not None:
        before = state.extent.grid
        near = resample(labels, result.grid, before, interpolation="nearest", fill=0).astype(np.int32)
        if state.nonzero is not None:
            near[(near == 0) & ~state.nonzero] = _OUTSIDE
        shape, spacings = state.grid.shape, (before.spacing, state.extent.wanted)
        found = resize_labels(near, shape, step.order, step.thick_axis, *spacings)
    elif lattice_map(result.grid, state.grid) is not None or step.order == 0:
        found = resample(labels, result.grid, state.grid, interpolation="nearest", fill=0)
    else:
        found = np.zeros(state.grid.shape, np.uint16)
        for value in sorted(step.values):
            share = resample((labels == value).astype(np.float32), result.grid, state.grid, interpolation="linear")
            found[share >= 0.5] = value
    more = np.stack([found == value for value in step.values]).astype(np.float32)
    state.array = np.concatenate([np.asarray(state.array, np.float32), more])


def resize_labels(
    labels: npt.NDArray[Any],
    shape: Sequence[int],
    order: int,
    thick: ThickAxis | None,
    before: Sequence[float],
    after: Sequence[float],
) -> IntArray:
    """``labels`` (K, J, I) with ``shape`` over the same extent; ``before``, ``after``: spacings (i, j, k).

    The label whose mask has the greatest spline holds; of equal ones that of the nearest voxel, or else the smallest.
    A thick axis is done after the other two, for whole slices. The numbers are those of nnU-Net v2 for segmentations
    (batchgenerators 0.25.5; older releases compared each mask with one half).
    """
    if labels.shape == tuple(shape):
        return labels.astype(np.int32)
    axis = None if thick is None else thick_axis(before, after, thick.ratio)
    if thick is None or axis is None:
        return _by_masks(labels, shape, order)
    place = 2 - axis
    flat = tuple(n for a, n in enumerate(shape) if a != place)
    slices = np.stack([_by_masks(one, flat, order) for one in np.moveaxis(labels, place, 0)])
    if thick.order == 0:
        found = slices[nearest_samples(len(slices), shape[place])]
    else:
        found = _by_masks(slices, (shape[place], *flat), thick.order)
    return np.ascontiguousarray(np.moveaxis(found, 0, place))


def _by_masks(labels: npt.NDArray[Any], shape: Sequence[int], order: int) -> IntArray:
    if labels.shape == tuple(shape):
        return labels.astype(np.int32)
    nearest = resize(labels, shape, 0).astype(np.int32)
    values = np.unique(labels)
    if order == 0 or len(values) == 1:
        return nearest
    found = np.full(tuple(shape), values[0], np.int32)
    best = resize(labels == values[0], shape, order)
    # Whether the nearest voxel's label is among those with the greatest number so far.
    near = (nearest == values[0]) & (best > 0)
    for value in values[1:]:
        score = resize(labels == value, shape, order)
        mine = nearest == value
        near |= (score == best) & (score > 0) & mine
        better = score > best
        near[better] = mine[better]
        found[better] = value
        np.maximum(best, score, out=best)
    return np.where(near, nearest, found)

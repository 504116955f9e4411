"""Runs a manifest's preprocessing steps over the input volumes, in the manifest's order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import InputError
from ...geometry.grid import Grid
from ...geometry.resample import lattice_map, resample
from ...geometry.volume import Volume
from ...model.manifest.schema import Manifest
from ...model.manifest.steps import AppendLabels, CropBox, Orient, Window
from ...monitor import Monitor
from ...result import Result
from .intensity import apply_intensity
from .on_demand import OnDemand, is_pointwise
from .spatial import SPATIAL, apply_spatial, stacked
from .state import Prepared

# Voxels of a volume whose network input is large enough to be made slice by slice.
_WORTH_WAITING = 1 << 18
_OPPOSITE = dict(zip("LRAPSI", "RLPAIS", strict=True))

WindowOverride = Sequence[tuple[float, float]]


def prepare(
    manifest: Manifest,
    volumes: Sequence[Volume],
    *,
    masks: Mapping[str, Result] | None = None,
    windows: WindowOverride | None = None,
    region: Grid | None = None,
    monitor: Monitor | None = None,
) -> Prepared:
    """The network's input for ``volumes`` (one per channel of the manifest, in its order).

    ``masks``: results of the required models by name. ``windows``: (level, width) in place of the manifest's windows,
    for models that allow it. ``region``: a grid on the first volume's lattice to which the run is confined.

    Raises `InputError` where a window override is not allowed or the volumes do not overlap, `ModelError` where the
    steps cannot be done in this order.
    """
    monitor = monitor or Monitor()
    first = volumes[0]
    grid = first.grid if region is None else region
    channels = [_on_grid(volume, grid, monitor) for volume in volumes]
    dtype = np.result_type(*channels)
    state = Prepared(stacked(channels).astype(dtype, copy=False), grid, manifest.inference.plane, tags=first.tags)
    state.keep_nonzero = any(isinstance(step, AppendLabels) for step in manifest.preprocessing)
    state.keep_stored = any(isinstance(step, CropBox) and step.as_stored for step in manifest.preprocessing)
    state.keep_ways = manifest.output.way_back == "steps"
    state.note(f"input: {grid}, values {state.value_range()}")
    if _is_taken_as_stored(manifest) and first.tags.get("SlicesReversed"):
        code = grid.orientation[:2] + _OPPOSITE[grid.orientation[2]]
        apply_spatial(Orient(step="orient", code=code), state, {}, monitor)
        state.note(f"slices in the order of the file: {state.grid}")
    later: OnDemand | None = None
    for number, step in enumerate(manifest.preprocessing):
        monitor.checkpoint()
        if type(step) in SPATIAL:
            apply_spatial(step, state, masks or {}, monitor)
            state.note(f"{step.step}: {state.grid}")
            continue
        if isinstance(step, Window) and windows is not None:
            step = _overridden(step, windows, monitor)
        if later is None and _can_wait(manifest, number, state):
            later = OnDemand(state.array)
            state.array = later  # type: ignore[assignment]
        if later is not None:
            later.then(partial(apply_intensity, step, axis=state.slice_axis, tags=state.tags, monitor=monitor))
        else:
            ours = not any(np.may_share_memory(state.array, volume.array) for volume in volumes)
            state.array = apply_intensity(step, state.array, state.slice_axis, state.tags, monitor, reuse=ours)
        state.note(f"{step.step}: {state.array.shape[0]} channel(s), values {state.value_range()}")
    if later is None:
        state.array = np.ascontiguousarray(state.array, dtype=np.float32)
    return state


def _is_taken_as_stored(manifest: Manifest) -> bool:
    """Whether the network gets voxels as stored. A classifier's rows stay the slices that are shown."""
    return manifest.task == "segmentation" and not any(isinstance(s, Orient) for s in manifest.preprocessing)


def _can_wait(manifest: Manifest, number: int, state: Prepared) -> bool:
    """True where the steps from ``number`` on may be done slice by slice when the network is fed."""
    return (
        manifest.inference.mode == "slicewise"
        and state.array.size >= _WORTH_WAITING
        and state.array.dtype in (np.uint8, np.int8, np.uint16, np.int16, np.float32)
        and all(is_pointwise(step) for step in manifest.preprocessing[number:])
    )


def _on_grid(volume: Volume, grid: Grid, monitor: Monitor) -> npt.NDArray[Any]:
    if volume.grid.same_as(grid):
        return volume.array
    lowest = float(volume.array.min())
    moved = resample(volume.array, volume.grid, grid, interpolation="linear", fill=lowest)
    if moved.size and float(moved.min()) == float(moved.max()) and float(volume.array.max()) > lowest:
        raise InputError(f"{volume.name} does not overlap the first volume in space; choose volumes of one study.")
    if lattice_map(volume.grid, grid) is None:
        monitor.warn(f"{volume.name} was resampled onto the grid of the first volume ({grid}).")
    return moved


def _overridden(step: Window, windows: WindowOverride, monitor: Monitor) -> Window:
    if not step.override:
        raise InputError(
            "This model's windows are part of its training and cannot be changed; leave level/width as is."
        )
    if len(windows) != len(step.windows):
        raise InputError(f"The model has {len(step.windows)} windows, but {len(windows)} levels and widths were given.")
    changed = [
        w.model_copy(update={"level": lv, "width": wd}) for w, (lv, wd) in zip(step.windows, windows, strict=True)
    ]
    for window in changed:
        if window.width <= 0:
            raise InputError(f"The window width {window.width:g} is not positive.")
    if changed != list(step.windows):
        monitor.warn("The model's windows were changed by the user: its published figures do not hold.")
    return step.model_copy(update={"windows": changed})

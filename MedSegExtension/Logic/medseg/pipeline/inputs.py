"""The volumes of a run: read, in the order of the manifest's channels, refused where they cannot mean anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..geometry.grid import Grid
from ..geometry.volume import Volume
from ..io import read_volume
from ..model.manifest.schema import Manifest
from ..monitor import Monitor
from .options import RunOptions
from .plausible import check_modality

VolumeLike = Volume | str | Path
Inputs = VolumeLike | Sequence[VolumeLike] | Mapping[str, VolumeLike]


def read_inputs(manifest: Manifest, inputs: Inputs, monitor: Monitor) -> list[Volume]:
    """The volumes of all channels, in the manifest's order; paths are read."""
    names = [c.name for c in manifest.channels]
    if isinstance(inputs, Mapping):
        unknown = sorted(set(inputs) - set(names))
        if unknown:
            raise InputError(f"{manifest.title} has no channel {unknown[0]!r}; its channels are: {', '.join(names)}.")
        missing = [n for n in names if n not in inputs]
        if missing:
            raise InputError(
                f"{manifest.title} also needs the channel {missing[0]!r}; its channels are: {', '.join(names)}."
            )
        given: list[VolumeLike] = [inputs[n] for n in names]
    else:
        given = [inputs] if isinstance(inputs, (Volume, str, Path)) else list(inputs)
        if len(given) != len(names):
            raise InputError(
                f"{manifest.title} needs {len(names)} volume(s) ({', '.join(names)}), but {len(given)} were given."
            )
    return [v if isinstance(v, Volume) else read_volume(v, monitor=monitor) for v in given]


def network_volumes(manifest: Manifest, inputs: Inputs, options: RunOptions, monitor: Monitor) -> list[Volume]:
    """The checked volumes of all channels; a slice classifier gets the slices as acquired.

    Where reading had to interpolate slices onto a regular grid, classifying the interpolated ones would be wrong.
    """
    given = read_inputs(manifest, inputs, monitor)
    if options.modality:
        given = [v if v.modality else replace(v, modality=options.modality) for v in given]
    volumes = checked_volumes(manifest, given, monitor)
    if manifest.task == "classification" and manifest.inference.mode == "slicewise":
        volumes = [_acquired_slices(v, monitor) for v in volumes]
    return volumes


def checked_volumes(manifest: Manifest, volumes: Sequence[Volume], monitor: Monitor) -> list[Volume]:
    """The volumes, refused where the network cannot mean anything, with a warning where it may not.

    Raises `InputError` for colour or 4D, NaN or infinity, a constant volume, and one slice for a 3D network.
    """
    checked = []
    for volume, channel in zip(volumes, manifest.channels, strict=True):
        for sentence in volume.warnings:
            monitor.warn(sentence)
        volume = volume.require_scalar().require_finite()
        if volume.array.min() == volume.array.max():
            raise InputError(
                f"{volume.name} has the same value ({float(volume.array.flat[0]):g}) in every voxel; there is nothing "
                "to segment. Check that the right volume was chosen."
            )
        if manifest.network_dimensions == 3 and min(volume.grid.size) < 2:
            raise InputError(
                f"{volume.name} is a single slice ({volume.grid}), but {manifest.title} is a 3D model; choose a volume."
            )
        check_modality(volume, channel.modality, manifest.title, monitor)
        checked.append(volume)
    return checked


def _acquired_slices(volume: Volume, monitor: Monitor) -> Volume:
    stack = volume.stack
    if stack is None:
        return volume
    first, last = stack.grids[0], stack.grids[-1]
    along = (np.array(last.origin) - np.array(first.origin)) / max(1, len(stack.grids) - 1)
    gap = float(abs(along @ first.direction[:, 2])) or first.spacing[2]
    nominal = Grid((*first.size[:2], len(stack.grids)), (*first.spacing[:2], gap), first.origin, first.direction)
    monitor.warn(f"{volume.name}: the acquired slices are classified as they are; the table has their true positions.")
    return Volume(stack.pixels, nominal, volume.modality, volume.name, volume.tags, stack)

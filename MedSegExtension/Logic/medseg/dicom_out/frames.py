"""Arrays on a result's grid -> arrays on the frames that were acquired, and which frames an object is of."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..geometry.grid import Grid
from ..geometry.resample import Interpolation, lattice_map, resample
from ..io.dicom_source import DicomSource

Array = npt.NDArray[Any]
# How far (in slices and pixels) the outermost frames may be from the corners of a volume that was loaded elsewhere.
_LOADED_ELSEWHERE = 0.6


def onto_frames(array: Array, grid: Grid, source: DicomSource, interpolation: Interpolation = "nearest") -> Array:
    """``array`` (K, J, I) on ``grid`` as (frame, row, column), in the order of ``source.frames``.

    Where the frames are the grid's slices it is ``array`` itself; where they lie on its lattice (flipped, permuted,
    a part) voxels are copied exactly. Where the volume was
    interpolated from tilted or uneven slices, each frame takes the nearest voxels (labels) or interpolates (maps).
    A volume of as many slices as there are frames, which a program stacked without regard to their true places, is
    taken slice by slice. Raises `InputError` where the array does not lie on these images.
    """
    if source.film:
        frame = source.frames[0].grid
        if array.shape != frame.shape:
            raise InputError(_elsewhere(source, grid))
        return array
    if source.regular and grid.same_as(source.grid):
        return array  # the slices are the frames
    exact = all(lattice_map(grid, f.grid) is not None for f in (source.frames[0], source.frames[-1]))
    if (exact and source.regular and _covers(grid, source)) or grid.same_as(source.grid):
        return np.concatenate(
            [resample(array, grid, f.grid, interpolation=interpolation, fill=0.0) for f in source.frames]
        )
    order = _stacked_elsewhere(grid, source)
    if order is None:
        raise InputError(_elsewhere(source, grid))
    return np.ascontiguousarray(array[order])


def frame_places(dataset: Any, source: DicomSource) -> list[tuple[int, int]]:
    """For each frame of a segmentation: (segment number, index of the source frame); number 0 in label maps.

    Raises `KeyError` where it refers to other images.
    """
    index = {(str(f.header.SOPInstanceUID), f.number): n for n, f in enumerate(source.frames)}
    shared = dataset.SharedFunctionalGroupsSequence[0]
    found = []
    for group in dataset.PerFrameFunctionalGroupsSequence:
        holder = group if "SegmentIdentificationSequence" in group else shared
        named = holder.get("SegmentIdentificationSequence")
        reference = (group.get("DerivationImageSequence") or shared.DerivationImageSequence)[0].SourceImageSequence[0]
        number = reference.get("ReferencedFrameNumber")
        at = index[(str(reference.ReferencedSOPInstanceUID), int(number) if number else 1)]
        found.append((int(named[0].ReferencedSegmentNumber) if named else 0, at))
    return found


def _covers(grid: Grid, source: DicomSource) -> bool:
    """Whether the middle of the first and last frame lie inside ``grid``, to within one and a half voxels."""
    for frame in (source.frames[0], source.frames[-1]):
        middle = grid.to_index(frame.grid.to_physical((np.array(frame.grid.size) - 1) / 2))
        if (middle < -1.5).any() or (middle > np.array(grid.size) + 0.5).any():
            return False
    return True


def _stacked_elsewhere(grid: Grid, source: DicomSource) -> slice | None:
    """How slices k of ``grid`` follow the frames, None where they do not."""
    first, last = source.frames[0].grid, source.frames[-1].grid
    if grid.size != (*first.size[:2], len(source.frames)):
        return None
    for order, start in ((slice(None), first), (slice(None, None, -1), last)):
        found = grid.to_index(start.to_physical([[0, 0, 0], [start.size[0] - 1, start.size[1] - 1, 0]]))
        wanted = np.array([[0, 0, 0], [start.size[0] - 1, start.size[1] - 1, 0]])
        if np.abs(found - wanted).max() <= _LOADED_ELSEWHERE:
            return order
    return None


def _elsewhere(source: DicomSource, grid: Grid) -> str:
    return (
        f"The result lies on {grid}, but {source.name} has {len(source.frames)} frames of "
        f"{source.frames[0].grid.size[0]}x{source.frames[0].grid.size[1]} pixels at another place; give the images "
        "that it was made from."
    )

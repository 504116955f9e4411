"""Cleaning of segments: components, holes, morphology, location. Labels in, labels out, on one grid.

Steps run in the manifest's order, each on the segments that it names (all where it names none). What is removed becomes
background; what is added is only ever taken from background, so that no segment overwrites another. Work is confined to
each segment's bounding box.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from .errors import ModelError
from .grid import Grid
from .manifest.steps import (
    FillHoles,
    KeepByLocation,
    LargestComponent,
    Morphology,
    PostprocessingStep,
    RemoveSmall,
)
from .monitor import Monitor
from .resample import resample
from .result import Layer, Result, SegmentClass

Mask = npt.NDArray[np.bool_]
Box = tuple[slice, slice, slice]
Report = dict[str, Any]

# Up to this radius the neighbourhood is scanned; beyond it a distance map is faster.
_SCANNED_RADIUS = 2


class _Segment:
    """One class in its layer, and the bounding box in which it now is (None where it is empty)."""

    def __init__(self, item: SegmentClass, labels: npt.NDArray[Any], box: Box | None) -> None:
        self.item = item
        self.labels = labels
        self.box = box

    @property
    def name(self) -> str:
        return self.item.name

    def mask(self, box: Box) -> Mask:
        return np.asarray(self.labels[box] == self.item.value)

    def change(self, box: Box, mask: Mask) -> tuple[int, int]:
        """Make ``mask`` the segment within ``box``, leaving other segments; (removed, added) voxels.

        ``box`` holds all of the segment, before and after.
        """
        part = self.labels[box]
        own = part == self.item.value
        removed, added = own & ~mask, mask & (part == 0)
        part[removed] = 0
        part[added] = self.item.value
        inner = bounding_box(part == self.item.value)
        if inner is None:
            self.box = None
        else:
            k, j, i = (slice(b.start + n.start, b.start + n.stop) for b, n in zip(box, inner, strict=True))
            self.box = (k, j, i)
        return int(removed.sum()), int(added.sum())


def _segments(layers: Sequence[Layer]) -> list[_Segment]:
    found = []
    for layer in layers:
        boxes = ndimage.find_objects(layer.labels)
        for item in layer.classes:
            found.append(_Segment(item, layer.labels, boxes[item.value - 1] if item.value <= len(boxes) else None))
    return found


def postprocess(
    steps: Sequence[PostprocessingStep],
    layers: tuple[Layer, ...],
    grid: Grid,
    plane: str,
    required: Mapping[str, Result],
    monitor: Monitor,
) -> tuple[tuple[Layer, ...], list[Report]]:
    """Cleaned copies of ``layers`` (K, J, I) on ``grid``, and for each step and segment what it did.

    ``plane``: the slices that per-slice steps work in. ``required``: results of the models that steps name.
    A report has ``step``, ``segment``, ``voxels_removed``, ``voxels_added`` and, for steps on components,
    ``components`` and ``components_removed``. Raises `ModelError` where a step cannot be done.
    """
    if not steps:
        return layers, []
    copies = tuple(replace(layer, labels=layer.labels.copy()) for layer in layers)
    segments = _segments(copies)
    axis = 2 - grid.axis_of(plane)
    reports: list[Report] = []
    for n, step in enumerate(steps):
        monitor.progress(n, len(steps), step.step)
        chosen = [s for s in segments if step.segments is None or s.name in step.segments]
        if isinstance(step, LargestComponent) and step.together:
            reports += _largest_together(step, chosen, axis)
            continue
        location = _location(step, required, grid) if isinstance(step, KeepByLocation) else None
        for segment in chosen:
            reports.append(_one(step, segment, grid, axis, location))
            _tell_if_emptied(reports[-1], segment, monitor)
    return copies, reports


def _one(step: PostprocessingStep, segment: _Segment, grid: Grid, axis: int, location: Mask | None) -> Report:
    report: Report = {"step": step.step, "segment": segment.name, "voxels_removed": 0, "voxels_added": 0}
    box = segment.box
    if box is None:
        return report
    if isinstance(step, Morphology):
        box = _widened(box, 2 * step.radius, segment.labels.shape)
    mask = segment.mask(box)
    if isinstance(step, Morphology):
        change = opened if step.step == "opening" else closed
        mask = change(mask, step.radius, axis if step.shape == "disk" else None)
    elif isinstance(step, FillHoles):
        mask = filled(mask, axis if step.scope == "slice" else None)
    else:
        labelled, count = components(mask, step.connectivity, axis)
        keep = _kept(step, labelled, count, grid, axis, None if location is None else location[box])
        report |= {"components": count, "components_removed": int(count - keep[1:].sum())}
        mask = keep[labelled]
    report["voxels_removed"], report["voxels_added"] = segment.change(box, mask)
    return report


def _kept(
    step: LargestComponent | RemoveSmall | KeepByLocation,
    labelled: npt.NDArray[np.int32],
    count: int,
    grid: Grid,
    axis: int,
    location: Mask | None,
) -> Mask:
    """For each component number (0 is background) whether it stays."""
    sizes = np.bincount(labelled.ravel(), minlength=count + 1)
    if isinstance(step, RemoveSmall):
        if step.voxels is None and step.mm3 is None:
            raise ModelError("The step remove_small needs 'voxels' or 'mm3' in the manifest; it has neither.")
        keep = np.ones(count + 1, dtype=bool)
        if step.voxels is not None:
            keep &= sizes >= step.voxels
        if step.mm3 is not None:
            # Volumes are products of rounded header numbers: what is equal on paper counts as equal.
            keep &= sizes * grid.voxel_volume >= step.mm3 * (1 - 1e-6)
    elif isinstance(step, KeepByLocation):
        assert location is not None
        keep = np.bincount(labelled[location], minlength=count + 1) >= step.minimum_voxels
    else:
        keep = _largest(labelled, sizes, step.connectivity, axis)
    keep[0] = False
    return keep


def _largest(labelled: npt.NDArray[np.int32], sizes: npt.NDArray[Any], connectivity: int, axis: int) -> Mask:
    """The largest component (the first of equals); of each slice where the connectivity is 4 or 8."""
    keep = np.zeros(len(sizes), dtype=bool)
    sizes = sizes.copy()
    sizes[0] = 0
    if connectivity in (6, 18, 26):
        keep[np.argmax(sizes)] = True
        return keep
    for slice_labels in np.moveaxis(labelled, axis, 0):
        present = np.unique(slice_labels)
        present = present[present > 0]
        if len(present):
            keep[present[np.argmax(sizes[present])]] = True
    return keep


def _largest_together(step: LargestComponent, segments: Sequence[_Segment], axis: int) -> list[Report]:
    """Keep what lies in the largest component of the segments' union."""
    if not segments:
        return []
    union = np.zeros(segments[0].labels.shape, dtype=bool)
    for segment in segments:
        if segment.box is not None:
            union[segment.box] |= segment.mask(segment.box)
    box = bounding_box(union)
    if box is None:
        return [
            {"step": step.step, "segment": s.name, "together": True, "voxels_removed": 0, "voxels_added": 0}
            for s in segments
        ]
    labelled, count = components(union[box], step.connectivity, axis)
    sizes = np.bincount(labelled.ravel(), minlength=count + 1)
    keep = _largest(labelled, sizes, step.connectivity, axis)
    stays = keep[labelled]
    reports = []
    for segment in segments:
        removed, _ = segment.change(box, segment.mask(box) & stays)
        reports.append(
            {
                "step": step.step,
                "segment": segment.name,
                "together": True,
                "components": count,
                "components_removed": int(count - keep[1:].sum()),
                "voxels_removed": removed,
                "voxels_added": 0,
            }
        )
    return reports


def _location(step: KeepByLocation, required: Mapping[str, Result], grid: Grid) -> Mask:
    """Voxels of ``grid`` that have one of the step's labels in the required model's result."""
    if step.of not in required:
        raise ModelError(
            f"The step keep_by_location needs the result of {step.of!r}, which was not run; name it under 'requires'."
        )
    result = required[step.of]
    mask = np.zeros(result.grid.shape, dtype=bool)
    for layer in result.layers:
        table = np.zeros(int(np.iinfo(layer.labels.dtype).max) + 1, dtype=bool)
        table[[v for v in step.labels if 0 < v < len(table)]] = True
        mask |= table[layer.labels]
    if result.grid.same_as(grid):
        return mask
    moved = resample(mask.astype(np.uint8), result.grid, grid, interpolation="nearest", fill=0)
    return np.asarray(moved > 0)


def _tell_if_emptied(report: Report, segment: _Segment, monitor: Monitor) -> None:
    if report["voxels_removed"] and not report["voxels_added"] and segment.box is None:
        monitor.warn(
            f"The cleaning step {report['step']} removed all {report['voxels_removed']} voxels of {segment.name}."
        )


# -- masks ------------------------------------------------------------------------------------------------------


def bounding_box(mask: Mask) -> Box | None:
    """Slices around the True voxels of (K, J, I), None where there are none."""
    box = []
    for axis in range(3):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        if not len(hit):
            return None
        box.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return (box[0], box[1], box[2])


def _widened(box: Box, margin: int, shape: Sequence[int]) -> Box:
    k, j, i = (slice(max(0, b.start - margin), min(n, b.stop + margin)) for b, n in zip(box, shape, strict=True))
    return (k, j, i)


def structure(connectivity: int, axis: int) -> Mask:
    """3x3x3 neighbourhood: 6, 18, 26 in 3D; 4, 8 within the slice normal to numpy axis ``axis``."""
    if connectivity in (6, 18, 26):
        return np.asarray(ndimage.generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[connectivity]))
    flat = np.zeros((3, 3, 3), dtype=bool)
    np.moveaxis(flat, axis, 0)[1] = ndimage.generate_binary_structure(2, {4: 1, 8: 2}[connectivity])
    return flat


def components(mask: Mask, connectivity: int, axis: int) -> tuple[npt.NDArray[np.int32], int]:
    """Connected components numbered from 1, and how many; see `structure` for the connectivity."""
    labelled, count = ndimage.label(mask, structure=structure(connectivity, axis), output=np.int32)
    return labelled, int(count)


def filled(mask: Mask, axis: int | None) -> Mask:
    """``mask`` with the background that it encloses: in 3D, or per slice normal to ``axis``.

    Enclosed is what no path of face neighbours (3D) or edge neighbours (slice) joins to the border of the array.
    """
    holes, count = components(~mask, 6 if axis is None else 4, 0 if axis is None else axis)
    is_open = np.zeros(count + 1, dtype=bool)
    is_open[0] = True
    for a in range(3):
        if a != axis:
            for face in (0, -1):
                is_open[np.take(holes, face, axis=a)] = True
    return np.asarray(mask | ~is_open[holes])


def opened(mask: Mask, radius: int, axis: int | None) -> Mask:
    """Opening with a ball, or with a disk in the slices normal to ``axis``: all voxels with x^2 + y^2 (+ z^2) <= r^2.

    Beyond the border of the array erosion sees foreground and dilation background (scikit-image's rule), so that a
    segment that the field of view cuts is not worn off there.
    """
    return _dilated(_eroded(mask, radius, axis), radius, axis)


def closed(mask: Mask, radius: int, axis: int | None) -> Mask:
    """Closing; neighbourhood and border as in `opened`."""
    return _eroded(_dilated(mask, radius, axis), radius, axis)


def _eroded(mask: Mask, radius: int, axis: int | None) -> Mask:
    if radius <= _SCANNED_RADIUS:
        return np.asarray(ndimage.binary_erosion(mask, _neighbourhood(radius, axis), border_value=1))
    return ~_within(~mask, radius, axis)


def _dilated(mask: Mask, radius: int, axis: int | None) -> Mask:
    if radius <= _SCANNED_RADIUS:
        return np.asarray(ndimage.binary_dilation(mask, _neighbourhood(radius, axis)))
    return _within(mask, radius, axis)


def _neighbourhood(radius: int, axis: int | None) -> Mask:
    offsets = np.ogrid[tuple(slice(-radius, radius + 1) for _ in range(3))]
    squares = sum(x.astype(np.int64) ** 2 for x in offsets)
    ball = np.asarray(squares <= radius**2)
    return ball if axis is None else np.take(ball, [radius], axis=axis)


def _within(mask: Mask, radius: int, axis: int | None) -> Mask:
    """Voxels whose distance to ``mask`` is at most ``radius`` (exact: roots of whole squares)."""
    if axis is None:
        if not mask.any():
            return np.zeros_like(mask)
        return np.asarray(ndimage.distance_transform_edt(~mask) <= radius)
    out = np.zeros_like(mask)
    for n, one in enumerate(np.moveaxis(mask, axis, 0)):
        if one.any():
            np.moveaxis(out, axis, 0)[n] = ndimage.distance_transform_edt(~one) <= radius
    return out

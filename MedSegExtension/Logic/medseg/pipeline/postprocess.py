"""Cleaning of segments: components, holes, morphology, location. Labels in, labels out, on one grid.

Steps run in the manifest's order, each on the segments that it names (all where it names none). What is removed becomes
background; what is added is only ever taken from background, so that no segment overwrites another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ModelError
from ..geometry.components import Box, Components, Mask, bounding_box, boxes_of, clumps, components, joined, shifted
from ..geometry.grid import Grid
from ..geometry.morphology import closed, filled, opened
from ..geometry.resample import resample
from ..model.manifest.steps import (
    FillHoles,
    KeepByLocation,
    LargestComponent,
    Morphology,
    PostprocessingStep,
    RemoveSmall,
)
from ..monitor import Monitor
from ..result import Layer, Result, SegmentClass

Report = dict[str, Any]
ComponentStep = LargestComponent | RemoveSmall | KeepByLocation


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


def _segments(layers: Sequence[Layer]) -> list[_Segment]:
    found = []
    for layer in layers:
        boxes = boxes_of(layer.labels)
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
        names = {s.name for s in segments} if step.segments is None else set(step.segments)
        chosen = [s for s in segments if s.name in names]
        if isinstance(step, LargestComponent) and step.together:
            reports += _largest_together(step, chosen, axis)
            segments = _segments(copies)
            continue
        location = _location(step, required, grid) if isinstance(step, KeepByLocation) else None
        for segment in chosen:
            monitor.checkpoint()
            report: Report = {"step": step.step, "segment": segment.name, "voxels_removed": 0, "voxels_added": 0}
            if segment.box is not None:
                if isinstance(step, FillHoles | Morphology):
                    report |= _reshape(step, segment, segment.box, axis)
                else:
                    report |= _select(step, segment, segment.box, grid, axis, location)
                if segment.box is None:
                    removed = report["voxels_removed"]
                    monitor.warn(f"The cleaning step {step.step} removed all {removed} voxels of {segment.name}.")
            reports.append(report)
    return copies, reports


def _reshape(step: FillHoles | Morphology, segment: _Segment, box: Box, axis: int) -> Report:
    """Fill holes, open or close, clump by clump.

    Parts more than twice the radius apart do not change each other's closing; a hole's wall is one clump.
    """
    margin = 2 * step.radius if isinstance(step, Morphology) else 0
    removed = added = 0
    now: Box | None = None
    for inner, own in clumps(segment.mask(box), max(1, margin)):
        where, mask = _with_margin(shifted(inner, box), own, margin, segment.labels.shape)
        if isinstance(step, FillHoles):
            shape = filled(mask, axis if step.scope == "slice" else None)
        else:
            change = opened if step.step == "opening" else closed
            shape = change(mask, step.radius, axis if step.shape == "disk" else None)
        part = segment.labels[where]
        gone, new = mask & ~shape, shape & (part == 0)
        part[gone], part[new] = 0, segment.item.value
        removed, added = removed + int(gone.sum()), added + int(new.sum())
        left = bounding_box((mask & shape) | new)
        now = joined(now, None if left is None else shifted(left, where))
    segment.box = now
    return {"voxels_removed": removed, "voxels_added": added}


def _with_margin(box: Box, mask: Mask, margin: int, shape: Sequence[int]) -> tuple[Box, Mask]:
    """``box`` widened by ``margin`` but not beyond the volume, and ``mask`` in it."""
    if not margin:
        return box, mask
    k, j, i = (slice(max(0, b.start - margin), min(n, b.stop + margin)) for b, n in zip(box, shape, strict=True))
    wide = np.zeros([s.stop - s.start for s in (k, j, i)], dtype=bool)
    wide[tuple(slice(b.start - w.start, b.stop - w.start) for b, w in zip(box, (k, j, i), strict=True))] = mask
    return (k, j, i), wide


def _select(step: ComponentStep, segment: _Segment, box: Box, grid: Grid, axis: int, location: Mask | None) -> Report:
    """Remove the components that the step does not keep."""
    found = components(segment.mask(box), step.connectivity, axis)
    keep = _kept(step, found, grid, axis, None if location is None else location[box])
    removed = 0
    now: Box | None = None
    for inner, stays, goes in found.chosen(keep):
        where = shifted(inner, box)
        segment.labels[where][goes] = 0
        removed += int(goes.sum())
        left = bounding_box(stays)
        now = joined(now, None if left is None else shifted(left, where))
    segment.box = now
    return {"voxels_removed": removed, "components": found.count, "components_removed": int((~keep).sum())}


def _kept(step: ComponentStep, found: Components, grid: Grid, axis: int, location: Mask | None) -> Mask:
    """For each component whether it stays."""
    if isinstance(step, RemoveSmall):
        keep = np.ones(found.count, dtype=bool)
        if step.voxels is not None:
            keep &= found.sizes >= step.voxels
        if step.mm3 is not None:
            # Volumes are products of rounded header numbers: what is equal on paper counts as equal.
            keep &= found.sizes * grid.voxel_volume >= step.mm3 * (1 - 1e-6)
        return keep
    if isinstance(step, KeepByLocation):
        assert location is not None
        shared = np.zeros(found.count, dtype=np.int64)
        for piece in found.pieces:
            counts = np.bincount(piece.labelled[location[piece.box]])[1:]
            shared[piece.first : piece.first + len(counts)] = counts
        return np.asarray(shared >= step.minimum_voxels)
    return found.largest(axis if step.connectivity in (4, 8) else None)


def _largest_together(step: LargestComponent, segments: Sequence[_Segment], axis: int) -> list[Report]:
    """Keep what lies in the largest component of the segments' union."""
    report: Report = {"step": step.step, "together": True, "voxels_added": 0}
    around: Box | None = None
    for segment in segments:
        around = joined(around, segment.box)
    if around is None:
        return [report | {"segment": s.name, "voxels_removed": 0} for s in segments]
    union = np.zeros([b.stop - b.start for b in around], dtype=bool)
    for labels in {id(s.labels): s.labels for s in segments}.values():
        table = np.zeros(int(np.iinfo(labels.dtype).max) + 1, dtype=bool)
        table[[s.item.value for s in segments if s.labels is labels]] = True
        union |= table[labels[around]]
    found = components(union, step.connectivity, axis)
    keep = found.largest(axis if step.connectivity in (4, 8) else None)
    gone = np.zeros_like(union)
    for box, _, goes in found.chosen(keep):
        gone[box] |= goes
    where = tuple(n + b.start for n, b in zip(np.nonzero(gone), around, strict=True))
    report |= {"components": found.count, "components_removed": int((~keep).sum())}
    reports = []
    for segment in segments:
        own = segment.labels[where] == segment.item.value
        segment.labels[tuple(n[own] for n in where)] = 0
        reports.append(report | {"segment": segment.name, "voxels_removed": int(own.sum())})
    return reports


def _location(step: KeepByLocation, required: Mapping[str, Result], grid: Grid) -> Mask:
    """Voxels of ``grid`` that have one of the step's labels in the required model's result."""
    if step.of not in required:
        raise ModelError(
            f"The step keep_by_location needs the result of {step.of!r}, which was not run; name it under 'requires'."
        )
    if isinstance(step.labels, str):
        raise ModelError(f"The step keep_by_location names the choice {step.labels!r}, of which no option was taken.")
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

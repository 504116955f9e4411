"""Measurements of a segmentation, as tables: one row a segment here, one row a lesion in `medseg.measure.lesions`, one
row a slice in `medseg.measure.slices`. All positions, lengths and volumes go through the grid, which may be oblique.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ..geometry.components import Box, Components, Mask, boxes_of, components, shifted
from ..geometry.grid import Grid
from ..result import Cell, Column, Layer, SegmentClass, Table
from .lesions import lesion_columns, lesion_rows
from .slices import slice_table, volume_scores
from .statistics import statistics_of

__all__ = ["lesion_parts", "measure", "slice_table", "volume_scores"]


def measure(
    layers: tuple[Layer, ...],
    values: npt.NDArray[Any],
    grid: Grid,
    *,
    connectivity: int = 26,
    unit: str = "",
    projection: bool = False,
) -> dict[str, Table]:
    """Tables ``segments`` and, where a class is a lesion class, ``lesions``.

    ``layers``: labels (K, J, I) on ``grid``. ``values``: the input (K, J, I) in ``unit`` (HU for CT). ``connectivity``:
    6, 18 or 26, of components and lesions. ``projection``: the input is a film, whose segments have no volume.
    Segments are in the model's order; the lesions of a segment are numbered from 1 by volume, largest first.
    """
    segments: list[tuple[Cell, ...]] = []
    lesions: list[tuple[Cell, ...]] = []
    for item, box, labels in _segments(layers):
        if box is None:
            segments.append((item.name, item.value, 0, None if projection else 0.0, 0, None, None, None, None))
            continue
        mask = _mask(labels[box], item.value)
        inside = statistics_of(values[box], mask)
        found = components(mask, connectivity)
        segments.append(
            (
                item.name,
                item.value,
                inside.count,
                None if projection else inside.count * grid.voxel_volume / 1000,
                found.count,
                inside.mean,
                inside.std,
                inside.minimum,
                inside.maximum,
            )
        )
        if item.lesion:
            lesions += lesion_rows(item.name, _by_size(found, box), values, grid)
    tables = {"segments": Table("segments", _segment_columns(connectivity, unit), tuple(segments))}
    if any(item.lesion for layer in layers for item in layer.classes):
        tables["lesions"] = Table("lesions", lesion_columns(unit, connectivity), tuple(lesions))
    return tables


def lesion_parts(layers: tuple[Layer, ...], connectivity: int) -> Iterator[tuple[SegmentClass, list[tuple[Box, Mask]]]]:
    """Each lesion class with the (box, mask there) of its lesions, in the order of the rows of ``lesions``."""
    for item, box, labels in _segments(layers):
        if item.lesion:
            yield item, ([] if box is None else _by_size(components(_mask(labels[box], item.value), connectivity), box))


def _mask(labels: npt.NDArray[Any], value: int) -> Mask:
    """Where ``labels`` are ``value``; labels that are 0 and 1 only are a mask as they are, so nothing is copied."""
    if value == 1 and labels.dtype == np.uint8 and labels.max(initial=0) == 1:
        return labels.view(np.bool_)
    return np.asarray(labels == value)


def _by_size(found: Components, box: Box) -> list[tuple[Box, Mask]]:
    """The components of a mask that lies in ``box``, largest first."""
    parts = [(shifted(inner, box), part) for _, inner, part in found.each()]
    return sorted(parts, key=lambda part: -int(np.count_nonzero(part[1])))


def _segments(layers: tuple[Layer, ...]) -> Iterator[tuple[SegmentClass, Box | None, npt.NDArray[Any]]]:
    """Each class with its bounding box (None where it is empty) and its layer's labels."""
    for layer in layers:
        boxes = boxes_of(layer.labels)
        for item in layer.classes:
            yield item, (boxes[item.value - 1] if item.value <= len(boxes) else None), layer.labels


def _segment_columns(connectivity: int, unit: str) -> tuple[Column, ...]:
    return (
        Column("segment", "str", "", "name of the class"),
        Column("value", "int", "", "label value of the class in its layer"),
        Column("voxels", "int", "", "number of voxels"),
        Column("volume_ml", "float", "ml", "voxels times the volume of a voxel, in millilitres; empty for a film"),
        Column("components", "int", "", f"connected components ({connectivity}-connectivity)"),
        Column("mean", "float", unit, "mean of the first input over the segment"),
        Column("std", "float", unit, "population standard deviation of the first input over the segment"),
        Column("minimum", "float", unit, "least value of the first input in the segment"),
        Column("maximum", "float", unit, "greatest value of the first input in the segment"),
    )

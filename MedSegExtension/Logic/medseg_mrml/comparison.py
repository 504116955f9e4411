"""Two segmentations held against each other, as nodes: what agrees and what differs as segments, tables, a plot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.compare.lesion_table import lesion_table
from medseg.compare.masks import Matching
from medseg.compare.pairs import FN, FP, TP, Comparison, compare_segmentations
from medseg.io.segmentations import Segmentation
from medseg.monitor import Monitor
from medseg.result import Cell, Column, Layer, SegmentClass, Table
from medseg.review.findings import reviewed_classes

from .node_sets import NodeSet, node_set
from .reviewed import masks_of

#: What the segments of a comparison are marked as made by (tag ``MedSeg.Model``).
MADE_BY = "comparison"


def segmentation_of(node: Any, reference: Any, monitor: Monitor | None = None) -> Segmentation:
    """The segments of ``node`` on the grid of the volume node ``reference``; what was assumed is told to ``monitor``.

    Raises `InputError` where it has none.
    """
    found = masks_of(node, reference)
    for sentence in found.warnings if monitor is not None else ():
        monitor.warn(sentence)  # type: ignore[union-attr]
    return Segmentation(found.grid, found.layers, node.GetName(), found.model_id, found.warnings)


def lesion_mask(segmentation: Segmentation) -> npt.NDArray[np.bool_]:
    """(K, J, I): all classes that are called lesions, or all classes where none is."""
    mask = np.zeros(segmentation.grid.shape, bool)
    for n, value, _ in reviewed_classes(segmentation):
        mask |= segmentation.layers[n].labels == value
    return mask


def compare_nodes(
    one: Any,
    other: Any,
    reference: Any,
    *,
    pairs: Mapping[str, str] | None = None,
    tolerance_mm: float = 1.0,
    matching: Matching | None = None,
    monitor: Monitor | None = None,
) -> Comparison:
    """Compare the segmentation nodes ``one`` and ``other`` on the grid of the volume node ``reference``.

    ``pairs``: segment of ``one`` -> segment of ``other``; None compares those of the same name. Raises `InputError`
    where no segment is in both.
    """
    monitor = monitor or Monitor()
    return compare_segmentations(
        segmentation_of(one, reference, monitor),
        segmentation_of(other, reference, monitor),
        pairs=pairs,
        tolerance_mm=tolerance_mm,
        matching=matching or Matching(),
        monitor=monitor,
    )


def show_comparison(
    comparison: Comparison,
    scene: Any,
    reference: Any,
    *,
    names: tuple[str, str] = ("A", "B"),
    matching: Matching | None = None,
) -> NodeSet:
    """The nodes of ``comparison`` over the volume node ``reference``, in a folder of their own.

    Segments *Agree (TP)*, *Only in A (FP)*, *Only in B (FN)* of each class; tables ``lesions`` (with positions, for a
    click that goes there) and ``figures``; chart ``volumes``. ``names``: what A and B are called.
    `NodeSet.remove` takes all of it back.
    """
    short = (_short(names[0]), _short(names[1]))
    nodes = node_set(scene, f"{short[0]} and {short[1]} compared", reference)
    nodes.add_segments(segments(comparison, short), comparison.grid, nodes.name, reference, MADE_BY)
    nodes.add_table("lesions", lesion_table(comparison, matching, short), f"{nodes.name}: lesions")
    nodes.add_table("figures", comparison.table(), f"{nodes.name}: figures")
    volumes = nodes.add_table("volumes", volume_table(comparison), f"{nodes.name}: volumes")
    chart = nodes.add_chart("volumes", f"{nodes.name}: volumes", "", "ml")
    words = _words(short)
    for column, word, color in zip(("agree", "only_a", "only_b"), words, (TP, FP, FN), strict=True):
        nodes.add_series(chart, volumes, column, labels="class", name=word, color=color, bars=True)
    return nodes


def segments(comparison: Comparison, names: tuple[str, str] = ("A", "B")) -> tuple[Layer, ...]:
    """A layer a class: its voxels in both masks, in the first only, in the second only.

    Colours are those of `compare.pairs`, which colour-blind readers tell apart.
    """
    layers = []
    for one in comparison.classes:
        labels = np.zeros(comparison.grid.shape, np.uint8)
        labels[one.prediction] = 2
        labels[one.reference] = 3
        labels[one.prediction & one.reference] = 1
        prefix = f"{one.name}: " if len(comparison.classes) > 1 else ""
        classes = [
            SegmentClass(n, prefix + word, color)
            for n, (word, color) in enumerate(zip(_words(names), (TP, FP, FN), strict=True), start=1)
        ]
        layers.append(Layer(labels, tuple(classes)))
    return tuple(layers)


def volume_table(comparison: Comparison) -> Table:
    """One row a class: ml in both masks, in the first only, in the second only."""
    columns = (
        Column("class", "str"), Column("agree", "float", "ml"), Column("only_a", "float", "ml"),
        Column("only_b", "float", "ml"),
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    for one in comparison.classes:
        counts, ml = one.figures.counts, one.figures.voxel_ml
        rows.append((one.name, counts.tp * ml, counts.fp * ml, counts.fn * ml))
    return Table("comparison_volumes", columns, tuple(rows))


def _words(names: tuple[str, str]) -> tuple[str, str, str]:
    return "Agree (TP)", f"Only in {names[0]} (FP)", f"Only in {names[1]} (FN)"


def _short(name: str, most: int = 24) -> str:
    return name if len(name) <= most else name[: most - 1].rstrip() + "\u2026"

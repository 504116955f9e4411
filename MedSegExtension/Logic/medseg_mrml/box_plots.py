"""The figures of an evaluation as Slicer plots: a box for each class and model, each case a dot.

Slicer has no box plots; the outline of a box is a line through its corners.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medseg.compare.cohort import Evaluation
from medseg.compare.masks import COLUMNS
from medseg.result import Cell, Column, Table

from .node_sets import NodeSet, node_set

#: Okabe and Ito (2008), as the PNG plots.
_COLORS = ((0.34, 0.71, 0.91), (0.90, 0.62, 0.0))
FIGURES = ("dice", "surface_dice", "hd95", "volume_difference", "lesion_f1")


def show_evaluation(
    sides: Mapping[str, Evaluation], scene: Any, reference: Any, figures: Sequence[str] = FIGURES
) -> NodeSet:
    """A chart for each of ``figures`` that is defined, and the tables ``cases`` and ``summary`` of each side.

    ``sides``: the evaluation of each model by its name. ``reference``: a volume node, beside which the folder
    stands; None where it is of none.
    """
    nodes = node_set(scene, f"Evaluation of {' and '.join(sides)}", reference, alone=reference is None)
    first = next(iter(sides.values()))
    for side, evaluation in sides.items():
        nodes.add_table(f"cases {side}", evaluation.table(), f"{side}: cases")
        nodes.add_table(f"summary {side}", evaluation.summary(), f"{side}: summary")
    for figure in figures:
        groups = [
            (f"{name} {side}" if len(sides) > 1 else name, list(sides).index(side), values)
            for name in first.classes
            for side in sides
            if (values := list(sides[side].values(name, figure).values()))
        ]
        if groups:
            _chart(nodes, figure, groups)
    return nodes


def _chart(nodes: NodeSet, figure: str, groups: list[tuple[str, int, list[float]]]) -> None:
    unit = COLUMNS[figure][0]
    words = figure.replace("_", " ")
    marks = ", ".join(f"{n}: {name} (n={len(values)})" for n, (name, _, values) in enumerate(groups, start=1))
    chart = nodes.add_chart(figure, words, marks, words + (f" ({unit})" if unit else ""))
    for n, (name, side, values) in enumerate(groups, start=1):
        color = _COLORS[side % len(_COLORS)]
        for kind, points in (("box", box_outline(values, n)), ("cases", dots(values, n))):
            columns = (Column("x", "float"), Column(figure, "float", unit))
            rows: tuple[tuple[Cell, ...], ...] = tuple((float(x), float(y)) for x, y in points)
            table = nodes.add_table(f"{figure} {kind} {n}", Table(kind, columns, rows), f"{words}: {name}, {kind}")
            table.SetHideFromEditors(True)
            box = kind == "box"
            nodes.add_series(chart, table, figure, x="x", name=f"{name}: {kind}", line=box, marker=not box,
                             color=color if box else (0.2, 0.2, 0.2))  # fmt: skip


def box_outline(values: Sequence[float], at: float, width: float = 0.6) -> list[tuple[float, float]]:
    """The corners of a box at ``at``: quartiles, median, whiskers to the last value within 1.5 times their distance.

    Tukey's (1977) box plot, in one stroke.
    """
    low, middle, high = (float(v) for v in np.percentile(values, (25, 50, 75)))
    reach = 1.5 * (high - low)
    inside = [v for v in values if low - reach <= v <= high + reach]
    left, right = at - width / 2, at + width / 2
    bottom, top = min(inside), max(inside)
    return [
        (at, bottom), (at, low), (left, low), (left, middle), (right, middle), (left, middle), (left, high),
        (at, high), (at, top), (at, high), (right, high), (right, low), (at, low),
    ]  # fmt: skip


def dots(values: Sequence[float], at: float) -> list[tuple[float, float]]:
    """Each value beside its neighbours, so that equal ones are both seen."""
    return [(at + 0.16 * (((n * 7) % 11) / 5 - 1), value) for n, value in enumerate(values)]

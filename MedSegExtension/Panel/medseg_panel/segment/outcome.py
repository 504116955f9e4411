"""A result in the scene: segments, tables, plot, probability volumes; and what the panel remembers of it.

What the results section shows is kept as references of the parameter node, so that a saved scene brings it back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from slicer.i18n import tr as _

from medseg.geometry.volume import Volume
from medseg.model.card import ModelCard
from medseg.result import Result, Table
from medseg_mrml import (
    Applied,
    apply_result,
    color_series,
    node_from_volume,
    plot_table,
    table_from_node,
    table_to_node,
    undo,
)

VOLUME_ROLE, SEGMENTATION_ROLE = "resultVolume", "resultSegmentation"
TABLE_ROLE, CHART_ROLE = "resultTable", "resultChart"
_POSITIONS = ("centre_r_mm", "centre_a_mm", "centre_s_mm")


@dataclass(eq=False)
class Outcome:
    """The nodes of one run. ``applied``: the segmentation and its state before; None for classifications.

    ``refilled``: tables of the run before that were filled anew, with what they held; ``chart_kept``: its plot stays.
    ``provenance``: of the result.
    """

    volume: Any
    applied: Applied | None = None
    tables: list[Any] = field(default_factory=list)
    chart: Any = None
    probabilities: list[Any] = field(default_factory=list)
    refilled: list[tuple[Any, Table]] = field(default_factory=list)
    chart_kept: bool = False
    provenance: dict[str, Any] = field(default_factory=dict)

    def before(self) -> Outcome:
        """The run before this one, as far as its nodes were used on."""
        applied = self.applied if self.applied is not None and self.applied.before is not None else None
        chart = self.chart if self.chart_kept else None
        return Outcome(self.volume, applied, [node for node, _table in self.refilled], chart)

    def undo(self, scene: Any) -> None:
        """Take the result out of the scene again; the segmentation is as it was before."""
        if self.applied is not None and self.applied.node.GetScene() is scene:
            undo(self.applied)
        old = [node for node, _table in self.refilled]
        chart = [] if self.chart_kept else [*series_of(self.chart), self.chart]
        for node, table in self.refilled:
            if node.GetScene() is scene:
                table_to_node(table, scene, node=node)
        for node in [*chart, *(t for t in self.tables if t not in old), *self.probabilities]:
            if node is not None and node.GetScene() is scene:
                scene.RemoveNode(node)


def series_of(chart: Any) -> list[Any]:
    """The series nodes of a plot chart node; none of None."""
    return [] if chart is None else [chart.GetNthPlotSeriesNode(n) for n in range(chart.GetNumberOfPlotSeriesNodes())]


def apply(
    result: Result,
    scene: Any,
    volume: Any,
    card: ModelCard,
    output: Any,
    warn: Callable[[str], None],
    previous: Sequence[Any] = (),
) -> Outcome:
    """Put ``result`` of ``card`` on ``volume`` into ``scene``. ``output``: a segmentation, or None for a new one.

    ``previous``: tables and plot of the run before; those of the same model and volume are filled anew, so that it
    does not leave a second set of them.
    """
    outcome = Outcome(volume, provenance=result.provenance)
    base = f"{volume.GetName()} {card.title}"
    if result.layers:
        outcome.applied = apply_result(
            result, scene, reference_node=volume, output_node=output, name=base, model_id=card.id, warn=warn
        )
    for name, table in result.tables.items():
        title = f"{base} {name}"
        old = next((n for n in previous if n.IsA("vtkMRMLTableNode") and n.GetName() == title), None)
        if old is not None:
            outcome.refilled.append((old, table_from_node(old)))
        outcome.tables.append(table_to_node(table, scene, name=title, reference_node=volume, node=old))
        if name == "slices":
            outcome.chart = next((n for n in previous if _plots(n, old)), None)
            outcome.chart_kept = outcome.chart is not None
            outcome.chart = outcome.chart or _plot(outcome.tables[-1], table, result, scene, volume, f"{base} plot")
    for name, array in result.probabilities.items():
        made = node_from_volume(Volume(array, result.grid, None, f"{base} {name} probability"), scene)
        made.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
        outcome.probabilities.append(made)
    return outcome


def _plots(chart: Any, table: Any) -> bool:
    """True where ``chart`` is a plot of the table node ``table``."""
    return chart.IsA("vtkMRMLPlotChartNode") and any(s.GetTableNode() is table for s in series_of(chart) if table)


def _plot(node: Any, table: Table, result: Result, scene: Any, volume: Any, name: str) -> Any:
    columns = [c.name for c in table.columns if c.name not in ("slice", "frame", *_POSITIONS)]
    chart = plot_table(
        node,
        scene,
        x="slice",
        columns=columns,
        colors=color_series(columns, result.classes),
        name=name,
        x_title="Slice",
        reference_node=volume,
    )
    # The node's name is long for the views; the chart has little room above it.
    chart.SetTitle(_("Scores of each slice"))
    chart.SetTitleFontSize(14)
    return chart


def remember(parameters: Any, outcome: Outcome) -> None:
    """Keep references to the nodes of ``outcome`` in the parameter node."""
    node = parameters.parameterNode
    modified = node.StartModify()
    node.SetNodeReferenceID(VOLUME_ROLE, outcome.volume.GetID())
    segmentation = outcome.applied.node if outcome.applied is not None else None
    node.SetNodeReferenceID(SEGMENTATION_ROLE, segmentation.GetID() if segmentation is not None else None)
    node.SetNodeReferenceID(CHART_ROLE, outcome.chart.GetID() if outcome.chart is not None else None)
    node.RemoveNodeReferenceIDs(TABLE_ROLE)
    for n, table in enumerate(outcome.tables):
        node.SetNthNodeReferenceID(TABLE_ROLE, n, table.GetID())
    node.EndModify(modified)


def forget(parameters: Any) -> None:
    """Drop the references to the last result."""
    for role in (VOLUME_ROLE, SEGMENTATION_ROLE, TABLE_ROLE, CHART_ROLE):
        parameters.parameterNode.RemoveNodeReferenceIDs(role)


def tables(parameters: Any) -> list[Any]:
    """The table nodes of the last result that are still in the scene."""
    node = parameters.parameterNode
    found = [node.GetNthNodeReference(TABLE_ROLE, n) for n in range(node.GetNumberOfNodeReferences(TABLE_ROLE))]
    return [n for n in found if n is not None]

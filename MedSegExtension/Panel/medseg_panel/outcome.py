"""A result in the scene: segments, tables, plot, probability volumes; and what the panel remembers of it.

What the results section shows is kept as references of the parameter node, so that a saved scene brings it back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from slicer.i18n import tr as _

from medseg.model_card import ModelCard
from medseg.result import Result
from medseg.volume import Volume
from medseg_mrml import Applied, apply_result, color_series, node_from_volume, plot_table, restore, table_to_node

VOLUME_ROLE, SEGMENTATION_ROLE = "resultVolume", "resultSegmentation"
TABLE_ROLE, CHART_ROLE = "resultTable", "resultChart"
_POSITIONS = ("centre_r_mm", "centre_a_mm", "centre_s_mm")


@dataclass(eq=False)
class Outcome:
    """The nodes of one run. ``applied``: the segmentation and its state before; None for classifications."""

    volume: Any
    applied: Applied | None = None
    tables: list[Any] = field(default_factory=list)
    chart: Any = None
    probabilities: list[Any] = field(default_factory=list)

    def undo(self, scene: Any) -> None:
        """Take the result out of the scene again; the segmentation is as it was before."""
        if self.applied is not None and self.applied.node.GetScene() is scene:
            if self.applied.before is None:
                scene.RemoveNode(self.applied.node)
            else:
                restore(self.applied.node, self.applied.before)
        for node in [*series_of(self.chart), self.chart, *self.tables, *self.probabilities]:
            if node is not None and node.GetScene() is scene:
                scene.RemoveNode(node)


def series_of(chart: Any) -> list[Any]:
    """The series nodes of a plot chart node; none of None."""
    return [] if chart is None else [chart.GetNthPlotSeriesNode(n) for n in range(chart.GetNumberOfPlotSeriesNodes())]


def apply(
    result: Result, scene: Any, volume: Any, card: ModelCard, output: Any, warn: Callable[[str], None]
) -> Outcome:
    """Put ``result`` of ``card`` on ``volume`` into ``scene``. ``output``: a segmentation, or None for a new one."""
    outcome = Outcome(volume)
    base = f"{volume.GetName()} {card.title}"
    if result.layers:
        outcome.applied = apply_result(
            result, scene, reference_node=volume, output_node=output, name=base, model_id=card.id, warn=warn
        )
    for name, table in result.tables.items():
        outcome.tables.append(table_to_node(table, scene, name=f"{base} {name}", reference_node=volume))
        if name == "slices":
            columns = [c.name for c in table.columns if c.name != "slice" and c.name not in _POSITIONS]
            outcome.chart = plot_table(
                outcome.tables[-1],
                scene,
                x="slice",
                columns=columns,
                colors=color_series(columns, result.classes),
                name=f"{base} plot",
                x_title="Slice",
                reference_node=volume,
            )
            # The node's name is long for the views; the chart has little room above it.
            outcome.chart.SetTitle(_("Scores of each slice"))
            outcome.chart.SetTitleFontSize(14)
    for name, array in result.probabilities.items():
        made = node_from_volume(Volume(array, result.grid, None, f"{base} {name} probability"), scene)
        made.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
        outcome.probabilities.append(made)
    return outcome


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

"""Nodes that belong together and go together: the segments, tables and plots of one comparison, in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import slicer

from medseg.errors import InputError
from medseg.geometry.grid import Grid
from medseg.result import Layer, Table

from .arrays import unique_name
from .hierarchy import item_of, subject_hierarchy
from .segmentation import Applied, new_segmentation, undo
from .tables import table_to_node


@dataclass(eq=False)
class NodeSet:
    """``name``: of the set and its folder. ``tables``, ``charts``: by a short name. ``further``: helpers of charts."""

    scene: Any
    name: str
    folder: int = 0
    segmentation: Any = None
    tables: dict[str, Any] = field(default_factory=dict)
    charts: dict[str, Any] = field(default_factory=dict)
    further: list[Any] = field(default_factory=list)

    def remove(self) -> None:
        """Take all of it out of the scene; what the user removed already, or put into the folder, is left alone."""
        tree = subject_hierarchy(self.scene)
        if self.segmentation is not None and self.segmentation.GetScene() is not None:
            undo(Applied(self.segmentation, (), None))
            self._forget(tree, self.segmentation)
        for node in (*self.charts.values(), *self.further, *self.tables.values()):
            if node.GetScene() is self.scene:
                self.scene.RemoveNode(node)
                self._forget(tree, node)
        ours = self.folder and tree.GetItemName(self.folder) == self.name
        if ours and tree.GetNumberOfItemChildren(self.folder) == 0:
            tree.RemoveItem(self.folder)
        self.folder, self.segmentation = 0, None
        self.tables, self.charts, self.further = {}, {}, []

    # -- filling ------------------------------------------------------------------------------------------------

    def add_segments(self, layers: Sequence[Layer], grid: Grid, name: str, reference: Any, tag: str) -> Any:
        """A segmentation node over the volume node ``reference``. ``tag``: what segments are marked as made by."""
        node, _ = new_segmentation(self.scene, reference, name, layers, grid, tag)
        self.segmentation = node
        self._into_folder(node)
        return node

    def add_table(self, key: str, table: Table, name: str) -> Any:
        """A table node of ``table``."""
        node = table_to_node(table, self.scene, name=name)
        self.tables[key] = node
        self._into_folder(node)
        return node

    def add_chart(self, key: str, name: str, x_title: str, y_title: str) -> Any:
        """An empty chart."""
        chart = self.scene.AddNewNodeByClass("vtkMRMLPlotChartNode", unique_name(self.scene, name))
        chart.SetTitle(name)
        chart.SetXAxisTitle(x_title)
        chart.SetYAxisTitle(y_title)
        chart.SetLegendFontSize(11)
        self.charts[key] = chart
        self._into_folder(chart)
        return chart

    def add_series(
        self,
        chart: Any,
        table: Any,
        y: str,
        *,
        x: str = "",
        labels: str = "",
        name: str = "",
        color: tuple[float, float, float] = (0.2, 0.2, 0.2),
        bars: bool = False,
        line: bool = False,
        marker: bool = True,
    ) -> Any:
        """Column ``y`` of the table node in ``chart``: bars, a line, or marks at ``x``; ``labels`` names its points."""
        kind = slicer.vtkMRMLPlotSeriesNode
        series = self.scene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", unique_name(self.scene, name or y))
        series.SetAndObserveTableNodeID(table.GetID())
        if x:
            series.SetXColumnName(x)
        series.SetYColumnName(y)
        if labels:
            series.SetLabelColumnName(labels)
        series.SetPlotType(kind.PlotTypeBar if bars else kind.PlotTypeScatter)
        series.SetMarkerStyle(kind.MarkerStyleCircle if marker else kind.MarkerStyleNone)
        series.SetLineStyle(kind.LineStyleSolid if line else kind.LineStyleNone)
        series.SetLineWidth(2)
        series.SetColor(*color)
        chart.AddAndObservePlotSeriesNodeID(series.GetID())
        self.further.append(series)
        self._into_folder(series)
        return series

    @staticmethod
    def _forget(tree: Any, node: Any) -> None:
        """The application takes the item away with its node, slicer-core does not."""
        item = tree.GetItemByDataNode(node)
        if item:
            tree.RemoveItem(item, False, False)

    def _into_folder(self, node: Any) -> None:
        tree = subject_hierarchy(self.scene)
        tree.SetItemParent(item_of(self.scene, node), self.folder or tree.GetSceneItemID())


def node_set(scene: Any, name: str, reference: Any, *, alone: bool = False) -> NodeSet:
    """An empty set with a folder of its own beside the volume node ``reference``; ``alone``: of no volume."""
    if alone:
        tree = subject_hierarchy(scene)
        title = tree.GenerateUniqueItemName(name)
        return NodeSet(scene, title, int(tree.CreateFolderItem(tree.GetSceneItemID(), title)))
    if reference is None or reference.GetScene() is not scene:
        raise InputError("The volume that the result belongs to is no longer open; open it again.")
    tree = subject_hierarchy(scene)
    parent = tree.GetItemParent(item_of(scene, reference))
    title = tree.GenerateUniqueItemName(name)
    return NodeSet(scene, title, int(tree.CreateFolderItem(parent, title)))

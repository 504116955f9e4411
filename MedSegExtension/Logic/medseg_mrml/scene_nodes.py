"""A result as a scene that opens well in 3D Slicer: nodes, layout, slices through the finding, active table or plot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer

from .focus import Focus, score_columns
from .headless import HeadlessScene
from .hierarchy import item_of, subject_hierarchy
from .scene_job import Job
from .segmentation import apply_result
from .tables import color_series, plot_table, table_to_node
from .views import SliceView
from .volumes import node_from_volume

_VIEWS = {"Red": "Axial", "Green": "Coronal", "Yellow": "Sagittal"}
_FILL = 0.35
_TO_RAS = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True, eq=False)
class SceneNodes:
    """The nodes of a result; ``segmentation`` and ``chart`` are None where the result has none."""

    volume: Any
    segmentation: Any
    tables: dict[str, Any]
    chart: Any


def add_nodes(headless: HeadlessScene, job: Job, views: dict[str, SliceView], focus: Focus) -> SceneNodes:
    """Fill the scene with the nodes of ``job`` and set up how it is shown."""
    scene, result = headless.scene, job.result
    tree = subject_hierarchy(scene)
    name = job.volume.name.split(".")[0] or "volume"
    study = tree.CreateStudyItem(tree.GetSceneItemID(), job.title)
    volume = node_from_volume(job.volume, scene, name=name, window=job.window)
    tree.SetItemParent(item_of(scene, volume), study)
    segmentation = None
    if result.layers:
        segmentation = apply_result(result, scene, reference_node=volume, name=f"{name} segmentation").node
        segmentation.GetDisplayNode().SetOpacity2DFill(_FILL)
    tables = {table.name: table_to_node(table, scene, reference_node=volume) for table in result.tables.values()}
    chart = None
    columns = score_columns(result.tables.get("slices"))
    if columns and len(result.tables["slices"].rows) > 1:
        chart = plot_table(
            tables["slices"], scene, x="slice", columns=columns, colors=color_series(columns, result.classes),
            name="Scores", x_title="Slice", y_title="Probability", reference_node=volume,
        )  # fmt: skip
    for view, orientation in _VIEWS.items():
        views[view].show(volume, orientation, np.array(focus.point) * _TO_RAS)
    _arrange(scene, tables, chart)
    return SceneNodes(volume, segmentation, tables, chart)


def _arrange(scene: Any, tables: dict[str, Any], chart: Any) -> None:
    layouts = slicer.vtkMRMLLayoutNode
    layout = scene.AddNode(_singleton(scene, "vtkMRMLLayoutNode", "vtkMRMLLayoutNode"))
    arrangement = layouts.SlicerLayoutFourUpView
    selection = scene.AddNode(_singleton(scene, "vtkMRMLSelectionNode", "Singleton"))
    table = next((tables[n] for n in ("lesions", "segments", "scores", "slices") if n in tables), None)
    if table is not None:
        selection.SetActiveTableID(table.GetID())
        view = scene.AddNode(_singleton(scene, "vtkMRMLTableViewNode", "TableView1"))
        view.SetTableNodeID(table.GetID())
        arrangement = layouts.SlicerLayoutFourUpTableView
    if chart is not None:
        selection.SetActivePlotChartID(chart.GetID())
        view = scene.AddNode(_singleton(scene, "vtkMRMLPlotViewNode", "PlotView1"))
        view.SetPlotChartNodeID(chart.GetID())
        arrangement = layouts.SlicerLayoutFourUpPlotView
    layout.SetViewArrangement(arrangement)


def _singleton(scene: Any, class_name: str, tag: str) -> Any:
    node = scene.CreateNodeByClass(class_name)
    node.SetSingletonTag(tag)
    node.UnRegister(None)
    return node

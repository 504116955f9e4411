"""The same patient at two dates, as nodes: the alignment for approval, then lesions by what became of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import vtk

from medseg.compare.align import Alignment
from medseg.compare.followup import STATES, FollowUp, state_color
from medseg.errors import InputError
from medseg.result import Cell, Column, Table

from .arrays import unique_name
from .node_sets import NodeSet, node_set
from .reviewed import MOVED_FROM

MADE_BY = "follow-up"
_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(eq=False)
class Preview:
    """A follow-up volume that was moved onto the baseline, to be looked at. ``node``: the linear transform node."""

    node: Any
    volume: Any
    before: str

    def take_back(self) -> None:
        """The volume lies where it was; the transform node is gone."""
        scene = self.node.GetScene()
        if self.volume.GetScene() is not None and self.volume.GetParentTransformNode() is self.node:
            self.volume.SetAndObserveTransformNodeID(self.before or None)
        if scene is not None:
            scene.RemoveNode(self.node)

    def alignment(self) -> Alignment:
        """The alignment as it stands, also where the reader moved it by hand in Slicer's module *Transforms*.

        Raises `InputError` where the node is gone or is no longer linear.
        """
        if self.node.GetScene() is None:
            raise InputError("The transform of the follow-up was removed; align the images again.")
        if not self.node.IsLinear():
            raise InputError("The transform of the follow-up is no longer linear; align the images again.")
        matrix = vtk.vtkMatrix4x4()
        self.node.GetMatrixTransformToParent(matrix)
        to_baseline = np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])
        return Alignment(_FLIP @ np.linalg.inv(to_baseline) @ _FLIP)


def show_alignment(alignment: Alignment, scene: Any, baseline: Any, volume: Any) -> Preview:
    """Put the volume node ``volume`` (the follow-up) where ``alignment`` says that it lies on ``baseline``.

    The transform stands between the volume and the transforms of ``baseline``, since both were aligned in their own
    space. Nothing is resampled.
    """
    node = scene.AddNewNodeByClass(
        "vtkMRMLLinearTransformNode", unique_name(scene, f"{volume.GetName()} onto {baseline.GetName()}")
    )
    to_baseline = _FLIP @ np.linalg.inv(alignment.matrix) @ _FLIP
    matrix = vtk.vtkMatrix4x4()
    for r in range(4):
        for c in range(4):
            matrix.SetElement(r, c, float(to_baseline[r, c]))
    node.SetMatrixTransformToParent(matrix)
    node.SetAndObserveTransformNodeID(baseline.GetTransformNodeID())
    before = volume.GetTransformNodeID() or ""
    node.SetAttribute(MOVED_FROM, before)
    volume.SetAndObserveTransformNodeID(node.GetID())
    return Preview(node, volume, before)


def show_follow_up(found: FollowUp, scene: Any, baseline: Any, names: tuple[str, str] = ("", "")) -> NodeSet:
    """The nodes of ``found`` over the volume node ``baseline``, in a folder of their own.

    Segments *new*, *gone*, *grown*, *shrunk*, *stable*; tables ``lesions`` (with positions, for a click that goes
    there), ``states``; charts ``lesions`` (each lesion's volume at both dates; on the line nothing changed) and
    ``states``. ``names``: what the two dates are called. `NodeSet.remove` takes all of it back.
    """
    first, second = (given or word for given, word in zip(names, ("baseline", "follow-up"), strict=True))
    nodes = node_set(scene, f"{found.name}: {first} to {second}", baseline)
    nodes.add_segments([found.layer()], found.grid, nodes.name, baseline, MADE_BY)
    nodes.add_table("lesions", found.table(), f"{nodes.name}: lesions")
    states = found.summary()
    states_node = nodes.add_table("states", states, f"{nodes.name}: states")
    chart = nodes.add_chart("lesions", f"{nodes.name}: volumes", f"{first} (ml)", f"{second} (ml)")
    for state in STATES:
        own = [one for one in found.lesions if one.state == state]
        if own:
            node = nodes.add_table(f"plot of {state}", _points(state, own), f"{nodes.name}: {state}")
            node.SetHideFromEditors(True)
            nodes.add_series(chart, node, "follow_up", x="baseline", name=state, color=state_color(state))
    most = max((v for one in found.lesions for v in (one.baseline_ml, one.follow_up_ml)), default=0.0)
    equal = Table("equal", (Column("baseline", "float"), Column("follow_up", "float")), ((0.0, 0.0), (most, most)))
    line = nodes.add_table("plot of equal", equal, f"{nodes.name}: unchanged")
    line.SetHideFromEditors(True)
    nodes.add_series(chart, line, "follow_up", x="baseline", name="unchanged", line=True, marker=False)
    bars = nodes.add_chart("states", f"{nodes.name}: states", "", "ml")
    for column, name, color in (("baseline", first, (0.34, 0.71, 0.91)), ("follow_up", second, (0.84, 0.37, 0.0))):
        nodes.add_series(bars, states_node, column, labels="state", name=name, color=color, bars=True)
    return nodes


def _points(state: str, lesions: list[Any]) -> Table:
    columns = (Column("baseline", "float", "ml"), Column("follow_up", "float", "ml"))
    rows: list[tuple[Cell, ...]] = [(one.baseline_ml, one.follow_up_ml) for one in lesions]
    return Table(state, columns, tuple(rows))

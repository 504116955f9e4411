"""The slice views: which volume they show, how bright, and where they stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import slicer

from medseg_mrml.looking import in_world, nodes_of


@dataclass
class ViewState:
    """What `remember` saw: per composite node its background, per display node (automatic, level, width)."""

    backgrounds: dict[str, str | None] = field(default_factory=dict)
    windows: dict[str, tuple[int, float, float]] = field(default_factory=dict)


def composites(scene: Any) -> list[Any]:
    """The composite nodes of all slice views."""
    return nodes_of(scene, "vtkMRMLSliceCompositeNode")


def visible_background(scene: Any) -> Any:
    """The volume that is the background of a slice view (the red one first), or None."""
    for composite in sorted(composites(scene), key=lambda c: c.GetLayoutName() != "Red"):
        node = scene.GetNodeByID(composite.GetBackgroundVolumeID() or "")
        if node is not None:
            return node
    return None


def show_volume(scene: Any, volume: Any) -> None:
    """Make ``volume`` the background of all slice views."""
    for composite in composites(scene):
        composite.SetBackgroundVolumeID(volume.GetID())


def set_window(volume: Any, level: float, width: float) -> None:
    """Show ``volume`` with a level and width."""
    display = volume.GetScalarVolumeDisplayNode()
    if display is None:
        volume.CreateDefaultDisplayNodes()
        display = volume.GetScalarVolumeDisplayNode()
    if display is not None:
        modified = display.StartModify()
        display.AutoWindowLevelOff()
        display.SetWindowLevel(width, level)
        display.EndModify(modified)


def remember(scene: Any, volumes: Sequence[Any]) -> ViewState:
    """The state that `bring_back` restores, for the views and for ``volumes``."""
    state = ViewState({c.GetID(): c.GetBackgroundVolumeID() for c in composites(scene)})
    for volume in volumes:
        display = volume.GetScalarVolumeDisplayNode() if volume is not None else None
        if display is not None:
            state.windows[display.GetID()] = (display.GetAutoWindowLevel(), display.GetLevel(), display.GetWindow())
    return state


def bring_back(scene: Any, state: ViewState) -> None:
    """Undo what was done to views and display nodes since `remember`; nodes that are gone are left out."""
    for identifier, background in state.backgrounds.items():
        composite = scene.GetNodeByID(identifier)
        if composite is not None and (background is None or scene.GetNodeByID(background) is not None):
            composite.SetBackgroundVolumeID(background)
    for identifier, (automatic, level, width) in state.windows.items():
        display = scene.GetNodeByID(identifier)
        if display is not None:
            display.SetAutoWindowLevel(automatic)
            if not automatic:
                display.SetWindowLevel(width, level)


def jump(scene: Any, position: Sequence[float], volume: Any = None) -> None:
    """Centre all slice views on ``position`` (RAS, mm).

    With ``volume`` the position is in that volume's own space, and its parent transforms are applied.
    """
    world = in_world(position, volume)
    for node in nodes_of(scene, "vtkMRMLSliceNode"):
        node.JumpSliceByCentering(*world)


def show_chart(chart: Any) -> None:
    """Put a plot chart into the layout, as the Plots module does."""
    slicer.modules.plots.logic().ShowChartInLayout(chart)

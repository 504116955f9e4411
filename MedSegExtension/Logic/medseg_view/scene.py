"""What the page shows: a MRML scene with Slicer's slice and 3D views (trame-slicer), and the nodes of one case."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from trame_slicer.core import LayoutManager, SlicerApp
from trame_slicer.rca_view import register_rca_factories
from trame_slicer.views import Layout, LayoutDirection, SliceView, ViewLayoutDefinition

from medseg.geometry.volume import Volume
from medseg.result import Result
from medseg_mrml.focus import focus_of
from medseg_mrml.segmentation import apply_result
from medseg_mrml.views import letter
from medseg_mrml.volumes import node_from_volume

SLICES, FOUR, SPACE = "slices", "four", "space"
_TO_RAS = np.array([-1.0, -1.0, 1.0])
_PLANES = ("Sagittal", "Coronal", "Axial")
_FILL = 0.35
_PRESETS = {"CT": "CT-Bones", "MR": "MR-Default"}
# The GPU's ray caster takes minutes for a picture where OpenGL is software, so the processor's is used everywhere.
_RAY_CASTER = "vtkMRMLCPURayCastVolumeRenderingDisplayNode"

ViewWidgets = Callable[[Any, str, Any], None]


@dataclass(frozen=True)
class Letters:
    """The patient's sides at the edges of a slice view, and where the slice is, for example ``S 32.5 mm``."""

    left: str
    right: str
    top: str
    bottom: str
    place: str


class CaseScene:
    """One image and its result in the views. ``slice_widgets``, ``space_widgets`` add what lies over a view."""

    def __init__(self, server: Any, slice_widgets: ViewWidgets, space_widgets: ViewWidgets) -> None:
        self._app = SlicerApp()
        register_rca_factories(
            self._app.view_manager, server, slice_view_ui_f=slice_widgets, three_d_view_ui_f=space_widgets
        )
        self.layouts = LayoutManager(self._app.scene, self._app.view_manager, server)
        axial, space = ViewLayoutDefinition.axial_view(), ViewLayoutDefinition.threed_view()
        others = [ViewLayoutDefinition.coronal_view(), ViewLayoutDefinition.sagittal_view()]
        rows = [
            Layout(LayoutDirection.Vertical, [axial, others[0]]),
            Layout(LayoutDirection.Vertical, [space, others[1]]),
        ]
        self.layouts.register_layout_dict({
            SLICES: Layout(LayoutDirection.Vertical, [axial]),
            FOUR: Layout(LayoutDirection.Horizontal, rows),
            SPACE: Layout(LayoutDirection.Vertical, [space]),
        })  # fmt: skip
        self._image: Any = None
        self._segmentation: Any = None
        self._rendering: Any = None
        self._volume: Volume | None = None

    # -- the image ------------------------------------------------------------------------------------------

    @property
    def views(self) -> list[SliceView]:
        """The slice views."""
        views: list[SliceView] = self._app.view_manager.get_slice_views()
        return views

    @property
    def red(self) -> SliceView:
        """The view that stands alone in the layout `SLICES`."""
        return self._app.view_manager.get_view("Red")

    def show(self, volume: Volume, window: tuple[float, float] | None) -> None:
        """Show another image (level and width) and nothing of the one before."""
        self.clear()
        self._volume = volume
        self._image = node_from_volume(volume, self._app.scene, name="image", window=window)
        self._app.display_manager.show_volume_in_slice_background(self._image)
        for view in self.views:
            view.reset_view()
        thin = [n for n in range(3) if volume.grid.size[n] == 1]
        if thin:
            node = self.red.get_view_node()
            node.SetOrientation(_PLANES[volume.grid.anatomical_axes[thin[0]][0]])
            node.RotateToVolumePlane(self._image)
            self.red.fit_view_to_content()
        self._reset_space()

    def clear(self) -> None:
        """Take the case out of the scene."""
        self.clear_result()
        scene = self._app.scene
        if self._rendering is not None:
            for node in (self._rendering.GetVolumePropertyNode(), self._rendering):
                scene.RemoveNode(node)
        if self._image is not None:
            display = self._image.GetDisplayNode()
            scene.RemoveNode(self._image)
            if display is not None and display.GetScene() is scene:
                scene.RemoveNode(display)
        self._image = self._rendering = self._volume = None

    def set_window(self, level: float, width: float) -> None:
        """Level and width in the image's own units."""
        display = self._image.GetScalarVolumeDisplayNode() if self._image is not None else None
        if display is not None:
            display.AutoWindowLevelOff()
            display.SetWindowLevel(width, level)

    def window(self) -> tuple[float, float] | None:
        """Level and width as they are; None for colours."""
        display = self._image.GetScalarVolumeDisplayNode() if self._image is not None else None
        return (display.GetLevel(), display.GetWindow()) if hasattr(display, "GetLevel") else None

    # -- the result -----------------------------------------------------------------------------------------

    def show_result(self, result: Result, title: str) -> None:
        """Overlay the segments, and go to where there is something to see."""
        assert self._volume is not None
        self.clear_result()
        if result.layers:
            self._segmentation = apply_result(result, self._app.scene, reference_node=self._image, name=title).node
            self._segmentation.GetDisplayNode().SetOpacity2DFill(_FILL)
        self.jump((np.array(focus_of(result, self._volume.grid).point) * _TO_RAS).tolist())

    def clear_result(self) -> None:
        """Take the segments away."""
        if self._segmentation is not None:
            display = self._segmentation.GetDisplayNode()
            self._app.scene.RemoveNode(self._segmentation)
            if display is not None and display.GetScene() is self._app.scene:
                self._app.scene.RemoveNode(display)
        self._segmentation = None

    def set_overlay(self, visible: bool, opacity: float) -> None:
        """Whether segments are seen, and how strongly they are filled (0 to 1)."""
        if self._segmentation is not None:
            display = self._segmentation.GetDisplayNode()
            display.SetVisibility(visible)
            display.SetOpacity2DFill(opacity)

    def make_surfaces(self) -> bool:
        """Surfaces of the segments for the 3D view; False where there are no segments."""
        if self._segmentation is None:
            return False
        self._segmentation.CreateClosedSurfaceRepresentation()
        self._reset_space()
        return True

    def render_volume(self, visible: bool) -> None:
        """The image itself in the 3D view, for which a preset of its modality is used."""
        if self._image is None or self._volume is None or self._volume.channels > 1:
            return
        if self._rendering is None:
            if not visible:
                return
            logic = self._app.volume_rendering
            self._rendering = self._app.scene.AddNewNodeByClass(_RAY_CASTER)
            self._image.AddAndObserveDisplayNodeID(self._rendering.GetID())
            logic.UpdateDisplayNodeFromVolumeNode(self._rendering, self._image)
            logic.apply_preset(self._rendering, _PRESETS.get(self._volume.modality or "", "MR-Default"))
        self._rendering.SetVisibility(visible)
        self._reset_space()

    def _reset_space(self) -> None:
        for view in self._app.view_manager.get_threed_views():
            view.reset_view()

    # -- where the views are --------------------------------------------------------------------------------

    def jump(self, ras: Sequence[float]) -> None:
        """Take all slice views to a point (RAS, mm)."""
        for view in self.views:
            view.get_view_node().JumpSliceByOffsetting(*(float(v) for v in ras))

    def nearest(self, centres_ras: np.ndarray[Any, Any]) -> int:
        """Which of the points (N, 3), RAS mm, lies nearest to the red view's plane."""
        matrix = self.red.get_view_node().GetSliceToRAS()
        normal = np.array([matrix.GetElement(r, 2) for r in range(3)])
        point = np.array([matrix.GetElement(r, 3) for r in range(3)])
        return int(np.abs((centres_ras - point) @ normal).argmin())


def letters(view: SliceView) -> Letters:
    """What a reader must know of a slice: which side is which, and where it is."""
    matrix = view.get_view_node().GetSliceToRAS()
    right, up, normal, at = (np.array([matrix.GetElement(r, c) for r in range(3)]) for c in range(4))
    axis = int(np.argmax(np.abs(normal)))
    side = letter(np.eye(3)[axis] * (1 if at[axis] >= 0 else -1))
    return Letters(letter(-right), letter(right), letter(up), letter(-up), f"{side} {abs(at[axis]):.1f} mm")

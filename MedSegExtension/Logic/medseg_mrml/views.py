"""Slice views without a window on a screen: Slicer's own slice logic and displayable managers, rendered to arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import slicer
import vtk
from vtk.util import numpy_support

from .headless import HeadlessScene

Picture = npt.NDArray[np.uint8]

_MANAGERS = ("vtkMRMLSegmentationsDisplayableManager2D", "vtkMRMLVolumeGlyphSliceDisplayableManager")
_WHITE = (1.0, 1.0, 1.0)


class SliceView:
    """One offscreen slice view of ``size`` x ``size`` pixels with a slice node called ``name`` (Red, Green, Yellow)."""

    def __init__(self, headless: HeadlessScene, name: str, size: int = 420) -> None:
        self.size = size
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(headless.logic)
        headless.logic.GetSliceLogics().AddItem(self.logic)
        self.logic.SetMRMLScene(headless.scene)
        self.node = self.logic.AddSliceNode(name)
        self.logic.ResizeSliceNode(size, size)
        self._window: Any = None
        self._headless = headless

    def show(self, volume_node: Any, orientation: str, point_ras: npt.ArrayLike) -> None:
        """Show ``volume_node`` in its own plane nearest to ``orientation`` through ``point_ras``, fitted."""
        self.logic.GetSliceCompositeNode().SetBackgroundVolumeID(volume_node.GetID())
        self.node.SetOrientation(orientation)
        self.node.RotateToVolumePlane(volume_node)
        self.logic.FitSliceToBackground()
        self.node.JumpSliceByOffsetting(*(float(v) for v in np.asarray(point_ras)))
        self.logic.SnapSliceOffsetToIJK()

    def picture(self, caption: str = "", *, position: bool = True) -> Picture:
        """What the view shows, (height, width, 3), with orientation letters, ``caption`` and the slice's position."""
        self._make_window()
        self._label(caption, position)
        self.logic.UpdateImageData()
        self._mapper.SetInputConnection(self.logic.GetImageDataConnection())
        return grab(self._window)

    def _make_window(self) -> None:
        if self._window is not None:
            return
        self._window, renderer = offscreen(self.size, self.size)
        renderer.GetActiveCamera().ParallelProjectionOn()
        self._mapper = vtk.vtkImageMapper()
        # The slice logic's image is ready to show: window and level were applied by the volume's display node.
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        actor = vtk.vtkActor2D()
        actor.SetMapper(self._mapper)
        actor.GetProperty().SetDisplayLocationToBackground()
        renderer.AddViewProp(actor)
        self._texts: list[Any] = []
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        factory.SetMRMLApplicationLogic(self._headless.logic)
        for name in _MANAGERS:
            if not factory.IsDisplayableManagerRegistered(name):
                factory.RegisterDisplayableManager(name)
        self._group = slicer.vtkMRMLDisplayableManagerGroup()
        self._group.Initialize(factory, renderer)
        self._group.SetMRMLDisplayableNode(self.node)
        self._renderer = renderer

    def _label(self, caption: str, position: bool) -> None:
        for actor in self._texts:
            self._renderer.RemoveViewProp(actor)
        matrix = self.node.GetSliceToRAS()
        right = np.array([matrix.GetElement(r, 0) for r in range(3)])
        up = np.array([matrix.GetElement(r, 1) for r in range(3)])
        middle, edge = self.size // 2, 10
        normal = np.array([matrix.GetElement(r, 2) for r in range(3)])
        axis = int(np.argmax(np.abs(normal)))
        offset = matrix.GetElement(axis, 3)
        side = letter(np.eye(3)[axis] * (1 if offset >= 0 else -1))
        place = f"{side} {abs(offset):.1f} mm" if position else ""
        self._texts = [
            text(letter(-right), (edge, middle), 17, "left", "centre"),
            text(letter(right), (self.size - edge, middle), 17, "right", "centre"),
            text(letter(up), (middle, self.size - edge), 17, "centre", "top"),
            text(letter(-up), (middle, edge), 17, "centre", "bottom"),
            text(caption, (edge, self.size - edge), 15, "left", "top"),
            text(place, (edge, edge), 14, "left", "bottom"),
        ]
        for actor in self._texts:
            self._renderer.AddViewProp(actor)


def letter(direction_ras: npt.ArrayLike) -> str:
    """The patient's side that a RAS direction points to most: R, L, A, P, S or I."""
    direction = np.asarray(direction_ras, dtype=float)
    axis = int(np.argmax(np.abs(direction)))
    return "RAS"[axis] if direction[axis] > 0 else "LPI"[axis]


def offscreen(width: int, height: int) -> tuple[Any, Any]:
    """A render window that is on no screen, and its renderer with a black background."""
    window = vtk.vtkRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetMultiSamples(0)
    window.SetSize(width, height)
    renderer = vtk.vtkRenderer()
    renderer.SetBackground(0, 0, 0)
    window.AddRenderer(renderer)
    # Displayable managers expect an interactor; without events it does nothing.
    interactor = vtk.vtkGenericRenderWindowInteractor()
    interactor.SetRenderWindow(window)
    return window, renderer


def grab(window: Any) -> Picture:
    """Render ``window`` and return its pixels (height, width, 3), first row at the top."""
    window.Render()
    reader = vtk.vtkWindowToImageFilter()
    reader.SetInput(window)
    reader.SetInputBufferTypeToRGB()
    reader.ReadFrontBufferOff()
    reader.Update()
    image = reader.GetOutput()
    width, height, _ = image.GetDimensions()
    pixels = numpy_support.vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, 3)
    return np.array(pixels[::-1])


def text(
    words: str,
    at: tuple[int, int],
    size: int,
    horizontal: str = "left",
    vertical: str = "bottom",
    color: tuple[float, float, float] = _WHITE,
    shadow: bool = True,
) -> Any:
    """A text actor at pixel ``at`` (x to the right, y up)."""
    actor = vtk.vtkTextActor()
    actor.SetInput(words)
    style = actor.GetTextProperty()
    style.SetFontFamilyToArial()
    style.SetFontSize(size)
    style.SetColor(*color)
    style.SetShadow(shadow)
    {"left": style.SetJustificationToLeft, "centre": style.SetJustificationToCentered,
     "right": style.SetJustificationToRight}[horizontal]()  # fmt: skip
    {"bottom": style.SetVerticalJustificationToBottom, "centre": style.SetVerticalJustificationToCentered,
     "top": style.SetVerticalJustificationToTop}[vertical]()  # fmt: skip
    actor.SetPosition(*at)
    return actor


def save_png(picture: Picture, path: str) -> None:
    """Write (height, width, 3) pixels as PNG. Raises `OSError` where the file could not be written."""
    height, width, _ = picture.shape
    image = vtk.vtkImageData()
    image.SetDimensions(width, height, 1)
    flat = np.ascontiguousarray(picture[::-1]).reshape(-1, 3)
    image.GetPointData().SetScalars(numpy_support.numpy_to_vtk(flat, deep=True))
    writer = vtk.vtkPNGWriter()
    writer.SetFileName(path)
    writer.SetInputData(image)
    writer.Write()
    if writer.GetErrorCode():
        raise OSError(f"{path} could not be written; is the disk full?")

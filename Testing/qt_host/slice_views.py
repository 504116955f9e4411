"""Three slice views and a plot view in Qt windows, drawn by the real displayable managers and chart classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Signal
from vtk.util import numpy_support

from .observing import Observing

VIEWS = {"Red": ("Axial", "R", (0.95, 0.29, 0.29)), "Yellow": ("Sagittal", "Y", (0.93, 0.84, 0.30)),
         "Green": ("Coronal", "G", (0.43, 0.69, 0.30))}  # fmt: skip
_MANAGERS = (
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLCrosshairDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
)


class _Picture(QtWidgets.QWidget):
    """A VTK render window, drawn offscreen and shown as an image when it asks to be."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.window_ = vtk.vtkRenderWindow()
        self.window_.SetOffScreenRendering(1)
        self.window_.SetShowWindow(False)
        self._image = QtGui.QImage()
        self._due = QtCore.QTimer(self)
        self._due.setSingleShot(True)
        self._due.setInterval(30)
        self._due.timeout.connect(self.draw)
        self.setMinimumSize(120, 120)

    def request(self, *_: Any) -> None:
        self._due.start()

    def draw(self) -> None:
        width, height = max(self.width(), 2), max(self.height(), 2)
        self.window_.SetSize(width, height)
        self.window_.Render()
        pixels = vtk.vtkUnsignedCharArray()
        self.window_.GetRGBACharPixelData(0, 0, width - 1, height - 1, 0, pixels)
        rows = numpy_support.vtk_to_numpy(pixels).reshape(height, width, 4)[::-1]
        rows = np.ascontiguousarray(rows)
        rows[..., 3] = 255
        self._image = QtGui.QImage(rows.data, width, height, 4 * width, QtGui.QImage.Format.Format_RGBA8888).copy()
        self.update()

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        painter = QtGui.QPainter(self)
        painter.drawImage(0, 0, self._image)

    def resizeEvent(self, event: QtGui.QResizeEvent) -> None:
        self.request()


class qMRMLSliceWidget(_Picture, Observing):
    """One slice view: its logic, its node and its picture. The wheel moves the slice."""

    def __init__(self, scene: Any, application_logic: Any, name: str) -> None:
        super().__init__()
        orientation, label, color = VIEWS[name]
        self._logic = slicer.vtkMRMLSliceLogic()
        self._logic.SetMRMLApplicationLogic(application_logic)
        self._logic.SetMRMLScene(scene)
        self._node = self._logic.AddSliceNode(name)
        self._node.SetLayoutLabel(label)
        self._node.SetLayoutColor(*color)
        self._node.SetOrientation(orientation)
        self._node.SetMappedInLayout(1)
        application_logic.GetSliceLogics().AddItem(self._logic)
        self._renderer = vtk.vtkRenderer()
        self.window_.AddRenderer(self._renderer)
        self._interactor = vtk.vtkGenericRenderWindowInteractor()
        self._interactor.SetRenderWindow(self.window_)
        mapper = vtk.vtkImageMapper()
        mapper.SetColorWindow(255)
        mapper.SetColorLevel(127.5)
        mapper.SetInputConnection(self._logic.GetImageDataConnection())
        self._mapper, self._actor = mapper, vtk.vtkActor2D()
        self._actor.SetMapper(mapper)
        self._renderer.AddViewProp(self._actor)
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        factory.SetMRMLApplicationLogic(application_logic)
        for manager in _MANAGERS:
            if not factory.IsDisplayableManagerRegistered(manager):
                factory.RegisterDisplayableManager(manager)
        self._managers = factory.InstantiateDisplayableManagers(self._renderer)
        self._managers.SetMRMLDisplayableNode(self._node)
        self.observe(self._managers, vtk.vtkCommand.UpdateEvent, self.request)
        self.observe(self._logic, vtk.vtkCommand.ModifiedEvent, self.request)
        self.observe(self._node, vtk.vtkCommand.ModifiedEvent, self.request)

    def mrmlSliceNode(self) -> Any:
        return self._node

    def sliceLogic(self) -> Any:
        return self._logic

    def mrmlSliceCompositeNode(self) -> Any:
        return self._logic.GetSliceCompositeNode()

    def draw(self) -> None:
        background = self._logic.GetBackgroundLayer().GetVolumeNode()
        self._actor.SetVisibility(background is not None and self._logic.GetImageDataConnection() is not None)
        self._mapper.SetInputConnection(self._logic.GetImageDataConnection())
        super().draw()

    def resizeEvent(self, event: QtGui.QResizeEvent) -> None:
        self._logic.ResizeSliceNode(max(self.width(), 2), max(self.height(), 2))
        super().resizeEvent(event)

    def wheelEvent(self, event: QtGui.QWheelEvent) -> None:
        step = self._logic.GetLowestVolumeSliceSpacing()[2] * (1 if event.angleDelta().y() > 0 else -1)
        self._logic.SetSliceOffset(self._logic.GetSliceOffset() + step)


class qMRMLPlotView(_Picture, Observing):
    """The active plot chart as a VTK chart. ``select`` does what a click on a point does in the application."""

    dataSelected = Signal(object, object)
    mrmlSceneChanged = Signal(object)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._view: Any = None
        self._chart = vtk.vtkChartXY()
        self._context = vtk.vtkContextActor()
        self._context.GetScene().AddItem(self._chart)
        renderer = vtk.vtkRenderer()
        renderer.SetBackground(1, 1, 1)
        renderer.AddActor(self._context)
        self.window_.AddRenderer(renderer)

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene

    def setMRMLPlotViewNode(self, node: Any) -> None:
        self._view = node
        self.observe(node, vtk.vtkCommand.ModifiedEvent, lambda *_: self.fill())
        self.fill()

    def chart(self) -> Any:
        return self._chart

    def _series(self) -> list[Any]:
        chart = self._scene.GetNodeByID(self._view.GetPlotChartNodeID() or "") if self._view is not None else None
        if chart is None:
            return []
        nodes = [chart.GetNthPlotSeriesNode(n) for n in range(chart.GetNumberOfPlotSeriesNodes())]
        return [n for n in nodes if n is not None and n.GetTableNode() is not None]

    def fill(self) -> None:
        self._chart.ClearPlots()
        for series in self._series():
            plot = self._chart.AddPlot(vtk.vtkChart.LINE)
            table = series.GetTableNode().GetTable()
            plot.SetInputData(table, series.GetXColumnName() or "", series.GetYColumnName())
            red, green, blue = series.GetColor()
            plot.SetColorF(red, green, blue, 1.0)
            plot.SetLabel(series.GetName())
            plot.SetWidth(2)
        self._chart.SetShowLegend(True)
        chart = self._view.GetPlotChartNode() if self._view is not None else None
        if chart is not None:
            self._chart.SetTitle(chart.GetTitle() or "")
            self._chart.GetAxis(vtk.vtkAxis.BOTTOM).SetTitle(chart.GetXAxisTitle() or "")
            self._chart.GetAxis(vtk.vtkAxis.LEFT).SetTitle(chart.GetYAxisTitle() or "")
        self.request()

    def select(self, series: Any, row: int) -> None:
        ids, selections, rows = vtk.vtkStringArray(), vtk.vtkCollection(), vtk.vtkIdTypeArray()
        ids.InsertNextValue(series.GetID())
        rows.InsertNextValue(row)
        selections.AddItem(rows)
        self.dataSelected.emit(ids, selections)


class qMRMLPlotWidget(QtWidgets.QWidget):
    """The layout's plot viewer."""

    def __init__(self, scene: Any) -> None:
        super().__init__()
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._view = qMRMLPlotView()
        self._node = scene.GetFirstNodeByClass("vtkMRMLPlotViewNode")
        if self._node is None:
            self._node = slicer.vtkMRMLPlotViewNode()
            self._node.SetSingletonTag("PlotView1")
            self._node.SetLayoutName("PlotView1")
            self._node = scene.AddNode(self._node)
        self._view.setMRMLScene(scene)
        self._view.setMRMLPlotViewNode(self._node)
        layout.addWidget(self._view)

    def plotView(self) -> Any:
        return self._view

    def mrmlPlotViewNode(self) -> Any:
        return self._node

"""Stand-ins for ``slicer.app``, its layout manager, and ``slicer.modules``."""

from __future__ import annotations

import sys
import tempfile
from typing import Any

import slicer
from PySide6 import QtCore, QtWidgets

from .api import api
from .bridge import wrap
from .slice_views import VIEWS, qMRMLPlotWidget, qMRMLSliceWidget


class LayoutManager:
    """Three slice views in a row and one plot view below, always."""

    def __init__(self, scene: Any, application_logic: Any) -> None:
        self._logic = application_logic
        self._slices = {name: qMRMLSliceWidget(scene, application_logic, name) for name in VIEWS}
        self._plot = qMRMLPlotWidget(scene)
        self.layout = 0
        self.viewport_ = QtWidgets.QWidget()
        grid = QtWidgets.QGridLayout(self.viewport_)
        grid.setContentsMargins(2, 2, 2, 2)
        for n, view in enumerate(self._slices.values()):
            grid.addWidget(view, n // 2, n % 2)
        grid.addWidget(self._plot, 1, 1)

    def sliceViewNames(self) -> list[str]:
        return list(self._slices)

    def sliceWidget(self, name: str) -> Any:
        return wrap(self._slices[name])

    def mrmlSliceLogics(self) -> Any:
        return self._logic.GetSliceLogics()

    @property
    def plotViewCount(self) -> int:
        return 1

    def plotWidget(self, index: int) -> Any:
        return wrap(self._plot)

    def setLayout(self, layout: int) -> None:
        self.layout = layout

    @property
    def threeDViewCount(self) -> int:
        return 0


class _Modules:
    """``slicer.modules``: each built-in module with its real logic class from ``slicer-core``."""

    def __init__(self, application_logic: Any, scene: Any) -> None:
        self._application, self._scene, self._made = application_logic, scene, {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in self._made:
            wanted = {f"vtkslicer{name}modulelogic", f"vtkslicer{name}logic"}
            found = [n for n in dir(slicer) if n.lower() in wanted]
            if not found:
                raise AttributeError(f"the test host has no module {name}")
            logic = getattr(slicer, found[0])()
            logic.SetMRMLApplicationLogic(self._application)
            logic.SetMRMLScene(self._scene)
            self._made[name] = type("Module", (), {"logic": staticmethod(lambda: logic), "name": name})()
        return self._made[name]


class Application:
    """``slicer.app``: what the panel asks of it; any other name is refused."""

    applicationName = mainApplicationName = "Slicer"
    majorVersion, minorVersion = 5, 13
    applicationVersion = "5.13.0-test-host"
    revision = "0"
    os, arch = sys.platform, "test"

    def __init__(self, scene: Any, application_logic: Any, testing: bool) -> None:
        self._scene, self._logic, self._testing = scene, application_logic, testing
        self.connected: dict[str, list[Any]] = {}
        self.renders_paused = 0
        self._folder = tempfile.TemporaryDirectory(prefix="medseg_host_")
        self.temporaryPath = self._folder.name
        self._settings = QtCore.QSettings(f"{self._folder.name}/Slicer.ini", QtCore.QSettings.Format.IniFormat)
        self._layout = LayoutManager(scene, application_logic)

    def connect(self, signal: str, slot: Any) -> bool:
        """Signals of the application's start are not sent; what was connected is in ``connected``."""
        api().require("slicer.app", signal.split("(")[0])
        self.connected.setdefault(signal, []).append(slot)
        return True

    def disconnect(self, signal: str, slot: Any) -> bool:
        there = slot in self.connected.get(signal, [])
        if there:
            self.connected[signal].remove(slot)
        return there

    def layoutManager(self) -> LayoutManager:
        return self._layout

    def applicationLogic(self) -> Any:
        return self._logic

    def mrmlScene(self) -> Any:
        return self._scene

    def testingEnabled(self) -> bool:
        return self._testing

    def processEvents(self) -> None:
        QtWidgets.QApplication.processEvents()

    def settings(self) -> Any:
        return wrap(self._settings)

    userSettings = settings

    def clipboard(self) -> Any:
        return QtWidgets.QApplication.clipboard()

    def topLevelWidgets(self) -> list[Any]:
        return wrap(QtWidgets.QApplication.topLevelWidgets()) or []

    def startupEnvironment(self) -> Any:
        return QtCore.QProcessEnvironment.systemEnvironment()

    def setOverrideCursor(self, cursor: Any) -> None:
        QtWidgets.QApplication.setOverrideCursor(cursor)

    def restoreOverrideCursor(self) -> None:
        QtWidgets.QApplication.restoreOverrideCursor()

    def overrideCursor(self) -> Any:
        return QtWidgets.QApplication.overrideCursor()

    def pauseRender(self) -> None:
        self.renders_paused += 1

    def resumeRender(self) -> None:
        self.renders_paused -= 1

    def moduleManager(self) -> Any:
        return type("Manager", (), {"connect": lambda *_: True, "disconnect": lambda *_: True})()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        api().require("slicer.app", name)
        raise NotImplementedError(f"the test host has no stand-in for slicer.app.{name}")

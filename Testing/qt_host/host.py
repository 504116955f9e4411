"""Starts the host once for a process: screen, QApplication, scene, stand-ins in ``sys.modules``."""

from __future__ import annotations

import ctypes
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .api import api
from .display import ensure_display

_started: Host | None = None


def keep_constants_alive() -> None:
    """Make None, True and False immortal, as Python 3.12 does.

    PySide6 gives back more references to them than it took (about 700 to None a panel test); before 3.12 the
    interpreter aborts when they are used up. Only this test host uses PySide6.
    """
    if sys.version_info < (3, 12):
        for constant in (None, True, False):
            ctypes.c_ssize_t.from_address(id(constant)).value += 1 << 40


class Host:
    """The running host. ``scene``: the MRML scene; ``messages``: what message boxes said."""

    def __init__(self, platform: str, application: Any, scene: Any) -> None:
        from .ctk_widgets import ctkMessageBox

        self.platform, self._application, self.scene = platform, application, scene
        self.messages: list[str] = ctkMessageBox.shown
        self._window: Any = None

    def load_module(self, path: Path) -> Any:
        """Load a scripted module file as Slicer does at its start; the result is ``slicer.modules.<name>``."""
        from .scripted import LoadedModule

        return LoadedModule(path)

    def answer(self, button: str) -> None:
        """What the user presses in message boxes from now on: Ok, Cancel, Yes, No."""
        from PySide6.QtWidgets import QMessageBox

        from .ctk_widgets import ctkMessageBox

        ctkMessageBox.answer = QMessageBox.StandardButton[button]

    def pump(self, seconds: float = 0.05) -> None:
        """Let the event loop run for some time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._application.processEvents()
            time.sleep(0.002)

    def wait_for(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        """Let the event loop run until ``condition`` holds; AssertionError after ``seconds``."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise AssertionError("the condition did not come true in time")
            self._application.processEvents()
            time.sleep(0.002)

    def show(self, page: Any, width: int = 1500, height: int = 1000, panel: int = 470) -> Any:
        """A main window: the module's page in a scroll area on the left, the views on the right."""
        import slicer
        from PySide6 import QtCore, QtWidgets

        from .bridge import unwrap

        window = QtWidgets.QMainWindow()
        window.setObjectName("qSlicerMainWindow")
        splitter = QtWidgets.QSplitter(QtCore.Qt.Orientation.Horizontal)
        scroll = QtWidgets.QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(unwrap(page))
        splitter.addWidget(scroll)
        splitter.addWidget(slicer.app.layoutManager().viewport_)
        splitter.setSizes([panel, width - panel])
        splitter.setStretchFactor(1, 1)
        window.setCentralWidget(splitter)
        window.resize(width, height)
        window.show()
        self._window, self._scroll = window, scroll
        self.pump(0.2)
        return window

    def scroll_to(self, widget: Any) -> None:
        """Bring a widget of the panel into sight."""
        from .bridge import unwrap

        target = unwrap(widget)
        top = target.mapTo(self._scroll.widget(), target.rect().topLeft()).y()
        self._scroll.verticalScrollBar().setValue(top - 4)
        self.pump(0.05)

    def screenshot(self, path: Path, widget: Any = None) -> Path:
        """Write a PNG of the main window, or of ``widget``, as it is on the screen."""
        from .bridge import unwrap

        self.pump(0.25)
        path.parent.mkdir(parents=True, exist_ok=True)
        target = unwrap(widget) if widget is not None else self._window
        if not target.grab().save(str(path)):
            raise OSError(f"{path.name} could not be written")
        return path

    def close_window(self) -> None:
        """Take the panel and the views out of the window (they live on) and close it."""
        import slicer

        if self._window is not None:
            page = self._scroll.takeWidget()
            if page is not None:
                page.setParent(None)
            slicer.app.layoutManager().viewport_.setParent(None)
            self._window.close()
            self._window.deleteLater()
            self._window = None


def start(testing: bool = False) -> Host:
    """Start the host, or give the one that runs. ``testing``: what ``slicer.app.testingEnabled()`` says."""
    global _started
    if _started is not None:
        return _started
    keep_constants_alive()
    platform = ensure_display()
    from PySide6 import QtWidgets

    application = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["medseg-test-host"])
    application.setQuitOnLastWindowClosed(False)
    import slicer
    import slicer.util

    from . import parameter_node, scripted
    from .application import Application, _Modules
    from .bridge import QtClass
    from .ctk_widgets import CTK
    from .mrml_widgets import SLICER_WIDGETS
    from .qt_module import QtModule, UiLoader, WidgetModule
    from .slice_views import qMRMLPlotView

    widgets = {**SLICER_WIDGETS, "qMRMLPlotView": qMRMLPlotView}
    UiLoader.custom = {**CTK, **widgets}
    sys.modules["qt"] = QtModule()
    sys.modules["ctk"] = WidgetModule("ctk", CTK)
    for name, cls in widgets.items():
        api().require("slicer", name)
        setattr(slicer, name, QtClass(cls))
    scene, logic = make_scene()
    slicer.mrmlScene = scene
    slicer.selfTests = {}
    slicer.modules = _Modules(logic, scene)
    for name in ("sequences", "markups"):  # as in the application, their node classes are registered from the start
        getattr(slicer.modules, name)
    slicer.app = Application(scene, logic, testing)
    logic.SetTemporaryPath(slicer.app.temporaryPath)
    i18n = types.ModuleType("slicer.i18n")
    i18n.tr = lambda text: text  # type: ignore[attr-defined]
    i18n.translate = lambda context, text: text  # type: ignore[attr-defined]
    parts = {"i18n": i18n, "parameterNodeWrapper": parameter_node.module(), "ScriptedLoadableModule": scripted.module()}
    for name, part in parts.items():
        api().require("slicer", name)
        sys.modules[f"slicer.{name}"] = part
        setattr(slicer, name, part)
    _started = Host(platform, application, scene)
    return _started


def make_scene() -> tuple[Any, Any]:
    """A scene with the logics that register node types, as the application makes it at its start."""
    import tempfile

    from medseg_mrml.headless import HeadlessScene

    global _headless
    _headless = HeadlessScene(tempfile.mkdtemp(prefix="medseg_host_"))
    return _headless.scene, _headless.logic


_headless: Any = None

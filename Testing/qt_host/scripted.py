"""Stand-in for ``slicer.ScriptedLoadableModule`` and for what loads, opens and reloads a scripted module."""

from __future__ import annotations

import importlib.util
import sys
import types
import unittest
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtWidgets
from PySide6.QtCore import Property

from .bridge import QtObject, wrap
from .mrml_widgets import qMRMLWidget
from .observing import Observing


class ScriptedLoadableModule:
    """Describes the module; ``runTest`` runs the class called <module>Test."""

    def __init__(self, parent: Any) -> None:
        self.parent = parent
        self.moduleName = type(self).__name__
        parent.title, parent.categories, parent.dependencies, parent.contributors = "", [], [], []
        parent.helpText, parent.acknowledgementText = "", ""
        slicer.selfTests[self.moduleName] = self.runTest

    def resourcePath(self, filename: str) -> str:
        return str(Path(self.parent.path).parent / "Resources" / filename)

    def getDefaultModuleDocumentationLink(self, docPage: str | None = None) -> str:
        return ""

    def runTest(self, msec: int = 100, **kwargs: Any) -> None:
        case = getattr(sys.modules[type(self).__module__], self.moduleName + "Test")()
        case.messageDelay = msec
        case.runTest(**kwargs)


class ScriptedLoadableModuleWidget:
    """The module's widget; ``parent`` is the module panel's page."""

    def __init__(self, parent: Any = None) -> None:
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = False
        self.parent = parent
        self.layout = parent.layout()

    def resourcePath(self, filename: str) -> str:
        return str(Path(slicer.util.modulePath(self.moduleName)).parent / "Resources" / filename)

    def setup(self) -> None:
        """Nothing: the developer's section is left out."""

    def cleanup(self) -> None:
        """For the module to override."""

    def onReload(self) -> None:
        slicer.util.reloadScriptedModule(self.moduleName)


class ScriptedLoadableModuleLogic:
    """Gives the module's singleton parameter node."""

    def __init__(self, parent: Any = None) -> None:
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self) -> Any:
        scene = slicer.mrmlScene
        node = scene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = scene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
            node.UnRegister(None)
            node.SetSingletonTag(self.moduleName)
            node.SetModuleName(self.moduleName)
            node = scene.AddNode(node)
        node.SetAttribute("ModuleName", self.moduleName)
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """A test case that can be made without a method's name."""

    messageDelay = 0

    def __init__(self, *args: Any) -> None:
        super().__init__(*(args or ("runTest",)))

    def delayDisplay(self, message: str, msec: int | None = None, **kwargs: Any) -> None:
        slicer.util.delayDisplay(message, 0)

    def runTest(self) -> None:
        """For the module to override."""


class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    """The page that carries the module's widget."""

    def __init__(self, module: LoadedModule) -> None:
        super().__init__()
        QtWidgets.QVBoxLayout(self)
        self._module, self._entered = module, False

    isEntered = Property(bool, lambda self: self._entered)

    def reload(self) -> None:
        self._module.make_widget()

    def set_entered(self, entered: bool) -> None:
        """The user comes to the module, or leaves it."""
        self._entered = entered
        getattr(self._module.widget, "enter" if entered else "exit")()


class LoadedModule:
    """What ``slicer.modules.<name>`` is for a scripted module."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = str(path), path.stem
        spec = importlib.util.spec_from_file_location(self.name, path)
        assert spec is not None and spec.loader is not None
        self.python = sys.modules[self.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.python)
        self.page: qSlicerScriptedLoadableModuleWidget | None = None
        self.widget: Any = None
        setattr(slicer.modules, self.name.lower(), self)
        self.module = getattr(self.python, self.name)(self)

    def widgetRepresentation(self) -> QtObject:
        if self.page is None:
            self.page = qSlicerScriptedLoadableModuleWidget(self)
            self.page.setMRMLScene(slicer.mrmlScene)
            self.make_widget()
        return wrap(self.page)

    def close(self) -> None:
        """End the widget as the application does at its exit; the page and its scene observers go too."""
        if self.page is not None:
            self.widget.cleanup()
            for child in [self.page, *self.page.findChildren(QtWidgets.QWidget)]:
                if isinstance(child, Observing):
                    child.unobserve()
            self.page.deleteLater()
            self.page = self.widget = None

    def make_widget(self) -> None:
        """Make and set up the module's widget from the source that is loaded now."""
        self.python = sys.modules[self.name]
        self.module = getattr(self.python, self.name)(self)
        self.widget = getattr(self.python, self.name + "Widget")(wrap(self.page))
        setattr(slicer.modules, self.name + "Widget", self.widget)
        self.widget.setup()


def module() -> types.ModuleType:
    """The importable ``slicer.ScriptedLoadableModule``."""
    made = types.ModuleType("slicer.ScriptedLoadableModule")
    classes = (
        ScriptedLoadableModule,
        ScriptedLoadableModuleWidget,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
    )
    for cls in classes:
        setattr(made, cls.__name__, cls)
    made.__all__ = [cls.__name__ for cls in classes]  # type: ignore[attr-defined]
    return made

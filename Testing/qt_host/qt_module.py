"""The ``qt`` module: classes of Qt Core, Gui, Widgets and Network under one name, and `.ui` files."""

from __future__ import annotations

import types
import xml.etree.ElementTree as ElementTree
from typing import Any, ClassVar

from PySide6 import QtCore, QtGui, QtNetwork, QtUiTools, QtWidgets

from .api import NotInSlicer, api, normalised
from .bridge import QtClass, QtObject, unwrap, wrap

_MODULES = (QtWidgets, QtGui, QtCore, QtNetwork)
# Layout margins and spacings are attributes of .ui files, not properties.
_UI_LAYOUT = {"leftMargin", "topMargin", "rightMargin", "bottomMargin", "margin", "spacing",
              "horizontalSpacing", "verticalSpacing"}  # fmt: skip


class QtModule(types.ModuleType):
    """``import qt``; a name that the application's ``qt`` lacks raises `NotInSlicer`."""

    def __init__(self) -> None:
        super().__init__("qt")
        self.QUiLoader = UiLoader

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        api().require("qt", name)
        for module in _MODULES:
            value = getattr(module, name, None)
            if value is not None:
                return QtClass(value) if isinstance(value, type) else value
        raise NotInSlicer(f"qt.{name} is in Slicer's Qt 5 but not in Qt 6")


class WidgetModule(types.ModuleType):
    """``import ctk``: the stand-ins that exist, by name."""

    def __init__(self, name: str, classes: dict[str, type]) -> None:
        super().__init__(name)
        self._classes = classes

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        api().require(self.__name__, name)
        if name not in self._classes:
            raise NotImplementedError(f"the test host has no stand-in for {self.__name__}.{name}")
        return QtClass(self._classes[name])


class UiLoader:
    """QUiLoader with the stand-in widgets; it refuses classes, properties and connections that Slicer lacks."""

    custom: ClassVar[dict[str, type[QtWidgets.QWidget]]] = {}

    def load(self, file: Any) -> Any:
        root = ElementTree.fromstring(bytes(unwrap(file).readAll().data()))
        check_ui(root)
        connections = root.find("connections")
        wires = list(connections) if connections is not None else []
        if connections is not None:
            root.remove(connections)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(root))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        widget = _Loader(self.custom).load(buffer)
        for wire in wires:
            self._wire(widget, *(wire.findtext(k) or "" for k in ("sender", "signal", "receiver", "slot")))
        return wrap(widget)

    def _wire(self, root: QtWidgets.QWidget, sender: str, signal: str, receiver: str, slot: str) -> None:
        source, sink = (w if w.objectName() == n else w.findChild(QtCore.QObject, n)
                        for w, n in ((root, sender), (root, receiver)))  # fmt: skip
        listed = api().class_named(type(sink).__name__)
        if listed is not None and normalised(slot) not in listed.slots:
            raise NotInSlicer(f".ui connection: {type(sink).__name__} has no slot {slot}")
        QtObject(source).connect(signal, lambda value: getattr(sink, slot.split("(")[0])(unwrap(value)))


class _Loader(QtUiTools.QUiLoader):
    def __init__(self, custom: dict[str, type[QtWidgets.QWidget]]) -> None:
        super().__init__()
        self._custom = custom
        self._kept: list[QtWidgets.QWidget] = []

    def createWidget(self, class_name: str, parent: Any = None, name: str = "") -> QtWidgets.QWidget:
        if class_name not in self._custom:
            if class_name.startswith(("ctk", "qMRML", "qSlicer")):
                raise NotImplementedError(f"the test host has no stand-in for {class_name}, used in a .ui file")
            return super().createWidget(class_name, parent, name)
        widget = self._custom[class_name](parent)
        widget.setObjectName(name)
        return widget


def check_ui(root: ElementTree.Element) -> None:
    """Raise `NotInSlicer` for a property in a .ui file that its widget does not have in the application."""
    for widget in root.iter("widget"):
        name = widget.get("class", "")
        listed = api().class_named(name)
        for entry in widget.findall("property"):
            field = entry.get("name", "")
            if listed and field not in listed.properties | _UI_LAYOUT and entry.get("stdset") != "0":
                raise NotInSlicer(f".ui file: {name} {widget.get('name')!r} has no property {field!r}")

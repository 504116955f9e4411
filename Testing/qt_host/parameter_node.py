"""Stand-in for ``slicer.parameterNodeWrapper``: typed attributes kept in a real ``vtkMRMLScriptedModuleNode``.

Types: bool, int, float, str and node classes, with `WithinRange` and `Choice`.
Widgets: node selector, check box, spin boxes, combo box, line edit.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import slicer
import vtk


@dataclass(frozen=True)
class WithinRange:
    """The number lies between both, else ValueError."""

    minimum: float
    maximum: float

    def check(self, value: Any) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"{value} is not between {self.minimum} and {self.maximum}")


class Choice:
    """The value is one of these, else ValueError."""

    def __init__(self, choices: list[Any]) -> None:
        self.choices = choices

    def check(self, value: Any) -> None:
        if value not in self.choices:
            raise ValueError(f"{value!r} is not one of {self.choices}")


class _Parameter:
    def __init__(self, name: str, annotation: Any, default: Any) -> None:
        self.name, self.checks = name, ()
        if hasattr(annotation, "__metadata__"):
            annotation, self.checks = annotation.__origin__, annotation.__metadata__
        self.type = annotation
        self.is_node = isinstance(annotation, type) and issubclass(annotation, slicer.vtkMRMLNode)
        if not self.is_node and annotation not in (bool, int, float, str):
            raise TypeError(f"the test host's parameterNodeWrapper has no type {annotation!r} (parameter {name})")
        self.default = None if self.is_node else annotation() if default is None else default

    def read(self, node: Any) -> Any:
        if self.is_node:
            return node.GetNodeReference(self.name)
        text = node.GetParameter(self.name)
        return text == "True" if self.type is bool else self.type(text)

    def write(self, node: Any, value: Any) -> None:
        if value is not None or not self.is_node:
            if not isinstance(value, (int, float) if self.type is float else self.type):
                raise ValueError(f"{self.name}: {value!r} is not of type {self.type.__name__}")
            for check in self.checks:
                check.check(value)
        if self.is_node:
            node.SetParameter(self.name, "")
            node.SetNodeReferenceID(self.name, value.GetID() if value is not None else None)
        else:
            node.SetParameter(self.name, str(value))


def _kind(widget: Any) -> tuple[str, Callable[[], Any], Callable[[Any], None]]:
    """Signal, reader and writer of a widget, by its class."""
    name = widget.className()
    if name == "qMRMLNodeComboBox":
        return "currentNodeChanged(vtkMRMLNode*)", widget.currentNode, widget.setCurrentNode
    attribute, signal = {
        "QCheckBox": ("checked", "stateChanged(int)"),
        "QSpinBox": ("value", "valueChanged(int)"),
        "QDoubleSpinBox": ("value", "valueChanged(double)"),
        "QComboBox": ("currentText", "currentIndexChanged(int)"),
        "QLineEdit": ("text", "textChanged(QString)"),
    }[name]
    return signal, lambda: getattr(widget, attribute), lambda value: setattr(widget, attribute, value)


class _Connection:
    """Widgets and parameters kept equal."""

    def __init__(self, owner: Any, widgets: dict[str, Any]) -> None:
        self._owner, self._busy, self._ends = owner, False, []
        for name, widget in widgets.items():
            signal, read, write = _kind(widget)
            if widget.className() == "qMRMLNodeComboBox":
                widget.nodeTypes = [owner.allParameters[name].type.__name__]
            self._ends.append((name, widget, signal, write, self._changed(name, read)))
        self.update()
        for _, widget, signal, _, callback in self._ends:
            widget.connect(signal, callback)
        self._tag = owner.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self.update())

    def _changed(self, name: str, read: Callable[[], Any]) -> Callable[[], None]:
        def callback() -> None:
            if not self._busy:
                setattr(self._owner, name, read())

        return callback

    def update(self) -> None:
        if self._busy:
            return
        self._busy = True
        try:
            for name, _, _, write, _ in self._ends:
                write(getattr(self._owner, name))
        finally:
            self._busy = False

    def end(self) -> None:
        for _, widget, signal, _, callback in self._ends:
            widget.disconnect(signal, callback)
        self._owner.RemoveObserver(self._tag)


def parameterNodeWrapper(cls: type | None = None) -> Any:
    """Class decorator: annotated attributes become parameters of a node."""
    if cls is None:
        return parameterNodeWrapper
    parameters = {
        name: _Parameter(name, annotation, cls.__dict__.get(name))
        for name, annotation in typing.get_type_hints(cls, include_extras=True).items()
    }

    def init(self: Any, node: Any) -> None:
        self.parameterNode = node
        self._connections = {}
        for parameter in parameters.values():
            if not node.HasParameter(parameter.name):
                parameter.write(node, parameter.default)

    def connect(self: Any, gui: Any) -> int:
        found = {w.property("SlicerParameterName"): w for w in vars(gui).values() if w.property("SlicerParameterName")}
        unknown = sorted(set(found) - set(parameters))
        if unknown:
            raise ValueError(f"Cannot find a param with the given name: {unknown[0]}")
        tag = len(self._connections) + 1
        self._connections[tag] = _Connection(self, found)
        return tag

    def disconnect(self: Any, tag: int | None) -> None:
        connection = self._connections.pop(tag, None)
        if connection is not None:
            connection.end()

    for name, parameter in parameters.items():
        setattr(
            cls,
            name,
            property(
                lambda self, p=parameter: p.read(self.parameterNode),
                lambda self, value, p=parameter: p.write(self.parameterNode, value),
            ),
        )
    for name, value in {
        "__init__": init,
        "allParameters": parameters,
        "connectGui": connect,
        "disconnectGui": disconnect,
        "AddObserver": lambda self, *a: self.parameterNode.AddObserver(*a),
        "RemoveObserver": lambda self, tag: self.parameterNode.RemoveObserver(tag),
        "StartModify": lambda self: self.parameterNode.StartModify(),
        "EndModify": lambda self, before: self.parameterNode.EndModify(before),
        "Modified": lambda self: self.parameterNode.Modified(),
    }.items():
        setattr(cls, name, value)
    return cls


def module() -> types.ModuleType:
    """The importable ``slicer.parameterNodeWrapper``."""
    made = types.ModuleType("slicer.parameterNodeWrapper")
    for item in (parameterNodeWrapper, WithinRange, Choice):
        setattr(made, item.__name__, item)
    return made

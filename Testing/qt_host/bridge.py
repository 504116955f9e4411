"""PySide6 objects and classes, seen as PythonQt shows them.

Properties are read and written without parentheses, signals are connected by signature or by name, slots get as many
arguments as they take, nothing can be added to a widget, and `NotInSlicer` is raised for what the application lacks.
"""

from __future__ import annotations

import contextlib
import traceback
import types
from collections.abc import Callable
from typing import Any, ClassVar

from PySide6 import QtCore, QtWidgets
from shiboken6 import Shiboken

from .api import ClassApi, NotInSlicer, api, by_name, normalised

# What receivers raised; as in PythonQt it is printed and the program goes on, so tests look here.
slot_errors: list[str] = []
# Properties that PythonQt hides behind a static function of the same name, so that they cannot be set.
_HIDDEN = {("QTimer", "singleShot")}
# PythonQt returns only the chosen path, PySide6 a tuple with the filter.
_PATH_ONLY = {"getOpenFileName", "getSaveFileName", "getOpenFileNames"}


def wrap(value: Any) -> Any:
    """``value`` as the panel sees it: Qt objects (also in lists) become proxies."""
    if isinstance(value, QtCore.QObject):
        return QtObject(value)
    if isinstance(value, (list, tuple)) and any(isinstance(v, QtCore.QObject) for v in value):
        return [wrap(v) for v in value]
    return value


def unwrap(value: Any) -> Any:
    """The PySide6 object or class behind a proxy; other values as they are."""
    if isinstance(value, QtObject):
        return value._target
    if isinstance(value, QtClass):
        return value._cls
    if isinstance(value, (list, tuple)):
        return type(value)(unwrap(v) for v in value)
    return value


def _class_api(target: QtCore.QObject) -> ClassApi | None:
    return api().class_named(type(target).__name__)


def _meta_properties(target: QtCore.QObject) -> set[str]:
    meta = target.metaObject()
    return {meta.property(n).name() for n in range(meta.propertyCount())}


def _meta_signals(target: QtCore.QObject) -> dict[str, tuple[str, ...]]:
    meta = target.metaObject()
    methods = [meta.method(n) for n in range(meta.methodCount())]
    signals = [m for m in methods if m.methodType() == QtCore.QMetaMethod.MethodType.Signal]
    return by_name([bytes(m.methodSignature().data()).decode() for m in signals])


class QtObject:
    """Proxy of one QObject."""

    __slots__ = ("_target",)
    _target: QtCore.QObject

    def __init__(self, target: QtCore.QObject) -> None:
        object.__setattr__(self, "_target", target)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, QtObject) and self._target is other._target

    def __hash__(self) -> int:
        return hash(self._target)

    def __repr__(self) -> str:
        return f"<{type(self._target).__name__} {self._target.objectName()!r}>"

    def __getattr__(self, name: str) -> Any:
        target = self._target
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "name" and isinstance(target, QtWidgets.QWidget):  # Slicer's alias of objectName, not for layouts
            return target.objectName()
        if not Shiboken.isValid(target):
            raise ValueError(f"Trying to read {name} of a destroyed {type(target).__name__} object")
        listed = _class_api(target)
        properties = listed.properties if listed else _meta_properties(target)
        if name in properties:
            return wrap(self._read(name))
        signals = listed.signals if listed else _meta_signals(target)
        if name in signals:
            return Signal(self, signals[name])
        if name == "connect":
            return self._connect
        if name == "disconnect":
            return self._disconnect
        if name == "className":
            return lambda: type(target).__name__
        plain = name.rstrip("_")  # PythonQt: exec_ and raise_ for names that Python reserves
        if listed is None or plain in listed.callables:
            method = getattr(target, name, None) or getattr(target, plain, None)
            if callable(method):
                return lambda *args: wrap(method(*(unwrap(a) for a in args)))
            if method is not None:
                return method  # an enumerator
        if name in {bytes(p.data()).decode() for p in target.dynamicPropertyNames()}:
            return target.property(name)
        raise NotInSlicer(f"{type(target).__name__} has no property, signal or method {name!r} (or the host lacks it)")

    def _read(self, name: str) -> Any:
        if self._target.metaObject().indexOfProperty(name) < 0:
            raise NotInSlicer(f"{type(self._target).__name__}.{name}: not in Qt 6 or not in this test host")
        return self._target.property(name)

    def __setattr__(self, name: str, value: Any) -> None:
        target = self._target
        name = "objectName" if name == "name" else name
        if (type(target).__name__, name) in _HIDDEN:
            raise NotInSlicer(f"Slot {name!r} can not be overwritten on {type(target).__name__} object")
        listed = _class_api(target)
        properties = listed.properties if listed else _meta_properties(target)
        dynamic = {bytes(p.data()).decode() for p in target.dynamicPropertyNames()}
        if name not in properties and name not in dynamic:
            raise NotInSlicer(f"{type(target).__name__} has no property {name!r}; PythonQt adds none")
        if value is None:
            raise NotInSlicer(f"property {name!r} of {type(target).__name__} does not accept None")
        if name in properties:
            self._read(name)
        if not target.setProperty(name, unwrap(value)) and name not in dynamic:
            raise NotInSlicer(f"property {name!r} of {type(target).__name__} does not accept {value!r}")

    def _signature(self, signal: str) -> str:
        listed = _class_api(self._target)
        signature = normalised(signal)
        signals = listed.signals if listed else _meta_signals(self._target)
        if signature not in signals.get(signature.split("(")[0], ()):
            raise NotInSlicer(f"{type(self._target).__name__} has no signal {signal!r}")
        return signature

    def _connect(self, signal: str, receiver: Callable[..., Any]) -> bool:
        Connections.of(self._target).add(self._signature(signal), receiver)
        return True

    def _disconnect(self, signal: str, receiver: Callable[..., Any]) -> bool:
        return Connections.of(self._target).remove(self._signature(signal), receiver)


class Signal:
    """``widget.clicked``: connect without naming the overload (the first one is taken, as in PythonQt)."""

    def __init__(self, owner: QtObject, signatures: tuple[str, ...]) -> None:
        self._owner = owner
        self._signature = max(signatures, key=lambda s: s.count(",") + (not s.endswith("()")))

    def connect(self, receiver: Callable[..., Any]) -> None:
        Connections.of(self._owner._target).add(self._signature, receiver)

    def disconnect(self, receiver: Callable[..., Any]) -> None:
        Connections.of(self._owner._target).remove(self._signature, receiver)


class Connections:
    """The Python receivers of one QObject's signals."""

    _all: ClassVar[dict[int, tuple[QtCore.QObject, Connections]]] = {}

    def __init__(self, target: QtCore.QObject) -> None:
        self._target = target
        self._slots: dict[tuple[str, Callable[..., Any]], tuple[Any, Any]] = {}

    @classmethod
    def of(cls, target: QtCore.QObject) -> Connections:
        known = cls._all.get(id(target))
        if known is None or known[0] is not target:
            known = cls._all[id(target)] = (target, cls(target))
        return known[1]

    def add(self, signature: str, receiver: Callable[..., Any]) -> None:
        name, types_ = signature[:-1].split("(")
        wanted = len(types_.split(",")) if types_ else 0
        # A stand-in whose Qt class has a method of that name calls its signal <name>_signal.
        bound = getattr(self._target, f"{name}_signal", None) or getattr(self._target, name)
        with contextlib.suppress(KeyError, IndexError, TypeError):
            bound = bound[types_] if types_ and "*" not in types_ else bound
        takes = accepted_arguments(receiver)

        def slot(*args: Any) -> None:
            values = [wrap(a) for a in args[:wanted]]
            if types_ == "bool" and values and not isinstance(values[0], bool):
                values = [values[0] is not None]  # currentNodeChanged(bool) of the MRML widgets
            try:
                receiver(*(values if takes is None else values[:takes]))
            except Exception:
                slot_errors.append(traceback.format_exc())
                traceback.print_exc()

        bound.connect(slot)
        self._slots[signature, receiver] = (bound, slot)

    def remove(self, signature: str, receiver: Callable[..., Any]) -> bool:
        bound, slot = self._slots.pop((signature, receiver), (None, None))
        if bound is not None and Shiboken.isValid(self._target):
            bound.disconnect(slot)
        return bound is not None


def accepted_arguments(receiver: Callable[..., Any]) -> int | None:
    """How many signal arguments PythonQt hands over: only plain functions and methods get fewer than there are."""
    function = receiver.__func__ if isinstance(receiver, types.MethodType) else receiver
    if not isinstance(function, types.FunctionType) or function.__code__.co_flags & 0x04:
        return None
    return function.__code__.co_argcount - isinstance(receiver, types.MethodType)


class QtClass:
    """Proxy of a Qt class: construction, enumerators and static functions. It cannot be subclassed."""

    __slots__ = ("_cls",)

    def __init__(self, cls: type) -> None:
        object.__setattr__(self, "_cls", cls)

    def __call__(self, *args: Any) -> Any:
        return wrap(self._cls(*(unwrap(a) for a in args)))

    def __instancecheck__(self, value: Any) -> bool:
        return isinstance(unwrap(value), self._cls)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        listed = api().class_named(self._cls.__name__)
        # A static function may be hidden in the listing by a property of its name (QTimer.singleShot, which
        # slicer.util itself calls).
        if listed is not None and name not in listed.callables | listed.properties:
            raise NotInSlicer(f"{self._cls.__name__}.{name} does not exist in the application")
        value = getattr(self._cls, name)
        if callable(value) and not isinstance(value, type):
            return lambda *args: self._call(name, value, args)
        return value

    def _call(self, name: str, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        result = function(*(unwrap(a) for a in args))
        return wrap(result[0] if name in _PATH_ONLY else result)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        raise TypeError(f"{self._cls.__name__} cannot be subclassed safely in PythonQt")

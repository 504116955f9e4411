"""What Qt, CTK and Slicer widgets have in the application, from ``slicer_api.json`` (written by `describe_slicer`)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

API_FILE = Path(__file__).with_name("slicer_api.json")


class NotInSlicer(AttributeError):
    """A name was used that the application's Python does not have; in Slicer this line would raise as well."""


@dataclass(frozen=True)
class ClassApi:
    """Names of one widget class. ``signals``: normalised signatures by name."""

    name: str
    properties: frozenset[str]
    callables: frozenset[str]
    signals: dict[str, tuple[str, ...]]
    slots: frozenset[str]


def normalised(signature: str) -> str:
    """A Qt signature without blanks and without ``const`` and ``&``."""
    return signature.replace("const ", "").replace("&", "").replace(" ", "")


def by_name(signatures: list[str]) -> dict[str, tuple[str, ...]]:
    """Signatures grouped by the name before the bracket."""
    grouped: dict[str, list[str]] = {}
    for signature in map(normalised, signatures):
        grouped.setdefault(signature.split("(")[0], []).append(signature)
    return {name: tuple(group) for name, group in grouped.items()}


# PythonQt itself gives these to each wrapped object.
OF_EVERY_OBJECT = frozenset({"className", "connect", "disconnect", "delete", "help", "metaObject"})


class SlicerApi:
    """Answers what exists in the application."""

    def __init__(self, content: dict[str, Any]) -> None:
        self._names = {space: frozenset(names) for space, names in content["all_names"].items()}
        self._declared = content["classes"]

    @cache  # noqa: B019  (one object for the process)
    def class_named(self, name: str) -> ClassApi | None:
        """The class with all that it inherits, or None where the file does not list its members."""
        if name not in self._declared:
            return None
        entry = self._declared[name]
        bases = [base for base in map(self.class_named, entry["bases"]) if base is not None]
        properties = frozenset(entry["properties"]).union(*(b.properties for b in bases))
        signals = by_name([*entry["signals"], *(s for b in bases for group in b.signals.values() for s in group)])
        slots = frozenset(map(normalised, entry["slots"])).union(*(b.slots for b in bases))
        methods = OF_EVERY_OBJECT.union(entry["methods"], *(b.callables for b in bases))
        return ClassApi(name, properties, methods - properties - set(signals), signals, slots)

    def require(self, space: str, name: str) -> None:
        """Raise `NotInSlicer` where the application has no ``name`` in ``space`` (qt, ctk, slicer.util, ...)."""
        spaces = ("slicer (widgets)", "slicer (other)") if space == "slicer" else (space,)
        if not any(name in self._names[s] for s in spaces):
            raise NotInSlicer(f"{space}.{name} does not exist in the application")


@lru_cache(maxsize=1)
def api() -> SlicerApi:
    """The API of the running application."""
    return SlicerApi(json.loads(API_FILE.read_text("utf-8")))

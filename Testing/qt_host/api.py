"""What Qt, CTK and Slicer widgets have in the running application, from ``slicer-qt-api.json`` where it is present."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

API_FILE = Path(__file__).resolve().parents[3] / "shared" / "reference" / "slicer-qt-api.json"


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


class SlicerApi:
    """Answers what exists. Where the JSON file is missing (`known` is False) nothing is refused."""

    def __init__(self, content: dict[str, Any] | None) -> None:
        self.known = content is not None
        content = content or {"classes": {}, "all_names": {}}
        self._names = {space: frozenset(names) for space, names in content["all_names"].items()}
        self._classes = {}
        for key, entry in content["classes"].items():
            name = key.split(".")[-1]
            slots = frozenset(map(normalised, entry["slots"]))
            self._classes[name] = ClassApi(
                name,
                frozenset(entry["properties"]),
                frozenset(entry["methods"]) | {s.split("(")[0] for s in slots},
                by_name(entry["signals"]),
                slots,
            )

    def class_named(self, name: str) -> ClassApi | None:
        """The listed class, or None where the file does not list its members."""
        return self._classes.get(name)

    def require(self, space: str, name: str) -> None:
        """Raise `NotInSlicer` where the application has no ``name`` in ``space`` (qt, ctk, slicer.util, ...)."""
        spaces = ("slicer (widgets)", "slicer (other)") if space == "slicer" else (space,)
        if self.known and not any(name in self._names[s] for s in spaces):
            raise NotInSlicer(f"{space}.{name} does not exist in the application")


@lru_cache(maxsize=1)
def api() -> SlicerApi:
    """The API of the running application."""
    return SlicerApi(json.loads(API_FILE.read_text("utf-8")) if API_FILE.is_file() else None)

"""The configuration files of a MONAI bundle, with references followed and no expression evaluated.

A bundle may write ``@name`` (or ``@a::b``, ``@a#b``) for another entry, ``%name`` for its text, ``$...`` for Python.
Python is never run. Four forms of ``$`` are read as what they plainly say: a reference, several references joined by
``+``, a dtype such as ``torch.float32``, and ``lambda x: x > 0`` with some number.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ...errors import InputError
from .bundles import Raw, read_description

_REFERENCES = re.compile(r"^\$?\s*@[\w:#.]+(\s*\+\s*@[\w:#.]+)*\s*$")
_DTYPE = re.compile(r"^\$?(?:torch|np|numpy|monai\.utils\.torch)\.(float16|float32|float64|float|uint8|int32|int64)$")
_ABOVE = re.compile(r"^\$?\s*lambda\s+(\w+)\s*:\s*\1\s*>\s*(-?\d+(?:\.\d*)?)\s*$")
_TO_DEVICE = re.compile(r"^\$\s*(@[\w:#.]+)\.to\([^()]*\)\s*$")
#: Names of the file that describes how a bundle is run, the first that is there.
INFERENCE = ("inference.json", "inference.yaml", "inference.yml", "evaluate.json", "evaluate.yaml")
TRAIN = ("train.json", "train.yaml", "train.yml")


class Code:
    """An expression that was not evaluated."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"the expression {self.text[:60]!r}"


class Above:
    """The function that tells which values are above ``limit``."""

    def __init__(self, limit: float) -> None:
        self.limit = limit


class Config:
    """One configuration; `plain` gives an entry with its references followed."""

    def __init__(self, raw: Raw) -> None:
        self.raw = raw

    def get(self, *names: str) -> Any:
        """The first entry that is there, plain; None where none is."""
        for name in names:
            if name in self.raw:
                return self.plain(self.raw[name])
        return None

    def plain(self, value: Any, depth: int = 0) -> Any:
        """``value`` with references followed; `Code` for what is more than that, `Above` for a threshold."""
        if depth > 24:
            return Code("references that go round in a circle")
        if isinstance(value, dict):
            return {k: self.plain(v, depth + 1) for k, v in value.items()}
        if isinstance(value, list):
            return [self.plain(v, depth + 1) for v in value]
        if not isinstance(value, str):
            return value
        return self._text(value, depth)

    def _text(self, value: str, depth: int) -> Any:
        if found := _DTYPE.match(value):
            return found[1]
        if found := _ABOVE.match(value):
            return Above(float(found[2]))
        if found := _TO_DEVICE.match(value):
            value = found[1]
        if value.startswith("%"):
            return self._entry(value[1:], depth)
        if _REFERENCES.match(value):
            parts = [self._entry(p.strip()[1:], depth) for p in value.lstrip("$ ").split("+")]
            if len(parts) == 1:
                return parts[0]
            if all(isinstance(p, list) for p in parts):
                return [item for part in parts for item in part]
            return Code(value)
        return Code(value) if value.startswith("$") else value

    def _entry(self, name: str, depth: int) -> Any:
        here: Any = self.raw
        for part in re.split(r"#|::", name):
            if isinstance(here, dict) and part in here:
                here = here[part]
            elif isinstance(here, list) and part.isdigit() and int(part) < len(here):
                here = here[int(part)]
            else:
                return Code(f"@{name}")
        return self.plain(here, depth + 1)


def find(place: Path, names: tuple[str, ...]) -> Path | None:
    """The first of the files ``names`` in the folder ``place``."""
    return next((place / n for n in names if (place / n).is_file()), None)


def read_config(path: Path | None, yaml_as_json: dict[str, Raw]) -> Config:
    """The configuration of ``path`` (empty where None). ``yaml_as_json``: YAML files by name, read elsewhere."""
    if path is None:
        return Config({})
    if path.suffix == ".json":
        return Config(read_description(path))
    if path.name not in yaml_as_json:
        raise InputError(f"{path.name} was not read; give the bundle's configuration as JSON.")
    return Config(yaml_as_json[path.name])


def target_name(item: Any) -> str:
    """The last part of an item's ``_target_``."""
    return str(item.get("_target_", "")).split(".")[-1] if isinstance(item, dict) else ""

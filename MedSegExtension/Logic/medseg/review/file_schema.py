"""What ``review.json`` is: one definition, published as ``review.schema.json`` and used to check what is read.

``python -m medseg.review.file_schema`` writes the published file again after a change. The reader's computer may have
nothing installed, so the few words of JSON Schema that are used here are checked by `problem`.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from .decisions import STATES

PATH = Path(__file__).with_name("review.schema.json")
#: Of the file. A file of a greater version is not read; one of this version may have further fields, which are left.
VERSION = 1
CASE_STATES = ("to do", "in progress", "done", "skipped")
INITIALS = "^[A-Za-z0-9]{0,8}$"
#: What a rating means, as it is shown to the reader.
RATINGS = {
    5: "acceptable as it is",
    4: "acceptable after small corrections",
    3: "needs correction, saves time",
    2: "needs so much correction that drawing anew is as fast",
    1: "unusable",
}

_TEXT = {"type": "string"}
_FINDING = {
    "type": "object",
    "description": "One finding, with its place, by which it is found again in the same mask.",
    "required": ["id", "centre"],
    "properties": {
        "id": {"type": "integer", "minimum": 1, "description": "Its number, never given again in a review."},
        "class": {**_TEXT, "description": "The class, as the reader has it."},
        "model_class": {**_TEXT, "description": "The class, as the first mask has it."},
        "layer": {"type": "integer", "minimum": 0, "description": "The label map that it is in."},
        "centre": {
            "type": "array", "items": {"type": "number"}, "minItems": 3, "maxItems": 3,
            "description": "RAS, mm: its voxel nearest to its centre of mass.",
        },
        "volume_ml": {"type": "number", "minimum": 0},
        "state": {"enum": ["", *STATES], "description": "The decision; empty where there is none."},
        "name": {**_TEXT, "description": "The class that the reader gave it; empty where it keeps its own."},
        "added": {"type": "boolean", "description": "Drawn by the reader."},
        "slices": {
            "type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 2, "maxItems": 2,
            "description": "Of a classifier: the rows of its table that the finding covers, from 0, half-open.",
        },
    },
}  # fmt: skip
_VERSION_SAVED = {
    "type": "object",
    "description": "A mask that was saved.",
    "required": ["number", "file", "reader", "time"],
    "properties": {
        "number": {"type": "integer", "minimum": 1},
        "file": {
            **_TEXT, "pattern": r"^versions/[^/\\]+\.seg\.nrrd$",
            "description": "Path below the folder of this file.",
        },
        "reader": {**_TEXT, "pattern": INITIALS},
        "time": {**_TEXT, "description": "UTC, ISO 8601."},
        "comment": _TEXT,
    },
}  # fmt: skip
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "MedSeg review of one case",
    "description": "review.json, written after each decision. It holds no name of a patient. Programs keep fields that "
    "they do not know.",
    "type": "object",
    "required": ["medseg_review", "case"],
    "properties": {
        "medseg_review": {"type": "integer", "minimum": 1, "maximum": VERSION, "description": "Version of this form."},
        "case": {**_TEXT, "description": "What the case is called, after its file."},
        "image": {**_TEXT, "description": "Name of the image's file."},
        "mask": {**_TEXT, "description": "Name of the first mask's file."},
        "model": {**_TEXT, "description": "The model that made the mask; empty where it is not known."},
        "reader": {**_TEXT, "pattern": INITIALS, "description": "Initials, or empty."},
        "state": {"enum": list(CASE_STATES)},
        "rating": {
            "enum": [None, *sorted(RATINGS)],
            "description": "; ".join(f"{n}: {words}" for n, words in sorted(RATINGS.items())),
        },
        "comment": _TEXT,
        "fields": {"type": "object", "description": "Answers to the questions of a form, by the name of the question."},
        "finding": {"type": "integer", "minimum": 0, "description": "Where the reader was; 0 is nowhere."},
        "seconds": {"type": "number", "minimum": 0, "description": "Spent on the case, without idle time."},
        "findings": {"type": "array", "items": _FINDING},
        "versions": {"type": "array", "items": _VERSION_SAVED},
        "changed": {**_TEXT, "description": "When this was written: UTC, ISO 8601."},
    },
}  # fmt: skip
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "boolean": (bool,), "integer": (int,),
    "number": (int, float),
}  # fmt: skip


def problem(value: Any, schema: dict[str, Any] | None = None, where: str = "") -> str:
    """What does not fit the schema, in words that name the field; "" where all fits."""
    schema = SCHEMA if schema is None else schema
    name = where or "the file"
    if (kind := schema.get("type")) is not None:
        fits = isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
        if kind == "integer" and isinstance(value, float) and value.is_integer():
            fits = True  # as JSON Schema has it
        if not fits or (isinstance(value, float) and not math.isfinite(value)):
            return f"{name} is no {kind}"
    if "enum" in schema and not any(value == one and type(value) is type(one) for one in schema["enum"]):
        return f"{name} is {str(value)[:40]!r}"
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        return f"{name} is {value[:40]!r}"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and not schema.get("minimum", -math.inf) <= value <= schema.get("maximum", math.inf):
        return f"{name} is {value}"
    if isinstance(value, dict):
        for key in schema.get("required", ()):
            if key not in value:
                return f"{name} has no {key}"
        for key, own in schema.get("properties", {}).items():
            if key in value and (found := problem(value[key], own, f"{where}.{key}" if where else key)):
                return found
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", math.inf):
            return f"{name} has {len(value)} entries"
        for n, one in enumerate(value):
            if "items" in schema and (found := problem(one, schema["items"], f"{where}[{n}]")):
                return found
    return ""


def schema_text() -> str:
    """The schema as the text that belongs into `PATH`."""
    return json.dumps(SCHEMA, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PATH.write_text(schema_text(), encoding="utf-8", newline="\n")
    print(PATH.name)

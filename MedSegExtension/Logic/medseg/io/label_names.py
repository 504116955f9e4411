"""Tables that say what the values of a label map mean.

Read are CSV and TSV with a header (BIDS ``dseg.tsv``, MedSeg's ``segments.csv``, 3D Slicer's colour tables), 3D
Slicer's ``.ctbl``, ITK-SNAP's label descriptions, FreeSurfer's colour look-up table, and JSON (nnU-Net's
``dataset.json``, or value -> name).
"""

from __future__ import annotations

import colorsys
import csv
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, damage_is

Color = tuple[float, float, float]
_LARGEST = 4 << 20
_SUFFIXES = (".tsv", ".csv", ".ctbl", ".label", ".txt", ".json")
_COMMON = ("dseg.tsv", "labels.tsv", "labels.csv", "segments.csv", "labels.txt", "dataset.json")
_VALUE = ("value", "labelvalue", "label_value", "index", "label", "id", "number")
_NAME = ("name", "segment", "label_name", "labelname", "text", "description", "abbreviation")
_COLORS = (("r", "g", "b"), ("red", "green", "blue"), ("color_r", "color_g", "color_b"))
# Okabe and Ito's palette ("Color Universal Design", 2008), which colour-blind readers tell apart.
_PALETTE = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
)  # fmt: skip


@dataclass(frozen=True)
class LabelName:
    """``color``: RGB 0 to 1, or None where the table has none."""

    name: str
    color: Color | None = None


def palette_color(value: int) -> Color:
    """A colour for label ``value``: seven that are easily told apart, then others by the golden angle of the hue."""
    if 1 <= value <= len(_PALETTE):
        r, g, b = _PALETTE[value - 1]
        return (r / 255, g / 255, b / 255)
    return colorsys.hsv_to_rgb(value * 0.61803398875 % 1, 0.65, 0.9)


def find_table(path: Path) -> Path | None:
    """The table beside the label map ``path``, of the same name or one of the usual names; None where there is none."""
    stem = re.sub(r"(\.nii\.gz|\.[A-Za-z0-9]+)$", "", path.name)
    for candidate in (*(path.with_name(stem + suffix) for suffix in _SUFFIXES), *map(path.with_name, _COMMON)):
        if candidate.is_file() and candidate != path:
            try:
                read_table(candidate)
            except InputError:  # a file of that name may be anything
                continue
            return candidate
    return None


def read_table(path: str | Path) -> dict[int, LabelName]:
    """Label value (from 1) -> name and colour. Raises `InputError` where the file is no table of labels."""
    path = Path(path)
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(f"{path.name} is larger than {_LARGEST >> 20} MB; it is no table of label names.")
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise InputError(f"{path.name} cannot be read: {error.strerror or error}.") from error
    with damage_is(InputError, path.name):
        found = _of_json(text) if path.suffix.lower() == ".json" else _of_header(text) or _of_lines(text)
    found = {value: label for value, label in found.items() if 1 <= value <= 65535 and label.name}
    if not found:
        raise InputError(
            f"{path.name} names no labels; give a table with the columns value and name, a .ctbl, ITK-SNAP or "
            "FreeSurfer label file, or a JSON file of values and names."
        )
    return found


def _of_json(text: str) -> dict[int, LabelName]:
    raw: Any = json.loads(text)
    labels = raw.get("labels", raw) if isinstance(raw, dict) else raw
    if isinstance(labels, list):
        return {int(one["value"]): LabelName(str(one["name"]), _scaled(one.get("color"))) for one in labels}
    found = {}
    for key, value in labels.items():
        number, name = (key, value) if str(key).isdigit() else (value, key)
        if isinstance(number, (int, str)) and str(number).isdigit():
            found[int(number)] = LabelName(str(name))
    return found


def _of_header(text: str) -> dict[int, LabelName]:
    """Rows under a header line that names a value and a name column; {} where there is no such header."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        return {}
    delimiter = max("\t,;", key=lines[0].count)
    header, *rows = csv.reader(lines, delimiter=delimiter)
    names = [h.strip().lower() for h in header]
    value_at = next((names.index(n) for n in _VALUE if n in names), None)
    name_at = next((names.index(n) for n in _NAME if n in names), None)
    if value_at is None or name_at is None:
        return {}
    color_at = next(([names.index(n) for n in three] for three in _COLORS if set(three) <= set(names)), None)
    hex_at = next((names.index(n) for n in ("color", "colour") if n in names), None)
    found = {}
    for row in rows:
        if max(value_at, name_at) >= len(row) or not re.fullmatch(r"\s*\d{1,6}(\.0)?\s*", row[value_at]):
            continue
        color = None
        if color_at is not None and max(color_at) < len(row):
            color = _scaled([float(row[at]) for at in color_at])
        elif hex_at is not None and hex_at < len(row):
            color = _of_hex(row[hex_at])
        found[int(float(row[value_at]))] = LabelName(row[name_at].strip().removeprefix("'"), color)
    return found


def _of_lines(text: str) -> dict[int, LabelName]:
    """``value name r g b [a]`` (FreeSurfer, 3D Slicer) or ``value r g b a visible mesh "name"`` (ITK-SNAP)."""
    found = {}
    for line in text.splitlines():
        snap = re.fullmatch(r'\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+[\d.]+\s+\d+\s+\d+\s+"(.*)"\s*', line)
        plain = re.fullmatch(r"\s*(\d+)\s+(\S+)\s+(\d+)\s+(\d+)\s+(\d+)(\s+\d+)?\s*", line)
        if snap:
            found[int(snap[1])] = LabelName(snap[5], _bytes([int(snap[n]) for n in (2, 3, 4)]))
        elif plain:
            name = plain[2] if "-" in plain[2] else plain[2].replace("_", " ")
            found[int(plain[1])] = LabelName(name, _bytes([int(plain[n]) for n in (3, 4, 5)]))
    return found


def _scaled(color: Any) -> Color | None:
    """RGB 0 to 1 from numbers 0 to 1 or 0 to 255."""
    if not isinstance(color, (list, tuple)) or len(color) < 3:
        return None
    r, g, b = (float(v) for v in color[:3])
    by = 255.0 if max(r, g, b) > 1 else 1.0
    return (r / by, g / by, b / by) if min(r, g, b) >= 0 and max(r, g, b) <= 255 else None


def _bytes(color: list[int]) -> Color | None:
    """RGB 0 to 1 from numbers 0 to 255."""
    r, g, b = color
    return (r / 255, g / 255, b / 255) if max(color) <= 255 else None


def _of_hex(text: str) -> Color | None:
    found = re.fullmatch(r"\s*#?([0-9a-fA-F]{6})\s*", text)
    return None if found is None else _bytes([int(found[1][n : n + 2], 16) for n in (0, 2, 4)])

"""A table as a reader goes through it: what matters first, sensible digits, words instead of column names.

The whole table, with every digit, stays in its own node and in what is exported.
"""

from __future__ import annotations

import math
from typing import Any

import slicer

from medseg.result import Cell, Column, Table

from .tables import heading, table_to_node

# First in this order where a table has them: what it is, how large, how many, how sure, where.
_FIRST = ("segment", "class", "lesion", "slice", "grouping", "group", "volume_ml", "volume_mm3", "area_cm2", "lesions",
          "components", "category", "maximum_diameter_mm", "region", "location")  # fmt: skip
_HIDDEN = ("value", "sop_instance_uid")
_HIDDEN_STARTS = ("centre_", "size_")
_WORDS = {"segment": "name", "class": "name", "lesion": "no.", "components": "parts", "lesions": "findings"}
_DIGITS = 3


def reading_table(table: Table, *, lesions: bool = False) -> Table:
    """``table`` with the same rows; columns in reading order, positions left out, numbers of three digits.

    Columns without any value are left out (the volume of a film); ``voxels`` stays only where there is no volume.
    Names of columns are words; units stand in `Column.unit` alone.
    ``lesions``: the components of a segment are findings, else they are its parts.
    """
    names = [c.name for c in table.columns]
    told = [n for k, n in enumerate(names) if not table.rows or any(row[k] is not None for row in table.rows)]
    kept = [n for n in told if n not in _HIDDEN and not n.startswith(_HIDDEN_STARTS)]
    if any(n.startswith("volume_") for n in kept):
        kept = [n for n in kept if n != "voxels"]
    order = [n for n in _FIRST if n in kept] + [n for n in kept if n not in _FIRST]
    picked = [names.index(n) for n in order]
    columns = tuple(_worded(table.columns[n], lesions) for n in picked)
    # Two columns of one heading would be one column in a table node.
    if len({c.name for c in columns}) != len(columns):
        columns = tuple(table.columns[n] for n in picked)
    rows = tuple(tuple(_rounded(row[n]) for n in picked) for row in table.rows)
    return Table(table.name, columns, rows)


def reading_node(table: Table, *, lesions: bool = False) -> Any:
    """A table node for a view, not in any scene, with `reading_table` of ``table``."""
    node = slicer.vtkMRMLTableNode()
    node.SetName(table.name)
    node.SetLocked(True)
    return table_to_node(reading_table(table, lesions=lesions), None, node=node)


def _worded(column: Column, lesions: bool) -> Column:
    words = {**_WORDS, "components": "findings"} if lesions else _WORDS
    name = words.get(column.name) or heading(column).replace("_", " ")
    unit = column.unit.replace("mm3", "mm\u00b3").replace("cm2", "cm\u00b2")
    return Column(name, column.type, unit, column.description)


def _rounded(cell: Cell) -> Cell:
    """Three digits, whole numbers from a thousand on: 0.0123, 4.57, 123, 4568."""
    if not isinstance(cell, float) or not math.isfinite(cell) or cell == 0:
        return cell
    places = max(_DIGITS - 1 - math.floor(math.log10(abs(cell))), 0)
    return round(cell, places)

"""MedSeg's results as MRML nodes, and MRML volumes as MedSeg's input. Imports slicer and vtk, never Qt.

The same code serves the Slicer application and plain Python with ``slicer-core`` from PyPI; every function takes the
scene that it works on, none reads ``slicer.mrmlScene``.
"""

from __future__ import annotations

import importlib
from typing import Any

# Imported on first use: `medseg_mrml.scene` runs in processes that must not load slicer (it starts one that does).
_PUBLIC = {
    "Applied": "segmentation",
    "Snapshot": "snapshot",
    "apply_result": "segmentation",
    "color_series": "tables",
    "network_view_nodes": "volumes",
    "node_from_volume": "volumes",
    "plot_table": "tables",
    "probability_nodes": "volumes",
    "reading_node": "reading",
    "rehearse": "segmentation",
    "restore": "snapshot",
    "take_snapshot": "snapshot",
    "undo": "segmentation",
    "table_from_node": "tables",
    "table_to_node": "tables",
    "volume_from_node": "volumes",
}
__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(f".{_PUBLIC[name]}", __name__), name)
    raise AttributeError(f"module 'medseg_mrml' has no attribute {name!r}")

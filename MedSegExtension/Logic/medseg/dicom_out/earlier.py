"""What was written before (the folder of a run, any mask) -> `Result`, so that it can become DICOM objects later."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, damage_is
from ..geometry.grid import Grid
from ..geometry.volume import Volume
from ..io.segmentations import Segmentation, read_segmentation
from ..measure.segments import measure
from ..monitor import Monitor
from ..result import Column, Result, Table

_SUMMARY, _SEGMENTATION = "result.json", "segmentation.seg.nrrd"
#: Tables that follow from the mask: they are measured anew where it was corrected.
_OF_THE_MASK = ("segments", "lesions")


def earlier_result(
    place: str | Path, volume: Volume, *, names: str | Path | None = None, corrected: Segmentation | None = None,
    monitor: Monitor | None = None,
) -> Result:  # fmt: skip
    """The result in the folder of a run, or what any mask file holds, measured on ``volume``.

    ``names``: label names of a plain label map. ``corrected``: a mask that takes the place of the one in ``place``.
    Raises `InputError` where there is neither a result nor a mask.
    """
    place = Path(place)
    summary = place / _SUMMARY
    provenance: dict[str, Any] = {}
    tables: dict[str, Table] = {}
    if place.is_dir() and summary.is_file():
        provenance = _read(summary)
        with damage_is(InputError, f"{_SUMMARY} of {place.name}"):
            tables = {name: _table(place, name, columns) for name, columns in provenance.get("tables", {}).items()}
    segmentation = corrected
    if segmentation is None and (not place.is_dir() or (place / _SEGMENTATION).is_file() or not tables):
        segmentation = read_segmentation(place, names=names, monitor=monitor)
    if segmentation is None:
        return Result(volume.grid, tables=tables, provenance=provenance)
    if corrected is not None or not tables:
        tables = {k: t for k, t in tables.items() if k not in _OF_THE_MASK} | _measured(segmentation, volume)
    if not provenance and segmentation.model_id:
        provenance = {"model": {"id": segmentation.model_id}}
    return Result(segmentation.grid, segmentation.layers, tables=tables, provenance=provenance)


def up_to_date(result: Result, monitor: Monitor) -> Result:
    """``result`` with tables that fit its masks: where voxels were changed since they were made, measured anew.

    The image's values are not at hand then, so what follows from them is left out, which is told.
    """
    table = result.tables.get("segments")
    if table is None or not result.layers:
        return result
    kept = dict(zip(table.column("segment"), table.column("voxels"), strict=True))
    now = {c.name: int(np.count_nonzero(layer.labels == c.value)) for layer in result.layers for c in layer.classes}
    if kept == now:
        return result
    monitor.warn(
        "The segments were changed after the run: the report has their volumes and shapes as they are now, without the "
        "means of the image's values."
    )
    nothing = np.broadcast_to(np.float32(np.nan), result.grid.shape)
    tables = {k: t for k, t in result.tables.items() if k not in _OF_THE_MASK}
    return replace(result, tables=tables | measure(result.layers, nothing, result.grid))


def _measured(segmentation: Segmentation, volume: Volume) -> dict[str, Table]:
    """The tables of a mask; nothing where it lies on another grid than the volume."""
    grid: Grid = segmentation.grid
    if not grid.same_as(volume.grid):
        return {}
    unit = "HU" if volume.modality == "CT" else ""
    array = volume.require_scalar().array
    return measure(segmentation.layers, array, grid, unit=unit, projection=volume.is_projection)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path.name} of {path.parent.name} cannot be read ({type(error).__name__}).") from error
    if not isinstance(found, Mapping):
        raise InputError(f"{path.name} of {path.parent.name} is not the summary of a run.")
    return dict(found)


def _table(folder: Path, name: str, columns: list[dict[str, Any]]) -> Table:
    typed = tuple(Column(c["name"], c["type"], c["unit"], c["description"]) for c in columns)
    path = folder / f"{Path(name).name}.csv"
    try:
        return Table.from_csv(name, typed, path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path.name} of {folder.name} cannot be read ({error.strerror or error}).") from error

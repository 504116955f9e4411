"""The measurements that a manifest names (`medseg.model.manifest.measurements`): what goes beyond the usual tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import ModelError
from ..geometry.volume import Volume
from ..model.manifest.measurements import AreaRatio, LesionCounts, LesionFeatures, LesionLocation, RsnaLongCsv
from ..model.manifest.schema import Manifest
from ..monitor import Monitor
from ..result import Cell, Column, Result, Table
from .areas import area_table
from .features import first_order_cells, first_order_columns, shape_cells, shape_columns
from .location import Parcellation, place_cells, place_columns, standard
from .segments import lesion_parts
from .slices import rsna_table

Tables = dict[str, Table]


@dataclass(frozen=True, eq=False)
class _Run:
    """What measurements see: the result as it is, its first input, and the results of the required models."""

    manifest: Manifest
    result: Result
    volume: Volume
    required: Mapping[str, Result]
    monitor: Monitor

    @property
    def unit(self) -> str:
        return "HU" if self.volume.modality == "CT" else ""


def further_tables(
    manifest: Manifest, result: Result, volume: Volume, required: Mapping[str, Result], monitor: Monitor
) -> Tables:
    """The tables of ``result`` with what the manifest's measurements add, in its order.

    ``result``: layers and tables on the grid of ``volume``, the first input; its lesions were found with
    ``manifest.lesion_connectivity``. ``required``: results of the models that measurements name. Raises `ModelError`
    where one of them has no brain structure in it.
    """
    tables = dict(result.tables)
    run = _Run(manifest, result, volume, required, monitor)
    for step in manifest.measurements:
        monitor.checkpoint()
        _KINDS[step.kind](step, tables, run)
    return tables


def _add_columns(tables: Tables, columns: tuple[Column, ...], cells: list[tuple[Cell, ...]]) -> None:
    lesions = tables["lesions"]
    rows = tuple((*row, *more) for row, more in zip(lesions.rows, cells, strict=True))
    tables["lesions"] = replace(lesions, columns=(*lesions.columns, *columns), rows=rows)


def _lesion_location(step: LesionLocation, tables: Tables, run: _Run) -> None:
    if step.of not in run.required:
        raise ModelError(
            f"The measurement {step.kind} needs the result of {step.of!r}, which was not run; name it under 'requires'."
        )
    parcellation = Parcellation(
        run.required[step.of],
        run.result.grid,
        labels=step.labels,
        scheme=step.scheme,
        name=step.of,
        monitor=run.monitor,
    )
    places = [
        parcellation.place(box, mask)
        for _, parts in lesion_parts(run.result.layers, run.manifest.lesion_connectivity)
        for box, mask in parts
    ]
    if lost := places.count(None):
        run.monitor.warn(
            f"{lost} of {len(places)} lesions touch no brain label of {step.of!r}; their region is left empty."
        )
    _add_columns(tables, place_columns(step.scheme), [place_cells(p) for p in places])


def _lesion_features(step: LesionFeatures, tables: Tables, run: _Run) -> None:
    shape, intensity = "shape" in step.families, "first_order" in step.families
    columns = (
        *(shape_columns() if shape else ()),
        *(first_order_columns(run.unit, step.bin_width) if intensity else ()),
    )
    grid, cells = run.result.grid, []
    for _, parts in lesion_parts(run.result.layers, run.manifest.lesion_connectivity):
        for box, mask in parts:
            run.monitor.checkpoint()
            row: tuple[Cell, ...] = shape_cells(box, mask, grid) if shape else ()
            if intensity:
                row += first_order_cells(run.volume.array[box][mask], step.bin_width, grid.voxel_volume)
            cells.append(row)
    _add_columns(tables, columns, cells)


def _lesion_counts(step: LesionCounts, tables: Tables, run: _Run) -> None:
    lesions = tables["lesions"]
    segments = [c.name for c in run.result.classes if c.lesion]
    records = [dict(zip((c.name for c in lesions.columns), row, strict=True)) for row in lesions.rows]
    rows = []
    for segment in segments:
        own = [r for r in records if r["segment"] == segment]
        rows.append(_count_row(segment, "all", "all", own, step.thresholds))
        for grouping, groups in _groups(run.manifest).items():
            for group in groups:
                chosen = [r for r in own if r[grouping] == group]
                if chosen or group is not None:
                    rows.append(_count_row(segment, grouping, group or "not located", chosen, step.thresholds))
    columns = (
        Column("segment", "str", "", "name of the class"),
        Column("grouping", "str", "", "all, location or region"),
        Column("group", "str", "", "which location or region"),
        Column("lesions", "int", "", f"number of lesions ({run.manifest.lesion_connectivity}-connected components)"),
        Column("volume_mm3", "float", "mm3", "volume of these lesions together"),
        Column("category", "str", "", "range of the count between the thresholds"),
        *(Column(f"at_least_{n}", "bool", "", f"whether there are at least {n} lesions") for n in step.thresholds),
    )
    tables["counts"] = Table("counts", columns, tuple(rows))


def _groups(manifest: Manifest) -> dict[str, list[str | None]]:
    """The locations and regions that lesions may have, where the manifest locates them; None is not located."""
    located = next((m for m in manifest.measurements if isinstance(m, LesionLocation)), None)
    if located is None:
        return {}
    rules = standard(located.scheme)["locations"]
    return {"location": [*dict.fromkeys(rules.values()), None], "region": [*rules, None]}


def _count_row(
    segment: str, grouping: str, group: str, records: list[dict[str, Cell]], thresholds: list[int]
) -> tuple[Cell, ...]:
    count = len(records)
    volume = float(sum(float(r["volume_mm3"] or 0) for r in records))
    reached = tuple(count >= n for n in thresholds)
    return (segment, grouping, group, count, volume, count_category(count, thresholds), *reached)


def count_category(count: int, thresholds: list[int]) -> str:
    """The range between ``thresholds`` in which ``count`` lies.

    >>> [count_category(n, [1, 3, 5, 11]) for n in (0, 1, 4, 11)]
    ['0', '1-2', '3-4', '>=11']
    """
    bounds = [0, *thresholds]
    low = max(b for b in bounds if b <= count)
    following = [b for b in bounds if b > count]
    if not following:
        return f">={low}"
    return str(low) if following[0] - 1 == low else f"{low}-{following[0] - 1}"


def _area_ratio(step: AreaRatio, tables: Tables, run: _Run) -> None:
    names = step.segments or [c.name for c in run.result.classes]
    mask = np.logical_or.reduce([run.result.mask(name) for name in names])
    new = area_table(step.name, mask, run.volume, run.monitor)
    earlier = tables["areas"].rows if "areas" in tables else ()
    tables["areas"] = replace(new, rows=(*earlier, *new.rows))


def _rsna_long_csv(step: RsnaLongCsv, tables: Tables, run: _Run) -> None:
    tables["rsna"] = rsna_table(tables["slices"], step.subtypes, run.volume.name, run.monitor)


_KINDS: dict[str, Callable[[Any, Tables, _Run], None]] = {
    "lesion_location": _lesion_location,
    "lesion_features": _lesion_features,
    "lesion_counts": _lesion_counts,
    "area_ratio": _area_ratio,
    "rsna_long_csv": _rsna_long_csv,
}

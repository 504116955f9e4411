"""The tables of a cohort, as CSV and, where pyarrow is there, as Parquet; row by row, so that there may be very many.

``cohort``: a row a case. ``tables/NAME``: all rows of all cases of the result's table NAME, lesions for example.
``cases.csv``: image and mask (of a classifier: slices) of each, failed cases first, then the oddest; the tab Review
opens it.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import OutputError
from ..io.slice_scores import FILE as SLICES
from ..output.files import replacing
from ..output.folder import RESULT_FILE, SEGMENTATION_FILE
from ..result import Cell, Column, csv_text
from .journal import Journal
from .one_case import Job, Record, columns_hash, table_of
from .outliers import Compared, Measure, oddness

#: Rows that are in memory at once, and a row group of Parquet.
_ROWS = 10_000
_FIXED = (
    Column("case", "str", "", "name of the file, folder or row that the case is"),
    Column("state", "str", "", "done or failed"),
    Column("problem", "str", "", "why it failed"),
)
_OWN = {
    "device": Column("device", "str", "", "what ran the network"),
    "warnings": Column("warnings", "int", "", "number of warnings in result.json"),
}


class Seen:
    """What a first reading of all records finds: columns, failures, what is compared."""

    def __init__(self, jobs: Sequence[Job], journal: Journal) -> None:
        self.failed = 0
        self.state = np.zeros(len(jobs), bool)  # done
        self.seconds = np.full(len(jobs), np.nan)
        self.tables: dict[str, dict[str, list[dict[str, str]]]] = {}  # name -> hash -> columns
        self._types: dict[str, str] = {}
        compared = Compared(len(jobs))
        for n, (job, record) in enumerate(zip(jobs, journal.records(jobs), strict=True)):
            if record["state"] != "done":
                self.failed += 1
                continue
            self.state[n], self.seconds[n] = True, record["seconds"]
            self._look_at(job, record)
            compared.add(n, record["row"])
        self.measures: list[Measure] = compared.measures()
        self.odd = oddness(self.measures, len(jobs))

    def _look_at(self, job: Job, record: Record) -> None:
        for name, key in record["tables"].items():
            if key not in self.tables.setdefault(name, {}):
                described = json.loads((job.folder / RESULT_FILE).read_text(encoding="utf-8"))["tables"][name]
                self.tables[name][columns_hash(described)] = described
        for name, value in record["row"].items():
            kind = type(value).__name__
            before = self._types.setdefault(name, "")
            if value is not None and before != kind:
                mixed = "float" if {before, kind} <= {"int", "float"} else "str"
                self._types[name] = kind if not before else mixed

    def columns(self) -> list[Column]:
        """The columns of ``cohort``: those of all cases, in the order in which they were met."""
        known = {(t, c["name"]): c for t, found in self.tables.items() for many in found.values() for c in many}
        columns = []
        for name, kind in self._types.items():
            about = known.get((name.partition(".")[0], name.rpartition(".")[2]), {})
            column = Column(name, kind or "float", about.get("unit", ""), about.get("description", ""))  # type: ignore[arg-type]
            columns.append(_OWN.get(name, column))
        return [*_FIXED, *columns]

    def order(self) -> npt.NDArray[np.int64]:
        """Numbers of the cases: failed ones, then the oddest; else as they were given."""
        return np.lexsort((np.arange(len(self.odd)), -self.odd, self.state))


def write_tables(folder: Path, jobs: Sequence[Job], journal: Journal, tell: Callable[[str], None]) -> Seen:
    """Write all tables of ``jobs`` into ``folder``. Raises `OutputError`."""
    seen = Seen(jobs, journal)
    arrow = _pyarrow(tell)
    columns = seen.columns()
    _write(folder / "cohort", columns, _case_rows(columns, journal.records(jobs)), arrow)
    for name, described in seen.tables.items():
        union = [_FIXED[0], *_union(described.values())]
        _write(folder / "tables" / name, union, _table_rows(name, union, seen, jobs, journal, tell), arrow)
    _write_cases(folder / "cases.csv", jobs, seen)
    return seen


def _case_rows(columns: Sequence[Column], records: Iterable[Record]) -> Iterator[list[Cell]]:
    for r in records:
        yield [r["case"], r["state"], r["problem"], *(r["row"].get(c.name) for c in columns[len(_FIXED) :])]


def _union(described: Iterable[list[dict[str, str]]]) -> list[Column]:
    """All columns by name; where cases differ in its type, one that holds all."""
    found: dict[str, Column] = {}
    for c in (c for many in described for c in many):
        before = found.get(c["name"])
        kind: Any = c["type"]
        if before is not None and before.type != kind:
            kind = "float" if {before.type, kind} == {"int", "float"} else "str"
        first = before or Column(c["name"], kind, c["unit"], c["description"])
        found[c["name"]] = replace(first, type=kind)
    return list(found.values())


def _table_rows(
    name: str, columns: Sequence[Column], seen: Seen, jobs: Sequence[Job], journal: Journal,
    tell: Callable[[str], None],
) -> Iterator[list[Cell]]:  # fmt: skip
    for job, record in zip(jobs, journal.records(jobs), strict=True):
        key = record["tables"].get(name)
        if key is None:
            continue
        try:
            table = table_of(job.folder, name, seen.tables[name][key])
        except (OSError, ValueError, KeyError) as error:
            tell(f"{job.name}: its table {name} cannot be read ({error}); tables/{name} is without it.")
            continue
        places = {c.name: n for n, c in enumerate(table.columns)}
        for cells in table.rows:
            yield [job.name, *(cells[places[c.name]] if c.name in places else None for c in columns[1:])]


def _write_cases(path: Path, jobs: Sequence[Job], seen: Seen) -> None:
    """Columns of masks, of classifiers' slices and of DICOM series only where there are any."""
    masks = [job.folder / SEGMENTATION_FILE for job in jobs]
    there = np.array([mask.exists() for mask in masks], bool)
    slices = ["slices" in seen.tables and not has and done for has, done in zip(there, seen.state, strict=True)]
    series = [job.series.get(next(iter(job.files)), "") for job in jobs]
    further = {"mask": bool(there.any()), "slices": any(slices), "series": any(series)}
    names = ["case", "image", *(name for name, wanted in further.items() if wanted), "oddness"]
    columns = [Column(name, "float" if name == "oddness" else "str") for name in names]

    def rows() -> Iterator[list[Cell]]:
        for n in seen.order():
            image = str(next(iter(jobs[n].files.values())).absolute())
            mask = [str(masks[n].absolute()) if there[n] else None] if further["mask"] else []
            table = jobs[n].folder / SLICES
            scores = [str(table.absolute()) if slices[n] and table.exists() else None] if further["slices"] else []
            uid = [series[n]] if further["series"] else []
            yield [jobs[n].name, image, *mask, *scores, *uid, round(float(seen.odd[n]), 2) if seen.state[n] else None]

    _write(path.with_suffix(""), columns, rows(), None)


# -- files ------------------------------------------------------------------------------------------------------


def _pyarrow(tell: Callable[[str], None]) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        tell('cohort.parquet was left out, it needs the package pyarrow: pip install "medseg[cohort]".')
        return None
    return pyarrow


def _write(base: Path, columns: Sequence[Column], rows: Iterable[list[Cell]], arrow: Any) -> None:
    """``base.csv`` and, with ``arrow``, ``base.parquet`` of one run through ``rows``. Raises `OutputError`."""
    path, parquet = (base.with_name(f"{base.name}.{kind}") for kind in ("csv", "parquet"))
    with ExitStack() as stack:
        try:
            new = stack.enter_context(replacing(path))
            text = csv.writer(stack.enter_context(new.open("w", encoding="utf-8", newline="")), lineterminator="\n")
            text.writerow([csv_text(c.name) for c in columns])
            sink = None
            if arrow is not None:
                schema = _schema(arrow, columns)
                place = stack.enter_context(replacing(parquet))
                sink = stack.enter_context(arrow.parquet.ParquetWriter(str(place), schema))
            for batch in _batches(rows):
                text.writerows([_text(cell) for cell in row] for row in batch)
                if sink is not None:
                    arrays = [
                        arrow.array([_typed(row[n], c.type) for row in batch], type=schema.field(n).type)
                        for n, c in enumerate(columns)
                    ]
                    sink.write_table(arrow.Table.from_arrays(arrays, schema=schema))
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from error


def _schema(arrow: Any, columns: Sequence[Column]) -> Any:
    """Units and descriptions go along as metadata of the fields."""
    types = {"str": arrow.string(), "int": arrow.int64(), "float": arrow.float64(), "bool": arrow.bool_()}
    return arrow.schema(
        [
            arrow.field(c.name, types[c.type], metadata={"unit": c.unit, "description": c.description})
            for c in columns
        ]
    )  # fmt: skip


def _batches(rows: Iterable[list[Cell]]) -> Iterator[list[list[Cell]]]:
    batch: list[list[Cell]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _typed(value: Cell, kind: str) -> Cell:
    if value is None:
        return None
    return str(value) if kind == "str" else float(value) if kind == "float" else value


def _text(cell: Cell) -> Any:
    return csv_text(cell) if isinstance(cell, str) else "" if cell is None else cell

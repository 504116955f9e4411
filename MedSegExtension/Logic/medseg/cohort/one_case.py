"""One case of a cohort: run, written, and known again by the hashes of input, model and options."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import __version__
from ..engine.session_cache import SessionCache
from ..errors import Cancelled, InputError, MedSegError, OutputError
from ..io import read_volume
from ..model.package import Model, load_model
from ..monitor import Monitor
from ..output.files import file_name
from ..output.folder import RESULT_FILE, write_result
from ..pipeline.options import RunOptions, asdict_shallow
from ..pipeline.run import run
from ..result import Cell, Column, Table

_BLOCK = 1 << 20
_MANY_ROWS = ("lesions", "slices", "rsna")
#: Seconds within which a file may be written twice and bear one time, on the coarsest file systems.
_CLOCK = 2.0

#: What is known of a case after it was run: see `Runner.do`.
Record = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """``files``: by channel name. ``folder``: of the result. ``series``: UID of a channel's DICOM series.

    ``refused``: why the case cannot be run, or "".
    """

    name: str
    files: dict[str, Path]
    folder: Path
    series: dict[str, str] = field(default_factory=dict)
    refused: str = ""


class Runner:
    """Loads the model once and runs case after case with its open network."""

    def __init__(self, source: str, options: RunOptions) -> None:
        self.model = load_model(source)
        self.options = options
        self.work = work_hash(self.model, options)
        self._networks = SessionCache()

    def do(self, job: Job) -> Record:
        """Run ``job`` unless its folder holds its result. Bad input never raises: it is a record that failed.

        The record: ``case``, ``state`` (done, failed), ``problem``, ``key`` (hash of input and work), ``seen``
        (`seen_input`), ``result`` (`seen_result`), ``seconds`` of the run, ``warnings``, ``tables`` (a hash of the
        columns of each) and ``row``, the measurements.
        """
        try:
            if job.refused:
                raise InputError(job.refused)
            started, seen = time.time(), seen_input(job)
            key = self.key(job)
            if finished_key(job.folder) != key:
                self._run(job, key)
            if seen_input(job) != seen:
                raise InputError(f"The files of {job.name} changed while they were read; run the cohort again.")
            return finished(job, key, seen if settled(job, started) else "")
        except Cancelled:
            raise
        except Exception as error:
            words = str(error) if isinstance(error, MedSegError) else f"MedSeg failed ({type(error).__name__}: {error})"
            return failed(job, words)

    def key(self, job: Job) -> str:
        """Hash of the content of all input files, of the chosen series, and of `work`."""
        total = hashlib.sha256(self.work.encode())
        last = ""
        for channel, file in _files(job):
            if channel != last:
                total.update(f"{channel}\0{job.series.get(channel, '')}\0".encode())
                last = channel
            try:
                with file.open("rb") as stream:
                    while block := stream.read(_BLOCK):
                        total.update(block)
            except OSError as error:
                raise InputError(f"{file.name} cannot be read: {error.strerror or error}.") from error
        return total.hexdigest()

    def _run(self, job: Job, key: str) -> None:
        for left in job.folder.glob(".medseg-*"):  # by a worker that was killed while it wrote
            shutil.rmtree(left, ignore_errors=True)
        monitor = Monitor()
        with monitor.stage("read"):
            volumes = {n: read_volume(p, series=job.series.get(n), monitor=monitor) for n, p in job.files.items()}
        result = run(self.model, volumes, self.options, monitor=monitor, open_session=self._networks.open)
        # In the summary, which is written last: a folder with this key is a whole result.
        result.provenance["cohort_key"] = key
        volume = volumes[self.model.manifest.channels[0].name]
        try:
            write_result(result, job.folder, volume=volume, model=self.model, force=True, monitor=monitor, sinks=())
        except OutputError:
            # A worker of a driver that was killed may have finished the same case in this moment.
            if finished_key(job.folder) != key:
                raise


def failed(job: Job, words: str) -> Record:
    """The record of a case that has no result."""
    return {
        "case": job.name, "state": "failed", "problem": words, "key": "", "seen": "", "result": [], "seconds": 0.0,
        "warnings": [], "tables": {}, "row": {},
    }  # fmt: skip


def finished(job: Job, key: str, seen: str) -> Record:
    """The record of a case with a result, read back from its folder: run or found finished, it is the same."""
    summary = json.loads((job.folder / RESULT_FILE).read_text(encoding="utf-8"))
    spent = summary["seconds"]
    columns = {name: columns_hash(described) for name, described in summary["tables"].items()}
    return {
        "case": job.name, "state": "done", "problem": "", "key": key, "seen": seen, "result": seen_result(job.folder),
        "seconds": round(spent.get("total", 0.0) + spent.get("write", 0.0), 4), "warnings": summary["warnings"],
        "tables": columns, "row": _row(job.folder, summary),
    }  # fmt: skip


def quiet_worker() -> None:
    """Warnings of cases are in their records; of lines on a worker's stderr nobody could tell whose they are."""
    logging.getLogger("medseg").addHandler(logging.NullHandler())
    logging.getLogger("medseg").propagate = False
    # Which engine is faster is measured, and two workers may find otherwise; a cohort is of one engine.
    os.environ.setdefault("MEDSEG_ENGINE", "onnxruntime")


# -- known again ------------------------------------------------------------------------------------------------


def work_hash(model: Model, options: RunOptions) -> str:
    """Hash of all that decides a result besides the input: weights, manifest, options (no threads), version."""
    chosen = {k: v for k, v in asdict_shallow(options).items() if k != "threads"}
    chosen["choices"] = dict(chosen["choices"])
    chosen["engine"] = os.environ.get("MEDSEG_ENGINE", "onnxruntime")  # what `quiet_worker` takes
    parts = {name: part.sha256 for name, part in model.parts.items()}
    manifest = model.manifest.model_dump(mode="json")
    text = json.dumps([model.sha256, parts, manifest, chosen, __version__], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def finished_key(folder: Path) -> str:
    """The key of the whole result in ``folder``, "" where there is none."""
    try:
        return str(json.loads((folder / RESULT_FILE).read_text(encoding="utf-8")).get("cohort_key", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def seen_input(job: Job) -> str:
    """Hash of name, size and time of change of all input files: while it is the same, so is their content.

    Raises `InputError` where a file is not there.
    """
    total = hashlib.sha256()
    for channel, file in _files(job):
        try:
            about = file.stat()
        except OSError as error:
            raise InputError(f"{file.name} cannot be read: {error.strerror or error}.") from error
        total.update(
            f"{channel}\0{job.series.get(channel, '')}\0{file}\0{about.st_size}\0{about.st_mtime_ns}\0".encode()
        )
    return total.hexdigest()


def seen_result(folder: Path) -> list[int]:
    """Size and time of change of the summary in a case's folder, empty where there is none."""
    try:
        about = (folder / RESULT_FILE).stat()
    except OSError:
        return []
    return [about.st_size, about.st_mtime_ns]


def columns_hash(described: list[dict[str, str]]) -> str:
    """A short hash of a table's columns as result.json describes them."""
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:8]


def settled(job: Job, started: float) -> bool:
    """Whether all input files were old enough at ``started`` to bear another time if they changed since."""
    return all(file.stat().st_mtime < started - _CLOCK for _, file in _files(job))


def _files(job: Job) -> Iterator[tuple[str, Path]]:
    """Channel and path of each input file, folders taken apart, in an order that is always the same."""
    for channel, path in sorted(job.files.items()):
        for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
            yield channel, file


# -- measurements -----------------------------------------------------------------------------------------------


def table_of(folder: Path, name: str, described: list[dict[str, str]]) -> Table:
    """A table of a written result; ``described``: its columns as result.json has them."""
    columns = tuple(Column(c["name"], c["type"], c["unit"], c["description"]) for c in described)  # type: ignore[arg-type]
    return Table.from_csv(name, columns, (folder / f"{file_name(name)}.csv").read_text(encoding="utf-8"))


def _row(folder: Path, summary: dict[str, Any]) -> dict[str, Cell]:
    """The measurements of a result as one row: ``table.row.column`` -> value; of lesions and slices the count."""
    row: dict[str, Cell] = {"device": summary["device"], "warnings": len(summary["warnings"])}
    for name, described in summary["tables"].items():
        table = table_of(folder, name, described)
        first = [str(cells[0]) for cells in table.rows]
        if name in _MANY_ROWS or len(set(first)) < len(first):
            row[f"{name}.rows"] = len(first)
            continue
        for label, cells in zip(first, table.rows, strict=True):
            row |= {f"{name}.{label}.{c.name}": v for c, v in zip(table.columns[1:], cells[1:], strict=True)}
    return row

"""One case of a cohort: run, written, and known again by the hashes of input, model and options."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import __version__
from ..engine.session_cache import SessionCache
from ..errors import Cancelled, InputError, MedSegError
from ..io import read_volume
from ..model.package import Model, load_model
from ..monitor import Monitor
from ..output.folder import RESULT_FILE, write_result
from ..pipeline.options import RunOptions, asdict_shallow
from ..pipeline.run import run
from ..result import Cell, Column, Table

_BLOCK = 1 << 20
_MANY_ROWS = ("lesions", "slices", "rsna")


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

    def do(self, job: Job) -> dict[str, Any]:
        """The record of a case: ``case``, ``state`` (done, failed), ``problem``, ``row``. Bad input never raises."""
        try:
            if job.refused:
                raise InputError(job.refused)
            key = self.key(job)
            if finished_key(job.folder) != key:
                self._run(job, key)
            return {"case": job.name, "state": "done", "key": key, "problem": "", "row": measured(job.folder)}
        except Cancelled:
            raise
        except Exception as error:
            words = str(error) if isinstance(error, MedSegError) else f"MedSeg failed ({type(error).__name__}: {error})"
            return {"case": job.name, "state": "failed", "key": "", "problem": words, "row": {}}

    def key(self, job: Job) -> str:
        """Hash of the content of all input files, of the chosen series, and of `work`."""
        total = hashlib.sha256(self.work.encode())
        for channel, path in sorted(job.files.items()):
            total.update(f"{channel}\0{job.series.get(channel, '')}\0".encode())
            for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
                try:
                    with file.open("rb") as stream:
                        while block := stream.read(_BLOCK):
                            total.update(block)
                except OSError as error:
                    raise InputError(f"{file.name} cannot be read: {error.strerror or error}.") from error
        return total.hexdigest()

    def _run(self, job: Job, key: str) -> None:
        monitor = Monitor()
        with monitor.stage("read"):
            volumes = {n: read_volume(p, series=job.series.get(n), monitor=monitor) for n, p in job.files.items()}
        result = run(self.model, volumes, self.options, monitor=monitor, open_session=self._networks.open)
        # In the summary, which is written last: a folder with this key is a whole result.
        result.provenance["cohort_key"] = key
        volume = volumes[self.model.manifest.channels[0].name]
        write_result(result, job.folder, volume=volume, model=self.model, force=True, monitor=monitor, sinks=())


def work_hash(model: Model, options: RunOptions) -> str:
    """Hash of all that decides a result besides the input: weights, manifest, options (no threads), version."""
    chosen = {k: v for k, v in asdict_shallow(options).items() if k != "threads"}
    chosen["choices"] = dict(chosen["choices"])
    chosen["engine"] = os.environ.get("MEDSEG_ENGINE", "onnxruntime")  # what `local` takes
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


def measured(folder: Path) -> dict[str, Cell]:
    """The measurements of a written result as one row: ``table.row.column`` -> value; of lesions and slices the count.

    Read back from the folder, so that a case that was run and one that was found finished give the same row.
    """
    summary = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))
    row: dict[str, Cell] = {"device": summary["device"], "warnings": len(summary["warnings"])}
    for name, described in summary["tables"].items():
        columns = tuple(Column(c["name"], c["type"], c["unit"], c["description"]) for c in described)
        table = Table.from_csv(name, columns, (folder / f"{name}.csv").read_text(encoding="utf-8"))
        first = [str(cells[0]) for cells in table.rows]
        if name in _MANY_ROWS or len(set(first)) < len(first):
            row[f"{name}.rows"] = len(first)
            continue
        for label, cells in zip(first, table.rows, strict=True):
            row |= {f"{name}.{label}.{c.name}": v for c, v in zip(columns[1:], cells[1:], strict=True)}
    return row

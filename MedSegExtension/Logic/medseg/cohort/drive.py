"""A cohort's folder: ``cases/`` results, ``cohort.jsonl`` journal, ``cohort.csv`` table, ``cases.csv`` for Review."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import OutputError
from ..output.files import save_text
from ..result import csv_text
from .local import run_local
from .one_case import Job, Runner

JOURNAL = "cohort.jsonl"
_ABOUT = "cohort.json"


def run_cohort(
    runner: Runner, source: str, jobs: Sequence[Job], folder: Path, workers: int,
    told: Callable[[int, dict[str, Any]], None],
) -> list[dict[str, Any]]:  # fmt: skip
    """Run all ``jobs`` and write the tables; the records in the order of ``jobs``.

    A finished case is found by its key and not run again, so a run that was interrupted goes on. Each record is in the
    journal when it is made. ``told``: called with the number of cases done and the last record.

    Raises `OutputError` where ``folder`` holds the cohort of another model or of other options.
    """
    folder.mkdir(parents=True, exist_ok=True)
    about = folder / _ABOUT
    text = json.dumps({"work": runner.work}) + "\n"
    if about.exists() and about.read_text(encoding="utf-8") != text:
        raise OutputError(f"{folder} holds a cohort of another model or of other options; choose another folder.")
    save_text(about, text)
    records: dict[str, dict[str, Any]] = {}
    with (folder / JOURNAL).open("w", encoding="utf-8") as journal:
        for record in run_local(source, runner.options, jobs, workers):
            records[record["case"]] = record
            journal.write(json.dumps(record, ensure_ascii=False) + "\n")
            journal.flush()
            told(len(records), record)
    ordered = [records[job.name] for job in jobs]
    write_tables(folder, jobs, ordered)
    return ordered


def write_tables(folder: Path, jobs: Sequence[Job], records: Sequence[dict[str, Any]]) -> None:
    """``cohort.csv``, a row a case, and ``cases.csv``, image and mask, failed cases first: the tab Review opens it."""
    names = list(dict.fromkeys(name for record in records for name in record["row"]))
    rows = [["case", "state", "problem", *names]]
    rows += [[r["case"], r["state"], r["problem"], *(r["row"].get(n) for n in names)] for r in records]
    save_text(folder / "cohort.csv", _text(rows))
    listed: list[list[Any]] = [["case", "image", "mask"]]
    for job, _ in sorted(zip(jobs, records, strict=True), key=lambda pair: pair[1]["state"] == "done"):
        image = next(iter(job.files.values()))
        mask = job.folder / "segmentation.seg.nrrd"
        listed.append([job.name, str(image.absolute()), str(mask.absolute()) if mask.exists() else ""])
    save_text(folder / "cases.csv", _text(listed))


def _text(rows: Sequence[Sequence[Any]]) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(
        [csv_text(cell) if isinstance(cell, str) else "" if cell is None else cell for cell in row] for row in rows
    )
    return out.getvalue()

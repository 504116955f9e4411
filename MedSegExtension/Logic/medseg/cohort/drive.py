"""A cohort's folder: ``cases/`` results, ``cohort.jsonl`` journal, the tables; one driver at a time makes them."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

from ..errors import OutputError
from ..output.files import save_text
from ..pipeline.options import RunOptions
from .journal import Journal
from .local import run_local
from .lock import only_driver
from .one_case import Job, Record, Runner
from .page import Times, write_page
from .tables import write_tables

_ABOUT = "cohort.json"
_UNFINISHED = re.compile(r"\.(medseg|new)-[0-9a-f]{12}(-.*)?")

#: (source of the model, options, jobs, workers, tell) -> the record of each job, in any order: `run_local` and others.
Crew = Callable[[str, RunOptions, Iterable[Job], int, Callable[[str], None]], Iterator[Record]]


def run_cohort(
    runner: Runner, source: str, jobs: Sequence[Job], folder: Path, workers: int, *,
    told: Callable[[int, int, Record | None], None], tell: Callable[[str], None], crew: Crew = run_local,
) -> int:  # fmt: skip
    """Run all ``jobs``, write the tables and the page; how many failed.

    Finished cases are known by the journal and not run again, so a run that was interrupted goes on. Each record is in
    the journal when it is made.

    ``told``: called with the number of cases done, of those that were known already, and the last record, which is
    None at the beginning. ``tell``: called with sentences for the user.

    Raises `OutputError` where ``folder`` holds the cohort of another model or of other options, or another driver is
    at work in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror or error}; choose another folder.") from error
    with only_driver(folder, tell):
        _same_work(folder, runner.work)
        _clean(folder)
        started = time.monotonic()
        with Journal(folder, tell) as journal:
            todo = list(journal.unfinished(jobs))
            known = done = len(jobs) - len(todo)
            told(done, known, None)
            for record in crew(source, runner.options, todo, workers, tell):
                journal.add(record)
                done += 1
                told(done, known, record)
            ran = time.monotonic() - started
            seen = write_tables(folder, jobs, journal, tell)
            title = runner.model.manifest.title
            write_page(folder, title, jobs, journal, seen, Times(len(todo), ran), tell)
        return seen.failed


def _same_work(folder: Path, work: str) -> None:
    about = folder / _ABOUT
    text = json.dumps({"work": work}) + "\n"
    if about.exists() and about.read_text(encoding="utf-8") != text:
        raise OutputError(f"{folder} holds a cohort of another model or of other options; choose another folder.")
    save_text(about, text)


def _clean(folder: Path) -> None:
    """Remove what a driver or worker that was killed had half written."""
    for place in (folder, folder / "cases"):
        with os.scandir(place) if place.is_dir() else nullcontext(()) as entries:  # one by one: there may be a million
            for entry in entries:
                if not _UNFINISHED.fullmatch(entry.name):
                    continue
                if entry.is_dir():
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    Path(entry.path).unlink(missing_ok=True)

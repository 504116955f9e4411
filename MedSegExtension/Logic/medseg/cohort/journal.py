"""``cohort.jsonl``: a line a case when it is done, read back by the next run. A case's last line counts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

from ..errors import InputError, OutputError
from ..output.files import replacing
from .one_case import Job, Record, seen_input, seen_result

FILE = "cohort.jsonl"


class Journal:
    """The journal of a folder. In memory is only where in the file each case's line begins, so it may be long.

    Use it as a context manager: the file is open meanwhile.
    """

    def __init__(self, folder: Path, tell: Callable[[str], None]) -> None:
        self._path = folder / FILE
        self._tell = tell
        self._places: dict[str, int] = {}

    def __enter__(self) -> Journal:
        try:
            self._places = self._read()
            self._file = self._path.open("a+b")
        except OSError as error:
            raise OutputError(f"{self._path} cannot be used: {error.strerror or error}.") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, record: Record) -> None:
        """Write down ``record``; it stands in the file when this returns."""
        try:
            self._places[record["case"]] = self._file.seek(0, 2)
            self._file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise OutputError(f"{self._path} cannot be written: {error.strerror or error}.") from error

    def records(self, jobs: Iterable[Job]) -> Iterator[Record]:
        """The last record of each of ``jobs``, in their order. `KeyError` where a job has none."""
        for job in jobs:
            self._file.seek(self._places[job.name])
            yield json.loads(self._file.readline())

    def unfinished(self, jobs: Sequence[Job]) -> Iterator[Job]:
        """Those of ``jobs`` that have no finished record, or one that input or result no longer agree with.

        Files are looked at (size, time of change), not read.
        """
        for job in jobs:
            if job.name not in self._places:
                yield job
                continue
            (record,) = self.records([job])
            if record["state"] != "done" or job.refused or not record["seen"]:
                yield job
                continue
            try:
                same = record["seen"] == seen_input(job) and record["result"] == seen_result(job.folder)
            except InputError:
                same = False
            if not same:
                yield job

    def _read(self) -> dict[str, int]:
        """Case -> place of its last whole line. Lines that count no longer are dropped from the file."""
        places: dict[str, int] = {}
        lines, cut = 0, 0
        if self._path.exists():
            with self._path.open("rb") as file:
                place = 0
                for line in file:
                    lines += 1
                    case = _case_of(line)
                    if case is None:
                        cut += 1
                    else:
                        places[case] = place
                    place += len(line)
        if cut:
            self._tell(f"{self._path.name}: {cut} of {lines} lines are not whole; their cases are looked at again.")
        return places if lines == len(places) else self._without_old_lines(places)

    def _without_old_lines(self, places: dict[str, int]) -> dict[str, int]:
        kept: dict[str, int] = {}
        with self._path.open("rb") as old, replacing(self._path) as path, path.open("wb") as new:
            for case, place in places.items():
                old.seek(place)
                kept[case] = new.tell()
                new.write(old.readline())
        return kept


def _case_of(line: bytes) -> str | None:
    """The case of a line, None where it was cut off or is none of ours."""
    try:
        record = json.loads(line)
        whole = line.endswith(b"\n") and {"state", "seen", "result", "tables", "row"} <= record.keys()
        return str(record["case"]) if whole else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None

"""One driver at a time in a cohort's folder: a lock of the operating system, which ends with its process."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import IO

from ..errors import OutputError
from ..locks import try_lock

FILE = "cohort.lock"


@contextmanager
def only_driver(folder: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """While inside, no other process gets in here with the same ``folder``.

    ``tell`` gets a sentence where the driver before did not end by itself, or where the file system has no locks.

    Raises `OutputError` where another driver is at work there; it names it.
    """
    path = folder / FILE
    try:
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from error
    with file:
        try:
            free = try_lock(file)
        except OSError as error:
            raise OutputError(f"{path} cannot be locked: {error.strerror or error}.") from error
        file.seek(0)
        before = _words(file.read())
        if free is False:
            raise OutputError(
                f"Another medseg cohort is at work in {folder} ({before or 'it has just begun'}). Wait for it or end "
                "it, or choose another folder."
            )
        if free is None:
            tell(f"The file system of {folder} knows no locks; see to it that nobody else runs a cohort there.")
        if before:
            tell(f"The run before ({before}) did not end by itself; this one goes on where it was.")
        now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
        _write(file, json.dumps({"process": os.getpid(), "computer": platform.node(), "since": now}))
        try:
            yield
        finally:
            _write(file, "")  # the file stays: to remove it would race with who opens it now


def _write(file: IO[str], text: str) -> None:
    file.seek(0)
    file.truncate()
    file.write(text)
    file.flush()


def _words(text: str) -> str:
    try:
        about = json.loads(text)
        return f"process {about['process']} on {about['computer']}, since {about['since']}"
    except (ValueError, KeyError, TypeError):
        return ""

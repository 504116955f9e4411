"""What a command says: text on stdout, progress and warnings on stderr, or one JSON document on stdout alone."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from ..errors import Cancelled, MedSegError
from ..model.store import data_folder
from ..monitor import Monitor
from ..result import Cell, Table
from .pipes import output
from .progress import Reporter

log = logging.getLogger("medseg")

FAULT = 1
_WIDTH_OF_A_PIPE = 120


class Command:
    """One command's output, its current `Monitor`, and what must be removed if it has to end at once."""

    def __init__(self, *, as_json: bool, debug: bool = False) -> None:
        self.as_json = as_json
        self.debug = debug
        self.document: dict[str, Any] = {}
        self._console = Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_PIPE, highlight=False, markup=False)
        self.reporter = Reporter()
        self._monitor: Monitor | None = None
        self._cancelled = False
        #: What a user is told of what a cancelled command leaves.
        self.after_cancel = "nothing was left behind"
        self._abandon: list[Callable[[], None]] = []
        #: Called when the command is cancelled, besides its current monitor's `cancel`.
        self.cancelling: list[Callable[[], None]] = []

    # -- text -----------------------------------------------------------------------------------------------

    def say(self, text: str = "") -> None:
        """A line for a reader; nothing with ``--json``."""
        if not self.as_json:
            self._console.print(text, soft_wrap=True)

    def table(self, columns: list[str], rows: list[list[str]], *, right: tuple[int, ...] = ()) -> None:
        """A small table for a reader; nothing with ``--json``."""
        if self.as_json:
            return
        table = RichTable(box=None, pad_edge=False, header_style="bold")
        for n, name in enumerate(columns):
            table.add_column(name, justify="right" if n in right else "left", overflow="fold")
        for row in rows:
            table.add_row(*row)
        self._console.print(table)

    def error(self, error: BaseException, prefix: str = "") -> dict[str, Any]:
        """Tell of ``error`` on stderr; its form for the JSON document. A fault of MedSeg itself goes to the log."""
        known = isinstance(error, MedSegError)
        if known:
            sentence = str(error)
        else:
            log.error("fault", exc_info=error)
            place = log_file()
            where = (
                f"the details are in {place}" if place and not self.debug else "run it again with --debug for details"
            )
            if self.debug:
                where = "the details are above"
            sentence = f"MedSeg itself failed ({type(error).__name__}: {error}); {where}."
        if known and self.debug:
            log.debug("cause", exc_info=error)
        self.reporter.line(f"{'error' if known else 'fault'}: {prefix}{sentence}")
        code = exit_code(error)
        return {"kind": type(error).__name__, "message": sentence, "exit_code": code}

    # -- runs -----------------------------------------------------------------------------------------------

    def monitor(self) -> Monitor:
        """A new monitor whose events are shown; it is the one that Ctrl-C cancels."""
        self._monitor = Monitor(self.reporter)
        if self._cancelled:
            self._monitor.cancel()
        return self._monitor

    def cancel(self) -> None:
        """Ask the current and any later run of this command to stop."""
        self._cancelled = True
        if self._monitor is not None:
            self._monitor.cancel()
        for cancel in list(self.cancelling):
            cancel()

    @contextmanager
    def on_abandon(self, remove: Callable[[], None]) -> Iterator[None]:
        """While inside, ``remove`` is called if the process must end without waiting for the run."""
        self._abandon.append(remove)
        try:
            yield
        finally:
            self._abandon.remove(remove)

    def abandon(self) -> None:
        """Remove what unfinished work has left."""
        for remove in reversed(self._abandon):
            with suppress(Exception):
                remove()


def exit_code(error: BaseException) -> int:
    """0 done, 1 a fault of MedSeg, 2 input, 3 model, 4 device, 130 cancelled."""
    return error.exit_code if isinstance(error, MedSegError) else Cancelled.exit_code if isinstance(
        error, KeyboardInterrupt
    ) else FAULT  # fmt: skip


def worst(codes: list[int]) -> int:
    """The most serious exit code: cancelled, then a fault, then device, model, input."""
    order = [0, 2, 3, 4, FAULT, Cancelled.exit_code]
    return max(codes, key=lambda code: order.index(code) if code in order else len(order), default=0)


def log_file() -> Path | None:
    """Where faults are written, None where that place cannot be written to."""
    for handler in log.handlers:
        if isinstance(handler, RotatingFileHandler):
            return Path(handler.baseFilename)
    return None


def set_up_logging(debug: bool) -> None:
    """Faults go to a file in the user's MedSeg folder; with ``debug`` everything goes to stderr as well.

    Warnings of runs are shown by the `Reporter`; without a handler here, Python would print them a second time.
    """
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()
    log.propagate = False
    log.setLevel(logging.DEBUG if debug else logging.INFO)
    log.addHandler(logging.NullHandler())
    with suppress(OSError):
        folder = data_folder() / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        handler = RotatingFileHandler(folder / "medseg.log", maxBytes=1 << 20, backupCount=1, encoding="utf-8")
        handler.setLevel(logging.ERROR)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(handler)
    if debug:
        shown = logging.StreamHandler()
        shown.setFormatter(logging.Formatter("debug: %(message)s"))
        log.addHandler(shown)


@contextmanager
def stdout_for_json(as_json: bool) -> Iterator[Callable[[str], None]]:
    """Give a writer to the real stdout; inside, whatever else prints there (native libraries do) goes to stderr."""

    def plainly(text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    try:
        redirect = as_json and sys.stdout.fileno() == 1
    except (OSError, ValueError, AttributeError):
        redirect = False
    if not redirect:
        yield plainly
        return
    sys.stdout.flush()
    real = os.dup(1)
    os.dup2(2, 1)

    def through(text: str) -> None:
        stream = output(real)
        stream.write(text + "\n")
        stream.flush()

    try:
        yield through
    finally:
        sys.stdout.flush()
        os.dup2(real, 1)
        os.close(real)


def as_text(document: dict[str, Any]) -> str:
    """Strict JSON (NaN becomes null)."""
    return json.dumps(_plain(document), indent=2, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def rows_of(table: Table) -> list[dict[str, Cell]]:
    """A table as a list of records."""
    return [dict(zip((c.name for c in table.columns), row, strict=True)) for row in table.rows]

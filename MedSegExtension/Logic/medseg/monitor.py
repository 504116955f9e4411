"""What a run says while it runs, and how it is stopped.

`Monitor` collects stages, progress, warnings and timings, and hands each to an optional listener (a console,
the worker's message channel). The pipeline calls `checkpoint` between units of work; it raises `Cancelled`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from .errors import Cancelled, readable

log = logging.getLogger("medseg")


@dataclass(frozen=True)
class Event:
    """One message of a run. ``fraction``: of the whole run, 0 to 1, or None where nothing is known."""

    kind: Literal["stage", "progress", "warning", "note"]
    stage: str
    text: str = ""
    fraction: float | None = None
    seconds_left: float | None = None


# Share of a run that each stage is expected to take, for one progress bar over the whole run.
_SHARES = {"read": 0.05, "prepare": 0.10, "infer": 0.65, "restore": 0.10, "clean": 0.04, "measure": 0.03, "write": 0.03}
# Of installing a model, and of holding many cases against each other.
_SHARES |= {"download": 0.6, "convert": 0.3, "compare": 1.0}


class Monitor:
    """Progress, warnings, timings and cancellation of one run. Thread-safe for `cancel`."""

    def __init__(self, listener: Callable[[Event], None] | None = None) -> None:
        self._listener = listener
        self._cancelled = threading.Event()
        self._on_cancel: list[Callable[[], None]] = []
        self._stage = ""
        self._stage_started = time.perf_counter()
        self._share_before = 0.0
        self.warnings: list[str] = []
        self.notes: list[str] = []
        self.seconds: dict[str, float] = {}

    def continued(self, listener: Callable[[Event], None] | None) -> Monitor:
        """A monitor for the rest of this run, which goes on elsewhere: it adds to the same warnings, notes and timings,
        and is cancelled apart."""
        other = Monitor(listener)
        other.warnings, other.notes, other.seconds = self.warnings, self.notes, self.seconds
        other._share_before = self._share_before
        return other

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage (read, prepare, infer, restore, clean, measure, write); nested stages are timed as well."""
        self.checkpoint()
        outer = (self._stage, self._stage_started)
        self._stage, self._stage_started = name, time.perf_counter()
        self._send(Event("stage", name, fraction=self._share_before))
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - self._stage_started
            self._share_before = min(1.0, self._share_before + _SHARES.get(name, 0.0))
            self._stage, self._stage_started = outer

    def progress(self, done: int, total: int, text: str = "") -> None:
        """``done`` of ``total`` units of the current stage are finished. Also a `checkpoint`."""
        self.checkpoint()
        part = done / max(total, 1)
        fraction = min(1.0, self._share_before + _SHARES.get(self._stage, 0.0) * part)
        elapsed = time.perf_counter() - self._stage_started
        left = elapsed * (1 - part) / part if part > 0 else None
        self._send(Event("progress", self._stage, text, fraction, left))

    def warn(self, sentence: str) -> None:
        """Tell the user of a fallback or an unmet assumption; once per sentence."""
        sentence = readable(sentence)
        if sentence not in self.warnings:
            self.warnings.append(sentence)
            log.warning(sentence)
            self._send(Event("warning", self._stage, sentence))

    def note(self, sentence: str) -> None:
        """Tell the user a plain fact of the run or its result; once per sentence. What may be wrong is a `warn`."""
        sentence = readable(sentence)
        if sentence not in self.notes:
            self.notes.append(sentence)
            log.info(sentence)
            self._send(Event("note", self._stage, sentence))

    def cancel(self) -> None:
        """Ask the run to stop (any thread)."""
        self._cancelled.set()
        for callback in list(self._on_cancel):
            callback()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled.is_set()

    @contextmanager
    def on_cancel(self, callback: Callable[[], None]) -> Iterator[None]:
        """While inside, ``callback`` is called by `cancel` (from its thread)."""
        self._on_cancel.append(callback)
        try:
            self.checkpoint()
            yield
        finally:
            self._on_cancel.remove(callback)

    def checkpoint(self) -> None:
        """Raise `Cancelled` where `cancel` was called."""
        if self._cancelled.is_set():
            raise Cancelled("The run was cancelled; nothing was changed.")

    def _send(self, event: Event) -> None:
        if self._listener is not None:
            self._listener(event)

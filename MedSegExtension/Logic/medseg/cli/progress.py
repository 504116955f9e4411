"""Progress of a run on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from ..monitor import Event

_WORDS = {
    "read": "reading",
    "prepare": "preparing",
    "open": "loading the network",
    "infer": "running the network",
    "restore": "restoring onto the input's grid",
    "clean": "cleaning",
    "measure": "measuring",
    "write": "writing",
    "compare": "comparing",
}
_SECONDS_BETWEEN_LINES = 5.0


class Reporter:
    """Listener of a `Monitor`. As a context manager it shows the bar; ``line`` prints at any time, from any thread."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False)
        self._lock = threading.RLock()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._title = ""
        self._fraction = 0.0
        self._stage = ""
        self._last_line = 0.0

    def __enter__(self) -> Reporter:
        if self._console.is_terminal and sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[left]}"),
                TimeElapsedColumn(), console=self._console, transient=True,
            )  # fmt: skip
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def begin(self, title: str) -> None:
        """A new run, called ``title`` in what is shown."""
        with self._lock:
            self._title, self._fraction, self._stage = title, 0.0, ""
            if self._bar is not None:
                if self._task is not None:
                    self._bar.remove_task(self._task)
                self._task = self._bar.add_task(title, total=1.0, left="")

    def retitle(self, title: str) -> None:
        """The same run, called ``title`` from now on."""
        with self._lock:
            if self._bar is not None and self._task is None:
                self._task = self._bar.add_task(title, total=1.0, left="")
            self._title = title

    def line(self, text: str) -> None:
        """One line on stderr, above the bar where there is one."""
        with self._lock:
            (self._bar.console if self._bar is not None else self._console).print(text, soft_wrap=True)

    def stop(self) -> None:
        """Take the bar away and give the cursor back."""
        with self._lock:
            if self._bar is not None:
                self._bar.stop()
                self._bar = None

    def __call__(self, event: Event) -> None:
        if event.kind in ("warning", "note"):
            self.line(f"{event.kind}: {event.text}")
            return
        words = _WORDS.get(event.stage, event.stage)
        left = "" if (event.seconds_left or 0) < 1 else f"about {_duration(event.seconds_left or 0)} left"
        with self._lock:
            self._fraction = min(max(self._fraction, event.fraction or 0.0), 0.99)  # the bar goes when all is done
            if self._bar is not None and self._task is not None:
                description = f"{self._title}: {words}" if self._title else words
                self._bar.update(self._task, completed=self._fraction, description=description, left=left)
                return
            now = time.monotonic()
            if event.stage == self._stage and now - self._last_line < _SECONDS_BETWEEN_LINES:
                return
            if event.kind == "progress" and event.stage == self._stage:
                self.line(f"{self._title}: {words}, {self._fraction:.0%}{', ' + left if left else ''}")
            elif event.stage != self._stage:
                self.line(f"{self._title}: {words}")
            self._stage, self._last_line = event.stage, now


def _duration(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole} s" if whole < 100 else f"{whole // 60} min {whole % 60} s"

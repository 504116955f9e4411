"""The worker as a real child process, and an event loop small enough for a test: no Qt, no fakes of the worker."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LOGIC = Path(__file__).resolve().parents[2] / "MedSegExtension" / "Logic"


class Loop:
    """Calls scheduled functions and hands over what reader threads put in, all on the calling thread."""

    def __init__(self) -> None:
        self.events: queue.Queue[Callable[[], None]] = queue.Queue()
        self._timers: list[tuple[float, Callable[[], None]]] = []

    def schedule(self, ms: int, function: Callable[[], None]) -> None:
        self._timers.append((time.monotonic() + ms / 1000, function))

    def until(self, condition: Callable[[], bool], seconds: float = 180) -> None:
        """Handle events until ``condition``; `TimeoutError` where it does not come true."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"nothing after {seconds} s")
            now = time.monotonic()
            due = [t for t in self._timers if t[0] <= now]
            self._timers = [t for t in self._timers if t[0] > now]
            for _, function in due:
                function()
            try:
                self.events.get(timeout=0.005)()
            except queue.Empty:
                continue


class LocalProcess:
    """`medseg_panel.worker.client.Process` over ``subprocess``."""

    def __init__(
        self, loop: Loop, on_message: Callable[[dict], None], on_end: Callable[[int, bool, str], None]
    ) -> None:
        self._loop, self._on_message, self._on_end = loop, on_message, on_end
        self.child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.child = subprocess.Popen(
            [sys.executable, "-m", "medseg.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(LOGIC)},
        )
        threading.Thread(target=self._read, args=(self.child,), daemon=True).start()

    def _read(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdout and child.stderr
        for line in child.stdout:
            message = json.loads(line)
            self._loop.events.put(lambda message=message: self._on_message(message))
        stderr, code = child.stderr.read().decode(), child.wait()
        self._loop.events.put(lambda: self._on_end(abs(code), code < 0, stderr))

    def send(self, message: dict[str, Any]) -> None:
        assert self.child and self.child.stdin
        try:
            self.child.stdin.write(json.dumps(message).encode() + b"\n")
            self.child.stdin.flush()
        except BrokenPipeError:
            pass  # as QProcess: the end is told by on_end

    def kill(self) -> None:
        assert self.child
        self.child.kill()

    def close(self) -> None:
        assert self.child and self.child.stdin
        self.child.stdin.close()
        self.child.wait(timeout=60)


class Recorder:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.progress: list[tuple[str, float | None]] = []
        self.warnings: list[str] = []
        self.notes: list[str] = []
        self.end: tuple[str, Any] | None = None
        self.started = time.monotonic()
        self.infer_after: float | None = None

    def on_progress(self, stage: str, text: str, fraction: float | None, seconds_left: float | None) -> None:
        self.progress.append((stage, fraction))
        if stage == "infer" and self.infer_after is None:
            self.infer_after = time.monotonic() - self.started

    def on_warning(self, sentence: str) -> None:
        self.warnings.append(sentence)

    def on_note(self, sentence: str) -> None:
        self.notes.append(sentence)

    def on_result(self, result: Any) -> None:
        self._ended("result", result)

    def on_error(self, kind: str, sentence: str) -> None:
        self._ended(kind, sentence)

    def on_cancelled(self) -> None:
        self._ended("cancelled", None)

    def _ended(self, kind: str, what: Any) -> None:
        assert self.end is None, f"told twice how the run ended: {self.end} and {kind}"
        self.end = (kind, what)

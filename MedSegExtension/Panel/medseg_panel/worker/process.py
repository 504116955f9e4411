"""The worker as a child process of Slicer: a ``QProcess`` that runs `medseg.worker`.

All messages arrive through Qt's signals on the main thread; Python threads hardly run while Slicer waits for events.
What is read is handed over from a timer, never inside the process's own signals: whoever gets it may show a dialog or
import into a database, which handle events meanwhile. Inside a signal messages then overtake each other, and Qt 5 ends
by reading for ever what is empty by now (a watched file that has changed: that of Slicer's DICOM database).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer

LOGIC = Path(__file__).resolve().parents[3] / "Logic"
_STDERR_KEPT = 4000
# PythonSlicer may set PYTHONPATH itself, so where medseg is comes as an argument.
_START = (
    "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def interpreter() -> str:
    """Slicer's own Python (``PythonSlicer``); outside Slicer the current interpreter."""
    return shutil.which("PythonSlicer") or sys.executable


def environment() -> dict[str, str]:
    """The environment of the worker: what Slicer was started with, and how its Python shall speak.

    Made for the child; ``os.environ`` is read, never changed. Slicer's own library paths stay out of it, PythonSlicer
    sets them itself.
    """
    base = slicer.util.startupEnvironment() if hasattr(slicer.util, "startupEnvironment") else dict(os.environ)
    return base | {
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8",
    }


class QtWorkerProcess:
    """One life of the worker. ``on_message`` gets each JSON message, ``on_end`` (exit code, crashed, last stderr).

    Both may handle events: what arrives meanwhile is handed over in order. After `close` neither is called.
    ``pid``: of the worker, 0 until it is ready. ``module``: what is run in it.
    """

    def __init__(
        self,
        on_message: Callable[[dict[str, Any]], None],
        on_end: Callable[[int, bool, str], None],
        module: str = "medseg.worker",
    ) -> None:
        self._module = module
        self._on_message = on_message
        self._on_end = on_end
        self._buffer = b""
        self._stderr = ""
        self._ended = False
        self._inbox: deque[dict[str, Any]] = deque()
        self._outcome: tuple[int, bool] | None = None
        self.pid = 0
        self._process = qt.QProcess()
        settings = qt.QProcessEnvironment()
        for name, value in environment().items():
            settings.insert(name, value)
        self._process.setProcessEnvironment(settings)
        self._process.connect("readyReadStandardOutput()", self._read_output)
        self._process.connect("readyReadStandardError()", self._read_error)
        self._process.connect("finished(int,QProcess::ExitStatus)", self._finished)
        self._process.connect("errorOccurred(QProcess::ProcessError)", self._failed)

    def start(self) -> None:
        """Start the interpreter; `on_end` is called where that fails."""
        self._process.start(interpreter(), ["-c", _START, str(LOGIC), self._module])

    def send(self, message: dict[str, Any]) -> None:
        """Write one message to the worker."""
        self._process.write(json.dumps(message).encode() + b"\n")

    def kill(self) -> None:
        """End the worker at once; where ``PythonSlicer`` is a launcher, the Python behind it too."""
        if self.pid and self.pid != int(self._process.processId()):
            with contextlib.suppress(OSError):
                os.kill(self.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        self._process.kill()

    def close(self, wait_ms: int = 1000) -> None:
        """End the worker in order: its input ends, so it ends; after ``wait_ms`` it is killed."""
        self._ended = True
        self._process.closeWriteChannel()
        if not self._process.waitForFinished(wait_ms):
            self.kill()
            self._process.waitForFinished(wait_ms)

    def _read_output(self) -> None:
        self._buffer += _bytes(self._process.readAllStandardOutput())
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            try:
                message = json.loads(line)
            except ValueError:
                self._stderr = (self._stderr + line.decode(errors="replace"))[-_STDERR_KEPT:]
                continue
            if message.get("type") == "ready":
                self.pid = int(message["pid"])
            self._inbox.append(message)
            self._plan()

    def _read_error(self) -> None:
        text = _bytes(self._process.readAllStandardError()).decode(errors="replace")
        self._stderr = (self._stderr + text)[-_STDERR_KEPT:]

    def _finished(self, code: int, status: Any) -> None:
        if self._ended:  # it was closed: nobody listens
            return
        self._read_output()
        self._read_error()
        self._outcome = (int(code), status == qt.QProcess.CrashExit)
        self._plan()

    def _failed(self, error: Any) -> None:
        # Other errors are followed by finished(); a process that never started is not.
        if error == qt.QProcess.FailedToStart:
            self._outcome = (-1, True)
            self._plan()

    def _plan(self) -> None:
        qt.QTimer.singleShot(0, self._hand_over)

    def _hand_over(self) -> None:
        """Hand over one message, or the end after the last; one call is planned for each."""
        if self._ended:
            return
        if self._inbox:
            self._on_message(self._inbox.popleft())
        elif self._outcome is not None:
            self._ended = True
            self._on_end(*self._outcome, self._stderr)


def _bytes(array: Any) -> bytes:
    """The bytes of a ``QByteArray``."""
    return bytes(array.data())

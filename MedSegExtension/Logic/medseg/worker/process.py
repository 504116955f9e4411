"""The child process that runs models for Slicer, so that nothing it does can freeze Slicer or take it down.

``python -m medseg.worker`` reads one JSON message a line from standard input and writes one a line to standard output.

Requests: ``{"id", "command": "run" | "read" | "devices" | "versions" | "check" | "add" | "published" | "propose" |
"import" | "install" | "dicom" | "evaluate" | "cancel" | "expect" | "quit", ...}``; ``cancel`` names the request to stop
as ``run``.
Messages: ``ready`` once at the start (with the packages that are ``missing``), ``alive`` every second, and for a
request ``progress``, ``warning``, then exactly one of ``result``, ``answer`` (each under its own name) and ``error``
(``kind``: the class of the error, ``Cancelled`` included). Arrays travel in files of the request's ``folder``
(`medseg.worker.transfer`).

It stays warm: the last sessions stay open, so a second run starts at once. It ends when standard input does, which the
operating system sees to even where Slicer was killed; then it removes the folder of the run that was under way, and the
folder of an ``expect`` message, into which Slicer was still writing.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import json
import logging
import os
import queue
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ..errors import MedSegError, OutOfMemory
from ..monitor import Event, Monitor
from ..scratch import discard_all, own_place
from .dicom import write_objects
from .evaluation import evaluate_folders
from .models import import_file, install, propose_file, published
from .reading import read_images
from .requests import exchange_folder_of, run_options_of, text_of, volumes_of

if TYPE_CHECKING:
    from ..engine.session_cache import SessionCache

_NO_ROOM = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
log = logging.getLogger("medseg.worker")

NEEDED = ("numpy", "scipy", "SimpleITK", "pydantic", "pydicom", "onnx", "onnxruntime")
_ALIVE_SECONDS = 1.0
_PROGRESS_SECONDS = 0.05
_NICE = 5
_FAREWELL_SECONDS = 5.0


class Channel:
    """Writes messages; any thread."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, type: str, **content: Any) -> None:
        """One message as a line of JSON."""
        line = json.dumps({"type": type, **content}, default=_plain).encode() + b"\n"
        with self._lock:
            self._stream.write(line)
            self._stream.flush()


class Worker:
    """Takes requests from a queue and answers them on a channel, one at a time."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.requests: queue.Queue[dict[str, Any]] = queue.Queue()
        self._sessions: SessionCache | None = None
        self._lock = threading.Lock()
        self._monitor: Monitor | None = None
        self._running: int | None = None
        self._folder: Path | None = None
        self._expected: Path | None = None
        self._cancelled: set[int] = set()
        self._commands: dict[str, Callable[[dict[str, Any], Monitor], dict[str, Any]]] = {
            "run": self._run,
            "read": read_images,
            "devices": self._devices,
            "versions": self._versions,
            "check": self._check,
            "add": self._add,
            "published": published,
            "propose": propose_file,
            "import": import_file,
            "install": install,
            "dicom": write_objects,
            "evaluate": evaluate_folders,
        }

    @property
    def sessions(self) -> SessionCache:
        """The open sessions; made at the first run, since it needs packages that may be missing."""
        if self._sessions is None:
            from ..engine.session_cache import SessionCache

            self._sessions = SessionCache()
        return self._sessions

    def serve(self) -> None:
        """Answer requests until ``quit``."""
        missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
        self.channel.send("ready", pid=os.getpid(), missing=missing)
        while self.answer_next():
            pass

    def answer_next(self) -> bool:
        """Wait for a request and answer it; False where it is ``quit``."""
        request = self.requests.get()
        if request.get("command") == "quit":
            return False
        self._answer(request)
        return True

    def read(self, stream: BinaryIO) -> None:
        """Put the lines of ``stream`` into the queue (``cancel`` acts at once); the process ends with the stream."""
        for line in stream:
            self.take(line)
        for folder in (self._folder, self._expected):
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
        if self._folder is None:
            self._stop_query()
        discard_all()
        os._exit(0)

    def take(self, line: str | bytes) -> bool:
        """Put the request in ``line`` into the queue; False where it was done at once or is no request."""
        try:
            request = json.loads(line)
            number = request.get("id")
            command = request.get("command")
            if command == "cancel":
                self._cancel(None if request.get("run") is None else int(request["run"]))
                return False
            if command == "expect":
                self._expected = exchange_folder_of(request)
                return False
        except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, RecursionError, MedSegError):
            self.channel.send("error", id=None, kind="InputError", message="The worker got a broken message.")
            return False
        if not isinstance(number, int | str | None) or not isinstance(command, str):
            self.channel.send(
                "error", id=None, kind="InputError", message="The worker got a message without a command."
            )
            return False
        self.requests.put(request)
        return True

    def _stop_query(self) -> None:
        """Let an import or a download end its children and remove its files, for a short time."""
        self._cancel(None)
        end = time.monotonic() + _FAREWELL_SECONDS
        while self._monitor is not None and time.monotonic() < end:
            time.sleep(0.02)

    def beat(self) -> None:
        """Send ``alive`` for ever."""
        while True:
            time.sleep(_ALIVE_SECONDS)
            self.channel.send("alive")

    def _cancel(self, run: int | None) -> None:
        with self._lock:
            if run is not None and run != self._running:
                self._cancelled.add(run)
            elif self._monitor is not None:
                self._monitor.cancel()

    def _answer(self, request: dict[str, Any]) -> None:
        number = request.get("id")
        monitor = Monitor(self._listener(number))
        with self._lock:
            self._monitor, self._running = monitor, number
            self._folder = None
            if number in self._cancelled:
                self._cancelled.discard(number)
                monitor.cancel()
        try:
            if "folder" in request:
                self._folder = exchange_folder_of(request)
            command = self._commands.get(str(request.get("command")))
            if command is None:
                raise MedSegError(f"The worker knows no command {request.get('command')!r}.")
            kind = "result" if request["command"] == "run" else "answer"
            content = command(request, monitor)
            self.channel.send(kind, id=number, **{kind: content})
        except MedSegError as error:
            if isinstance(error, OutOfMemory):
                self.sessions.clear()
            self.channel.send("error", id=number, kind=type(error).__name__, message=str(error))
        except MemoryError:
            self.sessions.clear()
            sentence = "The computer's memory did not suffice; close other programs or choose a smaller region."
            self.channel.send("error", id=number, kind="DeviceError", message=sentence)
        except Exception as error:
            log.exception("request failed")
            self.sessions.clear()
            sentence = f"MedSeg failed unexpectedly ({type(error).__name__}: {error}). The log has the details."
            kind = "Fault"
            if isinstance(error, OSError) and error.errno in _NO_ROOM:
                kind = "OutputError"
                sentence = (
                    f"There is no room for what a run writes ({error.filename or self._folder}: {error.strerror}); "
                    "nothing was changed. Make room on that disk, or start Slicer with TMPDIR set to a larger one."
                )
            self.channel.send("error", id=number, kind=kind, message=sentence)
        finally:
            with self._lock:
                self._monitor, self._running, self._folder = None, None, None

    def _listener(self, number: Any) -> Callable[[Event], None]:
        last = 0.0

        def listen(event: Event) -> None:
            nonlocal last
            now = time.monotonic()
            if event.kind in ("warning", "note"):
                self.channel.send(event.kind, id=number, text=event.text)
            elif event.kind == "stage" or now - last >= _PROGRESS_SECONDS:
                last = now
                self.channel.send(
                    "progress", id=number, stage=event.stage, text=event.text, fraction=event.fraction,
                    seconds_left=event.seconds_left,
                )  # fmt: skip

        return listen

    def _run(self, request: dict[str, Any], monitor: Monitor) -> dict[str, Any]:
        from ..model.package import load_model
        from ..pipeline.network_view import network_view
        from ..pipeline.run import RunOptions, run
        from .transfer import result_message

        folder = exchange_folder_of(request)
        options = run_options_of(request)
        volumes = volumes_of(request, folder)
        model = load_model(text_of(request, "model"))
        if options.pop("only_input", False):
            result = network_view(model, volumes, RunOptions(**options), monitor=monitor)
        else:
            result = run(model, volumes, RunOptions(**options), monitor=monitor, open_session=self.sessions.open)
        with monitor.stage("write"):
            return result_message(result, folder)

    def _devices(self, request: dict[str, Any], monitor: Monitor) -> dict[str, Any]:
        from dataclasses import asdict

        from ..engine.devices import available_devices

        return {"devices": [asdict(device) for device in available_devices()]}

    def _versions(self, request: dict[str, Any], monitor: Monitor) -> dict[str, Any]:
        from ..engine.devices import support_report

        return {"report": support_report()}

    def _check(self, request: dict[str, Any], monitor: Monitor) -> dict[str, Any]:
        from ..model.package import load_model

        model = load_model(text_of(request, "model"))
        return {"id": model.manifest.id, "title": model.manifest.title, "warnings": list(model.warnings)}

    def _add(self, request: dict[str, Any], monitor: Monitor) -> dict[str, Any]:
        from ..model.installing import add_model

        return {"id": add_model(text_of(request, "model")).id}


def _plain(value: Any) -> Any:
    """numpy numbers and paths as JSON values."""
    if hasattr(value, "item"):
        return value.item()
    return str(value)


def step_back() -> None:
    """Let the computer prefer other programs, Slicer first: a run on all cores must not make its window stutter."""
    if sys.platform == "win32":
        import ctypes

        below_normal = 0x4000
        kernel = ctypes.windll.kernel32
        kernel.SetPriorityClass(kernel.GetCurrentProcess(), below_normal)
    else:
        os.nice(_NICE)


def main() -> None:
    """Serve on standard input and output; what libraries print goes to standard error."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    messages = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    step_back()
    worker = Worker(Channel(messages))
    for target in (lambda: worker.read(sys.stdin.buffer), worker.beat):
        threading.Thread(target=target, daemon=True).start()
    with own_place(), contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        worker.serve()
    os._exit(0)

"""The panel's side of the worker: one run at a time, cancelled within two seconds, and a reason where the worker died.

Nothing here waits. Volumes are written to files in pieces, and Qt handles events between them; results are mapped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from medseg import scratch
from medseg.geometry.volume import Volume
from medseg.worker.transfer import array_message, result_from, volume_message, write_in_pieces

from ..seams import Answer, Listener

# A worker that has not stopped this long after the request is ended.
CANCEL_MS = 1500
# A query (an import, a download) may be inside a library for some seconds, and cleans up when it stops by itself.
CANCEL_QUERY_MS = 10000
# Without a sign of life for this long the worker hangs (a busy native call still lets the heart beat).
SILENT_SECONDS = 120.0
_CHECK_MS = 5000
_TELL_SECONDS = 0.1
# Input and labels are there at the same time, and a computer should not be filled to the brim.
_ROOM = 6

Progress = Callable[[str, str, float | None, float | None], None]
Schedule = Callable[[int, Callable[[], None]], None]


class Process(Protocol):
    """What the client needs of `medseg_panel.worker.process.QtWorkerProcess`."""

    def start(self) -> None: ...
    def send(self, message: dict[str, Any]) -> None: ...
    def kill(self) -> None: ...
    def close(self) -> None: ...


class MakeProcess(Protocol):
    def __call__(
        self, on_message: Callable[[dict[str, Any]], None], on_end: Callable[[int, bool, str], None]
    ) -> Process: ...


class Busy(RuntimeError):
    """A run is under way; the worker takes one at a time."""


@dataclass
class _Run:
    number: int
    listener: Listener
    folder: Path
    request: dict[str, Any]
    pieces: Iterator[tuple[str, float]]
    sent: bool = False
    cancelled: bool = False
    warnings: list[str] = field(default_factory=list)
    told: float = 0.0


@dataclass
class _Query:
    on_answer: Answer
    on_error: Answer
    on_progress: Progress | None
    on_warning: Callable[[str], None] | None
    cancelled: bool = False


class WorkerClient:
    """Keeps a worker process warm and runs models in it.

    ``make_process``: makes a process (not started). ``schedule``: ``schedule(ms, f)`` calls ``f`` later on the main
    thread (``qt.QTimer.singleShot``).
    """

    def __init__(self, make_process: MakeProcess, schedule: Schedule) -> None:
        self._make_process = make_process
        self._schedule = schedule
        self._process: Process | None = None
        self._ready = False
        self._number = 0
        self._life = 0
        self._run: _Run | None = None
        self._waiting: list[dict[str, Any]] = []
        self._queries: dict[int, _Query] = {}
        self._heard = time.monotonic()
        self.missing: list[str] = []

    @property
    def running(self) -> bool:
        """True from `start_run` until its end was told."""
        return self._run is not None

    def start(self) -> None:
        """Start the worker where there is none, so that it is warm when it is needed."""
        if self._process is not None:
            return
        self._ready, self._life = False, self._life + 1
        life = self._life
        self._heard = time.monotonic()
        self._process = self._make_process(
            lambda message: self._on_message(life, message), lambda *end: self._on_end(life, *end)
        )
        self._process.start()
        self._schedule(_CHECK_MS, lambda: self._check(life))

    def start_run(self, model: str, volumes: Sequence[Volume], options: dict[str, Any], listener: Listener) -> int:
        """Run ``model`` (id or package path) on ``volumes`` in the worker; returns the run's number.

        ``options``: fields of `medseg.pipeline.run.RunOptions` as plain values; with ``only_input`` the result is the
        network's input (`medseg.pipeline.network_view`), and no network runs. Raises `Busy`, and ``OSError`` where
        the temporary folder cannot be made.
        """
        if self._run is not None:
            raise Busy("A run is under way; wait for it or cancel it.")
        self._number += 1
        folder = exchange_folder(volumes, options)
        files = [f"input{n}.raw" for n in range(len(volumes))]
        request = {
            "id": self._number,
            "command": "run",
            "model": model,
            "folder": str(folder),
            "options": options,
            "inputs": [volume_message(v, array_message(v.array, file)) for v, file in zip(volumes, files, strict=True)],
        }
        self._run = _Run(self._number, listener, folder, request, _write(volumes, folder, files))
        self.start()
        if self._process is not None:
            # At once, ready or not: should Slicer be killed while it writes, the worker removes the patient's voxels.
            self._process.send({"command": "expect", "folder": str(folder)})
        self._schedule(0, lambda number=self._number: self._write_piece(number))
        return self._number

    def cancel(self) -> None:
        """Stop the run under way; `Listener.on_cancelled` is called within two seconds."""
        run, life = self._run, self._life
        if run is None or run.cancelled:
            return
        run.cancelled = True
        if not run.sent:
            self._schedule(0, lambda: self._finish(run.number, lambda: run.listener.on_cancelled()))
            return
        self._send({"command": "cancel", "run": run.number})
        self._schedule(CANCEL_MS, lambda: self._cancel_hard(run.number, life))

    def query(
        self,
        command: str,
        on_answer: Answer,
        on_error: Answer,
        *,
        on_progress: Progress | None = None,
        on_warning: Callable[[str], None] | None = None,
        **content: Any,
    ) -> int:
        """Ask for one of the worker's other commands; one of the first two callbacks gets the answer, once.

        ``on_progress(stage, text, fraction, seconds left)`` and ``on_warning(sentence)`` are called before. Returns the
        number for `cancel_query`.
        """
        self._number += 1
        self._queries[self._number] = _Query(on_answer, on_error, on_progress, on_warning)
        self._send({"id": self._number, "command": command, **content})
        self.start()
        return self._number

    def cancel_query(self, number: int) -> None:
        """Stop a query; its ``on_error`` is called with the kind ``Cancelled``, unless the answer was on its way."""
        query, life = self._queries.get(number), self._life
        if query is None or query.cancelled:
            return
        query.cancelled = True
        self._send({"command": "cancel", "run": number})
        self._schedule(CANCEL_QUERY_MS, lambda: self._cancel_query_hard(number, life))

    def _cancel_query_hard(self, number: int, life: int) -> None:
        if number in self._queries and life == self._life and self._process is not None:
            self._process.kill()

    def restart(self) -> None:
        """End the worker (packages were installed, the device changed); the next request starts a new one."""
        queries, self._queries = self._queries, {}
        self.shutdown()
        for query in queries.values():
            query.on_error({"kind": "Died", "message": "The worker process was started anew; please try again."})

    def shutdown(self) -> None:
        """End the worker and the run under way, silently (the module or the application closes)."""
        process, self._process = self._process, None
        self._life += 1
        self._ready = False
        if process is not None:
            process.close()
        self._queries.clear()
        self._waiting.clear()
        run, self._run = self._run, None
        if run is not None:
            scratch.discard(run.folder)

    # -- a run ----------------------------------------------------------------------------------------------

    def _write_piece(self, number: int) -> None:
        """Write the next piece of the volumes; send the request after the last."""
        run = self._run
        if run is None or run.number != number or run.cancelled:
            return
        try:
            text, fraction = next(run.pieces)
        except StopIteration:
            run.pieces = iter(())
            run.sent = True
            self._send(run.request)
            return
        except OSError as error:
            sentence = f"The volume could not be handed to the worker ({error.strerror}); is the temporary folder full?"
            self._finish(number, lambda: run.listener.on_error("OutputError", sentence))
            return
        if time.monotonic() - run.told > _TELL_SECONDS:
            run.told = time.monotonic()
            run.listener.on_progress("read", text, 0.02 * fraction, None)
        self._schedule(0, lambda: self._write_piece(number))

    def _finish(self, number: int, tell: Callable[[], None]) -> None:
        """Forget the run, remove its folder, then tell its listener (who may start the next run)."""
        run = self._run
        if run is None or run.number != number:
            return
        self._run = None
        try:
            tell()
        finally:
            # Mapped files keep their contents on Unix; Windows refuses to remove them until they are unmapped.
            scratch.discard(run.folder)

    def _cancel_hard(self, number: int, life: int) -> None:
        run = self._run
        if run is None or run.number != number or life != self._life or self._process is None:
            return
        self._process.kill()

    # -- messages -------------------------------------------------------------------------------------------

    def _send(self, message: dict[str, Any]) -> None:
        if self._process is None or not self._ready:
            self._waiting.append(message)
        else:
            self._process.send(message)

    def _on_message(self, life: int, message: dict[str, Any]) -> None:
        if life != self._life:
            return
        self._heard = time.monotonic()
        kind, number = message.get("type"), message.get("id")
        if kind == "ready":
            self.missing = list(message.get("missing") or [])
            self._ready = True
            waiting, self._waiting = self._waiting, []
            for waited in waiting:
                self._send(waited)
        elif number in self._queries:
            self._on_query_message(int(number), str(kind), message)
        elif self._run is not None and number == self._run.number:
            self._on_run_message(self._run, str(kind), message)

    def _on_query_message(self, number: int, kind: str, message: dict[str, Any]) -> None:
        query = self._queries[number]
        if kind == "progress" and query.on_progress is not None and not query.cancelled:
            query.on_progress(message["stage"], message["text"], message["fraction"], message["seconds_left"])
        elif kind == "warning" and query.on_warning is not None:
            query.on_warning(message["text"])
        elif kind in ("answer", "error"):
            del self._queries[number]
            if kind == "answer":
                query.on_answer(message["answer"])
            else:
                query.on_error(message)

    def _on_run_message(self, run: _Run, kind: str, message: dict[str, Any]) -> None:
        if kind == "progress" and not run.cancelled:
            run.listener.on_progress(message["stage"], message["text"], message["fraction"], message["seconds_left"])
        elif kind == "warning":
            run.listener.on_warning(message["text"])
        elif kind == "note":
            run.listener.on_note(message["text"])
        elif kind == "result":
            if run.cancelled:
                self._finish(run.number, run.listener.on_cancelled)
                return
            try:
                result = result_from(message["result"], run.folder)
            except (OSError, ValueError) as error:
                sentence = f"The worker's result could not be read ({error}); run again."
                self._finish(run.number, lambda: run.listener.on_error("Fault", sentence))
                return
            self._finish(run.number, lambda: run.listener.on_result(result))
        elif kind == "error":
            if message["kind"] == "Cancelled":
                self._finish(run.number, run.listener.on_cancelled)
            else:
                self._finish(run.number, lambda: run.listener.on_error(message["kind"], message["message"]))

    def _on_end(self, life: int, code: int, crashed: bool, stderr: str) -> None:
        """The worker ended though it was not asked to: say why to whoever waits."""
        if life != self._life:
            return
        self._process, self._ready = None, False
        self._life += 1
        self._waiting.clear()
        sentence = why_it_ended(code, crashed, stderr)
        queries, self._queries = self._queries, {}
        for query in queries.values():
            kind = "Cancelled" if query.cancelled else "Died"
            query.on_error({"kind": kind, "message": "Cancelled." if query.cancelled else sentence})
        run = self._run
        if run is None:
            return
        if run.cancelled:
            self._finish(run.number, run.listener.on_cancelled)
        else:
            self._finish(run.number, lambda: run.listener.on_error("Died", sentence))

    def _check(self, life: int, silent: bool = False) -> None:
        """End a worker that has given no sign of life for long.

        ``silent``: it was so at the last look, too. Where Slicer stood still, what it said is still to be read.
        """
        if life != self._life or self._process is None:
            return
        quiet = time.monotonic() - self._heard > SILENT_SECONDS
        if quiet and silent:
            self._process.kill()
            return
        self._schedule(_CHECK_MS, lambda: self._check(life, quiet))


def exchange_folder(volumes: Sequence[Volume], options: dict[str, Any]) -> Path:
    """A new folder for the arrays of one run: in shared memory where there is ample room (Linux), else on the disk.

    A busy disk makes writers wait, and voxels of patients need not reach it. Raises ``OSError`` where there is none.
    """
    wanted = _ROOM * sum(v.array.nbytes for v in volumes)
    return scratch.new_folder(bytes_in_memory=None if options.get("probabilities") else wanted)


def why_it_ended(code: int, crashed: bool, stderr: str) -> str:
    """One sentence on why the worker ended, and what to do."""
    tail = stderr.strip().splitlines()[-1] if stderr.strip() else ""
    detail = f" Its last words: {tail[:200]}" if tail else ""
    if code == -1 and crashed:
        return f"The worker process could not be started; is Slicer's Python complete?{detail}"
    if (crashed and code == 9) or code == 128 + 9:
        return (
            "The worker process was ended by the system, most often because memory ran out; nothing in the scene was "
            "changed. Close other programs or choose a region of interest, then press Apply again."
        )
    if crashed:
        return (
            f"The worker process crashed (code {code}), often in a graphics driver; nothing in the scene was changed. "
            f"Press Apply again, or choose the CPU as device.{detail}"
        )
    return f"The worker process ended unexpectedly (exit code {code}); nothing in the scene was changed.{detail}"


def _write(volumes: Sequence[Volume], folder: Path, files: Sequence[str]) -> Iterator[tuple[str, float]]:
    """Write the voxels of all volumes in pieces; yields (text, fraction of all)."""
    for n, (volume, file) in enumerate(zip(volumes, files, strict=True)):
        for fraction in write_in_pieces(volume.array, folder / file):
            yield "handing over the volume", (n + fraction) / len(volumes)

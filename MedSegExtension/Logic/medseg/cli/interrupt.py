"""Ctrl-C that is answered within a second, even while native code runs, and that leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from ..errors import Cancelled

T = TypeVar("T")

# What a run gets to stop by itself before it is left behind; ONNX Runtime looks at its flag between operators only.
GRACE_SECONDS = 0.7
_POLL_SECONDS = 0.05


def interruptible(work: Callable[[], T], cancel: Callable[[], None], abandon: Callable[[], None]) -> T:
    """``work()`` in a thread while this one waits for it or for Ctrl-C (SIGINT, SIGTERM).

    On Ctrl-C ``cancel`` is called; if the work does not end in `GRACE_SECONDS`, ``abandon`` is called and the process
    ends with code 130. Raises what the work raises.
    """
    outcome: list[T] = []
    failure: list[BaseException] = []
    done, asked = threading.Event(), threading.Event()

    def body() -> None:
        try:
            outcome.append(work())
        except BaseException as error:  # handed to the waiting thread
            failure.append(error)
        finally:
            done.set()

    def ask(*_: Any) -> None:
        asked.set()

    with _signals(ask):
        threading.Thread(target=body, name="medseg-run", daemon=True).start()
        while not done.wait(_POLL_SECONDS):
            if not asked.is_set():
                continue
            cancel()
            if not done.wait(GRACE_SECONDS):
                abandon()
                end_now(Cancelled.exit_code)
            break
    if failure:
        raise failure[0]
    return outcome[0]


def end_now(code: int) -> NoReturn:
    """End without waiting for threads or finalisers, which native code may hold up for long."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception, SystemExit):
            stream.flush()
    os._exit(code)


@contextmanager
def _signals(handler: Callable[..., None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def claimed(folder: Path, on_abandon: Callable[[Callable[[], None]], Any]) -> Iterator[None]:
    """Make the result folder before a result is written into it, so that it is known what to remove on Ctrl-C.

    The writer then puts its temporary folder inside it. A folder that was not there is removed whole unless its result
    is complete; in one that was there only the temporary folders are.
    """
    made: list[Path] = []
    missing = [p for p in (folder, *folder.absolute().parents) if not p.exists()]
    with suppress(OSError):  # the writer says what is wrong
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            made.append(path)
    own = folder in made

    def remove() -> None:
        for _ in range(3):  # a thread that still writes may make a file while its folder is removed
            if own and not (folder / "result.json").exists():
                shutil.rmtree(folder, ignore_errors=True)
            for left in folder.glob(".medseg-*"):
                shutil.rmtree(left, ignore_errors=True)
        _remove_empty(made)

    try:
        with on_abandon(remove):
            yield
    except BaseException:
        _remove_empty(made)
        raise


def _remove_empty(folders: list[Path]) -> None:
    for path in reversed(folders):
        with suppress(OSError):
            path.rmdir()

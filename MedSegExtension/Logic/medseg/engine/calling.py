"""Threads for all calls into a runtime, so that the caller can be cancelled while native code works."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from ..monitor import Monitor

T = TypeVar("T")
# A runtime looks at its stop flag between operators only; one large 3D convolution may take longer than this.
_GRACE_SECONDS = 1.0


class CallingThread:
    """Makes all calls in one thread, or in a few (CUDA keeps its handles per thread).

    The calling thread only waits, so that Ctrl-C and `Monitor.cancel` are answered while native code works.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._count = 0
        self.at_least(1)

    def at_least(self, count: int) -> None:
        """Have ``count`` threads from now on, so that so many calls can be under way at once."""
        for _ in range(self._count, count):
            threading.Thread(target=_work, args=(self._jobs,), name="medseg-onnxruntime", daemon=True).start()
        self._count = max(self._count, count)

    def call(self, function: Callable[[], T], monitor: Monitor, stop: Callable[[], None]) -> T:
        """``function()`` in the thread. After a cancel it is left to end alone once the grace time is over."""
        job = _Job(function)
        stopped = threading.Event()

        def cancel() -> None:
            job.cancelled = True
            stop()
            stopped.set()

        with monitor.on_cancel(cancel):
            self._jobs.put(job)
            try:
                while not job.done.wait(0.1):
                    if stopped.is_set() and not job.done.wait(_GRACE_SECONDS):
                        break
            except KeyboardInterrupt:
                cancel()
                raise
        monitor.checkpoint()
        if job.error is not None:
            raise job.error
        return job.result  # type: ignore[no-any-return]

    def close(self, last: Callable[[], None] | None = None) -> None:
        """End the threads after what they are doing, and after ``last`` in one, whose errors are dropped."""
        if last is not None:
            self._jobs.put(_Job(last))
        for _ in range(self._count):
            self._jobs.put(None)


class _Job:
    def __init__(self, function: Callable[[], Any]) -> None:
        self.function: Callable[[], Any] | None = function
        self.done = threading.Event()
        self.cancelled = False
        self.result: Any = None
        self.error: BaseException | None = None


def _work(jobs: queue.SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        try:
            if job.function is not None and not job.cancelled:
                job.result = job.function()
        except BaseException as error:  # handed to the caller, who raises it
            job.error = error
        # The feeds of a finished run must not stay in memory until the next one.
        job.function = None
        if job.cancelled:
            job.result = None
        job.done.set()
        del job

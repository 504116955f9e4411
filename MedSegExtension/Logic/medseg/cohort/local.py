"""Cases on processes of this machine. A process that dies costs no case: another takes its place and its case.

The standard library's process pool ends altogether when one of its processes dies, so it cannot be used here.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from typing import Any

from ..pipeline.options import RunOptions
from .one_case import Job, Record, Runner, failed, quiet_worker

#: How many processes a case may cost before it counts as the cause.
_TRIES = 2


@dataclass(eq=False)
class _Worker:
    process: Any
    pipe: Any
    job: Job | None = None


def run_local(
    source: str, options: RunOptions, jobs: Iterable[Job], workers: int, tell: Callable[[str], None]
) -> Iterator[Record]:
    """The record of each job as it is done, in any order, by ``workers`` processes that load the model once each.

    ``tell``: is called with a sentence where a process died.
    """
    waiting = deque(jobs)
    tries: dict[str, int] = {}
    crew = [_start(source, options) for _ in range(min(workers, len(waiting)))]
    try:
        while crew:
            for worker in crew:
                if worker.job is None and waiting:
                    worker.job = waiting.popleft()
                    with suppress(OSError):  # it is dead, which is found below
                        worker.pipe.send(worker.job)
            busy = [w for w in crew if w.job is not None]
            if not busy:
                return
            ready = connection.wait([w.pipe for w in busy])
            for worker in [w for w in busy if w.pipe in ready]:
                job = worker.job
                assert job is not None
                try:
                    record = worker.pipe.recv()
                except (EOFError, OSError):
                    worker.process.join()
                    crew[crew.index(worker)] = _start(source, options)
                    tries[job.name] = tries.get(job.name, 0) + 1
                    code = worker.process.exitcode
                    if tries[job.name] < _TRIES:
                        tell(f"The process that ran {job.name} ended (code {code}); another one runs it again.")
                        waiting.appendleft(job)
                        continue
                    words = f"The process that ran it ended {_TRIES} times (code {code}); memory may not suffice."
                    record = failed(job, words)
                worker.job = None
                yield record
    finally:
        for worker in crew:
            worker.pipe.close()
            worker.process.terminate()
        for worker in crew:
            worker.process.join()


def _start(source: str, options: RunOptions) -> _Worker:
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, source, options), name="medseg-cohort", daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _work(pipe: Any, source: str, options: RunOptions) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver ends its workers
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    quiet_worker()
    runner = Runner(source, options)
    with suppress(EOFError):
        while True:
            pipe.send(runner.do(pipe.recv()))


def _end_with(sentinel: Any) -> None:
    """A worker does not outlive its driver: a resumed one must find nobody at work in its folder."""
    connection.wait([sentinel])
    os._exit(1)

"""Runs cases in a child process, counts those that were not answered, and finds a small input for each fault."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from .child import write
from .kind import Kind

TESTING = Path(__file__).resolve().parents[1]
LOGIC = TESTING.parent / "MedSegExtension" / "Logic"
PANEL = TESTING.parent / "MedSegExtension" / "Panel"
KEPT = TESTING.parent / "test-output" / "fuzz"
# Processor time of a case, and the clock's time where it does not work: on a busy machine the two differ much.
_WORKED, _WAITED = 30.0, 300.0


@dataclass(frozen=True)
class Fault:
    """A case that was not answered with a result or a sentence."""

    kind: str
    seed: int
    index: int
    what: str

    @property
    def command(self) -> str:
        """How to see it again."""
        return f"make fuzz KIND={self.kind} SEED={self.seed} INDEX={self.index}"


class Child:
    """`fuzz.child`, started when it is needed and again after it died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, kind: str, seed: int, index: int, keep: Iterable[int] | None = None) -> str:
        """What was wrong with the case, "" where nothing was."""
        process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None
        request = {"kind": kind, "seed": seed, "index": index, "keep": None if keep is None else sorted(keep)}
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        ready = self._answers(process)
        line = process.stdout.readline() if ready else b""
        if line:
            said = json.loads(line)
            if "unsound" in said:
                raise SystemExit(f"the sample of {kind} is refused before it is damaged: {said['unsound']}")
            return str(said.get("fault", ""))
        code = process.wait() if ready else None
        self.end()
        return f"the process ended with code {code}" if ready else f"no answer within {_WORKED:.0f} s of work"

    def _answers(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether an answer comes before the child has worked too long, or waited for nothing much longer."""
        begun, until = _seconds_worked(process.pid), time.monotonic() + _WAITED
        while time.monotonic() < until:
            if select.select([process.stdout], [], [], 5.0)[0]:
                return True
            if _seconds_worked(process.pid) - begun > _WORKED:
                return False
        return False

    def _start(self) -> subprocess.Popen[bytes]:
        places = [str(p) for p in (TESTING, LOGIC, PANEL)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fuzz.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        return self._process

    def end(self) -> None:
        """Stop the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()


def _seconds_worked(pid: int) -> float:
    """Processor time (s) of a process and of those that it started."""
    try:
        process = psutil.Process(pid)
        times = [p.cpu_times() for p in (process, *process.children(recursive=True))]
    except psutil.Error:
        return 0.0
    return float(sum(t.user + t.system for t in times))


def run_cases(child: Child, kind: Kind, seed: int, indices: Iterable[int]) -> Iterator[Fault]:
    """The faults among the cases ``indices``."""
    for index in indices:
        what = child.ask(kind.name, seed, index)
        if what:
            yield Fault(kind.name, seed, index, what)


def keep_smallest(child: Child, kind: Kind, fault: Fault) -> Path:
    """Leave out edits as long as the case is not answered, and write its files under ``test-output/fuzz``."""
    keep = frozenset(range(kind.edits(fault.seed, fault.index)))
    for number in sorted(keep):
        fewer = keep - {number}
        if fewer and child.ask(kind.name, fault.seed, fault.index, fewer):
            keep = fewer
    folder = KEPT / f"{fault.kind}-{fault.seed}-{fault.index}"
    for name, data in kind.case(kind.sample(), fault.seed, fault.index, keep).items():
        write(folder / name, data)
    return folder

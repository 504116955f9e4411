"""Who is to blame for a worker that died, by a cluster that is played: it needs no Ray and takes no time."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medseg.cohort.on_ray import _Crew
from medseg.cohort.one_case import Job, Record, failed
from medseg.errors import Cancelled, DeviceError

JOBS = [Job(name, {}, Path(name)) for name in ("a", "b", "c")]


class Died(Exception):
    pass


@dataclass(frozen=True, eq=False)
class Reference:
    get: Callable[[], Any]


@dataclass(frozen=True)
class Call:
    answer: Callable[..., Any]

    def remote(self, *given: Any) -> Reference:
        return Reference(lambda: self.answer(*given))


class Cluster:
    """``dies``: what the worker that runs a case dies of, or ""; ``starts``: what a new worker dies of."""

    def __init__(self, dies: Callable[[str, int], str], starts: str = "") -> None:
        self.tries: Counter[str] = Counter()
        self.dies, self.starts, self.begun = dies, starts, 0
        self.ray = SimpleNamespace(
            wait=lambda calls, **_: (calls[:1], calls[1:]), get=lambda call: call.get(), kill=lambda *_, **__: None,
            exceptions=SimpleNamespace(RayActorError=Died, RayTaskError=ZeroDivisionError),
        )  # fmt: skip

    def start(self) -> Any:
        self.begun += 1
        return SimpleNamespace(ready=Call(self.ready), do=Call(self.do))

    def ready(self) -> tuple[str, str]:
        if self.starts:
            raise Died(self.starts)
        return "node", "work"

    def do(self, job: Job) -> Record:
        self.tries[job.name] += 1
        if words := self.dies(job.name, self.tries[job.name]):
            raise Died(words)
        return failed(job, "") | {"state": "done"}

    def alive(self, node: str) -> bool:
        return True

    def words(self) -> str:
        return "a cluster"


def run(cluster: Cluster, told: list[str], stop: threading.Event | None = None) -> dict[str, Record]:
    crew = _Crew(cluster, cluster.start, "work", told.append)  # type: ignore[arg-type]
    return {r["case"]: r for r in crew.run(JOBS, 2, stop or threading.Event())}


def test_a_case_that_kills_its_workers_is_a_row_and_the_rest_is_run() -> None:
    told: list[str] = []
    cluster = Cluster(lambda case, n: "The worker died" if case == "b" else "")
    records = run(cluster, told)
    assert {case: r["state"] for case, r in records.items()} == {"a": "done", "b": "failed", "c": "done"}
    assert cluster.tries["b"] == 3 and "ended 3 times" in records["b"]["problem"]
    assert told == ["The worker that ran b ended; another one runs it again."] * 2
    assert cluster.begun == 2 + 3, "who died is replaced"


def test_nodes_that_go_away_are_not_the_fault_of_a_case() -> None:
    """Cheap nodes are taken back at any time; a long case may lose several."""
    told: list[str] = []
    cluster = Cluster(lambda case, n: "The actor died because its node has died." if case == "b" and n < 6 else "")
    assert {r["state"] for r in run(cluster, told).values()} == {"done"}
    assert told == ["The node that ran b ended; another one runs it again."] * 5
    forever = Cluster(lambda case, n: "its node has died" if case == "b" else "")
    assert run(forever, [])["b"]["state"] == "failed" and forever.tries["b"] == 10, "but not for ever"


def test_workers_that_never_begin_end_the_run() -> None:
    """A node without memory for the model must not be tried all night."""
    with pytest.raises(DeviceError, match="5 workers of the Ray cluster in turn ended before"):
        run(Cluster(lambda *_: "", starts="The worker died"), [])


def test_a_run_that_is_stopped_ends_its_workers() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled, match="finished cases are kept"):
        run(Cluster(lambda *_: ""), [], stop)

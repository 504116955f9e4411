"""Cases on the nodes of a Ray cluster, by actors that load the model once each. Who dies costs no case.

All nodes must see model, images and output folder under the same paths (one file system), and have the same MedSeg.
Ray restarts actors and tasks by itself too, but cannot tell a case that kills its worker from a node that went away.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ..errors import Cancelled, DeviceError, InputError, ModelError
from ..pipeline.options import RunOptions
from .one_case import Job, Record, Runner, failed, quiet_worker

#: How many workers a case may cost before it counts as the cause; how many in all, with nodes that went away. One more
#: than on one computer, since it takes Ray seconds to know that a node is gone.
_TRIES, _MOST_TRIES = 3, 10
#: How many workers in turn may end before they have loaded the model.
_MOST_STARTS = 5
#: Seconds in which an address must answer.
_CONNECT = 5.0
#: Seconds without a worker after which a user is told, and between two looks.
_PATIENCE, _LOOK = 30.0, 0.5
#: Bytes of shared memory of a cluster that is started here: what travels is small.
_STORE = 100 << 20
#: What decides how a worker finds models and runs them; taken along to other computers.
_ENVIRONMENT = ("MEDSEG_ENGINE", "MEDSEG_MODELS", "MEDSEG_DATA_DIR", "MEDSEG_CACHE_DIR")


@dataclass(frozen=True)
class RayPlace:
    """Which cluster, and what each worker gets of it.

    ``address``: as ``ray.init`` takes it; "" is the one that runs on this computer, else a new one on it.
    ``cpus``: cores. ``gpus``: cards, or a share of one (0.25: four workers on a card).
    """

    address: str = ""
    cpus: float = 1.0
    gpus: float = 0.0


class CaseWorker:
    """What runs as an actor: a `Runner` on some node."""

    def __init__(self, source: str, options: RunOptions, environment: dict[str, str]) -> None:
        os.environ.update(environment)
        quiet_worker()
        self._runner = Runner(source, options)

    def ready(self) -> tuple[str, str]:
        """The node's id, and the hash of the work that it would do."""
        import ray

        return ray.get_runtime_context().get_node_id(), self._runner.work

    def do(self, job: Job) -> Record:
        """As `Runner.do`."""
        return self._runner.do(job)


def run_on_ray(
    source: str, options: RunOptions, jobs: Iterable[Job], workers: int, tell: Callable[[str], None], *,
    place: RayPlace, work: str, stop: threading.Event | None = None,
) -> Iterator[Record]:  # fmt: skip
    """As `run_local`, by ``workers`` actors; 0: as many as fit into the cluster now.

    ``work``: the driver's `work_hash`; a node that would do other work (another version or model) is refused.
    ``stop``: once it is set, workers end, and a cluster that was started here; then `Cancelled` is raised. Left to
    itself by a driver that ends at once, such a cluster leaves processes behind.

    Raises `InputError` where Ray is not installed or the cluster cannot be reached, `DeviceError` where no node has
    what a worker needs, `ModelError` where a node cannot load the model.
    """
    _quiet()
    with _Cluster(place) as cluster:
        count = workers or cluster.room()
        tell(f"Ray: {cluster.words()}; {count} workers, each with {place.cpus:g} cores and {place.gpus:g} GPUs.")
        crew = _Crew(cluster, lambda: cluster.start(source, options), work, tell)
        yield from crew.run(jobs, count, stop or threading.Event())


def _quiet() -> None:
    """Ray reports nothing home, and its log lines are not between ours. Before it is imported."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else a warning; see `_environment`
    logging.getLogger("ray").setLevel(logging.ERROR)


def _environment(place: RayPlace) -> dict[str, str]:
    taken = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    # Without a share of a card a worker must not find the cards that others were promised.
    return taken if place.gpus else taken | {"CUDA_VISIBLE_DEVICES": ""}


class _Cluster:
    """A connection to a cluster; one that was made here ends here."""

    def __init__(self, place: RayPlace) -> None:
        self.place = place

    def __enter__(self) -> _Cluster:
        try:
            import ray
        except ImportError as error:
            raise InputError('A Ray cluster needs the package ray: pip install "medseg[cohort]".') from error
        self.ray = ray
        self._ours = not ray.is_initialized()
        try:
            if self._ours:
                self._connect()
        except (ConnectionError, ValueError, RuntimeError, OSError, ray.exceptions.RayError) as error:
            first = str(error).strip().partition("\n")[0]
            raise InputError(
                f"The Ray cluster {self.place.address or 'on this computer'} cannot be used: {first}"
            ) from error
        return self

    def __exit__(self, *about: object) -> None:
        if self._ours:
            self.ray.shutdown()

    def _connect(self) -> None:
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self.place.address not in ("", "local"):
            host, _, port = self.place.address.rpartition("/")[2].rpartition(":")
            if port.isdecimal():  # Ray itself tries for minutes
                socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT).close()
            self.ray.init(address=self.place.address, **quiet)
            return
        if not self.place.address:
            with suppress(ConnectionError):
                self.ray.init(address="auto", **quiet)
                return
        self.ray.init(address="local", include_dashboard=False, object_store_memory=_STORE, **quiet)

    def nodes(self) -> list[dict[str, Any]]:
        return [node for node in self.ray.nodes() if node["Alive"]]

    def alive(self, node: str) -> bool:
        return any(n["NodeID"] == node for n in self.nodes())

    def room(self) -> int:
        """How many workers fit. Raises `DeviceError` where none does."""
        fit = sum(self._fit(node["Resources"]) for node in self.nodes())
        if not fit:
            raise DeviceError(
                f"No node of the Ray cluster has {self.place.cpus:g} cores and {self.place.gpus:g} GPUs for a worker "
                f"({self.words()}); ask for less with --cpus-per-worker or --gpus-per-worker."
            )
        return fit

    def _fit(self, has: dict[str, float]) -> int:
        cpus, gpus = self.place.cpus, self.place.gpus
        fit = [has.get("CPU", 0.0) // cpus] if cpus else []
        if gpus >= 1:
            fit.append(has.get("GPU", 0.0) // gpus)
        elif gpus:  # shares lie on one card each
            fit.append(has.get("GPU", 0.0) * (1 // gpus))
        return int(min(fit, default=1.0))

    def words(self) -> str:
        have = [node["Resources"] for node in self.nodes()]
        cpus, gpus = (sum(has.get(kind, 0.0) for has in have) for kind in ("CPU", "GPU"))
        return f"{len(have)} nodes with {cpus:g} cores and {gpus:g} GPUs"

    def start(self, source: str, options: RunOptions) -> Any:
        actor = self.ray.remote(num_cpus=self.place.cpus, num_gpus=self.place.gpus, max_restarts=0)(CaseWorker)
        return actor.remote(source, options, _environment(self.place))


@dataclass(eq=False)
class _Actor:
    handle: Any
    node: str = ""  # "" until it has loaded the model
    job: Job | None = None


class _Crew:
    """Who works on what: a reference of Ray that is waited for -> the actor that will answer it."""

    def __init__(
        self, cluster: _Cluster, start: Callable[[], Any], work: str, tell: Callable[[str], None]
    ) -> None:  # fmt: skip
        self._cluster, self._start, self._work, self._tell = cluster, start, work, tell
        self._answers: dict[Any, _Actor] = {}
        self._tries: dict[str, list[int]] = {}  # on nodes that live, in all
        self._ended = 0  # in turn, before they were ready

    def run(self, jobs: Iterable[Job], count: int, stop: threading.Event) -> Iterator[Record]:
        waiting = deque(jobs)
        idle: list[_Actor] = []
        seen, told = time.monotonic(), False
        for _ in range(min(count, len(waiting))):
            self._add()
        try:
            while waiting or any(actor.job for actor in self._answers.values()):
                while idle and waiting:
                    self._give(idle.pop(), waiting.popleft())
                ready, _ = self._cluster.ray.wait(list(self._answers), num_returns=1, timeout=_LOOK)
                if stop.is_set():
                    raise Cancelled("The cohort was cancelled; finished cases are kept: the same command goes on.")
                now = time.monotonic()
                if ready or any(actor.node for actor in self._answers.values()):
                    seen, told = now, False
                elif now - seen > _PATIENCE and not told:
                    self._tell(f"No worker could be placed for {_PATIENCE:.0f} s ({self._cluster.words()}); waiting.")
                    told = True
                for reference in ready:
                    actor = self._answers.pop(reference)
                    record = self._answered(reference, actor, waiting)
                    if record is not None:
                        yield record
                    if actor.handle is not None and actor.job is None:
                        idle.append(actor)
        finally:
            for actor in [*idle, *self._answers.values()]:
                self._end(actor)

    def _add(self) -> None:
        actor = _Actor(self._start())
        self._answers[actor.handle.ready.remote()] = actor

    def _give(self, actor: _Actor, job: Job) -> None:
        actor.job = job
        self._answers[actor.handle.do.remote(job)] = actor

    def _answered(self, reference: Any, actor: _Actor, waiting: deque[Job]) -> Record | None:
        """The record where ``reference`` is one. An actor that died is replaced, its job goes back to ``waiting``."""
        errors = self._cluster.ray.exceptions
        try:
            answer = self._cluster.ray.get(reference)
        except errors.RayActorError as error:
            return self._replace(actor, error, waiting)
        except errors.RayTaskError as error:
            raise ModelError(f"A worker of the Ray cluster failed: {_last_line(error)}") from error
        if actor.job is None:
            actor.node, work = answer
            self._ended = 0
            if work != self._work:
                raise ModelError(
                    f"Node {actor.node[:8]} of the Ray cluster has another MedSeg or another model under this name; "
                    "install the same on all nodes."
                )
            return None
        actor.job = None
        record: Record = answer
        return record

    def _replace(self, actor: _Actor, error: Any, waiting: deque[Job]) -> Record | None:
        if getattr(error, "actor_init_failed", False) or getattr(error, "_actor_init_failed", False):
            raise ModelError(
                f"A node of the Ray cluster cannot load the model: {_last_line(error)} MedSeg and the model must be on "
                "all nodes, under the same path."
            ) from error
        job, handle_node = actor.job, actor.node
        self._end(actor)
        lost = "node has died" in str(error) or "node died" in str(error) or (
            bool(handle_node) and not self._cluster.alive(handle_node)
        )  # fmt: skip
        what = "The node" if lost else "The worker"
        if job is None:
            self._ended += 1
            if self._ended >= _MOST_STARTS and not lost:
                raise DeviceError(
                    f"{self._ended} workers of the Ray cluster in turn ended before they had loaded the model; memory "
                    "may not suffice."
                )
            self._tell(f"{what} of a worker ended before it had begun; another one takes its place." if lost
                       else "A worker ended before it had loaded the model; another one takes its place.")  # fmt: skip
            self._add()
            return None
        tries = self._tries.setdefault(job.name, [0, 0])
        tries[0] += not lost
        tries[1] += 1
        self._add()
        if tries[0] >= _TRIES or tries[1] >= _MOST_TRIES:
            return failed(job, f"The worker that ran it ended {tries[1]} times; memory may not suffice.")
        self._tell(f"{what} that ran {job.name} ended; another one runs it again.")
        waiting.appendleft(job)
        return None

    def _end(self, actor: _Actor) -> None:
        """It may be alive yet, behind a network that fails; two must not work on one case."""
        if actor.handle is not None:
            with suppress(Exception):
                self._cluster.ray.kill(actor.handle, no_restart=True)
            actor.handle = None


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__

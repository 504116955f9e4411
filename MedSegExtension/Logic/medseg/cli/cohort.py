"""``medseg cohort``: one model over many cases, resumable."""

from __future__ import annotations

import functools
import re
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from ..errors import InputError
from ..monitor import Event
from .console import Command
from .execute import execute

if TYPE_CHECKING:
    from ..cohort.drive import Crew
    from ..cohort.one_case import Record, Runner

_SECONDS_BETWEEN, _SECONDS_TO_END = 0.5, 10.0
_ADDRESS = re.compile(r"auto|local|ray://.+|[^\s/=]+:\d+")


class _OptionalAddress(TyperCommand):
    """``--ray`` may stand alone: then no address follows it. Typer knows no options with a value that may be absent."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given = list(args)
        for n in reversed([n for n, word in enumerate(given) if word == "--ray"]):
            if n + 1 == len(given) or not _ADDRESS.fullmatch(given[n + 1]):
                given.insert(n + 1, "")
        return super().parse_args(ctx, given)


def register(app: typer.Typer, epilog: str) -> None:
    """Add the command."""
    app.command("cohort", epilog=epilog, cls=_OptionalAddress)(cohort)


def cohort(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Id or file of a model.")],
    source: Annotated[
        Path,
        typer.Argument(metavar="SOURCE", help="Folder of images, BIDS data set, tree of DICOM studies, or a CSV: case "
                       "and image, or a column for each of several channels."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Results and tables.")],
    workers: Annotated[int | None, typer.Option(min=1, help="Processes (default: one for each core).")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    modality: Annotated[str | None, typer.Option(metavar="CT|MR|CR|DX", help="Of files that do not say it.")] = None,
    suffix: Annotated[
        list[str] | None, typer.Option(metavar="SUFFIX", help="BIDS: which images (FLAIR); of several CHANNEL=SUFFIX.")
    ] = None,
    session: Annotated[list[str] | None, typer.Option(metavar="NAME", help="BIDS: only this session.")] = None,
    ray: Annotated[
        str | None,
        typer.Option("--ray", metavar="[ADDRESS]", help="Work on a Ray cluster: HOST:PORT, auto (the one of this "
                     "computer), local (a new one); without an address auto, else local."),
    ] = None,
    cpus: Annotated[float, typer.Option("--cpus-per-worker", min=0, help="Ray: cores of each worker.")] = 1.0,
    gpus: Annotated[
        float | None, typer.Option("--gpus-per-worker", min=0, help="Ray: GPUs of each worker; 0.25: four share one.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and details on stderr.")] = False,
) -> None:  # fmt: skip
    """Run MODEL on all cases of SOURCE in several processes; run it again to go on after an interruption."""

    def body(command: Command) -> int:
        from ..cohort.drive import run_cohort
        from ..cohort.one_case import Runner
        from ..engine.machine import physical_cores
        from ..pipeline.options import RunOptions
        from .cohort_source import Wanted, plan

        count = workers or physical_cores() or 1
        threads = max(1, (physical_cores() or count) // count if ray is None else int(cpus))
        runner = Runner(model, RunOptions(device=device, modality=modality, threads=threads))
        stop, ended = threading.Event(), threading.Event()
        crew = _crew(runner, ray, cpus, gpus, stop)
        jobs = plan(command, runner, source, output, Wanted(suffix or (), session or ()))
        command.after_cancel = f"finished cases are kept in {output}: the same command goes on"
        if ray is not None:  # a cluster that was started here must be gone before the process is

            def end() -> None:
                stop.set()
                ended.wait(_SECONDS_TO_END)

            command.cancelling.append(end)
        with command.reporter:
            progress = _Progress(command, len(jobs))
            try:
                failed = run_cohort(
                    runner, model, jobs, output, count if ray is None else workers or 0,
                    told=progress.told, tell=command.monitor().note, crew=crew,
                )  # fmt: skip
            finally:
                ended.set()
        command.document.update(folder=str(output), cases=len(jobs), failed=failed, known=progress.known)
        made = [n for n in ("cohort.csv", "cohort.parquet", "cohort.html", "tables") if (output / n).exists()]
        command.say(
            f"{len(jobs) - failed} of {len(jobs)} done. {output}: {', '.join(made)}, cases.csv (for the tab Review)"
        )
        return InputError.exit_code if failed else 0

    execute(body, as_json=as_json, debug=debug)


def _crew(runner: Runner, ray: str | None, cpus: float, gpus: float | None, stop: threading.Event) -> Crew:
    from ..cohort.local import run_local
    from ..cohort.on_ray import RayPlace, run_on_ray

    if ray is None:
        if gpus is not None:
            raise InputError("--gpus-per-worker is for --ray; here all workers take the device that --device says.")
        return run_local
    named = runner.options.device.partition(":")[0] in ("cuda", "tensorrt")
    if named and gpus == 0:
        raise InputError(f"--device {runner.options.device} needs a GPU; give --gpus-per-worker (1, or a share: 0.25).")
    share = (1.0 if named else 0.0) if gpus is None else gpus
    if share > 1 and share != int(share):
        raise InputError(f"--gpus-per-worker {share:g}: Ray gives shares of one GPU or whole ones.")
    return functools.partial(run_on_ray, place=RayPlace(ray, cpus, share), work=runner.work, stop=stop)


class _Progress:
    """What a user sees while cases are done: how many, how many failed, how long yet."""

    def __init__(self, command: Command, cases: int) -> None:
        self._reporter, self._cases = command.reporter, cases
        self._started, self._last, self._failed = time.monotonic(), 0.0, 0
        self.known = 0

    def told(self, done: int, known: int, record: Record | None) -> None:
        now = time.monotonic()
        if record is None:
            self._started, self.known = now, known
            if known:
                self._reporter.line(f"{known} of {self._cases} cases are finished already.")
            return
        if record["state"] == "failed":
            self._failed += 1
            self._reporter.line(f"failed: {record['case']}: {record['problem']}")
        if now - self._last < _SECONDS_BETWEEN and done < self._cases:
            return
        self._last = now
        left = (now - self._started) / (done - known) * (self._cases - done)
        words = f"{done} of {self._cases} cases, {self._failed} failed"
        self._reporter.retitle(words)
        self._reporter(Event("progress", "cases", "", done / self._cases, left))

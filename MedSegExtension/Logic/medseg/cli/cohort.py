"""``medseg cohort``: one model over many cases, resumable."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from ..monitor import Event
from .console import Command
from .execute import execute


def register(app: typer.Typer, epilog: str) -> None:
    """Add the command."""
    app.command("cohort", epilog=epilog)(cohort)


def cohort(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Id or file of a model with one input channel.")],
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="Folder of images (also BIDS or DICOM), or a CSV with image paths.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Results and tables.")],
    workers: Annotated[int | None, typer.Option(min=1, help="Processes (default: one for each core).")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    modality: Annotated[str | None, typer.Option(metavar="CT|MR|CR|DX", help="Of files that do not say it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and details on stderr.")] = False,
) -> None:
    """Run MODEL on all cases of SOURCE in several processes; run it again to go on after an interruption."""

    def body(command: Command) -> int:
        from ..cohort.drive import run_cohort
        from ..cohort.one_case import Runner
        from ..engine.machine import physical_cores
        from ..pipeline.options import RunOptions

        count = workers or physical_cores() or 1
        threads = max(1, (physical_cores() or count) // count)
        runner = Runner(model, RunOptions(device=device, modality=modality, threads=threads))
        jobs = plan(command, runner, source, output)
        started, failed = time.monotonic(), 0

        def told(done: int, record: dict[str, Any]) -> None:
            nonlocal failed
            if record["state"] == "failed":
                failed += 1
                command.reporter.line(f"failed: {record['case']}: {record['problem']}")
            left = (time.monotonic() - started) / done * (len(jobs) - done)
            command.reporter.begin(f"{done} of {len(jobs)} cases, {failed} failed")
            command.reporter(Event("progress", "cases", "", done / len(jobs), left))

        with command.reporter:
            run_cohort(runner, model, jobs, output, count, told)
        command.document.update(folder=str(output), cases=len(jobs), failed=failed)
        command.say(f"{len(jobs) - failed} of {len(jobs)} done. {output}: cohort.csv, cases.csv (for the tab Review)")
        return InputError.exit_code if failed else 0

    execute(body, as_json=as_json, debug=debug)


def plan(command: Command, runner: Any, source: Path, output: Path) -> list[Any]:
    """The jobs of ``source`` for a one-channel model, in its order. Raises `InputError` where there are none."""
    from ..cohort.one_case import Job
    from ..output.files import file_name
    from ..review.cases import find_cases
    from .case import Case
    from .cases import case_names
    from .series_pick import with_series

    manifest = runner.model.manifest
    if len(manifest.channels) > 1:
        raise InputError(f"{manifest.title} takes {len(manifest.channels)} images a case; a cohort takes one.")
    channel, own = manifest.channels[0].name, output.resolve()
    try:
        found = find_cases(source, command.monitor())
    except InputError:
        folders = sorted(p for p in source.iterdir() if p.is_dir()) if source.is_dir() else []
        if not folders:
            raise
        cases = [Case(name, {channel: p}, output) for name, p in zip(case_names(folders), folders, strict=True)]
    else:
        cases = [Case(c.name, {channel: c.image}, output) for c in found if c.image and not c.image.is_relative_to(own)]
    jobs, taken = [], set()
    for case in with_series(command, manifest, cases):
        name, n = file_name(case.name) or "case", 2
        while name.casefold() in taken:
            name, n = f"{file_name(case.name) or 'case'}_{n}", n + 1
        taken.add(name.casefold())
        jobs.append(Job(name, case.files, output / "cases" / name, case.series, case.refused))
    if not jobs:
        raise InputError(f"{source.name} holds no images outside the output folder.")
    return jobs

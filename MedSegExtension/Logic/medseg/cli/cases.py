"""``medseg run``: one model on one case, or on a batch of files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Cancelled, InputError, OutputError
from .background import OneBehind, Writing
from .case import Case
from .console import Command, exit_code, rows_of, worst
from .series_pick import with_series

if TYPE_CHECKING:
    from ..dicom_out.sink import DicomSink
    from ..dicom_out.write import DicomOptions
    from ..engine.session_cache import SessionCache
    from ..geometry.volume import Volume
    from ..model.manifest.schema import Manifest
    from ..model.package import Model
    from ..monitor import Monitor
    from ..pipeline.run import RunOptions
    from ..result import Result, Table

_SUFFIXES = (".nii.gz", ".seg.nrrd")
_SHOWN_COLUMNS = {
    "segments": ("segment", "voxels", "volume_ml", "components"),
    "counts": ("group", "lesions", "volume_mm3", "category"),
    "areas": ("segment", "right_pixels", "left_pixels", "area_cm2", "left_right_ratio"),
    "scores": ("class", "maximum", "slice", "mean"),
}


@dataclass(frozen=True, eq=False)
class Work:
    """What all cases of a command share. ``scene``: also make ``scene.mrb`` and, with ``preview``, ``preview.png``.

    ``frame``: the frame of 4D images that is meant, from 1; ``all_frames``: run each. ``dicom``: also write DICOM
    objects, None for none. ``writer``: takes the results; one is written while the next case runs.
    """

    model: Model
    options: RunOptions
    series: str | None = None
    force: bool = False
    scene: bool = True
    preview: bool = True
    frame: int | None = None
    all_frames: bool = False
    dicom: DicomOptions | None = None
    networks: SessionCache = field(default_factory=lambda: _networks())
    writer: OneBehind = field(default_factory=OneBehind)


def run_command(
    command: Command, model: str, inputs: list[Path], named: list[str], output: Path, *, weights: Path | None,
    series: str | None, frame: str | None, force: bool, scene: bool, preview: bool, options: RunOptions,
    dicom: DicomOptions | None = None,
) -> int:  # fmt: skip
    """Run all cases; the exit code of the worst."""
    from ..model.package import load_model

    sinks = get_sinks_ready() if scene else None
    try:
        loaded = load_model(model, weights=weights)
        cases = plan_cases(loaded.manifest, inputs, parse_named(named), output)
        if series is None:
            cases = with_series(command, loaded.manifest, cases)
        number = None if frame in (None, "all") else parse_frame(frame)
        work = Work(loaded, options, series, force, scene, preview, number, frame == "all", dicom)
        return run_all(command, work, cases)
    finally:
        if sinks is not None:
            sinks()


def run_all(command: Command, work: Work, cases: list[Case]) -> int:
    """Run and write ``cases``, each written while the next one runs; the exit code of the worst."""
    outcomes: list[dict[str, Any]] = []
    codes: list[int] = []
    command.document["results"] = outcomes

    def failed(name: str, error: Exception) -> None:
        if len(cases) == 1:
            raise error
        # One bad file must not cost the others.
        outcomes.append({"input": name, "error": command.error(error, f"{name}: ")})
        codes.append(exit_code(error))

    def done(case: Case, writing: Writing) -> None:
        try:
            outcomes.append(told(command, case, writing))
            codes.append(0)
        except Cancelled:
            raise
        except Exception as error:
            failed(case.name, error)

    with command.reporter:
        try:
            for case in cases:
                work.writer.settle(all_but=1)
                command.reporter.begin(case.name)
                if work.scene and case is cases[-1] and len(cases) > 1:
                    get_sinks_ready()  # no case follows during which the last scene could be made
                try:
                    run_case(command, work, case, done)
                except Cancelled:
                    raise
                except Exception as error:
                    work.writer.settle()  # in the order of the cases
                    failed(case.name, error)
        finally:
            work.writer.settle()
            if len(cases) > 1 and not work.all_frames:
                write_list(command, cases)
    if len(cases) > 1:
        command.say()
        command.table(
            ["input", "result"],
            [[o["input"], o["error"]["message"] if "error" in o else str(o["folder"])] for o in outcomes],
        )
        command.say(f"{codes.count(0)} of {len(codes)} done.")
    work.networks.clear()
    return worst(codes)


def write_list(command: Command, cases: list[Case]) -> None:
    """Write the cases of a batch as a table beside their results, which the tab Review opens; failed ones too."""
    from ..io.slice_scores import FILE as SLICES
    from ..output.folder import SEGMENTATION_FILE
    from ..review.case_table import FILE, write_cases
    from ..review.cases import Case as Listed

    listed = []
    for case in cases:
        channel, image = next(iter(case.files.items()))
        mask, slices = (p if p.is_file() else None for p in (case.folder / SEGMENTATION_FILE, case.folder / SLICES))
        series = case.series.get(channel, "")
        listed.append(Listed(case.name, image, mask, series, None if mask is not None else slices))
    if not any(case.result for case in listed):
        return
    try:
        write_cases(cases[0].folder.parent / FILE, listed, add=True)
    except OutputError as error:
        command.error(error, "")


Done = Callable[[Case, Writing], None]


def run_case(command: Command, work: Work, case: Case, done: Done) -> None:
    """Read and run one case, or each frame of it, and begin to write it; ``done`` is called by ``work.writer``."""
    from ..io import read_volume
    from ..output.folder import check_output

    if case.refused:
        raise InputError(case.refused)
    monitor = command.monitor()
    for sentence in case.why:
        monitor.note(sentence)
    if not work.all_frames:
        check_output(case.folder, force=work.force)
    with monitor.stage("read"):
        volumes = {
            n: read_volume(path, series=case.series.get(n, work.series), frame=work.frame, monitor=monitor)
            for n, path in case.files.items()
        }
    if not work.all_frames:
        run_volumes(command, work, case, volumes, monitor, done, dicom_sink(work, case, work.frame, monitor))
        return
    counts = {len(volume.frames) for volume in volumes.values() if volume.frames} or {1}
    if len(counts) > 1:
        raise InputError(f"{case.name}: its channels have different numbers of frames ({sorted(counts)}).")
    for number in range(1, max(counts) + 1):
        work.writer.settle(all_but=1)
        name = f"frame-{number:03d}"
        one = replace(case, name=f"{case.name} {name}", folder=case.folder / name)
        check_output(one.folder, force=work.force)
        chosen = {n: volume.frame(number) if volume.frames else volume for n, volume in volumes.items()}
        own, several = command.monitor(), any(volume.frames for volume in volumes.values())
        run_volumes(command, work, one, chosen, own, done, dicom_sink(work, case, number if several else None, own))


def dicom_sink(work: Work, case: Case, frame: int | None, monitor: Monitor) -> DicomSink | None:
    """What writes the DICOM objects of a case, where they are asked for; asked before the run, since it may refuse."""
    if work.dicom is None:
        return None
    from ..dicom_out.sink import DicomSink
    from ..pipeline.restore import segment_classes

    manifest = work.model.manifest
    channel, classes = manifest.channels[0].name, tuple(segment_classes(manifest.classes))
    series = case.series.get(channel, work.series)
    return DicomSink.of(
        case.files[channel], work.dicom, series=series, frame=frame, monitor=monitor, classes=classes
    )  # fmt: skip


def run_volumes(
    command: Command, work: Work, case: Case, volumes: dict[str, Volume], monitor: Monitor, done: Done,
    dicom: DicomSink | None,
) -> None:  # fmt: skip
    """Run one case whose volumes are read, and begin to write it."""
    from ..pipeline.run import run

    model = work.model
    result = run(model, volumes, work.options, monitor=monitor, open_session=work.networks.open)
    writing = Writing(command, case.folder, monitor, result, dicom.check if dicom else None)
    work.writer.begin(
        writing, lambda written: done(case, written),
        volume=volumes[model.manifest.channels[0].name], model=model, force=work.force,
        sinks=chosen_sinks(work, monitor) | ({"dicom": dicom} if dicom else {}),
    )  # fmt: skip


def told(command: Command, case: Case, writing: Writing) -> dict[str, Any]:
    """What the JSON document says of a written case, after a reader was told. Raises what writing raised."""
    summary = writing.finish()
    show_result(command, case, writing.result, summary)
    tables = {name: rows_of(table) for name, table in writing.result.tables.items()}
    return {"input": case.name, "folder": str(case.folder), "result": summary, "tables": tables}


def get_sinks_ready() -> Callable[[], None]:
    """Let the installed sinks start what takes them long, beside the loading of the model; gives what ends it again."""
    from ..monitor import Monitor
    from ..output.folder import load_sinks

    sinks = load_sinks(None, Monitor()).values()
    for sink in sinks:
        getattr(sink, "get_ready", lambda: None)()

    def stop() -> None:
        for sink in sinks:
            getattr(sink, "stop", lambda: None)()

    return stop


def chosen_sinks(work: Work, monitor: Monitor) -> dict[str, Any]:
    """The sinks of this command, by name."""
    from ..output.folder import load_sinks

    if not work.scene:
        return {}
    sinks = load_sinks(None, monitor)
    return sinks if work.preview else {n: getattr(s, "without_preview", s) for n, s in sinks.items()}


def _networks() -> SessionCache:
    from ..engine.session_cache import SessionCache

    return SessionCache()


def show_result(command: Command, case: Case, result: Result, summary: dict[str, Any]) -> None:
    """What a reader wants to see at once: where, how long, the segments or scores."""
    seconds = summary.get("seconds", {})
    total = seconds.get("total", 0.0) + seconds.get("write", 0.0)
    command.say(
        f"{case.name}: {result.provenance.get('model', {}).get('title', '')}, {total:.1f} s on {summary['device']}"
    )
    for name, columns in _SHOWN_COLUMNS.items():
        if name in result.tables:
            show_table(command, result.tables[name], columns)
    command.say(f"  {case.folder}: {', '.join(summary['files'])}")


def show_table(command: Command, table: Table, wanted: tuple[str, ...], limit: int = 25) -> None:
    """The chosen columns of a result's table, the first ``limit`` rows."""
    names = [c.name for c in table.columns if c.name in wanted]
    records = rows_of(table)
    rows = [[_cell(record[name]) for name in names] for record in records[:limit]]
    if len(records) > limit:
        rows.append([f"... {len(records) - limit} more", *[""] * (len(names) - 1)])
    command.table([f"  {names[0]}", *names[1:]], [[f"  {row[0]}", *row[1:]] for row in rows], right=tuple(range(1, 9)))


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def parse_frame(text: str | None) -> int:
    """``--frame NUMBER`` as a number."""
    if text is None or not text.isdecimal() or int(text) < 1:
        raise InputError(f"--frame {text!r} is neither a number from 1 nor 'all'.")
    return int(text)


def parse_named(named: list[str]) -> dict[str, Path]:
    """``NAME=FILE`` options as a mapping."""
    files: dict[str, Path] = {}
    for item in named:
        name, sign, file = item.partition("=")
        if not sign or not name or not file:
            raise InputError(f"--input {item!r} is not of the form NAME=FILE (the channel's name, then its file).")
        if name in files:
            raise InputError(f"--input gives the channel {name!r} twice; give each channel one file.")
        files[name] = Path(file)
    return files


def plan_cases(manifest: Manifest, inputs: list[Path], named: dict[str, Path], output: Path) -> list[Case]:
    """One case for several channels; for a one-channel model a case for each input, in sub-folders where several."""
    channels = [c.name for c in manifest.channels]
    if named:
        unknown = [n for n in named if n not in channels]
        if unknown:
            raise InputError(
                f"{manifest.title} has no channel {unknown[0]!r}; its channels are: {', '.join(channels)}."
            )
        rest = [c for c in channels if c not in named]
        if len(inputs) > len(rest):
            raise InputError(
                f"{manifest.title} has {len(channels)} channels, but {len(named) + len(inputs)} files came."
            )
        given = {**dict(zip(rest, inputs, strict=False)), **named}
    elif len(channels) > 1:
        if len(inputs) == 1 and inputs[0].is_dir():  # a study: each channel's series is chosen in it
            inputs = inputs * len(channels)
        if len(inputs) > len(channels):
            raise InputError(f"{manifest.title} takes {len(channels)} files ({', '.join(channels)}) for one case.")
        given = dict(zip(channels, inputs, strict=False))
    else:
        if not inputs:
            raise InputError("No input was given; name a file or a DICOM folder.")
        if len(inputs) == 1:
            return [Case(inputs[0].name or str(inputs[0]), {channels[0]: inputs[0]}, output)]
        return [
            Case(name, {channels[0]: path}, output / name)
            for name, path in zip(case_names(inputs), inputs, strict=True)
        ]
    missing = [c for c in channels if c not in given]
    if missing:
        raise InputError(
            f"{manifest.title} also needs the channel {missing[0]!r}; its channels are: {', '.join(channels)}. "
            f'Give it with --input "{missing[0]}=FILE".'
        )
    ordered = {name: given[name] for name in channels}
    return [Case(ordered[channels[0]].name, ordered, output)]


def case_names(paths: list[Path]) -> list[str]:
    """A folder name for each input: its name without extension, with its parent's where names repeat."""
    stems = [_stem(p) for p in paths]
    repeated = {s for s, count in Counter(stems).items() if count > 1}
    names: list[str] = []
    for path, stem in zip(paths, stems, strict=True):
        parent = path.absolute().parent.name
        base = f"{parent}_{stem}" if stem in repeated and parent else stem
        unique = base
        for n in range(2, len(paths) + 2):
            if unique not in names:
                break
            unique = f"{base}_{n}"
        names.append(unique)
    return names


def _stem(path: Path) -> str:
    name = path.absolute().name
    if path.is_dir():
        return name
    for suffix in _SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return path.stem

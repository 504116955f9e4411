"""`Result` -> folder, all or nothing. Further sinks come through the entry point group ``medseg.sinks``.

A sink is ``callable(result, volume, folder, model, monitor)`` that adds files to ``folder``; what it raises becomes a
warning, since a picture that cannot be made must not cost the segmentation.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import Cancelled, OutputError
from ..geometry.volume import Volume
from ..monitor import Monitor
from ..result import Result
from .files import file_name, write_map, write_segmentation

SINK_GROUP = "medseg.sinks"
SEGMENTATION_FILE = "segmentation.seg.nrrd"
RESULT_FILE = "result.json"

Sink = Callable[[Result, Volume, Path, Any, Monitor], None]


def write_result(
    result: Result,
    folder: str | Path,
    *,
    volume: Volume,
    model: Any = None,
    force: bool = False,
    monitor: Monitor | None = None,
    sinks: Mapping[str, Sink] | Iterable[str] | None = None,
    further: Mapping[str, Sink] | None = None,
    keep: Callable[[], bool] | None = None,
) -> Path:
    """Write ``result`` into ``folder`` and return that folder.

    ``segmentation.seg.nrrd``; one CSV file per table; ``probabilities/<class>.nii.gz`` where the result holds them;
    ``result.json`` (provenance, table columns with units, warnings, seconds, list of files); and what the sinks add.
    All is written into a hidden folder first and moved in when it is complete. Files of an earlier result are replaced
    only with ``force``; other files in ``folder`` are left alone.

    ``sinks``: names of installed sinks, or name -> callable; None runs all that are installed, ``()`` none.
    ``further``: callables that run besides those.
    ``keep``: asked when ``monitor`` is cancelled; where it says True the result is written without what the sinks had
    not finished, and a warning in it says so.

    Raises `OutputError` (not writable, disk full, a file in the way, an earlier result without ``force``), `Cancelled`.
    """
    monitor = monitor or Monitor()
    target = Path(folder)
    check_output(target, force=force)
    chosen = load_sinks(sinks, monitor) | dict(further or {})
    made: list[Path] = []
    stage: Path | None = None
    try:
        with monitor.stage("write"):
            made = _make_folders(target.parent)
            # Beside the target, so that the last move is one rename; inside it where it exists (it may be a mount).
            stage = (target if target.exists() else target.parent) / f".medseg-{secrets.token_hex(6)}"
            stage.mkdir()
            started = time.perf_counter()
            _write_files(result, stage, volume, monitor, keep)
            for name, sink in chosen.items():
                _run_sink(name, sink, result, volume, stage, model, monitor, keep)
            _write_summary(result, stage, monitor, time.perf_counter() - started)
            if keep is None or not keep():
                monitor.checkpoint()
            _move_in(stage, target)
            made = []
    except OSError as error:
        raise OutputError(_reason(target, error)) from error
    finally:
        if stage is not None:
            shutil.rmtree(stage, ignore_errors=True)
        for path in reversed(made):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
    return target


def check_output(folder: str | Path, *, force: bool = False) -> None:
    """Raise `OutputError` where `write_result` would refuse ``folder`` (worth asking before a long run)."""
    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise OutputError(f"The output folder {target} is a file; choose a folder.")
    if target.is_dir() and not force and ((target / RESULT_FILE).exists() or (target / SEGMENTATION_FILE).exists()):
        raise OutputError(f"{target} already holds a result; choose another folder or use --force to replace it.")
    parent = next(p for p in (target, *target.absolute().parents) if p.exists())
    if not parent.is_dir():
        raise OutputError(f"{parent} is a file, so {target} cannot be made inside it; choose another folder.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{parent} is not writable; choose another output folder or change its permissions.")


def discover_sinks() -> dict[str, metadata.EntryPoint]:
    """The sinks that installed packages announce, by name."""
    return {point.name: point for point in metadata.entry_points(group=SINK_GROUP)}


def load_sinks(sinks: Mapping[str, Sink] | Iterable[str] | None, monitor: Monitor) -> dict[str, Sink]:
    """The sinks that `write_result` runs where it is given ``sinks``; ``monitor`` is told of those that do not load.

    A sink may have attributes ``get_ready`` and ``stop``: functions that start what takes long before the sink is
    called, and end it where it was not.
    """
    if isinstance(sinks, Mapping):
        return dict(sinks)
    found = discover_sinks()
    chosen: dict[str, Sink] = {}
    for name in found if sinks is None else sinks:
        if name not in found:
            raise OutputError(f"There is no sink {name!r}; installed are: {', '.join(sorted(found)) or 'none'}.")
        try:
            chosen[name] = found[name].load()
        except Exception as error:
            monitor.warn(f"The output {name!r} could not be loaded ({error}); it was left out.")
    return chosen


def _write_files(
    result: Result, stage: Path, volume: Volume, monitor: Monitor, keep: Callable[[], bool] | None
) -> None:
    model_id = str(result.provenance.get("model", {}).get("id", ""))
    total = bool(result.layers) + len(result.probabilities)
    done = 0
    if result.layers:
        write_segmentation(stage / SEGMENTATION_FILE, result.layers, result.grid, model_id)
        done += 1
        _progress(monitor, done, total, SEGMENTATION_FILE, keep)
    for table in result.tables.values():
        with (stage / f"{file_name(table.name)}.csv").open("w", encoding="utf-8", newline="") as file:
            file.write(table.to_csv())
    names: set[str] = set()
    for name, array in result.probabilities.items():
        base = file_name(name) or "class"
        unique = next(n for n in (base, *(f"{base}_{k}" for k in range(2, len(names) + 3))) if n not in names)
        names.add(unique)
        (stage / "probabilities").mkdir(exist_ok=True)
        write_map(stage / "probabilities" / f"{unique}.nii.gz", array, result.grid)
        done += 1
        _progress(monitor, done, total, name, keep)


def _progress(monitor: Monitor, done: int, total: int, text: str, keep: Callable[[], bool] | None) -> None:
    try:
        monitor.progress(done, total, text)
    except Cancelled:
        if keep is None or not keep():
            raise


def _run_sink(
    name: str, sink: Sink, result: Result, volume: Volume, stage: Path, model: Any, monitor: Monitor,
    keep: Callable[[], bool] | None,
) -> None:  # fmt: skip
    before = {p for p in stage.rglob("*") if p.is_file()}
    try:
        monitor.checkpoint()
        sink(result, volume, stage, model, monitor)
        return
    except Cancelled:
        if keep is None or not keep():
            raise
        reason = "the command was cancelled while the next case ran; run this case again for it."
    except Exception as error:
        reason = str(error)
    for path in {p for p in stage.rglob("*") if p.is_file()} - before:
        path.unlink(missing_ok=True)
    monitor.warn(f"The output {name!r} was not made: {reason}")


def _write_summary(result: Result, stage: Path, monitor: Monitor, seconds: float) -> None:
    files = sorted(p.relative_to(stage).as_posix() for p in stage.rglob("*") if p.is_file())
    provenance = dict(result.provenance)
    summary = {
        **provenance,
        "plane": result.plane,
        "grid": str(result.grid),
        "segments": [
            {"value": c.value, "name": c.name, "layer": n, "terminology": c.terminology}
            for n, layer in enumerate(result.layers)
            for c in layer.classes
        ],
        "tables": {
            t.name: [{"name": c.name, "type": c.type, "unit": c.unit, "description": c.description} for c in t.columns]
            for t in result.tables.values()
        },
        "warnings": list(dict.fromkeys([*result.warnings, *monitor.warnings])),
        "notes": list(dict.fromkeys([*result.notes, *monitor.notes])),
        "seconds": {**dict(provenance.get("seconds", {})), "write": round(seconds, 4)},
        "files": [*files, RESULT_FILE],
    }
    text = json.dumps(summary, indent=2, ensure_ascii=False, default=_plain, allow_nan=False)
    (stage / RESULT_FILE).write_text(text + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    """JSON forms of numpy values, paths and the like."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return str(value)


def _make_folders(path: Path) -> list[Path]:
    """Make ``path`` and its parents; the ones that were made, outermost first."""
    missing = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    made = []
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        made.append(folder)
    return made


def _move_in(stage: Path, target: Path) -> None:
    """Make the files of ``stage`` those of ``target``; on failure the earlier files are put back."""
    if stage.parent != target:
        stage.replace(target)
        return
    old = stage.with_name(stage.name + "-old")
    done: list[tuple[Path, Path | None]] = []
    new = sorted(p.relative_to(stage) for p in stage.rglob("*") if p.is_file())
    # The summary goes last: a folder with one is a complete result.
    new.sort(key=lambda p: p.as_posix() == RESULT_FILE)
    stale = [p for p in _earlier_files(target) if p not in new]
    try:
        for path in [*stale, *new]:
            saved = None
            if (target / path).exists():
                saved = old / path
                saved.parent.mkdir(parents=True, exist_ok=True)
                (target / path).replace(saved)
            done.append((path, saved))
            if path not in stale:
                (target / path).parent.mkdir(parents=True, exist_ok=True)
                (stage / path).replace(target / path)
    except BaseException:
        for path, saved in reversed(done):
            # Each on its own: what cannot be put back stays in the hidden folder, it is never removed.
            with contextlib.suppress(OSError):
                if saved is not None:
                    saved.replace(target / path)
                elif path not in stale:
                    (target / path).unlink(missing_ok=True)
        if not any(p.is_file() for p in old.rglob("*")):
            shutil.rmtree(old, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)
    for path in stale:
        parent = (target / path).parent
        if parent != target and parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()


def _earlier_files(target: Path) -> list[Path]:
    """Files that an earlier result in ``target`` says it wrote (only plain paths inside the folder)."""
    try:
        listed = json.loads((target / RESULT_FILE).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    paths = [Path(str(p)) for p in listed]
    return [p for p in paths if not p.is_absolute() and ".." not in p.parts and (target / p).is_file()]


def _reason(target: Path, error: OSError) -> str:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if not full and error.errno == errno.EIO:
        place = next(p for p in (target, *target.absolute().parents) if p.exists())
        full = shutil.disk_usage(place).free < 1 << 20
    if full:
        return f"The disk is full: nothing was written to {target}. Free some space or choose another folder."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{target} is not writable; choose another output folder or change its permissions."
    what = f"{Path(str(error.filename)).name}: " if error.filename else ""
    return f"The result could not be written to {target} ({what}{error.strerror or error}); choose another folder."

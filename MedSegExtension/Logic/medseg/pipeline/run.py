"""One way through: volumes -> prepare -> infer -> restore -> clean -> measure -> `Result`."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..engine.session import Session
from ..errors import InputError, OutOfMemory
from ..geometry.grid import Grid
from ..geometry.morphology import spread
from ..geometry.volume import Volume
from ..io import read_volume
from ..measure.named import further_tables
from ..measure.segments import measure, slice_table, volume_scores
from ..model.manifest.choices import chosen_options, chosen_steps
from ..model.manifest.schema import Manifest, Required
from ..model.package import Model, load_model
from ..monitor import Monitor
from ..result import Result, Table
from .infer import Scores, infer
from .plausible import check_classes, check_modality
from .postprocess import postprocess
from .preprocess import Prepared, prepare
from .restore import kept_for, restore

VolumeLike = Volume | str | Path
Inputs = VolumeLike | Sequence[VolumeLike] | Mapping[str, VolumeLike]
OpenSession = Callable[..., Session]


@dataclass(frozen=True)
class RunOptions:
    """How to run; the defaults suit everyone.

    ``device``: ``auto``, ``cpu``, ``cuda:0`` (see `medseg.engine.devices`). ``precision``: ``auto`` or ``float32``.
    ``batch`` and ``patch`` (i, j, k): None is the manifest's. ``probabilities``: keep class probability maps.
    ``windows``: (level, width) in place of the manifest's windows, for models that allow it. ``region``: a grid on the
    first volume's lattice; the run is confined to it. ``threads``: CPU threads, None for all cores. ``modality``: DICOM
    code of volumes whose file does not say it (NIfTI never does).
    ``mirror``: average over mirrored inputs, for models that were trained on such (2 to 8 times the work).
    ``choices``: an option for each of the manifest's
    choices, by name.
    """

    device: str = "auto"
    precision: str = "auto"
    batch: int | None = None
    patch: tuple[int, int, int] | None = None
    probabilities: bool = False
    windows: tuple[tuple[float, float], ...] | None = None
    region: Grid | None = field(default=None)
    threads: int | None = None
    modality: str | None = None
    choices: Mapping[str, str] = field(default_factory=dict)
    mirror: bool = False


def run(
    model: Model | str | Path,
    inputs: Inputs,
    options: RunOptions | None = None,
    *,
    monitor: Monitor | None = None,
    open_session: OpenSession | None = None,
    **changes: Any,
) -> Result:
    """Run ``model`` on ``inputs`` and return segments, scores and tables on the first input's own grid.

    ``inputs``: a volume or path for a one-channel model, a list in the manifest's channel order, or a mapping by
    channel name. ``changes`` are fields of `RunOptions`, as in ``run(model, volume, device="cpu")``. ``open_session``:
    gives an open session and keeps it (the worker's stay warm); None opens one and closes it at the end.

    Raises `InputError`, `ModelError`, `DeviceError` or `Cancelled`; each message says what to do.
    """
    options = RunOptions(**{**(asdict_shallow(options) if options else {}), **changes})
    try:
        return _run(model, inputs, options, monitor or Monitor(), open_session)
    except MemoryError as error:
        raise OutOfMemory(
            "The computer's memory does not suffice for this run; close other programs, or choose a region of interest."
        ) from error


def _run(
    model: Model | str | Path, inputs: Inputs, options: RunOptions, monitor: Monitor, open_session: OpenSession | None
) -> Result:
    if not isinstance(model, Model):
        model = load_model(model)
    chosen_options(model.manifest, options.choices)  # an unknown choice is refused before anything is read
    for sentence in model.warnings:
        monitor.warn(sentence)
    if model.manifest.demonstration:
        monitor.note(f"{model.manifest.title} is a demonstration: it was trained on drawings, not on patients.")
    with monitor.stage("read"):
        volumes = network_volumes(model.manifest, inputs, options, monitor)
    started = time.perf_counter()
    required = run_required(model, volumes, options, monitor, open_session)
    result = _run_one(model, volumes, required, options, monitor, open_session)
    result.provenance["seconds"] = {k: round(v, 4) for k, v in monitor.seconds.items()}
    result.provenance["seconds"]["total"] = round(time.perf_counter() - started + monitor.seconds.get("read", 0.0), 4)
    result.provenance["required_models"] = {name: r.provenance["model"] for name, r in required.items()}
    result.warnings, result.notes = tuple(monitor.warnings), tuple(monitor.notes)
    result.provenance |= {"warnings": list(result.warnings), "notes": list(result.notes)}
    return result


def asdict_shallow(options: RunOptions) -> dict[str, Any]:
    """The fields of ``options`` as they are (grids are not taken apart)."""
    return {name: getattr(options, name) for name in options.__dataclass_fields__}


def read_inputs(manifest: Manifest, inputs: Inputs, monitor: Monitor) -> list[Volume]:
    """The volumes of all channels, in the manifest's order; paths are read."""
    names = [c.name for c in manifest.channels]
    if isinstance(inputs, Mapping):
        unknown = sorted(set(inputs) - set(names))
        if unknown:
            raise InputError(f"{manifest.title} has no channel {unknown[0]!r}; its channels are: {', '.join(names)}.")
        missing = [n for n in names if n not in inputs]
        if missing:
            raise InputError(
                f"{manifest.title} also needs the channel {missing[0]!r}; its channels are: {', '.join(names)}."
            )
        given: list[VolumeLike] = [inputs[n] for n in names]
    else:
        given = [inputs] if isinstance(inputs, (Volume, str, Path)) else list(inputs)
        if len(given) != len(names):
            raise InputError(
                f"{manifest.title} needs {len(names)} volume(s) ({', '.join(names)}), but {len(given)} were given."
            )
    return [v if isinstance(v, Volume) else read_volume(v, monitor=monitor) for v in given]


def network_volumes(manifest: Manifest, inputs: Inputs, options: RunOptions, monitor: Monitor) -> list[Volume]:
    """The checked volumes of all channels; a slice classifier gets the slices as acquired.

    Where reading had to interpolate slices onto a regular grid, classifying the interpolated ones would be wrong.
    """
    given = read_inputs(manifest, inputs, monitor)
    if options.modality:
        given = [v if v.modality else replace(v, modality=options.modality) for v in given]
    volumes = checked_volumes(manifest, given, monitor)
    if manifest.task == "classification" and manifest.inference.mode == "slicewise":
        volumes = [_acquired_slices(v, monitor) for v in volumes]
    return volumes


def checked_volumes(manifest: Manifest, volumes: Sequence[Volume], monitor: Monitor) -> list[Volume]:
    """The volumes, refused where the network cannot mean anything, with a warning where it may not.

    Raises `InputError` for colour or 4D, NaN or infinity, a constant volume, and one slice for a 3D network.
    """
    checked = []
    for volume, channel in zip(volumes, manifest.channels, strict=True):
        for sentence in volume.warnings:
            monitor.warn(sentence)
        volume = volume.require_scalar().require_finite()
        if volume.array.min() == volume.array.max():
            raise InputError(
                f"{volume.name} has the same value ({float(volume.array.flat[0]):g}) in every voxel; there is nothing "
                "to segment. Check that the right volume was chosen."
            )
        if manifest.inference.mode != "slicewise" and min(volume.grid.size) < 2:
            raise InputError(
                f"{volume.name} is a single slice ({volume.grid}), but {manifest.title} is a 3D model; choose a volume."
            )
        check_modality(volume, channel.modality, manifest.title, monitor)
        checked.append(volume)
    return checked


def run_required(
    model: Model, volumes: Sequence[Volume], options: RunOptions, monitor: Monitor, open_session: OpenSession | None
) -> dict[str, Result]:
    """Results of the models that ``model`` requires, each run once on the first volume, by name."""
    results: dict[str, Result] = {}
    by_model: dict[str, Result] = {}
    for item in model.manifest.requires:
        if item.model not in by_model:
            needed = load_model(item.model)
            inner = RunOptions(device=options.device, precision=options.precision, threads=options.threads)
            chosen = checked_volumes(needed.manifest, volumes[:1], monitor)
            deeper = run_required(needed, chosen, inner, monitor, open_session)
            by_model[item.model] = _run_one(needed, chosen, deeper, inner, monitor, open_session)
        results[item.name] = _spread(by_model[item.model], item)
    return results


def _spread(result: Result, item: Required) -> Result:
    if not item.spread_mm:
        return result
    layers = tuple(
        replace(layer, labels=spread(layer.labels, result.grid.spacing, item.spread_mm)) for layer in result.layers
    )
    model = {**result.provenance["model"], "spread_mm": item.spread_mm}
    return replace(result, layers=layers, provenance={**result.provenance, "model": model})


def _run_one(
    model: Model,
    volumes: Sequence[Volume],
    required: Mapping[str, Result],
    options: RunOptions,
    monitor: Monitor,
    open_session: OpenSession | None,
) -> Result:
    manifest = model.manifest
    classification = manifest.task == "classification"
    grid = volumes[0].grid
    with monitor.stage("prepare"):
        prepared = prepare(
            manifest, volumes, masks=required, windows=options.windows, region=options.region, monitor=monitor
        )
    opener = open_session or Session.open
    with monitor.stage("open"):
        session = opener(model, options.device, monitor=monitor, threads=options.threads, precision=options.precision)
    keep = kept_for(manifest, prepared, grid, probabilities=options.probabilities)
    try:
        with monitor.stage("infer"):
            output = infer(
                manifest, prepared, session, monitor, batch=options.batch, patch=options.patch,
                keep="probabilities" if classification else keep, mirror=options.mirror,
            )  # fmt: skip
    finally:
        if open_session is None:
            session.close()
    result = Result(grid=grid, plane=manifest.inference.plane)
    cleaned: list[dict[str, Any]] = []
    if isinstance(output, Scores):
        result.tables = _score_tables(output.array, manifest, prepared, volumes[0])
    else:
        with monitor.stage("restore"):
            layers, result.probabilities = restore(
                output, manifest, prepared, grid, probabilities=options.probabilities, monitor=monitor
            )
        with monitor.stage("clean"):
            steps = chosen_steps(manifest, options.choices)
            result.layers, cleaned = postprocess(steps, layers, grid, manifest.inference.plane, required, monitor)
        with monitor.stage("measure"):
            unit = "HU" if volumes[0].modality == "CT" else ""
            result.tables = measure(
                result.layers, volumes[0].array, grid, connectivity=manifest.lesion_connectivity, unit=unit,
                projection=volumes[0].is_projection,
            )  # fmt: skip
            check_classes(manifest, result, prepared, output.details.get("highest", {}), monitor)
    if manifest.measurements:
        with monitor.stage("measure"):
            result.tables = further_tables(manifest, result, volumes[0], required, monitor)
    result.provenance = _provenance(model, volumes, prepared, session, options, cleaned)
    result.provenance["inference"] |= output.details
    return result


def _acquired_slices(volume: Volume, monitor: Monitor) -> Volume:
    stack = volume.stack
    if stack is None:
        return volume
    first, last = stack.grids[0], stack.grids[-1]
    along = (np.array(last.origin) - np.array(first.origin)) / max(1, len(stack.grids) - 1)
    gap = float(abs(along @ first.direction[:, 2])) or first.spacing[2]
    nominal = Grid((*first.size[:2], len(stack.grids)), (*first.spacing[:2], gap), first.origin, first.direction)
    monitor.warn(f"{volume.name}: the acquired slices are classified as they are; the table has their true positions.")
    return Volume(stack.pixels, nominal, volume.modality, volume.name, volume.tags, stack)


def _score_tables(
    scores: np.ndarray[Any, Any], manifest: Manifest, prepared: Prepared, volume: Volume
) -> dict[str, Table]:
    names = [c.name for c in manifest.classes]
    columns = scores[:, [c.value - 1 for c in manifest.classes]]
    if manifest.inference.mode != "slicewise":
        return {"scores": volume_scores(columns, names)}
    grid = volume.grid
    axis = grid.axis_of(manifest.inference.plane)
    # Slices in the input's own order, whatever way the preprocessing turned the volume.
    middles = [prepared.slice_grid(n) for n in range(prepared.slice_count)]
    centres = [g.to_physical((np.array(g.size) - 1) / 2) for g in middles]
    positions = [round(float(grid.to_index(c)[axis])) for c in centres]
    order = np.argsort(positions, kind="stable")
    own = [
        volume.stack.grids[positions[n]] if volume.stack is not None else grid.slice(axis, positions[n]) for n in order
    ]
    images = volume.stack.instance_uids if volume.stack is not None else volume.tags.get("SOPInstanceUID", ())
    uids = [images[positions[n]] for n in order] if axis == 2 and len(images) == grid.size[2] else None
    return {
        "slices": slice_table(columns[order], names, own, uids),
        "scores": volume_scores(columns[order], names),
    }


def _provenance(
    model: Model,
    volumes: Sequence[Volume],
    prepared: Prepared,
    session: Session,
    options: RunOptions,
    cleaned: list[dict[str, Any]],
) -> dict[str, Any]:
    manifest = model.manifest
    parameters = asdict_shallow(options) | {
        "region": str(options.region) if options.region else None,
        "choices": chosen_options(manifest, options.choices),
    }
    return {
        "medseg": __version__,
        "research_use_only": True,
        "model": {
            "id": manifest.id,
            "version": manifest.version,
            "title": manifest.title,
            "license": manifest.license,
            "sha256": model.sha256,
        },
        "inputs": [
            {"channel": c.name, "modality": v.modality, "grid": str(v.grid), "orientation": v.grid.orientation}
            for c, v in zip(manifest.channels, volumes, strict=True)
        ],
        "provider": session.provider,
        "device": session.device,
        "parameters": parameters,
        "preprocessing": list(prepared.trace),
        "inference": manifest.inference.model_dump(mode="json"),
        "postprocessing": cleaned,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions of what took part, for the provenance."""
    found = {"python": platform.python_version()}
    for package in ("numpy", "SimpleITK", "scipy", "onnx", "pydantic", "slicer-core"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    import onnxruntime

    found["onnxruntime"] = onnxruntime.__version__
    return found

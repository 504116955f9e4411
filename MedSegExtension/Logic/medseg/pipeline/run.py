"""One way through: volumes -> prepare -> infer -> restore -> clean -> measure -> `Result`."""

from __future__ import annotations

import functools
import platform
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..errors import OutOfMemory
from ..geometry.volume import Volume
from ..measure.named import further_tables
from ..measure.segments import measure, slice_table, volume_scores
from ..model.manifest.choices import chosen_options, chosen_steps
from ..model.manifest.schema import Manifest
from ..model.package import Model, load_model
from ..monitor import Monitor
from ..result import Result, Table
from .inputs import Inputs, network_volumes
from .labels import OpenSession, Ran, run_labels, run_network, run_required
from .options import RunOptions, asdict_shallow
from .plausible import check_classes
from .postprocess import postprocess
from .preprocess import Prepared

__all__ = ["RunOptions", "run"]


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


def _run_one(
    model: Model,
    volumes: Sequence[Volume],
    required: Mapping[str, Result],
    options: RunOptions,
    monitor: Monitor,
    open_session: OpenSession | None,
) -> Result:
    manifest = model.manifest
    grid = volumes[0].grid
    result = Result(grid=grid, plane=manifest.inference.plane)
    cleaned: list[dict[str, Any]] = []
    if manifest.task == "classification":
        done = run_network(model, volumes, required, options, monitor, open_session)
        assert done.output is not None
        result.tables = _score_tables(done.output.array, manifest, done.prepared, volumes[0])
    else:
        done = run_labels(model, volumes, required, options, monitor, open_session)
        result.probabilities = done.probabilities
        with monitor.stage("clean"):
            steps = chosen_steps(manifest, options.choices)
            result.layers, cleaned = postprocess(steps, done.layers, grid, manifest.inference.plane, required, monitor)
        with monitor.stage("measure"):
            unit = "HU" if volumes[0].modality == "CT" else ""
            result.tables = measure(
                result.layers, volumes[0].array, grid, connectivity=manifest.lesion_connectivity, unit=unit,
                projection=volumes[0].is_projection,
            )  # fmt: skip
            check_classes(manifest, result, done.prepared, done.highest, monitor)
    if manifest.measurements:
        with monitor.stage("measure"):
            result.tables = further_tables(manifest, result, volumes[0], required, monitor)
    result.provenance = _provenance(model, volumes, done, options, cleaned)
    return result


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
    done: Ran,
    options: RunOptions,
    cleaned: list[dict[str, Any]],
) -> dict[str, Any]:
    manifest = model.manifest
    parameters = asdict_shallow(options) | {
        "region": str(options.region) if options.region else None,
        "choices": chosen_options(manifest, options.choices),
        "server": options.server.described() if options.server else None,
    }
    parts = {n: dict(p.manifest.card.made_from) for n, p in model.parts.items() if p.manifest.card.made_from}
    return {
        "medseg": __version__,
        "research_use_only": True,
        "model": {
            "id": manifest.id,
            "version": manifest.version,
            "title": manifest.title,
            "license": manifest.license,
            "sha256": model.sha256,
            **({"made_from": dict(manifest.card.made_from)} if manifest.card.made_from else {}),
            **({"parts": {name: part.sha256 for name, part in model.parts.items()}} if model.parts else {}),
            **({"parts_made_from": parts} if parts else {}),
        },
        "inputs": [
            {"channel": c.name, "modality": v.modality, "grid": str(v.grid), "orientation": v.grid.orientation}
            for c, v in zip(manifest.channels, volumes, strict=True)
        ],
        "provider": done.provider,
        "device": done.device,
        "parameters": parameters,
        "preprocessing": list(done.prepared.trace),
        "inference": manifest.inference.model_dump(mode="json") | done.details,
        "postprocessing": cleaned,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions of what took part, for the provenance."""
    return dict(_versions())


@functools.cache  # the packages' own files are read for it, which takes as long as a small network
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("numpy", "SimpleITK", "scipy", "onnx", "pydantic", "slicer-core"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    import onnxruntime

    found["onnxruntime"] = onnxruntime.__version__
    return found

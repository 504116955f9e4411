"""From volumes to labels on their grid: models that are needed first, the network, those that are joined with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..engine.remote import open_network
from ..engine.session import Session
from ..errors import ModelError
from ..geometry.morphology import spread
from ..geometry.volume import Volume
from ..model.manifest.choices import chosen_steps
from ..model.manifest.other_models import OWN, Required, inside
from ..model.manifest.schema import Manifest
from ..model.package import Model, load_model
from ..monitor import Monitor
from ..result import Layer, Result
from .infer import Scores, infer
from .inputs import checked_volumes
from .options import RunOptions
from .postprocess import postprocess
from .preprocess import Prepared, prepare
from .restore import kept_for, restore, segment_classes

OpenSession = Callable[..., Session]


@dataclass
class Ran:
    """What a network said. ``layers`` and ``probabilities``: of a segmentation, on the first volume's grid.

    ``output``: a classification's scores. ``provider``, ``device``: where it ran. ``details``: of the inference, for
    the provenance. ``highest``: the highest probability of each class that was seen.
    """

    prepared: Prepared
    provider: str
    device: str
    details: dict[str, Any]
    output: Scores | None = None
    layers: tuple[Layer, ...] = ()
    probabilities: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    highest: dict[str, float] = field(default_factory=dict)


def run_network(
    model: Model,
    volumes: Sequence[Volume],
    required: Mapping[str, Result],
    options: RunOptions,
    monitor: Monitor,
    open_session: OpenSession | None,
    prepared: Prepared | None = None,
) -> Ran:
    """The package's own network. ``prepared``: its input, where another network with the same steps made it already."""
    manifest, grid = model.manifest.alone, volumes[0].grid
    if prepared is None:
        with monitor.stage("prepare"):
            prepared = prepare(
                manifest, volumes, masks=required, windows=options.windows, region=options.region, monitor=monitor
            )
    opener = open_session or open_network
    elsewhere = {"server": options.server} if options.server else {}
    with monitor.stage("open"):
        session = opener(
            model, options.device, monitor=monitor, threads=options.threads, precision=options.precision, **elsewhere
        )
    keep = kept_for(manifest, prepared, grid, probabilities=options.probabilities)
    classification = manifest.task == "classification"
    try:
        with monitor.stage("infer"):
            output = infer(
                manifest, prepared, session, monitor, batch=options.batch, patch=options.patch,
                keep="probabilities" if classification else keep, mirror=options.mirror,
            )  # fmt: skip
        done = Ran(prepared, session.provider, session.device, dict(output.details))
    finally:
        if open_session is None:
            session.close()
    if isinstance(output, Scores):
        done.output = output
        return done
    done.highest = output.details.get("highest", {})
    with monitor.stage("restore"):
        done.layers, done.probabilities = restore(
            output, manifest, prepared, grid, probabilities=options.probabilities, monitor=monitor
        )
    return done


def run_labels(
    model: Model,
    volumes: Sequence[Volume],
    required: Mapping[str, Result],
    options: RunOptions,
    monitor: Monitor,
    open_session: OpenSession | None,
) -> Ran:
    """The layers of a segmentation: of the package's own network, or of all networks that are joined in it."""
    if not model.manifest.joined:
        return run_network(model, volumes, required, options, monitor, open_session)
    return _run_joined(model, volumes, required, options, monitor, open_session)


def _run_joined(
    model: Model,
    volumes: Sequence[Volume],
    required: Mapping[str, Result],
    options: RunOptions,
    monitor: Monitor,
    open_session: OpenSession | None,
) -> Ran:
    manifest = model.manifest
    names = {c.value: c.name for c in manifest.classes}
    whole: Ran | None = None
    first: tuple[Manifest, Prepared] | None = None
    labels = np.zeros(volumes[0].grid.shape, np.uint8 if max(names) <= 255 else np.uint16)
    probabilities: dict[str, npt.NDArray[np.float32]] = {}
    highest: dict[str, float] = {}
    parts: list[dict[str, Any]] = []
    for n, item in enumerate(manifest.joined):
        monitor.checkpoint()
        monitor.note(f"Part {n + 1} of {len(manifest.joined)}: {len(item.values)} of {len(names)} classes.")
        if item.model == OWN:
            part, needed = model, dict(required)
        else:
            part = needed_model(model, item.model)
            if len(part.manifest.channels) != len(volumes) or part.manifest.task != "segmentation":
                raise ModelError(
                    f"{part.manifest.title} does not take the same images as {manifest.title}; rejoin them."
                )
            needed = run_required(part, volumes, options, monitor, open_session)
        steps = part.manifest.alone
        same = first is not None and not needed and _prepare_alike(first[0], steps)
        if item.model == OWN or not part.manifest.joined:
            done = run_network(
                part, volumes, needed, options, monitor, open_session, first[1] if same and first else None
            )
        else:
            done = run_labels(part, volumes, needed, options, monitor, open_session)
        first = first or ((steps, done.prepared) if not needed else None)
        _join(labels, done.layers, item.values)
        own_names = {c.name: item.values[c.value] for c in steps.classes if c.value in item.values}
        probabilities |= {names[own_names[k]]: v for k, v in done.probabilities.items() if k in own_names}
        highest |= {names[own_names[k]]: v for k, v in done.highest.items() if k in own_names}
        parts.append({"model": part.manifest.id, "provider": done.provider, **done.details})
        done.layers, done.probabilities = (), {}
        if item.model == OWN or whole is None:
            whole = done
    assert whole is not None
    whole.layers = (Layer(labels, tuple(segment_classes(manifest.classes))),)
    whole.probabilities, whole.highest, whole.details = probabilities, highest, {"joined": parts}
    return whole


def _prepare_alike(one: Manifest, other: Manifest) -> bool:
    """Whether two networks get the same input, made from the same volumes."""
    return one.preprocessing == other.preprocessing and one.inference.plane == other.inference.plane


def _join(labels: npt.NDArray[Any], layers: Sequence[Layer], values: Mapping[int, int]) -> None:
    """Put the labels of a part, as ``values`` maps them, over what is there; slab by slab, so that little is held."""
    table = np.zeros(1 << 16, labels.dtype)
    for own, there in values.items():
        table[own] = there
    for layer in layers:
        for k in range(len(labels)):
            mapped = table[layer.labels[k]]
            np.copyto(labels[k], mapped, where=mapped > 0)


def needed_model(model: Model, name: str) -> Model:
    """The model that ``model`` calls ``name``: one that lies in its package, or an installed one."""
    return model.parts[name] if inside(name) else load_model(name)


def run_required(
    model: Model, volumes: Sequence[Volume], options: RunOptions, monitor: Monitor, open_session: OpenSession | None
) -> dict[str, Result]:
    """Results of the models that ``model`` requires, each run once, by name: cleaned labels, no tables.

    A stage inside the package is run as ``model`` is (mirrored where it is); an installed model as it is by default.
    """
    results: dict[str, Result] = {}
    by_model: dict[tuple[str, str], Result] = {}
    for item in model.manifest.requires:
        key = (item.model, item.channels)
        if key not in by_model:
            needed = needed_model(model, item.model)
            mirror = options.mirror and inside(item.model)
            inner = RunOptions(
                device=options.device, precision=options.precision, threads=options.threads, mirror=mirror,
                server=options.server,
            )  # fmt: skip
            given = volumes if item.channels == "all" else volumes[:1]
            count = len(needed.manifest.channels)
            if len(given) != count:
                raise ModelError(
                    f"{needed.manifest.title} takes {count} image(s), but {model.manifest.title} gives it "
                    f"{len(given)}; correct requires.channels in the manifest."
                )
            by_model[key] = _required(
                needed, checked_volumes(needed.manifest, given, monitor), inner, monitor, open_session
            )
        results[item.name] = _spread(by_model[key], item)
    return results


def _required(
    model: Model, volumes: Sequence[Volume], options: RunOptions, monitor: Monitor, open_session: OpenSession | None
) -> Result:
    manifest, grid = model.manifest, volumes[0].grid
    if manifest.task != "segmentation":
        raise ModelError(f"{manifest.title} is no segmentation, so no other model can need its labels.")
    deeper = run_required(model, volumes, options, monitor, open_session)
    done = run_labels(model, volumes, deeper, options, monitor, open_session)
    with monitor.stage("clean"):
        steps = chosen_steps(manifest, options.choices)
        layers, _ = postprocess(steps, done.layers, grid, manifest.inference.plane, deeper, monitor)
    if not any(layer.labels.any() for layer in layers):
        monitor.warn(f"{manifest.title}, which runs first, found nothing; do not rely on what follows from it.")
    result = Result(grid=grid, plane=manifest.inference.plane, layers=layers)
    result.provenance = {
        "model": {
            "id": manifest.id, "version": manifest.version, "title": manifest.title, "license": manifest.license,
            "sha256": model.sha256,
        },
        "provider": done.provider,
    }  # fmt: skip
    return result


def _spread(result: Result, item: Required) -> Result:
    if not item.spread_mm:
        return result
    layers = tuple(
        replace(layer, labels=spread(layer.labels, result.grid.spacing, item.spread_mm)) for layer in result.layers
    )
    model = {**result.provenance["model"], "spread_mm": item.spread_mm}
    return replace(result, layers=layers, provenance={**result.provenance, "model": model})

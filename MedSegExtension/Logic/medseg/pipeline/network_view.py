"""The network's real input as volumes: what is left of an image when the model gets to see it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..model.manifest.choices import chosen_options
from ..model.manifest.schema import Manifest
from ..model.manifest.steps import Window
from ..model.package import Model, load_model
from ..monitor import Monitor
from ..result import Result
from .inputs import Inputs, network_volumes
from .labels import run_required
from .options import RunOptions
from .preprocess import Prepared, prepare
from .restore import onto


def network_view(
    model: Model | str | Path, inputs: Inputs, options: RunOptions | None = None, *, monitor: Monitor | None = None
) -> Result:
    """Prepare ``inputs`` as `medseg.run` does, without running the network.

    ``probabilities`` of the result holds the prepared channels (K, J, I) float32 by name, values as the network gets
    them, on the network's own grid (``grid``). Where each slice has a grid of its own (the head fit) there is no such
    grid: the channels then are on the first input's, interpolated, and a note says so. Raises the same errors as
    `medseg.run`.
    """
    options = options or RunOptions()
    monitor = monitor or Monitor()
    if not isinstance(model, Model):
        model = load_model(model)
    manifest = model.manifest
    chosen_options(manifest, options.choices)
    with monitor.stage("read"):
        volumes = network_volumes(manifest, inputs, options, monitor)
    required = run_required(model, volumes, options, monitor, None)
    with monitor.stage("prepare"):
        prepared = prepare(
            manifest, volumes, masks=required, windows=options.windows, region=options.region, monitor=monitor
        )
    grid, channels = prepared.grid, list(np.asarray(prepared.array, dtype=np.float32))
    if prepared.slice_grids is not None:
        grid = volumes[0].grid
        channels = [onto(prepared, grid, c, "linear", float(c.min())) for c in channels]
        monitor.note(
            "Each slice is fitted to the network on its own; what it sees is shown on the image's voxels, interpolated."
        )
    named = dict(zip(_names(manifest, prepared), channels, strict=True))
    provenance = {"model": {"id": manifest.id, "title": manifest.title}, "preprocessing": list(prepared.trace)}
    return Result(grid, (), named, {}, provenance, tuple(monitor.warnings), tuple(monitor.notes))


def _names(manifest: Manifest, prepared: Prepared) -> list[str]:
    """A name for each prepared channel: the window where windows make the channels, else the manifest's channel."""
    count = len(prepared.array)
    windows = [w for step in manifest.preprocessing if isinstance(step, Window) for w in step.windows]
    if len(windows) == count:
        names = [w.name or f"{w.level:g}/{w.width:g}" for w in windows]
    elif len(manifest.channels) == count:
        names = [c.name for c in manifest.channels]
    else:
        names = [f"channel {n}" for n in range(1, count + 1)]
    return [name if names.count(name) == 1 else f"{name} {n}" for n, name in enumerate(names, start=1)]

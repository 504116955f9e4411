"""The plan of a run in words, and the exact network input, without running the network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..model.manifest.choices import chosen_options
from ..model.manifest.other_models import OWN
from ..model.manifest.schema import Manifest, Slicewise, SlidingWindow
from ..model.package import Model, load_model
from ..monitor import Monitor
from .infer import mirroring, slice_batch, window_plan
from .infer.tensors import to_tensor
from .infer.whole import multiple_margins
from .inputs import Inputs, network_volumes
from .labels import needed_model, run_required
from .options import RunOptions
from .preprocess import Prepared, prepare
from .restore import labels_suffice


@dataclass(frozen=True, eq=False)
class Explanation:
    """``lines``: the plan, one sentence each. ``tensors``: ONNX input name -> what the network gets, in its layout.

    Slice-wise models: all slices along the batch axis. Whole-volume models: the one input. Sliding windows: the
    prepared volume from which the windows are cut. ``warnings``: what a run would warn of.
    """

    lines: tuple[str, ...]
    tensors: dict[str, npt.NDArray[Any]]
    warnings: tuple[str, ...]

    def save_tensors(self, path: str | Path) -> None:
        """Write `tensors` as a NumPy ``.npz``; names keep, but for ``/`` and ``:``, which become ``_``."""
        safe = {name.replace("/", "_").replace(":", "_"): array for name, array in self.tensors.items()}
        np.savez_compressed(path, **safe)  # type: ignore[arg-type]


def explain(
    model: Model | str | Path, inputs: Inputs, options: RunOptions | None = None, *, monitor: Monitor | None = None
) -> Explanation:
    """What `medseg.run` would do with ``inputs``. Models that ``model`` requires are run, since its plan needs them.

    Raises the same errors as `medseg.run`.
    """
    options = options or RunOptions()
    monitor = monitor or Monitor()
    if not isinstance(model, Model):
        model = load_model(model)
    manifest = model.manifest
    chosen = chosen_options(manifest, options.choices)
    volumes = network_volumes(manifest, inputs, options, monitor)
    required = run_required(model, volumes, options, monitor, None)
    prepared = prepare(
        manifest, volumes, masks=required, windows=options.windows, region=options.region, monitor=monitor
    )
    lines = [f"{manifest.title} ({manifest.id} {manifest.version}), {manifest.task}"]
    lines += [
        f"first runs {item.model} as {item.name!r}"
        + (f", its labels spread by {item.spread_mm:g} mm" if item.spread_mm else "")
        for item in manifest.requires
    ]
    if manifest.joined:
        lines += [f"joins the classes of {len(manifest.joined)} networks; the plan below is that of its own"]
        lines += [
            f"part {n}: {_title(model, item.model)}, {len(item.values)} classes"
            for n, item in enumerate(manifest.joined, start=1)
        ]
        manifest = manifest.alone
    lines += prepared.trace
    lines += _how_it_runs(manifest, prepared, options)
    alone = labels_suffice(manifest, prepared, volumes[0].grid, probabilities=options.probabilities)
    if manifest.task == "segmentation":
        what = "labels" if alone else manifest.output.restore
        how = "copied voxel by voxel" if alone and prepared.slice_grids is None else "interpolated"
        lines.append(f"result: {what} {how} onto the input's grid ({volumes[0].grid})")
        lines += [f"then {step.step}" for step in model.manifest.postprocessing]
    lines += [f"choice {n}: {o} (of {', '.join(model.manifest.choices[n].options)})" for n, o in chosen.items()]
    lines += [f"measures {step.kind}" for step in model.manifest.measurements]
    lines.append(_memory(manifest, prepared, alone))
    return Explanation(tuple(lines), network_input(manifest, prepared), tuple(monitor.warnings))


def _title(model: Model, name: str) -> str:
    return "this package's own network" if name == OWN else needed_model(model, name).manifest.title


def network_input(manifest: Manifest, prepared: Prepared) -> dict[str, npt.NDArray[Any]]:
    """What each ONNX input gets, as `Explanation.tensors` says."""
    plan = manifest.inference
    if isinstance(plan, Slicewise):
        batch = slice_batch(prepared, range(prepared.slice_count), plan.neighbours)
    else:
        batch = prepared.array[np.newaxis, np.newaxis]
    if not isinstance(plan, SlidingWindow) and plan.multiple_of > 1:
        batch = np.pad(batch, ((0, 0), (0, 0), (0, 0), *multiple_margins(batch.shape[3:], plan.multiple_of)))
    tensors = {}
    for tensor in manifest.inputs:
        chosen = batch if tensor.channels is None else batch[:, :, tensor.channels]
        merged = chosen.reshape(chosen.shape[0], chosen.shape[1] * chosen.shape[2], *chosen.shape[3:])
        tensors[tensor.name] = to_tensor(merged, tensor)
    return tensors


def _how_it_runs(manifest: Manifest, prepared: Prepared, options: RunOptions) -> list[str]:
    plan = manifest.inference
    size = "x".join(str(n) for n in reversed(prepared.array.shape[1:]))
    if isinstance(plan, Slicewise):
        batch = options.batch or plan.batch
        extra = f", with {plan.neighbours} neighbours on each side as channels" if plan.neighbours else ""
        return [f"runs {prepared.slice_count} {plan.plane} slices in batches of {batch}{extra}"]
    if isinstance(plan, SlidingWindow):
        patch = options.patch or plan.patch
        shape = tuple(max(s, p) for s, p in zip(prepared.grid.shape, patch[::-1], strict=True))
        count = len(window_plan(shape, patch[::-1], plan.overlap, plan.placement))
        words = "x".join(str(n) for n in patch)
        even = ", spread evenly" if plan.placement == "even" else ""
        half = ", sums in half precision" if plan.sums == "float16" else ""
        lines = [
            f"runs {count} windows of {words} voxels over {size}, overlap {plan.overlap:g}{even}, "
            f"{plan.blending} blending{half}"
        ]
        if not plan.mirror_axes:
            return lines
        sentence = mirroring(plan.mirror_axes, options.mirror).rstrip(".")
        return [*lines, sentence[0].lower() + sentence[1:]]
    return [f"runs the whole volume of {size} voxels at once"]


def _memory(manifest: Manifest, prepared: Prepared, labels_only: bool) -> str:
    voxels = int(np.prod(prepared.grid.size))
    channels = max(c.value for c in manifest.classes) + 1
    kept = voxels * (1 if labels_only else 1 + 2 * channels)
    return f"memory: {prepared.array.nbytes / 2**20:.0f} MiB input, about {kept / 2**20:.0f} MiB kept of the output"

"""PyTorch ExportedProgram and TorchScript files: converted in an environment of their own by ``torch_convert.py``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ...model.manifest import Manifest
from ...model.manifest.schema import SlidingWindow
from ...monitor import Monitor
from .converted import Converted, ImportOptions, Probe
from .environment import environment, run_script
from .recipe import Recipe

REQUIREMENTS = "torch-requirements.txt"
MODULES = "torch, onnx, onnxscript"


def convert_torch(
    path: Path, recipe: Recipe, raw: dict[str, Any], options: ImportOptions, monitor: Monitor
) -> Converted:
    """The ONNX graph of a ``.pt2`` or TorchScript file, with a probe from PyTorch itself (channels first)."""
    shape = input_shape(Manifest.model_validate(raw))
    with (
        environment(
            REQUIREMENTS, MODULES, python=options.environment, wheels=options.wheels, monitor=monitor
        ) as interpreter,
        tempfile.TemporaryDirectory(prefix="medseg-convert-") as scratch,
    ):
        folder = Path(scratch)
        request = {
            "model": str(path.resolve()),
            "output": str(folder / "model.onnx"),
            "probe": str(folder / "probe.npz"),
            "shape": shape,
            "input_name": raw["inputs"][0]["name"],
            "output_name": raw["output"]["tensor"],
        }
        answer = run_script(
            interpreter, "torch_convert.py", request, folder, monitor, f"{path.name} could not be converted"
        )
        model = onnx.load(request["output"])
        with np.load(folder / "probe.npz", allow_pickle=False) as stored:
            probe = Probe(str(answer["framework"]), [stored["feed"]], stored["output"])
    notes = []
    if answer["script"]:
        notes.append(f"{path.name} is TorchScript, a program that was run to convert it; use only files you trust.")
    return Converted(model, int(answer["parameters"]), probe, notes, {"framework": answer["framework"]})


def input_shape(manifest: Manifest) -> list[int]:
    """Batch, channels and space (k, j, i) that the manifest feeds its first input; 64 where nothing fixes a size."""
    dims = 2 if manifest.inference.mode == "slicewise" else 3
    size: list[int | None] = [None, None, None]
    if isinstance(manifest.inference, SlidingWindow):
        size = list(manifest.inference.patch)
    else:
        for step in manifest.preprocessing:
            if step.step in ("resize", "crop_or_pad", "crop"):
                size = [new if new is not None else old for new, old in zip(step.size, size, strict=True)]
            elif step.step == "fit_head":
                size = [step.size, step.size, None]
    space = [n or 64 for n in size[:dims]]
    return [2 if dims == 2 else 1, manifest.network_channels, *reversed(space)]

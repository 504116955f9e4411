"""Keras ``.h5`` and ``.keras`` files: converted in an environment of their own by ``keras_convert.py``."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import compose

from ...errors import InputError, ModelError
from ...monitor import Monitor
from . import onnx_tidy
from .converted import Converted, ImportOptions, Probe
from .environment import environment, run_script
from .recipe import Recipe

REQUIREMENTS = "keras-requirements.txt"
MODULES = "tensorflow, tf_keras, tf2onnx, h5py"


def convert_keras(path: Path, recipe: Recipe, options: ImportOptions, monitor: Monitor) -> Converted:
    """The ONNX graph of a Keras file, with a probe from Keras itself.

    Raises `ModelError` where the file holds what the recipe does not explain (an unknown Lambda or layer), is damaged,
    or cannot be converted; `InputError` where no environment can be made; `Cancelled`.
    """
    raw = recipe.manifest
    if options.backbone is not None and not options.backbone.is_file():
        raise InputError(f"{options.backbone}: there is no such backbone file.")
    backbone = recipe.keras.backbone
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
            "operations": recipe.keras.operations,
            "backbone": backbone.model_dump() if backbone else None,
            "classifier": recipe.keras.classifier.model_dump() if recipe.keras.classifier else None,
            "backbone_file": str(options.backbone.resolve()) if options.backbone else None,
            "input_name": raw["inputs"][0]["name"],
            "output_name": raw["output"]["tensor"],
        }
        answer = run_script(
            interpreter, "keras_convert.py", request, folder, monitor, f"{path.name} could not be converted"
        )
        model = onnx.load(request["output"])
        with np.load(folder / "probe.npz", allow_pickle=False) as stored:
            probe = Probe(str(answer["framework"]), [stored["feed"]], stored["output"])
    return Converted(model, int(answer["parameters"]), probe, facts={"framework": answer["framework"]})


def join_stages(backbone: onnx.ModelProto, classifier: onnx.ModelProto) -> onnx.ModelProto:
    """One graph: the backbone's output feeds the classifier's input, flattened where that takes (N, features).

    Both must have one input and one output. Raises `ModelError` where their sizes do not meet.
    """
    (source,) = backbone.graph.output
    (target,) = onnx_tidy.real_inputs(classifier)
    given, wanted = onnx_tidy.sizes(source) or (), onnx_tidy.sizes(target) or ()
    if len(given) > 2 and len(wanted) == 2:
        flat = onnx.helper.make_node("Flatten", [source.name], ["features_flat"], axis=1)
        backbone.graph.node.append(flat)
        count = int(np.prod([n or 0 for n in given[1:]])) or None
        value = onnx.helper.make_tensor_value_info("features_flat", source.type.tensor_type.elem_type, ["N", count])
        del backbone.graph.output[:]
        backbone.graph.output.append(value)
        source, given = value, (None, count)
    if len(given) != len(wanted) or any(g and w and g != w for g, w in zip(given[1:], wanted[1:], strict=True)):
        raise ModelError(
            f"The backbone gives {given[1:]} and the classifier takes {wanted[1:]}; they do not belong together."
        )
    opset = max(o.version for m in (backbone, classifier) for o in m.opset_import if o.domain in ("", "ai.onnx"))
    parts = [onnx.version_converter.convert_version(m, opset) for m in (backbone, classifier)]
    for part in parts:
        part.ir_version = max(backbone.ir_version, classifier.ir_version)
    first = compose.add_prefix(parts[0], "backbone/")
    return compose.merge_models(
        first,
        compose.add_prefix(parts[1], "classifier/"),
        io_map=[(f"backbone/{source.name}", f"classifier/{target.name}")],
    )

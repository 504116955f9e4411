"""Model packages of one or two operators, made in a test."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, external_data_helper, helper, numpy_helper


def network(shape: tuple[Any, ...] = (1, 1, None, None, None), classes: int = 2, **changes: Any) -> onnx.ModelProto:
    """A 1x1x1 convolution ``x`` -> ``y`` with ``classes`` output channels."""
    weight = np.ones((classes, 1, 1, 1, 1), np.float32)
    nodes = changes.pop("nodes", [helper.make_node("Conv", ["x", "w"], ["y"])])
    sizes = [d if d is not None else f"d{n}" for n, d in enumerate(shape)]
    out = [sizes[0], classes, *sizes[2:]]
    graph = helper.make_graph(
        nodes, "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        [numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    opsets = changes.pop("opsets", {"": 17})
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid(d, v) for d, v in opsets.items()], ir_version=8, **changes
    )


def manifest(**changes: Any) -> dict[str, Any]:
    """A manifest that fits `network`."""
    return {
        "medseg_manifest": 1,
        "id": "tiny",
        "version": "1.0",
        "title": "Tiny",
        "task": "segmentation",
        "license": "Apache-2.0",
        "weights": {"file": "model.onnx"},
        "channels": [{"name": "T1", "modality": ["MR"]}],
        "inputs": [{"name": "x", "layout": "NCDHW"}],
        "inference": {"mode": "whole"},
        "output": {"tensor": "y", "layout": "NCDHW", "activation": "softmax", "logits": True},
        "classes": [{"value": 1, "name": "lesion"}],
        **changes,
    }


def package(folder: Path, model: onnx.ModelProto | bytes | None = None, *, hashed: bool = True, **changes: Any) -> Path:
    """Write a package folder; ``hashed`` states the true hash."""
    folder.mkdir(parents=True, exist_ok=True)
    if not isinstance(model, bytes):
        model = (model or network()).SerializeToString()
    (folder / "model.onnx").write_bytes(model)
    raw = manifest(**changes)
    if hashed and "weights" not in changes:
        raw["weights"] = {"file": "model.onnx", "sha256": hashlib.sha256(model).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(raw), encoding="utf-8")
    return folder


def external(folder: Path, **entries: str) -> Path:
    """A package whose weights are in ``weights.bin``; ``entries`` overwrite what the tensor says of them."""
    model = network(classes=3)
    package(folder, hashed=False, classes=[{"value": 2, "name": "a"}])
    external_data_helper.convert_model_to_external_data(model, location="weights.bin", size_threshold=0)
    onnx.save(model, str(folder / "model.onnx"))
    if entries:
        model = onnx.load(str(folder / "model.onnx"), load_external_data=False)
        tensor = model.graph.initializer[0]
        where = {e.key: e.value for e in tensor.external_data} | entries
        del tensor.external_data[:]
        for key, value in where.items():
            tensor.external_data.add(key=key, value=value)
        (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder

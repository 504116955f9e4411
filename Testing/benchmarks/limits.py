"""What this processor can do at most in each precision, and what a network needs of it.

A large convolution of 512 channels leaves memory aside, so no engine runs a network of convolutions faster; a ratio to
another program that would need more is out of reach on this machine, whatever is done.
"""

from __future__ import annotations

import functools
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from medseg.engine.openvino_engine import OpenVinoNetwork

_CHANNELS, _SIDE, _TRIES = 512, 64, 12


@functools.lru_cache(maxsize=4)
def peak(precision: str) -> float:
    """Floating point operations a second, the best of some calls of one 3x3 convolution in OpenVINO."""
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 0.02, (_CHANNELS, _CHANNELS, 3, 3)).astype(np.float32)
    # Without padding `medseg.engine.winograd` leaves it: operations are counted as a plain convolution has them.
    shapes = {"x": [1, _CHANNELS, _SIDE + 2, _SIDE + 2], "y": [1, _CHANNELS, _SIDE, _SIDE]}
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in shapes.items()]
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "convolution", ends[:1], ends[1:], [numpy_helper.from_array(weights, "w")])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    network = OpenVinoNetwork(made.SerializeToString(), precision=precision)
    x, took = rng.normal(size=shapes["x"]).astype(np.float32), []
    for _ in range(_TRIES):
        started = time.perf_counter()
        network.run({"x": x})
        took.append(time.perf_counter() - started)
    return 2.0 * weights.size * _SIDE**2 / min(took)


def operations(path: Path, shape: tuple[int, ...]) -> float:
    """Floating point operations of a network's convolutions and products for one input of ``shape``."""
    model = onnx.load(str(path))
    for dimension, size in zip(model.graph.input[0].type.tensor_type.shape.dim, shape, strict=True):
        dimension.dim_value = size
    for value in (*model.graph.output, *model.graph.value_info):
        value.type.tensor_type.ClearField("shape")
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    sizes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*graph.input, *graph.value_info, *graph.output)
    }
    weights = {w.name: list(w.dims) for w in graph.initializer}
    total = 0.0
    for node in graph.node:
        if node.op_type == "Conv":  # (out, in / group, *kernel)
            total += 2.0 * np.prod(sizes[node.output[0]]) * np.prod(weights[node.input[1]][1:])
        elif node.op_type == "ConvTranspose":  # (in, out / group, *kernel)
            total += 2.0 * np.prod(sizes[node.input[0]]) * np.prod(weights[node.input[1]][1:])
    return float(total)

"""Real ONNX networks of a few nodes, and a session that runs them and can be told to run out of memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from medseg.errors import OutOfMemory
from medseg.geometry.grid import Grid
from medseg.model.manifest.schema import Manifest
from medseg.pipeline.preprocess.state import Prepared

Shape = Sequence[int | str | None]


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, Shape],
    outputs: Sequence[str],
    weights: dict[str, np.ndarray] | None = None,
    dtype: int = TensorProto.FLOAT,
    output_dtype: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A model; None in a shape is a free dimension."""
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [
            helper.make_tensor_value_info(n, dtype, [d if d is not None else f"{n}_{a}" for a, d in enumerate(s)])
            for n, s in inputs.items()
        ],
        [helper.make_tensor_value_info(n, output_dtype, None) for n in outputs],
        [numpy_helper.from_array(np.asarray(w), n) for n, w in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def convolution(
    weight: np.ndarray, bias: Sequence[float] | None = None, *, shape: Shape | None = None
) -> onnx.ModelProto:
    """``x`` -> one convolution with zero padding -> ``y``; ``weight`` (out, in, *kernel)."""
    weight = np.asarray(weight, np.float32)
    pads = [n // 2 for n in weight.shape[2:]] * 2
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=pads)
    b = np.zeros(len(weight), np.float32) if bias is None else np.asarray(bias, np.float32)
    free = [None, weight.shape[1], *[None] * (weight.ndim - 2)]
    return model([node], {"x": shape or free}, ["y"], {"w": weight, "b": b})


class LocalSession:
    """Runs a model with ONNX Runtime on the CPU, under another provider's name where asked.

    ``full``: called with the feeds and the provider; where it says True the call is out of memory.
    """

    def __init__(
        self,
        proto: onnx.ModelProto,
        *,
        provider: str = "CPUExecutionProvider",
        full: Callable[[dict[str, np.ndarray], str], bool] = lambda feeds, provider: False,
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self.provider = provider
        self.full = full
        self.calls: list[dict[str, np.ndarray]] = []

    @property
    def input_shapes(self) -> dict[str, tuple[int | None, ...]]:
        return {i.name: tuple(d if isinstance(d, int) else None for d in i.shape) for i in self._session.get_inputs()}

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self.full(feeds, self.provider):
            raise OutOfMemory("the device is full")
        self.calls.append(feeds)
        names = [o.name for o in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, feeds), strict=True))

    def to_cpu(self) -> None:
        self.provider = "CPUExecutionProvider"


def manifest(inference: dict[str, Any], output: dict[str, Any], classes: int = 1, **changes: Any) -> Manifest:
    """A manifest for the input ``x`` and the output ``y`` of a tiny network."""
    layout = "NCHW" if inference["mode"] == "slicewise" else "NCDHW"
    return Manifest.model_validate(
        {
            "medseg_manifest": 1,
            "id": "tiny",
            "version": "1",
            "title": "Tiny",
            "task": "segmentation",
            "license": "Apache-2.0",
            "weights": {"file": "model.onnx"},
            "channels": [{"name": "image"}],
            "inputs": [{"name": "x", "layout": layout}],
            "inference": inference,
            "output": {"tensor": "y", "layout": layout, "activation": "softmax", "logits": True} | output,
            "classes": [{"value": n + 1, "name": f"class {n + 1}"} for n in range(classes)],
        }
        | changes
    )


def prepared(array: np.ndarray, plane: str = "acquisition", orientation: str = "LPS") -> Prepared:
    """``array`` (C, K, J, I) on a grid of 1 mm voxels whose axes grow towards ``orientation``."""
    k, j, i = array.shape[1:]
    axes = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}
    direction = np.zeros((3, 3))
    for column, letter in enumerate(orientation):
        axis, sign = axes[letter]
        direction[axis, column] = sign
    grid = Grid((i, j, k), (1, 1, 1), (0, 0, 0), direction)
    return Prepared(np.asarray(array, np.float32), grid, plane)

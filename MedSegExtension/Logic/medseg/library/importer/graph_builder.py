"""Writes an ONNX graph node by node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from ...errors import ModelError

Array = npt.NDArray[Any]
OPSET = 17
IR_VERSION = 8


class GraphBuilder:
    """Collects ONNX nodes and weights. ``weights``: Keras' own, by ``layer/kernel``."""

    def __init__(self, weights: Mapping[str, Array], label: str) -> None:
        self.label = label
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.used: set[str] = set()
        self._weights = weights
        self._count = 0

    def node(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        """Add a node with one output; returns the output's name."""
        self._count += 1
        name = f"{kind.lower()}_{self._count}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def constant(self, value: Array, name: str = "c") -> str:
        """Add a weight; returns its name."""
        self._count += 1
        full = f"{name}_{self._count}"
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), full))
        return full

    def weight(self, layer: str, kind: str, shape: tuple[int, ...]) -> Array:
        """The Keras weight ``layer/kind`` (``shape``) as float32."""
        for name in (f"{layer}/{kind}", f"{layer}/{kind}:0", f"{layer}/{layer}/{kind}:0"):
            if name in self._weights:
                value = self._weights[name]
                if value.shape != shape:
                    raise ModelError(
                        f"{self.label}: the weights {name} have the shape {value.shape}, but the layer needs {shape}; "
                        "the description and the weights are not of the same model."
                    )
                self.used.add(name)
                return np.asarray(value, dtype=np.float32)
        raise ModelError(f"{self.label}: the weights {layer}/{kind} are missing; get all files of the model again.")

    def unused(self) -> list[str]:
        """Weights that no layer took."""
        return sorted(set(self._weights) - self.used)

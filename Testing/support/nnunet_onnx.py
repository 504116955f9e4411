"""nnU-Net's plain U-Net from a checkpoint as ONNX, without PyTorch: tests need a real network where PyTorch is not.

The checkpoint is opened with an unpickler that knows five names and makes arrays of them.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_DTYPES = {"FloatStorage": np.float32, "HalfStorage": np.float16, "LongStorage": np.int64}
Weights = dict[str, np.ndarray[Any, Any]]


def read_weights(path: Path) -> Weights:
    """The arrays of ``network_weights`` in a checkpoint, by name."""
    with zipfile.ZipFile(path) as archive:
        pickled = next(n for n in archive.namelist() if n.endswith("/data.pkl"))
        folder = pickled.removesuffix("data.pkl") + "data/"

        class Reader(pickle.Unpickler):
            def find_class(self, module: str, name: str) -> Any:
                if (module, name) == ("collections", "OrderedDict"):
                    return OrderedDict
                if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
                    return _tensor
                if module == "torch" and name in _DTYPES:
                    return name
                raise pickle.UnpicklingError(f"{module}.{name} is not expected in a checkpoint")

            def persistent_load(self, pid: Any) -> Any:
                return np.frombuffer(archive.read(folder + pid[2]), _DTYPES[pid[1]])

        with archive.open(pickled) as file:
            return dict(Reader(file).load()["network_weights"])


def _tensor(storage: Any, offset: int, size: tuple[int, ...], *_: Any) -> Any:
    return storage[offset : offset + int(np.prod(size))].reshape(size)


def plain_unet(folds: list[Weights], plan: dict[str, Any]) -> onnx.ModelProto:
    """``image`` (N, C, z, y, x) -> ``logits``: the mean over ``folds`` of the network of ``plan``'s architecture."""
    kwargs = plan["architecture"]["arch_kwargs"]
    graph = _Graph()
    last = [graph.unet(weights, kwargs, f"f{n}_") for n, weights in enumerate(folds)]
    graph.node("Mean", last, "logits")
    channels = folds[0]["encoder.stages.0.0.convs.0.conv.weight"].shape[1]
    heads = folds[0][f"decoder.seg_layers.{kwargs['n_stages'] - 2}.weight"].shape[0]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", count, *plan["patch_size"]])
        for name, count in (("image", channels), ("logits", heads))
    ]
    made = helper.make_graph(graph.nodes, "unet", ends[:1], ends[1:], graph.weights)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


class _Graph:
    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def keep(self, weights: Weights, prefix: str, name: str) -> list[str]:
        names = [f"{prefix}{name}.{end}" for end in ("weight", "bias") if f"{name}.{end}" in weights]
        self.weights += [numpy_helper.from_array(weights[n.removeprefix(prefix)].copy(), n) for n in names]
        return names

    def block(self, weights: Weights, prefix: str, name: str, x: str, stride: list[int]) -> str:
        """Convolution, instance normalisation, leaky ReLU."""
        kernel = weights[f"{name}.conv.weight"].shape[2:]
        pads = [k // 2 for k in kernel] * 2
        x = self.node(
            "Conv", [x, *self.keep(weights, prefix, f"{name}.conv")], f"{prefix}{name}.c", strides=stride, pads=pads
        )
        norm = self.keep(weights, prefix, f"{name}.norm")
        x = self.node("InstanceNormalization", [x, *norm], f"{prefix}{name}.n", epsilon=1e-5)
        return self.node("LeakyRelu", [x], f"{prefix}{name}.r", alpha=0.01)

    def unet(self, weights: Weights, kwargs: dict[str, Any], prefix: str) -> str:
        strides, x, skips = kwargs["strides"], "image", []
        one = [1] * len(strides[0])
        for stage, count in enumerate(kwargs["n_conv_per_stage"]):
            for c in range(count):
                name = f"encoder.stages.{stage}.0.convs.{c}"
                x = self.block(weights, prefix, name, x, strides[stage] if c == 0 else one)
            skips.append(x)
        for step, count in enumerate(kwargs["n_conv_per_stage_decoder"]):
            stride = strides[-1 - step]
            up = f"decoder.transpconvs.{step}"
            x = self.node(
                "ConvTranspose",
                [x, *self.keep(weights, prefix, up)],
                f"{prefix}{up}.u",
                strides=stride,
                kernel_shape=stride,
            )
            x = self.node("Concat", [x, skips[-2 - step]], f"{prefix}{up}.s", axis=1)
            for c in range(count):
                x = self.block(weights, prefix, f"decoder.stages.{step}.convs.{c}", x, one)
        name = f"decoder.seg_layers.{len(kwargs['n_conv_per_stage_decoder']) - 1}"
        return self.node("Conv", [x, *self.keep(weights, prefix, name)], f"{prefix}{name}.o")

"""Networks of random weights and of the sizes that people use, as packages, and smooth random volumes for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import SimpleITK as sitk
from onnx import TensorProto, helper, numpy_helper

from medseg.geometry.grid import Grid
from medseg.model.package_files import sha256_of


class Graph:
    """Adds layers of random weights to an ONNX graph of ``dims`` spatial axes."""

    def __init__(self, dims: int) -> None:
        self.dims, self.nodes, self.weights = dims, [], []  # type: ignore[var-annotated]
        self.parameters = 0
        self._random = np.random.default_rng(1)

    def conv(
        self, source: str, inside: int, outside: int, *, kernel: int = 3, stride: int = 1, relu: bool = True
    ) -> str:
        """A convolution of padding "same", and a ReLU."""
        name = f"c{len(self.nodes)}"
        weight = self._random.normal(
            0, np.sqrt(2 / (inside * kernel**self.dims)), (outside, inside, *[kernel] * self.dims)
        )
        self._add(f"{name}w", weight)
        self._add(f"{name}b", np.zeros(outside))
        pads = [kernel // 2] * 2 * self.dims
        self.nodes.append(
            helper.make_node("Conv", [source, f"{name}w", f"{name}b"], [name], pads=pads, strides=[stride] * self.dims)
        )
        return self.op("Relu", name) if relu else name

    def up(self, source: str, inside: int, outside: int) -> str:
        """A transposed convolution that doubles the size."""
        name = f"u{len(self.nodes)}"
        self._add(f"{name}w", self._random.normal(0, 1 / np.sqrt(inside), (inside, outside, *[2] * self.dims)))
        self.nodes.append(
            helper.make_node(
                "ConvTranspose", [source, f"{name}w"], [name], strides=[2] * self.dims, kernel_shape=[2] * self.dims
            )
        )
        return name

    def op(self, kind: str, *sources: str, **more: Any) -> str:
        name = f"o{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(sources), [name], **more))
        return name

    def _add(self, name: str, value: np.ndarray) -> None:
        self.parameters += value.size
        self.weights.append(numpy_helper.from_array(value.astype(np.float32), name))

    def save(self, path: Path, result: str, classes: int) -> None:
        space = [f"s{n}" for n in range(self.dims)]
        ends = [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", c, *space])
            for n, c in (("x", 1), (result, classes))
        ]
        graph = helper.make_graph(self.nodes, "network", ends[:1], ends[1:], self.weights)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))


def unet_2d(folder: Path, width: int) -> str:
    """Ronneberger's U-Net (2015) with padding; 31 M parameters at width 64."""
    graph, here, skips = Graph(2), "x", []
    inside = 1
    for level in range(5):
        if level:
            here = graph.op("MaxPool", here, kernel_shape=[2, 2], strides=[2, 2])
        outside = width << level
        here = graph.conv(graph.conv(here, inside, outside), outside, outside)
        skips.append(here)
        inside = outside
    for level in (3, 2, 1, 0):
        outside = width << level
        here = graph.op("Concat", graph.up(here, inside, outside), skips[level], axis=1)
        here = graph.conv(graph.conv(here, 2 * outside, outside), outside, outside)
        inside = outside
    return _package(
        folder,
        graph,
        graph.conv(here, inside, 2, kernel=1, relu=False),
        2,
        {"inference": {"mode": "slicewise", "plane": "axial"}},
    )


def residual_unet_3d(folder: Path, width: int, patch: int) -> str:
    """A residual U-Net of four levels, as MONAI's UNet with one residual unit a level."""
    graph, skips = Graph(3), []
    here, inside = "x", 1
    for level in range(4):
        outside = width << level
        first = graph.conv(here, inside, outside, stride=2 if level else 1)
        here = graph.op("Add", graph.conv(first, outside, outside), first)
        skips.append(here)
        inside = outside
    for level in (2, 1, 0):
        outside = width << level
        joined = graph.op("Add", graph.up(here, inside, outside), skips[level])
        here = graph.op("Add", graph.conv(joined, outside, outside), joined)
        inside = outside
    inference = {"mode": "sliding_window", "patch": [patch] * 3, "overlap": 0.5, "blending": "gaussian"}
    return _package(folder, graph, graph.conv(here, inside, 2, kernel=1, relu=False), 2, {"inference": inference})


def package_of(
    folder: Path,
    network: Path,
    result: str,
    layout: str,
    inference: dict[str, Any],
    *,
    title: str = "",
    preprocessing: list[dict[str, Any]] | None = None,
) -> str:
    """A package of a segmentation ``network`` with the input ``x`` and one class, in ``folder``, which it makes."""
    folder.mkdir(exist_ok=True)
    if network.parent != folder:
        network = network.rename(folder / "model.onnx")
    steps = [{"step": "orient", "code": "LPS"}, {"step": "zscore"}] if preprocessing is None else preprocessing
    manifest = {
        "medseg_manifest": 1,
        "id": folder.name,
        "version": "1",
        "title": title or folder.name,
        "task": "segmentation",
        "license": "none",
        "weights": {"file": network.name, "sha256": sha256_of(network)},
        "channels": [{"name": "image"}],
        "preprocessing": steps,
        "inputs": [{"name": "x", "layout": layout}],
        "inference": inference,
        "output": {"tensor": result, "layout": layout, "activation": "softmax", "logits": True},
        "classes": [{"value": 1, "name": "a"}],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return str(folder)


def _package(folder: Path, graph: Graph, result: str, classes: int, more: dict[str, Any]) -> str:
    folder.mkdir()
    graph.save(folder / "model.onnx", result, classes)
    layout = "NCHW" if graph.dims == 2 else "NCDHW"
    title = f"{folder.name}, {graph.parameters / 1e6:.1f} M"
    return package_of(folder, folder / "model.onnx", result, layout, more["inference"], title=title)


def noise(path: Path, shape: tuple[int, int, int]) -> Path:
    """A smooth random volume in a file."""
    array = np.random.default_rng(2).normal(100, 20, shape).astype(np.float32)
    image: Any = sitk.SmoothingRecursiveGaussian(sitk.GetImageFromArray(array), 2.0)
    Grid((shape[2], shape[1], shape[0]), (0.9, 0.9, 1.2), (0.0, 0.0, 0.0), np.eye(3)).place(image)
    sitk.WriteImage(image, str(path))
    return path

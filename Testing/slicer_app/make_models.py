"""Make small model packages in the folder of the first argument; run with Slicer's Python, which has ``onnx``.

``bright``: bright voxels, slice by slice, one multiplication a voxel. ``slow``: the same through many convolutions.
``scores``: two probabilities a slice.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

LAYERS = 24


def save(folder: Path, name: str, graph: onnx.GraphProto, **manifest: Any) -> None:
    """Write the package ``name``."""
    (folder / name).mkdir()
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(network, folder / name / "model.onnx")
    weights = folder / name / "model.onnx"
    contents = {
        "medseg_manifest": 1,
        "id": name,
        "version": "1",
        "task": "segmentation",
        "license": "Apache-2.0",
        "source": "Testing/slicer_app",
        "weights": {"file": "model.onnx", "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()},
        "channels": [{"name": "image", "modality": ["CT"]}],
        "inputs": [{"name": "x", "layout": "NCHW"}],
        "inference": {"mode": "slicewise", "plane": "acquisition", "batch": 4},
    } | manifest
    (folder / name / "manifest.json").write_text(json.dumps(contents), "utf-8")


def convolutions(layers: int) -> onnx.GraphProto:
    """``x`` -> ``y`` (background, bright above 500): ``layers`` identities of 16 channels, then a 1x1 convolution."""
    wide = np.zeros((16, 16, 5, 5), np.float32)
    wide[np.arange(16), np.arange(16), 2, 2] = 1
    first = np.zeros((16, 1, 5, 5), np.float32)
    first[:, 0, 2, 2] = 1
    last = np.zeros((2, 16 if layers else 1, 1, 1), np.float32)
    last[1, 0] = 1
    weights = {"last": last, "bias": np.array([0, -500], np.float32)}
    nodes = []
    if layers:
        weights |= {"first": first, "wide": wide}
        nodes.append(helper.make_node("Conv", ["x", "first"], ["h0"], pads=[2] * 4))
        nodes += [helper.make_node("Conv", [f"h{n}", "wide"], [f"h{n + 1}"], pads=[2] * 4) for n in range(layers)]
    nodes.append(helper.make_node("Conv", [f"h{layers}" if layers else "x", "last", "bias"], ["y"]))
    return helper.make_graph(
        nodes,
        "bright",
        [helper.make_tensor_value_info("x", 1, ["n", 1, "h", "w"])],
        [helper.make_tensor_value_info("y", 1, ["n", 2, "h", "w"])],
        [numpy_helper.from_array(w, n) for n, w in weights.items()],
    )


def means() -> onnx.GraphProto:
    """``x`` (n, 1, h, w) -> ``y`` (n, 2): the share of bright and of dark pixels of each slice."""
    weights = {
        "w": np.array([[0.001, -0.001]], np.float32),
        "b": np.array([0.0, 1.0], np.float32),
        "shape": np.array([0, 1]),
    }
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["m"]),
        helper.make_node("Reshape", ["m", "shape"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["y"]),
    ]
    return helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info("x", 1, ["n", 1, "h", "w"])],
        [helper.make_tensor_value_info("y", 1, ["n", 2])],
        [numpy_helper.from_array(w, n) for n, w in weights.items()],
    )


def main() -> None:
    """Make all packages."""
    folder = Path(sys.argv[1])
    segments = {
        "output": {"tensor": "y", "layout": "NCHW", "activation": "softmax", "logits": True},
        "classes": [{"value": 1, "name": "Bright", "color": [220, 60, 60], "lesion": True}],
    }
    save(folder, "bright", convolutions(0), title="Bright voxels", **segments)
    save(folder, "slow", convolutions(LAYERS), title="Bright voxels, slowly", **segments)
    save(
        folder,
        "scores",
        means(),
        title="Bright and dark slices",
        task="classification",
        output={"tensor": "y", "layout": "NC", "activation": "sigmoid"},
        classes=[{"value": 1, "name": "bright"}, {"value": 2, "name": "dark"}],
    )


if __name__ == "__main__":
    main()

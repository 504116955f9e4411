"""Small TensorFlow.js models whose result is known, and how an ONNX network is run in a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from scipy import ndimage

from medseg.library.importer import onnx_tidy


def run_onnx(model: onnx.ModelProto, *feeds: np.ndarray) -> np.ndarray:
    names = [v.name for v in onnx_tidy.real_inputs(model)]
    return onnx_tidy.session(model).run(None, dict(zip(names, feeds, strict=True)))[0]


def tfjs(folder: Path, weights: dict[str, np.ndarray], layers: list[dict[str, Any]], **stored: str) -> Path:
    """A layers model as the TensorFlow.js converter writes it. ``stored``: how weights are kept, by kind."""
    folder.mkdir(parents=True, exist_ok=True)
    listed, data = [], b""
    for name, value in weights.items():
        item: dict[str, Any] = {"name": name, "shape": list(value.shape), "dtype": "float32"}
        how = stored.get(name.split("/")[-1], "float32")
        if how == "float16":
            item["quantization"] = {"dtype": "float16", "original_dtype": "float32"}
            data += value.astype("<f2").tobytes()
        elif how in ("uint8", "uint16"):
            low, top = float(value.min()), {"uint8": 255, "uint16": 65535}[how]
            scale = (float(value.max()) - low) / top
            item["quantization"] = {"dtype": how, "scale": scale, "min": low, "original_dtype": "float32"}
            data += np.rint((value - low) / scale).astype({"uint8": "u1", "uint16": "<u2"}[how]).tobytes()
        else:
            data += value.astype("<f4").tobytes()
        listed.append(item)
    topology = {"model_config": {"class_name": "Functional", "config": {
        "layers": layers, "input_layers": [[layers[0]["config"]["name"], 0, 0]],
        "output_layers": [[layers[-1]["config"]["name"], 0, 0]]}}}  # fmt: skip
    half = len(data) // 2  # two files, cut in the middle of a tensor
    (folder / "a.bin").write_bytes(data[:half])
    (folder / "b.bin").write_bytes(data[half:])
    raw = {
        "format": "layers-model", "modelTopology": topology,
        "weightsManifest": [{"paths": ["a.bin", "b.bin"], "weights": listed}],
    }  # fmt: skip
    (folder / "model.json").write_text(json.dumps(raw))
    return folder / "model.json"


def layer(kind: str, name: str, *sources: str, **config: Any) -> dict[str, Any]:
    return {
        "class_name": kind,
        "config": {"name": name, **config},
        "inbound_nodes": [[[s, 0, 0, {}] for s in sources]] if sources else [],
    }


def meshnet(folder: Path, seed: int = 0, **stored: str) -> tuple[Path, np.ndarray, np.ndarray]:
    """A two-layer MeshNet with dilation 2 and relu: (file, volume, its three scores computed by scipy)."""
    random = np.random.default_rng(seed)
    first, second = random.normal(0, 0.3, (3, 3, 3, 1, 4)), random.normal(0, 1, (1, 1, 1, 4, 3))
    bias = random.normal(0, 0.3, 4)
    weights = {"c/kernel": first, "c/bias": bias, "output/kernel": second, "output/bias": np.zeros(3)}
    volume = random.random((9, 10, 11))
    if stored.get("kernel") == "float16":
        weights = {k: v.astype(np.float16).astype(float) for k, v in weights.items()}
    spread = np.zeros((5, 5, 5, 4))
    spread[::2, ::2, ::2] = weights["c/kernel"][..., 0, :]
    seen = [ndimage.correlate(volume, spread[..., c], mode="constant") + weights["c/bias"][c] for c in range(4)]
    scores = np.einsum("cdhw,ck->kdhw", np.maximum(seen, 0), weights["output/kernel"][0, 0, 0])
    layers = [
        layer("InputLayer", "input", batch_input_shape=[None, 256, 256, 256, 1]),
        layer("Conv3D", "c", "input", filters=4, kernel_size=[3, 3, 3], dilation_rate=[2, 2, 2], padding="same"),
        layer("Activation", "a", "c", activation="relu"),
        layer("Conv3D", "output", "a", filters=3, kernel_size=[1, 1, 1], padding="same"),
    ]
    return tfjs(folder, weights, layers, **stored), volume, scores

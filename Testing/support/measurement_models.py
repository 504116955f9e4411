"""A drawn brain with known dark lesions, and networks of a few operators for brain, structures and lesions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from medseg.geometry.grid import Grid
from medseg.geometry.volume import Volume

CORTEX, WHITE, THALAMUS, STEM, VENTRICLE = 100.0, 120.0, 140.0, 160.0, 190.0
STRUCTURES = {1: "Cerebral Cortex", 2: "Cerebral White Matter", 3: "Thalamus", 4: "Brain Stem", 5: "Lateral Ventricle"}
RADIUS = 1.8
LESIONS = {  # LPS mm from the brain's centre: region, location
    (14.0, -16.0, 8.0): ("subcortical white matter", "lobar"),
    (-14.0, 14.0, 9.0): ("subcortical white matter", "lobar"),
    (12.0, 3.0, 0.0): ("thalamus", "deep"),
    (0.0, 8.0, -22.0): ("brainstem", "deep"),
    (0.0, -28.5, 4.0): ("cortex/grey-white junction", "lobar"),
}
IN_VENTRICLE, IN_SCALP = (0.0, -14.0, 2.0), (0.0, -44.0, 0.0)


def brain(direction: np.ndarray) -> tuple[Volume, np.ndarray]:
    """Head of known structures on a grid of 0.9 x 0.9 x 1.2 mm, and its centre in LPS mm."""
    size, spacing = (96, 120, 84), (0.9, 0.9, 1.2)
    grid = Grid(size, spacing, (31.0, -52.0, 17.0), direction)
    centre = grid.to_physical((np.array(size) - 1) / 2)
    k, j, i = np.indices(grid.shape)
    offset = grid.to_physical(np.stack([i, j, k], -1)) - centre
    x, y, z = np.moveaxis(offset, -1, 0)

    def shell(extra: float) -> np.ndarray:
        return (x / (28 + extra)) ** 2 + (y / (32 + extra)) ** 2 + (z / (30 + extra)) ** 2 < 1

    def ball(at: Sequence[float], radius: float) -> np.ndarray:
        return ((offset - np.array(at)) ** 2).sum(-1) < radius**2

    image = np.full(grid.shape, 8.0, np.float32)
    image[shell(14) & ~shell(10)] = 200
    image[shell(0)] = CORTEX
    image[shell(-6)] = WHITE
    image[ball((12, 3, 0), 7) | ball((-12, 3, 0), 7)] = THALAMUS
    image[shell(-1) & ball((0, 8, -22), 7)] = STEM
    image[ball(IN_VENTRICLE, 6)] = VENTRICLE
    for at in (*LESIONS, IN_VENTRICLE, IN_SCALP):
        image[ball(at, RADIUS)] = 20
    image += np.random.default_rng(4).normal(0, 1.0, grid.shape).astype(np.float32)
    return Volume(image, grid, "MR", "drawn SWI"), centre


def closing(source: str, out: str, width: int) -> list[onnx.NodeProto]:
    """Nodes that fill dark spots narrower than ``width`` voxels: grey closing with a box, axis by axis."""
    nodes, last = [], source
    for turn in range(2):
        for axis in range(3):
            kernel = [1, 1, 1]
            kernel[axis] = width
            pads = [n // 2 for n in kernel] * 2
            name = f"{out}_{turn}{axis}"
            nodes.append(helper.make_node("MaxPool", [last], [name], kernel_shape=kernel, pads=pads))
            last = name
        nodes.append(helper.make_node("Neg", [last], [f"{out}_neg{turn}" if turn == 0 else out]))
        last = f"{out}_neg{turn}"
    return nodes


def linear(source: str, weights: Sequence[float], offsets: Sequence[float]) -> tuple[onnx.NodeProto, dict[str, Any]]:
    """A 1x1x1 convolution: channel c is ``weights[c] * source + offsets[c]``."""
    w = np.asarray(weights, np.float32).reshape(-1, 1, 1, 1, 1)
    return helper.make_node("Conv", [source, "w", "b"], ["y"]), {"w": w, "b": np.asarray(offsets, np.float32)}


def nearest_of(levels: Sequence[float]) -> tuple[list[float], list[float]]:
    """Weights and offsets of `linear` whose greatest channel is the level nearest to the value."""
    return [float(t) for t in levels], [-t * t / 2 for t in levels]


def save(folder: Path, nodes: Sequence[onnx.NodeProto], weights: dict[str, Any], shapes: Any, **manifest: Any) -> Path:
    """A package of ``nodes`` from ``x`` to ``y``; ``shapes``: of both."""
    folder.mkdir(parents=True)
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in zip("xy", shapes, strict=True)]
    graph = helper.make_graph(
        list(nodes), "tiny", values[:1], values[1:],
        [numpy_helper.from_array(np.asarray(v, np.float32), n) for n, v in weights.items()],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data = proto.SerializeToString()
    (folder / "model.onnx").write_bytes(data)
    full = {
        "medseg_manifest": 1, "id": folder.name, "version": "1", "title": folder.name, "license": "Apache-2.0",
        "weights": {"file": "model.onnx", "sha256": hashlib.sha256(data).hexdigest()},
        **manifest,
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(full))
    return folder


def _volumes(folder: Path, nodes: Any, weights: Any, channels: int, **manifest: Any) -> Path:
    shapes = [[1, 1, "d", "h", "w"], [1, channels, "d", "h", "w"]]
    standard = {
        "task": "segmentation",
        "channels": [{"name": "SWI", "modality": ["MR"]}],
        "inputs": [{"name": "x", "layout": "NCDHW"}],
        "output": {"tensor": "y", "layout": "NCDHW", "activation": "softmax", "logits": True},
    }
    return save(folder, nodes, weights, shapes, **{**standard, **manifest})


def microbleed_packages(folder: Path, *, holes: bool = False, spread_mm: float = 0, **changes: Any) -> Path:
    """Brain mask, parcellation and microbleed model in ``folder``; the path of the last, which requires the others.

    ``holes``: the parcellation leaves out what is dark; ``spread_mm``: of its labels.
    """
    head, more = linear("closed", *nearest_of([0, 120]))
    mask = _volumes(
        folder / "brain", [*closing("x", "closed", 7), head], more, 2,
        inference={"mode": "whole"}, classes=[{"value": 1, "name": "Brain"}],
        postprocessing=[{"step": "largest_component"}],
    )  # fmt: skip
    levels = nearest_of([0, CORTEX, WHITE, THALAMUS, STEM, VENTRICLE])
    head, more = linear("x" if holes else "closed", *levels)
    structures = _volumes(
        folder / "structures", [head] if holes else [*closing("x", "closed", 7), head], more, 6,
        inference={"mode": "whole"}, classes=[{"value": v, "name": n} for v, n in STRUCTURES.items()],
    )  # fmt: skip
    head, more = linear("depth", [0, 4], [0, -2])  # darker than its surroundings by half a standard deviation
    nodes = [*closing("x", "closed", 11), helper.make_node("Sub", ["closed", "x"], ["depth"]), head]
    steps: list[dict[str, Any]] = [
        {"step": "apply_mask", "of": "mask"},
        {"step": "crop_to_mask", "of": "mask"},
        {"step": "orient", "code": "RAS"},
        {"step": "resample", "spacing": [0.5, 0.5, 0.5]},
        {"step": "crop_or_pad", "size": [144, 144, 144]},
        {"step": "zscore"},
    ]
    return _volumes(
        folder / "microbleeds", nodes, more, 2,
        **{
            "requires": [
                {"name": "mask", "model": str(mask)},
                {"name": "structures", "model": str(structures), "spread_mm": spread_mm},
            ],
            "preprocessing": steps,
            "inference": {"mode": "sliding_window", "patch": [48, 48, 48], "overlap": 0.4},
            "classes": [{"value": 1, "name": "microbleed", "lesion": True}],
            "postprocessing": [{"step": "keep_by_location", "of": "structures", "labels": "brain labels"}],
            "choices": {
                "brain labels": {"default": "published", "options": {"published": [1, 2, 3, 4], "command": [1, 2, 3]}}
            },
            "lesion_connectivity": 6,
            "measurements": [
                {"kind": "lesion_location", "of": "structures"},
                {"kind": "lesion_features"},
                {"kind": "lesion_counts"},
            ],
            **changes,
        },
    )  # fmt: skip


def threshold_package(folder: Path, above: float, **manifest: Any) -> Path:
    """Voxels above a value are lesions."""
    node, more = linear("x", [0, 1], [0, -above])
    lesion = [{"value": 1, "name": "lesion", "lesion": True}]
    return _volumes(folder, [node], more, 2, **{"inference": {"mode": "whole"}, "classes": lesion, **manifest})


def haemorrhage_package(folder: Path) -> Path:
    """Six scores a slice from the mean of three CT windows, as the published models have them."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("Gemm", ["mean", "w", "b"], ["y"]),
    ]
    weights = {"w": np.random.default_rng(1).normal(0, 20, (3, 6)), "b": np.linspace(-3, 1, 6)}
    names = ["any", "epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural"]
    windows = [{"level": 40, "width": 80}, {"level": 80, "width": 200}, {"level": 40, "width": 380}]
    return save(
        folder, nodes, weights, [["n", 3, 32, 32], ["n", 6]],
        task="classification",
        channels=[{"name": "CT", "modality": ["CT"]}],
        preprocessing=[
            {"step": "twelve_bit_fix"},
            {"step": "resize", "size": [32, 32, None]},
            {"step": "window", "windows": windows},
        ],
        inputs=[{"name": "x", "layout": "NCHW"}],
        inference={"mode": "slicewise", "plane": "acquisition"},
        output={"tensor": "y", "layout": "NC", "activation": "sigmoid", "logits": True},
        classes=[{"value": n + 1, "name": name} for n, name in enumerate(names)],
        measurements=[{"kind": "rsna_long_csv"}],
    )  # fmt: skip


def lungs_package(folder: Path) -> Path:
    """Dark pixels of a film are lung."""
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"])
    weights = {"w": np.full((1, 1, 1, 1), -1.0), "b": np.array([127.0])}
    return save(
        folder, [node], weights, [["n", 1, "h", "w"], ["n", 1, "h", "w"]],
        task="segmentation",
        channels=[{"name": "film", "modality": ["DX", "CR"]}],
        preprocessing=[{"step": "resize", "size": [256, 256, None]}],
        inputs=[{"name": "x", "layout": "NCHW"}],
        inference={"mode": "slicewise", "plane": "acquisition"},
        output={"tensor": "y", "layout": "NCHW", "activation": "sigmoid", "logits": True},
        classes=[{"value": 1, "name": "lungs"}],
        measurements=[{"kind": "area_ratio"}],
    )  # fmt: skip

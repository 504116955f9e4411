"""Peak memory of a joined set: five networks, 117 classes, one CT of 512 x 512 x 600 voxels. Prints what NOTES.md has.

``python Testing/benchmarks/joined_memory.py [--size 512 512 600] [--spacing 0.8 0.8 1.0]``

The set has the structure of the recipe ``totalsegmentator-total`` (24, 26, 18, 23 and 26 classes, 1.5 mm, windows of
128^3); its networks are small and random, so the figure is that of MedSeg's arrays, not of a large network's inside.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from medseg import Volume, load_model, run
from medseg.geometry.grid import Grid
from medseg.library.importer import find_recipe
from medseg.monitor import Monitor


def network(classes: int, seed: int) -> onnx.ModelProto:
    """Two convolutions, random: blurs, then a plane through eight features for each class."""
    random = np.random.default_rng(seed)
    weights = {
        "w1": np.float32(random.normal(0, 0.3, (8, 1, 5, 5, 5))),
        "b1": np.float32(random.normal(0, 1, 8)),
        "w2": np.float32(random.normal(0, 1, (classes + 1, 8, 1, 1, 1))),
        "b2": np.float32(random.normal(0, 2, classes + 1)),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["h"], pads=[2] * 6),
        helper.make_node("Tanh", ["h"], ["t"]),
        helper.make_node("Conv", ["t", "w2", "b2"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes, "part",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 128, 128, 128])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", classes + 1, 128, 128, 128])],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write_set(folder: Path) -> Path:
    """The package of the set, each part a package in it, as the importer would write it."""
    raw = find_recipe("totalsegmentator-total").template()
    scheme = {"scheme": "fixed", "minimum": -1000, "maximum": 1000, "mean": 0, "std": 400}
    steps = [*raw["preprocessing"], {"step": "normalise_channels", "channels": [scheme]}]
    for n, item in enumerate(raw["joined"]):
        place = folder / item["model"].removeprefix("./")
        place.mkdir(parents=True, exist_ok=True)
        count = len(item["values"])
        onnx.save(network(count, n), str(place / "model.onnx"))
        manifest = {**raw, "preprocessing": steps}
        if item["model"] != ".":
            manifest |= {"id": f"part-{n}", "title": f"Part {n}"}
            manifest["classes"] = [{"value": v, "name": f"class {v}"} for v in range(1, count + 1)]
            del manifest["joined"]
        (place / "manifest.json").write_text(json.dumps(manifest))
    return folder


def image(size: list[int], spacing: list[float]) -> Volume:
    """A body of soft tissue in air with a gradient through it, so that many classes occur."""
    i, j, k = (np.linspace(-1, 1, n, dtype=np.float32) for n in size)
    values = np.empty(size[::-1], np.int16)
    for n, z in enumerate(k):
        inside = (i[None] / 0.8) ** 2 + (j[:, None] / 0.6) ** 2 < 1
        values[n] = np.where(inside, 60 * np.sin(9 * i[None]) + 50 * np.cos(7 * j[:, None]) + 40 * z, -1000)
    return Volume(values, Grid((size[0], size[1], size[2]), tuple(spacing), (0, 0, 0), np.eye(3)), "CT", "phantom")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=3, default=[512, 512, 600])
    parser.add_argument("--spacing", type=float, nargs=3, default=[0.8, 0.8, 1.0])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        model = load_model(write_set(Path(scratch) / "set"))
        volume = image(asked.size, asked.spacing)
        monitor = Monitor()
        before, started = peak(), time.perf_counter()
        result: Any = run(model, volume, monitor=monitor, device="cpu")
        seconds = {k: round(v) for k, v in monitor.seconds.items()}
        found = len(np.unique(result.layers[0].labels)) - 1
        print(f"{'x'.join(map(str, asked.size))} voxels, {len(result.classes)} classes, {found} of them found")
        print(f"peak memory {peak():.2f} GB (before the run, with the volume: {before:.2f} GB)")
        print(f"{time.perf_counter() - started:.0f} s: {seconds}")


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    main()

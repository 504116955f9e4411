"""What the CUDA path gives: seconds from file to labels, share of the GPU's own time, and labels equal to the CPU's.

On a machine with an NVIDIA GPU, in an environment with ``onnxruntime-gpu``:

    python Testing/benchmarks/gpu.py [--device cuda] [--output results.json]

Networks are built here with random weights (a 2D U-Net of 31 M parameters, a 3D residual U-Net), volumes are phantoms;
nothing is downloaded. *Bare* is ONNX Runtime alone on the same tensors, and *on the device* is it with the tensors
already in the GPU's memory: what no program can go below without another engine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import SimpleITK as sitk
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "MedSegExtension" / "Logic"))

from medseg import Volume, load_model, phantoms, read_volume, run
from medseg.engine.devices import available_devices
from medseg.engine.session import Session
from medseg.engine.session_cache import SessionCache
from medseg.geometry.grid import Grid
from medseg.model.package_files import sha256_of

RUNS = 7


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


def _package(folder: Path, graph: Graph, result: str, classes: int, more: dict[str, Any]) -> str:
    folder.mkdir()
    graph.save(folder / "model.onnx", result, classes)
    layout = "NCHW" if graph.dims == 2 else "NCDHW"
    manifest = {
        "medseg_manifest": 1,
        "id": folder.name,
        "version": "1",
        "title": f"{folder.name}, {{graph.parameters / 1e6:.1f}} M",
        "task": "segmentation",
        "license": "none",
        "weights": {"file": "model.onnx", "sha256": sha256_of(folder / "model.onnx")},
        "channels": [{"name": "image"}],
        "preprocessing": [{"step": "orient", "code": "LPS"}, {"step": "zscore"}],
        "inputs": [{"name": "x", "layout": layout}],
        "inference": more["inference"],
        "output": {"tensor": result, "layout": layout, "activation": "softmax", "logits": True},
        "classes": [{"value": 1, "name": "a"}],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return str(folder)


def noise(path: Path, shape: tuple[int, int, int]) -> Path:
    """A smooth random volume in a file."""
    array = np.random.default_rng(2).normal(100, 20, shape).astype(np.float32)
    image: Any = sitk.SmoothingRecursiveGaussian(sitk.GetImageFromArray(array), 2.0)
    Grid((shape[2], shape[1], shape[0]), (0.9, 0.9, 1.2), (0.0, 0.0, 0.0), np.eye(3)).place(image)
    sitk.WriteImage(image, str(path))
    return path


class Recording:
    """Opens sessions of a cache and keeps the feeds of the last run."""

    def __init__(self) -> None:
        self.cache, self.feeds, self.session = SessionCache(), [], None  # type: ignore[var-annotated]

    def open(self, *arguments: Any, **options: Any) -> Session:
        session = self.cache.open(*arguments, **options)
        self.feeds = []
        real = type(session).run

        def keep(feeds: dict[str, Any]) -> dict[str, Any]:
            self.feeds.append({name: value.copy() for name, value in feeds.items()})
            return real(session, feeds)

        session.run = keep  # type: ignore[method-assign]
        self.session = session
        return session

    def stop(self) -> None:
        """Record no more."""
        vars(self.session).pop("run", None)


def bare(model_path: Path, feeds: list[dict[str, Any]], device: str) -> tuple[float, float]:
    """Seconds of ONNX Runtime for ``feeds``: from the computer's memory, and with all tensors on the device."""
    providers: list[Any] = ["CPUExecutionProvider"]
    if device.startswith("cuda"):
        providers = [("CUDAExecutionProvider", {}), *providers]
    session = onnxruntime.InferenceSession(str(model_path), providers=providers)
    result = session.get_outputs()[0].name
    session.run(None, feeds[0])
    started = time.perf_counter()
    for feed in feeds:
        session.run(None, feed)
    copied = time.perf_counter() - started
    if not device.startswith("cuda"):
        return copied, copied
    bindings = []
    for feed in feeds:
        binding = session.io_binding()
        for name, value in feed.items():
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(value, "cuda", 0))
        binding.bind_output(result, "cuda")
        bindings.append(binding)
    session.run_with_iobinding(bindings[0])
    started = time.perf_counter()
    for binding in bindings:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
    return copied, time.perf_counter() - started


def measure(name: str, source: str, volume: Path, device: str, runs: int) -> dict[str, Any]:
    """Medians over warm runs, with their range."""
    model, recording = load_model(source), Recording()
    run(model, read_volume(volume), device=device, open_session=recording.open)  # opens and warms
    recording.stop()
    whole, stages, own = [], [], None
    for _ in range(runs):
        started = time.perf_counter()
        own = run(model, read_volume(volume), device=device, open_session=recording.cache.open)
        whole.append(time.perf_counter() - started)
        stages.append(own.provenance["seconds"])
    copied, resident = bare(model.onnx_path, recording.feeds, device)
    assert own is not None
    median = {stage: statistics.median(s.get(stage, 0.0) for s in stages) for stage in stages[0]}
    cpu = run(model, read_volume(volume), device="cpu", open_session=SessionCache().open) if device != "cpu" else own
    same = float(np.mean(cpu.layers[0].labels == own.layers[0].labels))
    found = {
        "case": name, "provider": own.provenance.get("provider"), "calls": len(recording.feeds),
        "file_to_labels": statistics.median(whole), "least": min(whole), "most": max(whole), "stages": median,
        "bare": copied, "on_the_device": resident, "infer_over_bare": median["infer"] / copied,
        "device_share_of_infer": resident / median["infer"], "labels_equal_to_cpu": same,
        "cpu_seconds": cpu.provenance["seconds"]["total"], "warnings": list(own.warnings),
    }  # fmt: skip
    print(
        f"{name}: {found['file_to_labels'] * 1000:.0f} ms file to labels ({min(whole) * 1000:.0f} to "
        f"{max(whole) * 1000:.0f}), "
        f"network stage {median['infer'] * 1000:.0f} ms, bare {copied * 1000:.0f} ms, on the device "
        f"{resident * 1000:.0f} ms "
        f"(device busy {100 * found['device_share_of_infer']:.0f} % of the stage), {100 * same:.4f} % of labels "
        "as on the CPU "
        f"({found['cpu_seconds']:.2f} s there), provider {found['provider']}"
    )
    print("   stages, ms: " + ", ".join(f"{k} {v * 1000:.0f}" for k, v in median.items()), flush=True)
    for sentence in own.warnings:
        print(f"   warning: {sentence}")
    return found


def main() -> int:
    """Print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--quick", action="store_true", help="small networks, to see whether it runs")
    options = parser.parse_args()
    for device in available_devices():
        print(f"{device.id}: {device.name}, {'works' if device.works else device.reason}", flush=True)
    small = options.quick
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases: list[tuple[str, Callable[[], str], Callable[[], Path]]] = [
            (
                "2D U-Net, 40 slices of 256",
                lambda: unet_2d(folder / "unet-2d", 8 if small else 64),
                lambda: noise(folder / "a.nrrd", (4 if small else 40, 256, 256)),
            ),
            (
                "3D residual U-Net, 96^3 windows, 256x256x180",
                lambda: residual_unet_3d(folder / "residual-unet-3d", 4 if small else 32, 32 if small else 96),
                lambda: noise(folder / "b.nrrd", (40, 48, 64) if small else (180, 256, 256)),
            ),
            (
                "wmh-compact, FLAIR phantom",
                lambda: "wmh-compact",
                lambda: _phantom(folder / "c.nrrd", phantoms.flair(5)),
            ),
            ("cmb-compact, SWI phantom", lambda: "cmb-compact", lambda: _phantom(folder / "d.nrrd", phantoms.swi(5))),
        ]
        for title, make, draw in cases:
            results.append(measure(title, make(), draw(), options.device, 2 if small else RUNS))
    if options.output:
        options.output.write_text(json.dumps(results, indent=1, default=str) + "\n", encoding="utf-8")
    return 0


def _phantom(path: Path, phantom: Any) -> Path:
    volume: Volume = phantom.volume
    image: Any = sitk.GetImageFromArray(volume.array)
    volume.grid.place(image)
    image.SetMetaData("modality", volume.modality or "")
    sitk.WriteImage(image, str(path))
    return path


if __name__ == "__main__":
    sys.exit(main())

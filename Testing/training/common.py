"""What the training scripts share: seeds, augmentation, losses, figures, export and packaging."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "MedSegExtension" / "Logic"), str(REPOSITORY / "Testing")]


MODELS = REPOSITORY / "MedSegExtension" / "Resources" / "Models"
HELD_OUT = 100_000  #: phantom seeds from here on are never trained on


def seed_everything(seed: int) -> np.random.Generator:
    torch.manual_seed(seed)
    torch.set_num_threads(2)
    return np.random.default_rng(seed)


def shipped_manifest(model: str) -> dict[str, Any]:
    """The package's manifest as it lies in the project; training only fills in the file's hash and the figures."""
    return json.loads((MODELS / model / "manifest.json").read_text(encoding="utf-8"))


def fit(
    network: nn.Module,
    loss_of: Callable[[int], torch.Tensor],
    *,
    steps: int,
    rate: float,
    minutes: float,
    decay: float = 1e-4,
) -> None:
    """AdamW on one cosine with warm-up; where time runs short the cosine is driven by time, so it always ends."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=decay)
    started, running = time.time(), 0.0
    network.train()
    for step in range(steps):
        part = max(step / steps, (time.time() - started) / (60 * minutes))
        if part >= 1:
            print(f"stopped by the clock at step {step} of {steps}", flush=True)
            break
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 30) * (0.5 * (1 + np.cos(np.pi * part)) + 0.005)
        optimiser.zero_grad(set_to_none=True)
        loss = loss_of(step)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 3.0)
        optimiser.step()
        running = loss.item() if step == 0 else 0.97 * running + 0.03 * loss.item()
        if step % 50 == 0:
            print(f"step {step:5d}  loss {running:.4f}  {time.time() - started:5.0f} s", flush=True)
    network.eval()


def warp(
    images: torch.Tensor,
    labels: torch.Tensor | None,
    *,
    degrees: float,
    zoom: float,
    shift: float,
    elastic: float = 0.0,
    stretch: float = 0.0,
    padding: str = "border",
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Random affine (and elastic, in fractions of the width) per image of (N, C, H, W); labels (N, H, W) nearest."""
    n, _, height, width = images.shape
    angle = torch.deg2rad((torch.rand(n) * 2 - 1) * degrees)
    scale = torch.exp((torch.rand(n, 1) * 2 - 1) * np.log1p(zoom) + (torch.rand(n, 2) * 2 - 1) * np.log1p(stretch))
    matrix = torch.zeros(n, 2, 3)
    matrix[:, 0, 0], matrix[:, 0, 1] = torch.cos(angle) * scale[:, 0], -torch.sin(angle) * scale[:, 0]
    matrix[:, 1, 0], matrix[:, 1, 1] = torch.sin(angle) * scale[:, 1], torch.cos(angle) * scale[:, 1]
    matrix[:, :, 2] = (torch.rand(n, 2) * 2 - 1) * shift
    grid = F.affine_grid(matrix, [n, 1, height, width], align_corners=False)
    if elastic:
        bumps = F.interpolate(torch.randn(n, 2, 7, 7), (height, width), mode="bicubic", align_corners=True)
        grid = grid + elastic * torch.rand(n, 1, 1, 1) * bumps.permute(0, 2, 3, 1)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode=padding, align_corners=False)
    if labels is None:
        return moved, None
    nearest = F.grid_sample(labels[:, None].float(), grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return moved, nearest[:, 0].long()


def smooth_fields(n: int, size: tuple[int, int], nodes: int) -> torch.Tensor:
    """(n, 1, H, W) smooth random fields of unit variance at the nodes."""
    return F.interpolate(torch.randn(n, 1, nodes, nodes), size, mode="bicubic", align_corners=True)


def soft_dice(probability: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean over classes of 1 - Dice pooled over the batch. Both (N, C, ...)."""
    axes = [0, *range(2, probability.ndim)]
    overlap = (probability * target).sum(axes)
    return (1 - (2 * overlap + 1) / (probability.sum(axes) + target.sum(axes) + 1)).mean()


def dice(a: np.ndarray, b: np.ndarray) -> float:
    total = int(a.sum()) + int(b.sum())
    return 2.0 * int((a & b).sum()) / total if total else 1.0


def auc(truth: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve, from ranks (ties get their mean rank)."""
    from scipy.stats import rankdata

    truth = truth.astype(bool)
    ranks = rankdata(score)
    positives, negatives = int(truth.sum()), int((~truth).sum())
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def in_batches(array: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(array), size):
        yield array[start : start + size]


def write_package(
    network: nn.Module, example: torch.Tensor, manifest: dict[str, Any], figures: dict[str, str], *, half: bool = False
) -> Path:
    """Export to ONNX (opset 17, free batch), check it against torch, and write the package folder.

    ``half``: weights are stored as float16 and widened when the file is loaded; all arithmetic stays float32.
    """
    folder = MODELS / manifest["id"]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    network.eval()
    torch.onnx.export(
        network, (example,), path, input_names=["image"], output_names=["probability"], opset_version=17,
        dynamic_axes={"image": {0: "batch"}, "probability": {0: "batch"}}, dynamo=False,
    )  # fmt: skip
    difference = difference_from(network, example, path)
    if difference > 1e-4:
        raise RuntimeError(f"the exported network differs from the trained one by {difference:.2g}")
    if half:
        store_as_half(path)
        difference = difference_from(network, example, path)
        if difference > 5e-3:
            raise RuntimeError(f"with float16 weights the network differs from the trained one by {difference:.2g}")
    manifest = {**manifest, "weights": {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}}
    print(f"{folder.name}: {path.stat().st_size / 1e6:.2f} MB, ONNX differs from torch by {difference:.1e}")
    write_figures(manifest, figures)
    return folder


def difference_from(network: nn.Module, example: torch.Tensor, path: Path) -> float:
    """Largest difference of the outputs of torch and of ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        return float(np.abs(session.run(None, {"image": example.numpy()})[0] - network(example).numpy()).max())


def store_as_half(path: Path) -> None:
    """Rewrite the ONNX file with its large float32 weights as float16, each widened again by a Cast."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(path)
    casts = []
    for weight in model.graph.initializer:
        if weight.data_type == TensorProto.FLOAT and np.prod(weight.dims) >= 16:
            name, narrow = weight.name, f"{weight.name}.half"
            weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), narrow))
            casts.append(helper.make_node("Cast", [narrow], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    for node in nodes:  # the exporter's long names of nodes are of no use to anybody
        node.ClearField("name")
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def write_figures(manifest: dict[str, Any], figures: dict[str, str]) -> None:
    """Write the manifest with ``figures`` on its card into the package."""
    from medseg.model.manifest import Manifest

    manifest = {**manifest, "card": {**manifest["card"], "figures": figures}}
    Manifest.model_validate(manifest)
    path = MODELS / manifest["id"] / "manifest.json"
    path.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for name, value in figures.items():
        print(f"  {name}: {value}")

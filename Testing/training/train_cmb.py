"""Train ``cmb-compact``: microbleeds on whole SWI volumes, from phantoms alone."""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import torch
from common import (
    HELD_OUT,
    MODELS,
    dice,
    fit,
    seed_everything,
    shipped_manifest,
    soft_dice,
    write_figures,
    write_package,
)
from networks import UNet, WithActivation, parameters
from scipy import ndimage
from torch.nn import functional as F

from medseg.geometry.resample import resample
from medseg.model.manifest import Manifest
from medseg.phantoms import swi
from medseg.pipeline.preprocess import prepare
from medseg.pipeline.run import run

PATCH = 48
MANIFEST = shipped_manifest("cmb-compact")


def example(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Network input (K, J, I) float16, truth, and the centres of the bleeds in its voxels (n, 3) as k, j, i."""
    rng = np.random.default_rng([seed, 98])
    pixel, thickness = float(rng.uniform(0.85, 1.05)), float(rng.uniform(1.3, 1.7))
    head = swi(seed, size=(184, 216, 76), spacing=(pixel, pixel, thickness), microbleeds=22)
    prepared = prepare(Manifest.model_validate(MANIFEST), [head.volume])
    soft = resample(head.labels.astype(np.float32), head.volume.grid, prepared.grid, interpolation="linear", fill=0.0)
    centers = prepared.grid.to_index([lesion["center"] for lesion in head.lesions])[:, ::-1]
    return prepared.array[0].astype(np.float16), soft > 0.5, centers


def matches(truth: np.ndarray, found: np.ndarray) -> tuple[int, int, int]:
    """Lesions found, missed and false, by components of 6-connectivity that share at least one voxel."""
    true_components, true_count = ndimage.label(truth)
    found_components, found_count = ndimage.label(found)
    hit = len(set(np.unique(true_components[found])) - {0})
    good = len(set(np.unique(found_components[truth])) - {0})
    return hit, true_count - hit, found_count - good


def measure_held_out(folder: object, count: int) -> dict[str, str]:
    """Run the package through the pipeline on phantoms that it has not seen."""
    hit = missed = false = 0
    overlaps = []
    for seed in range(HELD_OUT, HELD_OUT + count):
        head = swi(seed, microbleeds=10)
        found = run(folder, head.volume, device="cpu").layers[0].labels == 1
        one = matches(head.labels > 0, found)
        hit, missed, false = hit + one[0], missed + one[1], false + one[2]
        overlaps.append(dice(head.labels > 0, found))
    said = f"{count} held-out phantoms, {hit + missed} microbleeds, overlap of at least one voxel"
    return {
        "sensitivity": f"{hit / (hit + missed):.3f} ({said})",
        "precision": f"{hit / max(hit + false, 1):.3f} ({false / count:.1f} false findings a volume)",
        "Dice": f"{np.mean(overlaps):.3f} mean over the same volumes, all lesions of a volume together",
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--heads", type=int, default=36)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--test", type=int, default=6)
    parser.add_argument("--measure", action="store_true", help="only measure the package that is there")
    options = parser.parse_args()
    if options.measure:
        write_figures(MANIFEST, measure_held_out(MODELS / MANIFEST["id"], options.test))
        return
    rng = seed_everything(21)
    with ProcessPoolExecutor(2) as pool:
        heads = list(pool.map(example, range(options.heads)))  # about 12 MB each
    network = UNet(3, 1, 2, (16, 24, 40), shuffle=True).to(memory_format=torch.channels_last_3d)
    print(f"{len(heads)} heads of about {heads[0][0].shape}, {parameters(network)} parameters", flush=True)

    def patch() -> tuple[np.ndarray, np.ndarray]:
        image, truth, centers = heads[rng.integers(len(heads))]
        if rng.random() < 0.6:
            corner = centers[rng.integers(len(centers))] - PATCH / 2 + rng.uniform(-18, 18, 3)
        else:
            corner = rng.uniform(0, np.array(image.shape) - PATCH)
        corner = np.clip(np.rint(corner).astype(int), 0, np.maximum(np.array(image.shape) - PATCH, 0))
        box = tuple(slice(c, c + PATCH) for c in corner)
        a, b = image[box].astype(np.float32), truth[box]
        for axis in range(3):
            if rng.random() < 0.5:
                a, b = np.flip(a, axis), np.flip(b, axis)
        if rng.random() < 0.5:
            a, b = a.swapaxes(1, 2), b.swapaxes(1, 2)
        a = a * rng.uniform(0.85, 1.15) + rng.normal(0, 0.15)
        a = a + rng.normal(0, rng.uniform(0, 0.2), a.shape)
        if rng.random() < 0.3:
            a = ndimage.gaussian_filter(a, rng.uniform(0.2, 0.6))
        return a.astype(np.float32), b

    def loss_of(step: int) -> torch.Tensor:
        images, truths = zip(*(patch() for _ in range(4)), strict=True)
        image = torch.from_numpy(np.stack(images))[:, None]
        truth = torch.from_numpy(np.stack(truths)).long()
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(image.contiguous(memory_format=torch.channels_last_3d))
        logits = logits.float()
        entropy = F.cross_entropy(logits, truth, weight=torch.tensor([1.0, 2.0]))
        return entropy + soft_dice(logits.softmax(dim=1)[:, 1:], truth[:, None].float())

    fit(network, loss_of, steps=options.steps, rate=4e-3, minutes=options.minutes)
    network = network.to(memory_format=torch.contiguous_format)
    model, probe = WithActivation(network, "softmax").eval(), torch.zeros(1, 1, 64, 64, 64)
    folder = write_package(model, probe, MANIFEST, {})
    write_package(model, probe, MANIFEST, measure_held_out(folder, options.test))


if __name__ == "__main__":
    main()

"""Train ``ich-compact``: six haemorrhage probabilities for each slice of a head CT, from phantoms alone."""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import torch
from common import HELD_OUT, auc, fit, in_batches, seed_everything, shipped_manifest, warp, write_package
from networks import SliceClassifier, WithActivation, parameters
from torch.nn import functional as F

from medseg.manifest import Manifest
from medseg.phantoms import HAEMORRHAGES, head_ct
from medseg.preprocess import prepare

CLASSES = ("any", *HAEMORRHAGES)
WINDOWS = ((40.0, 80.0), (80.0, 200.0), (40.0, 380.0))  # level, width: brain, subdural, soft tissue
MANIFEST = shipped_manifest("ich-compact")


def example(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """HU (K, 256, 256) int16 after the manifest's steps up to the windows, flags (K, 6)."""
    rng = np.random.default_rng([seed, 99])
    bleeds = [name for name in HAEMORRHAGES if rng.random() < 0.27]
    pixel, thickness = float(rng.uniform(0.82, 1.0)), float(rng.uniform(5.0, 7.5))
    head = head_ct(
        seed, bleeds=bleeds, size=(256, 256, 22), spacing=(pixel, pixel, thickness), noise_hu=float(rng.uniform(2, 6))
    )
    steps = {**MANIFEST, "preprocessing": MANIFEST["preprocessing"][:-1]}
    prepared = prepare(Manifest.model_validate(steps), [head.volume])
    return np.rint(prepared.array[0]).astype(np.int16), head.slice_labels


def windows(hu: torch.Tensor) -> torch.Tensor:
    """(N, H, W) HU to (N, 3, H, W) in 0..1, as the manifest's last step does."""
    return torch.stack([((hu - level + width / 2) / width).clamp(0, 1) for level, width in WINDOWS], dim=1)


def draw(seeds: range) -> tuple[np.ndarray, np.ndarray]:
    with ProcessPoolExecutor(2) as pool:
        parts = list(pool.map(example, seeds, chunksize=4))
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--heads", type=int, default=200)
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--minutes", type=float, default=11)
    options = parser.parse_args()
    rng = seed_everything(20)
    hu, flags = draw(range(options.heads))
    print(f"{len(hu)} slices, positives {flags.sum(axis=0)}", flush=True)
    network = SliceClassifier()
    print(f"{parameters(network)} parameters")
    # Half of the draws from slices with a rare flag, so that each subtype is seen about as often as the others.
    weight = 1.0 + (flags[:, 1:] / np.maximum(flags[:, 1:].mean(axis=0), 1e-3)).sum(axis=1)
    weight /= weight.sum()
    importance = torch.tensor([2.0, 1, 1, 1, 1, 1]) / 7

    def loss_of(step: int) -> torch.Tensor:
        chosen = rng.choice(len(hu), 32, p=weight)
        image = torch.from_numpy(hu[chosen]).float()[:, None].clamp(-200, 400)
        image, _ = warp(image, None, degrees=12, zoom=0.15, shift=0.06)
        image = image * (1 + 0.05 * torch.randn(32, 1, 1, 1)) + 2.5 * torch.randn(32, 1, 1, 1)
        image = image + 3 * torch.rand(32, 1, 1, 1) * torch.randn_like(image)
        if step % 2:
            image = image.flip(3)
        target = torch.from_numpy(flags[chosen]).float()
        loss = F.binary_cross_entropy_with_logits(network(windows(image[:, 0])), target, reduction="none")
        return (loss * importance).sum(dim=1).mean()

    fit(network, loss_of, steps=options.steps, rate=2e-3, minutes=options.minutes)

    held, truth = draw(range(HELD_OUT, HELD_OUT + 40))
    model = WithActivation(network, "sigmoid").eval()
    with torch.no_grad():
        score = np.concatenate([model(windows(torch.from_numpy(b).float())).numpy() for b in in_batches(held, 32)])
    figures = {
        f"AUC, {name}": f"{auc(truth[:, n], score[:, n]):.3f} on {len(truth)} slices of 40 held-out phantoms "
        f"({int(truth[:, n].sum())} positive)"
        for n, name in enumerate(CLASSES)
    }
    clipped = np.clip(score, 1e-7, 1 - 1e-7)
    log_loss = -(truth * np.log(clipped) + (1 - truth) * np.log(1 - clipped))
    figures["weighted log loss"] = f"{(log_loss * importance.numpy()).sum(axis=1).mean():.4f} on the same slices"
    write_package(model, torch.zeros(2, 3, 256, 256), MANIFEST, figures)


if __name__ == "__main__":
    main()

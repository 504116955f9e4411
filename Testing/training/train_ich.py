"""Train ``ich-compact``: six haemorrhage probabilities for each slice of a head CT, from phantoms alone."""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from common import (
    HELD_OUT,
    REAL_DATA,
    auc,
    fit,
    in_batches,
    seed_everything,
    shipped_manifest,
    smooth_fields,
    warp,
    write_package,
)
from networks import SliceClassifier, WithActivation, parameters
from torch.nn import functional as F

from medseg.io import read_volume
from medseg.model.manifest import Manifest
from medseg.phantoms import HAEMORRHAGES, head_ct
from medseg.pipeline.preprocess import prepare
from medseg.pipeline.run import run

CLASSES = ("any", *HAEMORRHAGES)
WINDOWS = ((40.0, 80.0), (80.0, 200.0), (40.0, 380.0))  # level, width: brain, subdural, soft tissue
MANIFEST = shipped_manifest("ich-compact")


def example(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """HU (K, 256, 256) int16 after the manifest's steps up to the windows, flags (K, 6)."""
    rng = np.random.default_rng([seed, 99])
    bleeds = [name for name in HAEMORRHAGES if rng.random() < 0.27]
    pixel, thickness = float(rng.uniform(0.82, 1.0)), float(rng.uniform(5.0, 7.5))
    head = head_ct(
        seed, bleeds=bleeds, size=(256, 256, 22), spacing=(pixel, pixel, thickness), noise_hu=float(rng.uniform(1, 5))
    )
    steps = {**MANIFEST, "preprocessing": MANIFEST["preprocessing"][:-1]}
    prepared = prepare(Manifest.model_validate(steps), [head.volume])
    return np.rint(prepared.array[0]).astype(np.int16), head.slice_labels


def windows(hu: torch.Tensor) -> torch.Tensor:
    """(N, H, W) HU to (N, 3, H, W) in 0..1, as the manifest's last step does."""
    return torch.stack([((hu - level + width / 2) / width).clamp(0, 1) for level, width in WINDOWS], dim=1)


def scanner(image: torch.Tensor) -> torch.Tensor:
    """Another scanner's picture of (N, 1, H, W) HU: sharpness, tissue contrast, shading and noise differ between them.

    Blood (58 HU and more) stays denser than brain (29 to 40), or there would be nothing to learn.
    """
    n = len(image)
    soft = F.avg_pool2d(F.pad(image, (2, 2, 2, 2), mode="replicate"), 5, 1)
    image = image + torch.empty(n, 1, 1, 1).uniform_(-1.0, 0.3) * (image - soft)
    white, gap, blood = 24 + 9 * torch.rand(n), 3 + 9 * torch.rand(n), 52 + 16 * torch.rand(n)
    # Narrow sulci of a young brain show as little darker than it, in thick slices not at all.
    fluid = torch.where(torch.rand(n) < 0.4, white - 8 * torch.rand(n), 8 * torch.rand(n))
    knots = torch.tensor([-200.0, -30, 5, 29, 38, 58, 90, 400])
    values = knots.repeat(n, 1)
    values[:, 2:7] = torch.stack([fluid, white, white + gap, torch.maximum(blood, white + gap + 10), blood + 34], dim=1)
    part = torch.bucketize(image, knots).clamp(1, len(knots) - 1)
    low, high = knots[part - 1], knots[part]
    one = torch.arange(n)[:, None, None, None]
    image = values[one, part - 1] + (values[one, part] - values[one, part - 1]) * (image - low) / (high - low)
    # Bone shines into the brain beside it, where slices are thick and the skull oblique to them.
    bone = (image > 200).float()
    glow = F.avg_pool2d(F.avg_pool2d(bone, 7, 1, 3), 5, 1, 2) * (1 - bone)
    image = image + 35 * torch.rand(n, 1, 1, 1) * glow * (image > -20)
    image = image + 2.5 * torch.rand(n, 1, 1, 1) * smooth_fields(n, image.shape[2:], 5)
    grain = torch.randn_like(image)
    coarse = F.avg_pool2d(F.pad(grain, (1, 1, 1, 1), mode="replicate"), 3, 1) * 2.2
    mix = torch.rand(n, 1, 1, 1)
    return image + 5 * torch.rand(n, 1, 1, 1) * (mix * grain + (1 - mix) * coarse)


def draw(seeds: range) -> tuple[np.ndarray, np.ndarray]:
    with ProcessPoolExecutor(2) as pool:
        parts = list(pool.map(example, seeds, chunksize=4))
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def on_a_patient(folder: Path) -> dict[str, str]:
    """What the package says of the one real head CT, never trained on, in which no bleeding is seen."""
    result = run(folder, read_volume(REAL_DATA / "images" / "head-ct-tilted"), device="cpu")
    scores = np.array(result.tables["slices"].column("any"), float)
    return {
        "real head CT without visible bleeding": f"any above 0.5 on {int((scores > 0.5).sum())} of {len(scores)} "
        f"slices, median {np.median(scores):.2f} (never trained on)"
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--heads", type=int, default=200)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--minutes", type=float, default=30)
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
        image, _ = warp(image, None, degrees=15, zoom=0.2, shift=0.08, stretch=0.06)
        image = scanner(image)
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
    folder = write_package(model, torch.zeros(2, 3, 256, 256), MANIFEST, figures)
    write_package(model, torch.zeros(2, 3, 256, 256), MANIFEST, {**figures, **on_a_patient(folder)})


if __name__ == "__main__":
    main()

"""Train ``lungs-compact``: both lung fields on frontal chest X-rays, from phantoms alone.

Real films only measure it.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from common import (
    HELD_OUT,
    MODELS,
    REAL_DATA,
    dice,
    fit,
    seed_everything,
    shipped_manifest,
    smooth_fields,
    soft_dice,
    warp,
    write_figures,
    write_package,
)
from networks import UNet, WithActivation, parameters
from torch.nn import functional as F

from medseg.io import read_volume
from medseg.model.manifest.steps import HistogramEqualise
from medseg.monitor import Monitor
from medseg.phantoms import chest_xray
from medseg.pipeline.preprocess.intensity import apply_intensity
from medseg.pipeline.run import run

FILMS = REAL_DATA / "images" / "chest-xray"
MANIFEST = shipped_manifest("lungs-compact")


def example(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A phantom after the manifest's resize, uint8 (256, 256), and its lungs."""
    film = chest_xray(seed, size=256)
    return film.volume.array[0], film.labels[0] > 0


def equalised(films: torch.Tensor) -> torch.Tensor:
    """(N, 1, 256, 256) grey values 0..255 through the manifest's last two steps."""
    array = films[:, 0].clamp(0, 255).round().numpy()[None]
    array = apply_intensity(HistogramEqualise(step="histogram_equalise"), array, 1, {}, Monitor())
    return torch.from_numpy(np.asarray(array[0], dtype=np.float32))[:, None] / 127 - 1


def veiled(films: torch.Tensor) -> torch.Tensor:
    """Shoulders over the apices, thick chest walls and clavicles: brighter towards the top and the sides, 0..1.

    Drawn bodies are thin there; on real films the apices are nearly as bright as what surrounds them.
    """
    n, _, height, width = films.shape

    def drawn(low: float, high: float) -> torch.Tensor:
        return torch.empty(n, 1, 1, 1).uniform_(low, high)

    v = torch.linspace(0, 1, height).reshape(1, 1, height, 1)
    u = torch.linspace(-1, 1, width).reshape(1, 1, 1, width)
    shoulders = torch.sigmoid((drawn(0.08, 0.35) + 0.15 * u.abs() - v) / drawn(0.03, 0.10))
    walls = torch.sigmoid((u.abs() - drawn(0.55, 1.0)) / drawn(0.05, 0.15))
    films = films + drawn(0, 0.65) * shoulders * (0.95 - films).clamp(min=0)
    films = films + drawn(0, 0.4) * walls * (0.95 - films).clamp(min=0)
    line = (v - drawn(0.10, 0.26) + drawn(-0.2, 0.3) * u.abs()).abs() / drawn(0.01, 0.03)
    return films + drawn(-0.1, 0.2).clamp(min=0) * torch.exp(-(line**4)) * (u.abs() < 0.75)


def augment(films: torch.Tensor, truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    n = len(films)
    films, warped = warp(films, truth, degrees=8, zoom=0.25, stretch=0.12, shift=0.10, elastic=0.03)
    assert warped is not None
    if torch.rand(1) < 0.5:
        films, warped = films.flip(3), warped.flip(2)
    # Before the equalisation, which undoes any global tone curve but no local shading.
    films = films / 255
    films = films + 0.10 * smooth_fields(n, films.shape[2:], 4) + 0.03 * smooth_fields(n, films.shape[2:], 20)
    films = films * torch.exp(0.12 * smooth_fields(n, films.shape[2:], 3))
    films = veiled(films)
    smooth = F.avg_pool2d(F.pad(films, (2, 2, 2, 2), mode="replicate"), 5, 1)
    films = films + torch.empty(n, 1, 1, 1).uniform_(-0.9, 0.8) * (films - smooth)
    films = films + 0.02 * torch.rand(n, 1, 1, 1) * torch.randn_like(films)
    low, high = films.amin(dim=(2, 3), keepdim=True), films.amax(dim=(2, 3), keepdim=True)
    films = (films - low) / (high - low)
    for one in films:  # blacked-out labels, collimation and white borders
        for _ in range(int(torch.randint(0, 4, (1,)))):
            j, i = (int(v) for v in torch.randint(0, 240, (2,)))
            if min(j, i, 255 - j, 255 - i) < 30:
                one[:, j : j + int(torch.randint(6, 26, (1,))), i : i + int(torch.randint(8, 50, (1,)))] = 0
        if torch.rand(1) < 0.3:
            one[:, 256 - int(torch.randint(1, 16, (1,))) :] = float(torch.rand(1) > 0.3)
        if torch.rand(1) < 0.2:
            one[:, :, : int(torch.randint(1, 10, (1,)))] = float(torch.rand(1) > 0.5)
    return equalised(films * 255), warped


def measure(folder: Path) -> dict[str, str]:
    """The package through the pipeline: held-out phantoms, and the real films where they are there."""

    def one(volume: object, truth: np.ndarray) -> float:
        return dice(run(folder, volume, device="cpu").mask("lungs"), truth)

    phantoms = [chest_xray(seed) for seed in range(HELD_OUT, HELD_OUT + 40)]
    figures = [one(p.volume, p.labels > 0) for p in phantoms]
    said = {"Dice, held-out phantoms": f"{np.mean(figures):.3f} mean, {min(figures):.3f} least, of 40"}
    if FILMS.is_dir():
        real = [
            one(read_volume(FILMS / f"{n}.jpg"), read_volume(FILMS / f"{n}-mask.png").array > 127) for n in (1, 2, 3, 4)
        ]
        said["Dice, real films"] = (
            f"{np.mean(real):.3f} mean of four films never trained on ({', '.join(f'{v:.2f}' for v in real)})"
        )
    return said


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--films", type=int, default=1200)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--measure", action="store_true", help="only measure the package that is there")
    options = parser.parse_args()
    if options.measure:
        write_figures(MANIFEST, measure(MODELS / MANIFEST["id"]))
        return
    rng = seed_everything(22)
    with ProcessPoolExecutor(2) as pool:
        drawn = list(pool.map(example, range(options.films), chunksize=16))
    films = torch.from_numpy(np.stack([d[0] for d in drawn]))[:, None]
    truths = torch.from_numpy(np.stack([d[1] for d in drawn]))
    network = UNet(2, 1, 1, (16, 24, 48, 64, 96), dropout=0.1, shuffle=True).to(memory_format=torch.channels_last)
    print(f"{len(films)} films, {parameters(network)} parameters", flush=True)

    def loss_of(step: int) -> torch.Tensor:
        chosen = torch.from_numpy(rng.choice(len(films), 8, replace=False))
        image, truth = augment(films[chosen].float(), truths[chosen].long())
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(image.contiguous(memory_format=torch.channels_last))
        logits, target = logits.float(), truth[:, None].float()
        return F.binary_cross_entropy_with_logits(logits, target) + soft_dice(logits.sigmoid(), target)

    fit(network, loss_of, steps=options.steps, rate=3e-3, minutes=options.minutes, decay=1e-3)
    model = WithActivation(network.to(memory_format=torch.contiguous_format), "sigmoid").eval()
    folder = write_package(model, torch.zeros(2, 1, 256, 256), MANIFEST, {})
    write_package(model, torch.zeros(2, 1, 256, 256), MANIFEST, measure(folder))


if __name__ == "__main__":
    main()

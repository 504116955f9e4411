"""Train ``wmh-compact``: normal and abnormal white matter hyperintensities on FLAIR, from real labelled slices.

Four patients are labelled, so each is held out once: a network is trained on the other three and measured on it. The
model that is shipped is the mean of these four networks and of four more that saw all patients. The figures are those
of the first four, each on the patient that it never saw; the mean itself has been measured on nobody.

The networks also learn the ventricles, which the file adds to the background again: what is normal is told by its
place beside them. One patient's ventricles are not labelled; there background and ventricle count as one.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from common import (
    REAL_DATA,
    dice,
    fit,
    seed_everything,
    shipped_manifest,
    smooth_fields,
    soft_dice,
    warp,
    write_package,
)
from networks import UNet, parameters
from scipy import ndimage
from torch import nn
from torch.nn import functional as F

from medseg.geometry.resample import resample
from medseg.io import read_volume
from medseg.model.manifest import Manifest
from medseg.pipeline.preprocess import prepare

DATA = REAL_DATA / "images" / "wmh"
VOLUMES, SLICES = ("105465", "104252", "105074"), "101228"
PATIENTS = (*VOLUMES, SLICES)
WIDTHS = (16, 32, 56, 80)
CROP = 160
VENTRICLE, UNKNOWN = 3, 4  # UNKNOWN: background or ventricle
MANIFEST = shipped_manifest("wmh-compact")


class MirroredMean(nn.Module):
    """Mean class probability of several networks; every second one sees the left-right mirror image.

    Mirroring costs nothing where there are several networks. Ventricle (the networks' last class) is background.
    """

    def __init__(self, networks: list[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        plain = sum(network(x).softmax(dim=1) for network in self.networks[::2])
        mirrored = sum(network(x.flip(3)).softmax(dim=1) for network in self.networks[1::2])
        total = (plain + mirrored.flip(3)) / len(self.networks)
        return torch.cat([total[:, :1] + total[:, 3:], total[:, 1:3]], dim=1)


def from_volume(case: str) -> tuple[np.ndarray, np.ndarray]:
    """The slices of a labelled volume before z-scoring (n, 256, 256) and their classes, through the shipped chain."""
    manifest = Manifest.model_validate({**MANIFEST, "preprocessing": MANIFEST["preprocessing"][:-1]})
    flair = read_volume(DATA / case / "flair.nii.gz")
    classes = np.zeros(flair.array.shape, np.uint8)
    for value, name in ((VENTRICLE, "vent"), (1, "nWMH"), (2, "abWMH")):
        classes[read_volume(DATA / case / f"{name}.nii.gz").array > 0] = value
    prepared = prepare(manifest, [flair])
    truth = np.concatenate(
        [
            resample(classes, flair.grid, prepared.slice_grid(n), interpolation="nearest", fill=0)
            for n in range(prepared.slice_count)
        ]
    )
    return prepared.array[0], truth.reshape(prepared.array[0].shape)


def from_pictures(case: str) -> tuple[np.ndarray, np.ndarray]:
    """The slices of a patient of whom only the network's inputs are known; masks decoded as the contract says.

    The mask was resized with interpolation, so a border pixel lies between two levels: it belongs to its object where
    it has at least half of the object's level (1 abnormal, 1/2 normal).
    """
    images, truths = [], []
    for path in sorted(DATA.glob(f"{case}_slices/*.png"), key=lambda p: int(p.stem)):
        both = read_volume(path).array.reshape(256, 512).astype(np.float32) / 65535
        level = both[:, 256:]
        abnormal = (ndimage.maximum_filter(level, 3) > 0.75) & (level >= 0.5)
        normal = (ndimage.maximum_filter(level, 3) <= 0.75) & (level >= 0.25)
        images.append(both[:, :256])
        truths.append(np.where(abnormal, 2, np.where(normal, 1, UNKNOWN)).astype(np.uint8))
    return np.stack(images), np.stack(truths)


def zscore(images: torch.Tensor) -> torch.Tensor:
    """Per slice over all pixels, as the manifest's last step."""
    mean, spread = images.mean(dim=(2, 3), keepdim=True), images.std(dim=(2, 3), keepdim=True, unbiased=False)
    return (images - mean) / (spread + 1e-7)


def augment(images: torch.Tensor, truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Contrast, coil shading, sharpness, noise and shape; then z-score of the whole slice; then a random crop."""
    n = len(images)
    # Classes are warped as soft masks: nearest neighbours would break the normal class, a line one pixel wide.
    masks = torch.stack([truth == 1, truth == 2, truth == VENTRICLE], dim=1).float()
    stack = torch.cat([images, masks], dim=1)
    stack, _ = warp(stack, None, degrees=15, zoom=0.18, stretch=0.08, shift=0.06, elastic=0.03, padding="zeros")
    images, normal, abnormal, ventricle = stack[:, :1], stack[:, 1], stack[:, 2], stack[:, 3]
    warped = torch.where(ventricle > 0.5, VENTRICLE, 0)
    warped[normal > 0.4] = 1
    warped[(abnormal > 0.45) & (abnormal >= normal)] = 2
    unknown = (truth == UNKNOWN).flatten(1).any(dim=1)
    warped[unknown[:, None, None] & (warped == 0)] = UNKNOWN
    if torch.rand(1) < 0.5:
        images, warped = images.flip(3), warped.flip(2)
    images = images * torch.exp(0.12 * torch.randn(n, 1, 1, 1) + 0.10 * smooth_fields(n, images.shape[2:], 4))
    images = images.clamp(0, 1.3) ** torch.exp(0.22 * torch.randn(n, 1, 1, 1))
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    images = images + torch.empty(n, 1, 1, 1).uniform_(-0.8, 0.5) * (images - blurred)
    images = (images + 0.035 * torch.rand(n, 1, 1, 1) * torch.randn_like(images)).clamp(0, 1)
    images = zscore(images)
    j, i = (int(torch.randint(0, 256 - CROP + 1, (1,))) for _ in range(2))
    return images[:, :, j : j + CROP, i : i + CROP], warped[:, j : j + CROP, i : i + CROP]


def loss_for(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Cross-entropy and soft Dice of the two classes, ventricles apart where they are labelled."""
    logs = logits.log_softmax(dim=1)
    outside = torch.logaddexp(logs[:, 0], logs[:, VENTRICLE])
    # One more "class" for pixels that are background or ventricle.
    entropy = F.nll_loss(torch.cat([logs, outside[:, None]], dim=1), truth, weight=torch.tensor([1.0, 4, 4, 1, 1]))
    target = F.one_hot(truth, 5).permute(0, 3, 1, 2).float()
    return entropy + soft_dice(logs[:, 1:3].exp(), target[:, 1:3])


def train(data: dict[str, tuple[np.ndarray, np.ndarray]], seed: int, steps: int, minutes: float) -> UNet:
    rng = seed_everything(seed)
    images = torch.from_numpy(np.concatenate([d[0] for d in data.values()])).float()[:, None]
    truths = torch.from_numpy(np.concatenate([d[1] for d in data.values()])).long()
    labelled = ((truths == 1) | (truths == 2)).flatten(1).any(dim=1)
    brain = images.flatten(1).amax(dim=1) > 0
    # Slices with lesions four times as often; slices without a head not at all.
    weight = (torch.where(labelled, 1.0, 0.25) * brain).numpy().astype(float)
    weight /= weight.sum()
    network = UNet(2, 1, 4, WIDTHS, dropout=0.15, shuffle=True).to(memory_format=torch.channels_last)

    def loss_of(step: int) -> torch.Tensor:
        chosen = torch.from_numpy(rng.choice(len(images), 6, p=weight))
        image, truth = augment(images[chosen], truths[chosen])
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(image.contiguous(memory_format=torch.channels_last))
        return loss_for(logits.float(), truth)

    fit(network, loss_of, steps=steps, rate=3e-3, minutes=minutes, decay=1e-2)
    return network.to(memory_format=torch.contiguous_format)


def trained(path: Path, data: dict[str, tuple[np.ndarray, np.ndarray]], seed: int, options: argparse.Namespace) -> UNet:
    """The network of the checkpoint ``path``; where there is none yet, trained and kept there."""
    if not path.exists():
        network = train(data, seed, options.steps, options.minutes)
        torch.save(network.state_dict(), path)
        return network
    network = UNet(2, 1, 4, WIDTHS, shuffle=True)
    network.load_state_dict(torch.load(path))
    return network.eval()


def classes_of(model: nn.Module, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        parts = [model(zscore(b[:, None])).argmax(dim=1) for b in torch.from_numpy(images).float().split(8)]
    return torch.cat(parts).numpy().astype(np.uint8)


def cleaned(labels: np.ndarray, *, opening: bool = False) -> np.ndarray:
    """The manifest's post-processing of class 2 on (n, 256, 256); ``opening``: also the published opening."""
    structure = np.hypot(*np.mgrid[-2:3, -2:3]) <= 2
    out = np.where(labels == 1, 1, 0).astype(np.uint8)
    for n, one in enumerate(labels == 2):
        one = _large(one)
        if opening:
            one = _large(ndimage.binary_opening(one, structure))
        out[n][one] = 2
    return out


def _large(mask: np.ndarray) -> np.ndarray:
    components, count = ndimage.label(mask)
    sizes = np.bincount(components.ravel(), minlength=count + 1)
    sizes[0] = 0
    return sizes[components] >= 5


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--minutes", type=float, default=30, help="at most, for each of the eight networks")
    parser.add_argument(
        "--checkpoints", type=Path, default=Path(tempfile.gettempdir()) / "medseg-wmh", help="outside the repository"
    )
    options = parser.parse_args()
    options.checkpoints.mkdir(parents=True, exist_ok=True)
    data = {case: from_volume(case) for case in VOLUMES}
    data[SLICES] = from_pictures(SLICES)
    for case, (images, truth) in data.items():
        print(case, len(images), "slices,", [int((truth == v).sum()) for v in (1, 2)], "pixels", flush=True)
    networks, found = [], {}
    for n, case in enumerate(PATIENTS):
        others = {name: d for name, d in data.items() if name != case}
        network = trained(options.checkpoints / f"without_{case}.pt", others, 30 + n, options)
        # The same network twice: on the image and on its mirror image.
        found[case] = classes_of(MirroredMean([network, network]).eval(), data[case][0])
        now = cleaned(found[case])
        print(case, [round(dice(now == v, data[case][1] == v), 3) for v in (1, 2)], flush=True)
        networks += [network, trained(options.checkpoints / f"all_{n}.pt", data, 70 + n, options)]
    print(parameters(networks[0]), "parameters each")
    figures = figures_of(data, found)
    print(json.dumps(figures, indent=1))
    write_package(MirroredMean(networks).eval(), torch.randn(2, 1, 256, 256), MANIFEST, figures, half=True)


def figures_of(data: dict[str, tuple[np.ndarray, np.ndarray]], found: dict[str, np.ndarray]) -> dict[str, str]:
    """Pooled and by patient, each patient by the network that was trained without it."""
    truth = np.concatenate([data[case][1] for case in PATIENTS])
    raw = np.concatenate([found[case] for case in PATIENTS])
    shipped, opened = cleaned(raw), cleaned(raw, opening=True)
    each = {v: ", ".join(f"{dice(cleaned(found[c]) == v, data[c][1] == v):.2f}" for c in PATIENTS) for v in (1, 2)}
    hits = int(((shipped == 2) & (truth == 2)).sum())
    how = "leave-one-patient-out, one network each, network grid, all pixels pooled"
    return {
        "Dice, abnormal": f"{dice(shipped == 2, truth == 2):.3f} ({how}; by patient {each[2]})",
        "Dice, normal": f"{dice(shipped == 1, truth == 1):.3f} ({how}; by patient {each[1]})",
        "precision and recall, abnormal": f"{hits / max(int((shipped == 2).sum()), 1):.3f} and "
        f"{hits / int((truth == 2).sum()):.3f} (same)",
        "Dice, abnormal, with the published opening": f"{dice(opened == 2, truth == 2):.3f} (same)",
    }


if __name__ == "__main__":
    main()

"""Figures of `medseg.compare` beside those of MONAI, MedPy, surface-distance and scikit-learn, with their differences.

The peers are heavy, so they are no dependency of the tests; run it where they are installed:

    pip install monai medpy surface-distance scikit-learn && PYTHONPATH=MedSegExtension/Logic python \
        Testing/benchmarks/peer_metrics.py

``Testing/compare/test_peers.py`` holds what they gave (versions in ``peer_metrics.json``), so each change here is seen.
"""

from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from medseg.compare.classification import calibration, log_loss, roc_auc
from medseg.compare.counts import pixel_counts
from medseg.compare.surfaces import surface_distances

GOLDEN = Path(__file__).with_name("peer_metrics.json")
SPACINGS = {"isotropic": (1.0, 1.0, 1.0), "thick slices": (5.0, 0.9, 0.9)}


def masks(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two blobs (24, 40, 40) of the same place that differ as two readers do."""
    rng = np.random.default_rng(seed)
    k, j, i = np.mgrid[0:24, 0:40, 0:40].astype(float)
    one, other = np.zeros(k.shape, bool), np.zeros(k.shape, bool)
    for _ in range(4):
        centre, radius = rng.uniform(8, 16, 3) * [1, 1.7, 1.7], rng.uniform(3, 7)
        shift, grow = rng.normal(0, 0.7, 3), rng.normal(0, 0.6)
        for mask, c, r in ((one, centre, radius), (other, centre + shift, radius + grow)):
            mask |= ((k - c[0]) ** 2 + (j - c[1]) ** 2 + (i - c[2]) ** 2) < r * r
    return one, other


def scores(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Truth and probabilities of 200 slices."""
    rng = np.random.default_rng(seed)
    truth = (rng.random(200) < 0.3).astype(int)
    return truth, np.clip(0.25 + 0.35 * truth + rng.normal(0, 0.2, 200), 0.001, 0.999).round(3)


def ours(seed: int, spacing: tuple[float, ...]) -> dict[str, float | None]:
    """Our figures of `masks` and `scores`."""
    one, other = masks(seed)
    distances, counts = surface_distances(one, other, spacing), pixel_counts(one, other)
    truth, probabilities = scores(seed)
    found = calibration(truth, probabilities)
    assert distances is not None and found is not None
    return {
        "dice": counts.dice, "iou": counts.iou, "precision": counts.precision, "recall": counts.recall,
        "specificity": counts.specificity, "hd": distances.hd, "hd95": distances.hd95, "assd": distances.assd,
        "surface dice 1 mm": distances.surface_dice(1.0), "log loss": log_loss(truth, probabilities),
        "auc": roc_auc(truth, probabilities), "brier": found.brier,
    }  # fmt: skip


def theirs(seed: int, spacing: tuple[float, ...]) -> dict[str, dict[str, float]]:
    """The peers' figures, by peer."""
    import monai.metrics as monai
    import surface_distance
    import torch
    from medpy.metric import binary
    from sklearn import metrics

    one, other = masks(seed)
    a, b = (torch.from_numpy(m[None, None].astype(np.float32)) for m in (one, other))
    told: dict[str, Any] = {"spacing": [spacing]}
    truth, probabilities = scores(seed)
    distances = surface_distance.compute_surface_distances(one, other, spacing)
    return {
        "MONAI": {
            "dice": float(monai.compute_dice(a, b)), "iou": float(monai.compute_iou(a, b)),
            "hd": float(monai.compute_hausdorff_distance(a, b, **told)),
            "assd": float(monai.compute_average_surface_distance(a, b, symmetric=True, **told)),
            "surface dice 1 mm": float(monai.compute_surface_dice(a, b, [1.0], **told)),
        },
        "MedPy": {
            "dice": binary.dc(one, other), "iou": binary.jc(one, other), "precision": binary.precision(one, other),
            "recall": binary.recall(one, other), "specificity": binary.specificity(one, other),
            "hd": binary.hd(one, other, spacing), "hd95": binary.hd95(one, other, spacing),
            "assd": binary.assd(one, other, spacing),
        },
        "surface-distance": {
            "hd": surface_distance.compute_robust_hausdorff(distances, 100),
            "hd95": surface_distance.compute_robust_hausdorff(distances, 95),
            "surface dice 1 mm": surface_distance.compute_surface_dice_at_tolerance(distances, 1.0),
        },
        "scikit-learn": {
            "log loss": metrics.log_loss(truth, probabilities), "auc": metrics.roc_auc_score(truth, probabilities),
            "brier": metrics.brier_score_loss(truth, probabilities),
        },
    }  # fmt: skip


def main() -> int:
    """Print the table and write what the peers gave."""
    packages = ("monai", "medpy", "surface-distance", "scikit-learn")
    golden: dict[str, Any] = {"versions": {p: metadata.version(p) for p in packages}, "figures": {}}
    print(f"{'masks':<16}{'figure':<20}{'peer':<18}{'ours':>12}{'peer':>12}{'difference':>12}")
    for name, spacing in SPACINGS.items():
        for seed in range(3):
            own, peers = ours(seed, spacing), theirs(seed, spacing)
            golden["figures"][f"{name} {seed}"] = {
                peer: {k: float(v) for k, v in found.items()} for peer, found in peers.items()
            }
            for peer, found in peers.items():
                for figure, value in found.items():
                    mine = own[figure]
                    assert mine is not None
                    print(f"{name:<16}{figure:<20}{peer:<18}{mine:>12.6f}{value:>12.6f}{mine - value:>12.1e}")
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

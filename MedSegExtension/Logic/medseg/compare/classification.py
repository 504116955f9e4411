"""Scores of scans and slices held against the truth: counts at a threshold, log loss, ROC curve, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .counts import Counts, check_shapes, pixel_counts

Floats = npt.NDArray[np.float64]
RSNA_WEIGHTS = (2.0, 1.0, 1.0, 1.0, 1.0, 1.0)


def classify_scans(
    predicted: Sequence[int], reference: Sequence[int], thresholds: Sequence[int] = (1, 3, 5, 11)
) -> dict[int, Counts]:
    """For each threshold how scans with at least so many lesions were found: sensitivity is ``recall``."""
    p, r = np.asarray(predicted), np.asarray(reference)
    check_shapes(p, r)
    return {n: pixel_counts(p >= n, r >= n) for n in thresholds}


@dataclass(frozen=True)
class Calibration:
    """How probabilities and frequencies agree, in bins of equal width over [0, 1].

    ``edges``: of the bins; ``count``: samples in each; ``probability``, ``frequency``: mean probability and share of
    positives in each, NaN where it is empty. ``error``: expected calibration error, the mean of their differences
    weighted by ``count`` (Naeini et al., AAAI 2015). ``brier``: mean squared difference (Brier, 1950).
    """

    edges: Floats
    count: npt.NDArray[np.int64]
    probability: Floats
    frequency: Floats
    error: float
    brier: float


def calibration(truth: npt.ArrayLike, probabilities: npt.ArrayLike, *, bins: int = 10) -> Calibration | None:
    """Of flattened arrays; None without samples. A probability on an edge is in the upper bin, 1 in the last.

    Raises `InputError` for values outside [0, 1].
    """
    y, p = np.asarray(truth).astype(bool).ravel(), np.asarray(probabilities, dtype=float).ravel()
    check_shapes(y, p)
    if not p.size:
        return None
    if not np.isfinite(p).all() or p.min() < 0 or p.max() > 1:
        raise InputError("Probabilities for a calibration lie from 0 to 1; these do not.")
    place = np.minimum((p * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        probability = np.bincount(place, p, bins) / count
        frequency = np.bincount(place, y, bins) / count
    error = float(np.nansum(np.abs(probability - frequency) * count) / p.size)
    brier = float(np.mean((p - y) ** 2))
    return Calibration(np.linspace(0, 1, bins + 1), count, probability, frequency, error, brier)


def log_loss(truth: npt.ArrayLike, probabilities: npt.ArrayLike, *, eps: float = 1e-15) -> float | None:
    """Binary cross-entropy, natural logarithm, mean over flattened arrays; None where there are no samples.

    Probabilities are clipped to [eps, 1 - eps].
    """
    y, p = np.asarray(truth, dtype=float).ravel(), np.asarray(probabilities, dtype=float).ravel()
    check_shapes(y, p)
    if not p.size:
        return None
    p = np.clip(p, eps, 1 - eps)
    return float(-np.mean(y * np.log(p) + (1 - y) * np.log1p(-p)))


def counts_at(truth: npt.ArrayLike, probabilities: npt.ArrayLike, threshold: float = 0.5) -> Counts:
    """Counts of samples whose probability is at least ``threshold``, held against the truth."""
    return pixel_counts(np.asarray(probabilities, float).ravel() >= threshold, np.asarray(truth).astype(bool).ravel())


def weighted_log_loss(
    truth: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    *,
    weights: Sequence[float] = RSNA_WEIGHTS,
    eps: float = 1e-15,
) -> float:
    """Weighted multi-label log loss of the RSNA 2019 haemorrhage challenge, natural logarithm.

    ``truth`` (0 or 1) and ``probabilities``: (samples, labels), the label *any* first. Probabilities are clipped to
    [eps, 1 - eps]; each sample's losses are averaged with ``weights``, then samples. Published programs use an ``eps``
    of 1e-15 (the challenge's report) or 1e-7 (their training code).
    """
    y, p = np.asarray(truth, dtype=float), np.asarray(probabilities, dtype=float)
    check_shapes(y, p)
    if y.ndim != 2 or y.shape[1] != len(weights) or not len(y):
        raise InputError(
            f"Labels of shape {y.shape} are not (samples, {len(weights)}); give one column for each weight."
        )
    p = np.clip(p, eps, 1 - eps)
    losses = -(y * np.log(p) + (1 - y) * np.log1p(-p))
    return float(np.average(losses, axis=1, weights=np.asarray(weights, dtype=float)).mean())


def roc_auc(truth: npt.ArrayLike, scores: npt.ArrayLike) -> float | None:
    """Area under the ROC curve: the chance that a positive has the greater score, equal scores counting half.

    Of flattened arrays; None where there are no positives or no negatives.
    """
    y, s = np.asarray(truth).astype(bool).ravel(), np.asarray(scores, dtype=float).ravel()
    check_shapes(y, s)
    positives, negatives = int(y.sum()), int((~y).sum())
    if not positives or not negatives:
        return None
    _, level, size = np.unique(s, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(size) - (size - 1) / 2)[level.ravel()]
    return float((ranks[y].sum() - positives * (positives + 1) / 2) / (positives * negatives))

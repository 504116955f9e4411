"""Figures by which segmentations, detections and slice scores are compared with a reference.

Each follows the definition that the published systems were judged by, so that numbers can be compared. A figure that is
not defined (a ratio of 0 to 0, a distance to nothing) is None, and means leave it out; they say of how many they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ..errors import InputError
from ..geometry.components import Mask, structure

Floats = npt.NDArray[np.float64]
RSNA_WEIGHTS = (2.0, 1.0, 1.0, 1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Counts:
    """True positives, false positives and false negatives of pixels, lesions or scans. They add up: ``sum(counts)``."""

    tp: int = 0
    fp: int = 0
    fn: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)

    def __radd__(self, other: int) -> Counts:
        return self  # sum() starts from 0

    @property
    def precision(self) -> float | None:
        """tp / (tp + fp)."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float | None:
        """tp / (tp + fn)."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float | None:
        """2 tp / (2 tp + fp + fn); of pixels it is the Dice coefficient."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    dice = f1


def pixel_counts(prediction: Mask, reference: Mask) -> Counts:
    """Counts of the voxels of two masks of the same shape; pooled figures are those of the sum over all images."""
    _check_shapes(prediction, reference)
    p, r = prediction.astype(bool), reference.astype(bool)
    return Counts(int(np.sum(p & r)), int(np.sum(p & ~r)), int(np.sum(~p & r)))


def boundary(mask: Mask) -> Mask:
    """The mask without its erosion by face neighbours; beyond the image is background."""
    mask = mask.astype(bool)
    return np.asarray(mask & ~ndimage.binary_erosion(mask))


def surface_distances(prediction: Mask, reference: Mask, spacing: Sequence[float]) -> Floats | None:
    """Distance in mm of each boundary voxel of one mask to the other's boundary, both directions in one array.

    ``spacing``: mm along the arrays' own axes (k, j, i, or rows, columns of a slice). None where a mask is empty: the
    distances are infinite.
    """
    _check_shapes(prediction, reference)
    one, other = boundary(prediction), boundary(reference)
    if not one.any() or not other.any():
        return None
    to_other = ndimage.distance_transform_edt(~other, sampling=tuple(spacing))[one]
    to_one = ndimage.distance_transform_edt(~one, sampling=tuple(spacing))[other]
    return np.concatenate([to_other, to_one])


def hd95(prediction: Mask, reference: Mask, spacing: Sequence[float]) -> float | None:
    """95th percentile of `surface_distances` in mm, both directions pooled (not the greater of two percentiles)."""
    distances = surface_distances(prediction, reference, spacing)
    return None if distances is None else float(np.percentile(distances, 95))


def assd(prediction: Mask, reference: Mask, spacing: Sequence[float]) -> float | None:
    """Average symmetric surface distance in mm: the mean of `surface_distances`."""
    distances = surface_distances(prediction, reference, spacing)
    return None if distances is None else float(distances.mean())


def mean_of_defined(values: Iterable[float | None]) -> tuple[float | None, int]:
    """Mean of the values that are defined, and how many were left out."""
    given = list(values)
    defined = [v for v in given if v is not None]
    return (float(np.mean(defined)) if defined else None), len(given) - len(defined)


@dataclass(frozen=True)
class LesionMatch:
    """Lesions of one scan, one to one. ``pairs``: (predicted, reference) component numbers from 1, best first.

    ``dice``: of each pair. ``predicted``, ``reference``: how many lesions there are.
    """

    predicted: int
    reference: int
    pairs: tuple[tuple[int, int], ...] = ()
    dice: tuple[float, ...] = field(default=())

    @property
    def counts(self) -> Counts:
        """An unmatched prediction is a false positive, an unmatched reference a false negative."""
        tp = len(self.pairs)
        return Counts(tp, self.predicted - tp, self.reference - tp)


def match_lesions(
    prediction: Mask,
    reference: Mask,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    *,
    overlap: int | None = 1,
    distance_mm: float | None = None,
    connectivity: int = 6,
) -> LesionMatch:
    """Match the components of two masks (K, J, I) one to one, greedily: the best pair first, then the best of the rest.

    By ``overlap``: pairs that share at least so many voxels, most first; or by ``distance_mm`` (with ``overlap=None``):
    pairs whose centroids are at most so far apart, nearest first. ``spacing``: mm along k, j, i. Equal pairs are taken
    in the order of their component numbers. Raises `InputError` where both rules or none are given.
    """
    if (overlap is None) == (distance_mm is None):
        raise InputError("Lesions are matched either by overlap or by distance_mm; give exactly one of them.")
    _check_shapes(prediction, reference)
    neighbours = structure(connectivity, 0)
    ours, predicted = ndimage.label(prediction, structure=neighbours)
    theirs, referenced = ndimage.label(reference, structure=neighbours)
    pair_index = ours.astype(np.int64) * (referenced + 1) + theirs
    shared = np.bincount(pair_index[(ours > 0) & (theirs > 0)], minlength=(predicted + 1) * (referenced + 1))
    shared = shared.reshape(predicted + 1, referenced + 1)[1:, 1:]
    if overlap is not None:
        candidates = [(-float(shared[p, r]), p, r) for p, r in np.argwhere(shared >= max(1, overlap))]
    else:
        scale = np.asarray(spacing, dtype=float)
        apart = np.linalg.norm(
            (_centres(ours, predicted)[:, None] - _centres(theirs, referenced)[None]) * scale, axis=-1
        )
        candidates = [(float(apart[p, r]), p, r) for p, r in np.argwhere(apart <= distance_mm)]
    free_p, free_r = set(range(predicted)), set(range(referenced))
    pairs, dice = [], []
    sizes_p, sizes_r = np.bincount(ours.ravel()), np.bincount(theirs.ravel())
    for _, p, r in sorted(candidates):
        if p in free_p and r in free_r:
            free_p.remove(p)
            free_r.remove(r)
            pairs.append((int(p) + 1, int(r) + 1))
            dice.append(float(2 * shared[p, r] / (sizes_p[p + 1] + sizes_r[r + 1])))
    return LesionMatch(predicted, referenced, tuple(pairs), tuple(dice))


@dataclass(frozen=True)
class DetectionFigures:
    """Detection over several scans.

    ``micro_*``: of the counts of all scans together. ``macro_*``: mean over the scans in which it is defined.
    ``mean_dice_of_matched``: over matched pairs only. ``false_positives_per_scan`` is what its name says;
    ``false_positives_per_true_lesion`` is the other figure that is published under that name: false positives over the
    lesions of the reference.
    """

    counts: Counts
    micro_precision: float | None
    micro_recall: float | None
    micro_f1: float | None
    macro_precision: float | None
    macro_recall: float | None
    macro_f1: float | None
    mean_dice_of_matched: float | None
    false_positives_per_scan: float | None
    false_positives_per_true_lesion: float | None


def detection_figures(scans: Sequence[LesionMatch]) -> DetectionFigures:
    """The figures of ``scans``, one match each."""
    counts = [scan.counts for scan in scans]
    total = sum(counts, Counts())
    return DetectionFigures(
        total,
        total.precision,
        total.recall,
        total.f1,
        mean_of_defined(c.precision for c in counts)[0],
        mean_of_defined(c.recall for c in counts)[0],
        mean_of_defined(c.f1 for c in counts)[0],
        mean_of_defined(d for scan in scans for d in scan.dice)[0],
        _ratio(total.fp, len(scans)),
        _ratio(total.fp, total.tp + total.fn),
    )


@dataclass(frozen=True)
class ScanClassification:
    """Scans with at least ``threshold`` lesions, predicted against reference. ``tn``: both have fewer."""

    threshold: int
    counts: Counts
    tn: int

    @property
    def sensitivity(self) -> float | None:
        """tp / (tp + fn)."""
        return self.counts.recall

    @property
    def specificity(self) -> float | None:
        """tn / (tn + fp)."""
        return _ratio(self.tn, self.tn + self.counts.fp)

    @property
    def accuracy(self) -> float | None:
        """(tp + tn) / all."""
        right = self.counts.tp + self.tn
        return _ratio(right, right + self.counts.fp + self.counts.fn)


def classify_scans(
    predicted: Sequence[int], reference: Sequence[int], thresholds: Sequence[int] = (1, 3, 5, 11)
) -> list[ScanClassification]:
    """For each threshold how scans are classified by their number of lesions."""
    p, r = np.asarray(predicted), np.asarray(reference)
    _check_shapes(p, r)
    found = []
    for n in thresholds:
        counts = pixel_counts(p >= n, r >= n)
        found.append(ScanClassification(n, counts, int(np.sum((p < n) & (r < n)))))
    return found


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
    _check_shapes(y, p)
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
    _check_shapes(y, s)
    positives, negatives = int(y.sum()), int((~y).sum())
    if not positives or not negatives:
        return None
    _, level, size = np.unique(s, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(size) - (size - 1) / 2)[level.ravel()]
    return float((ranks[y].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _centres(labels: npt.NDArray[Any], count: int) -> Floats:
    if not count:
        return np.zeros((0, labels.ndim))
    return np.array(ndimage.center_of_mass(labels > 0, labels, range(1, count + 1)), dtype=float)


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _check_shapes(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> None:
    if one.shape != other.shape:
        raise InputError(
            f"Prediction {one.shape} and reference {other.shape} differ in shape; bring them onto one grid."
        )

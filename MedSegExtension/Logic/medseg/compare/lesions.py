"""Lesions of two masks matched one to one, and the figures of detection over several scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ..errors import InputError
from ..geometry.components import Mask, structure
from .counts import Counts, check_shapes, mean_of_defined, ratio

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[Any]


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
    overlap: int | None = None,
    iou: float | None = None,
    distance_mm: float | None = None,
    connectivity: int = 6,
) -> LesionMatch:
    """Match the components of two masks (K, J, I) one to one, greedily: the best pair first, then the best of the rest.

    By ``overlap`` (the default, with 1): pairs that share at least so many voxels, most first; by ``iou``: pairs whose
    intersection over union is at least so large, largest first; or by ``distance_mm``: pairs whose centroids are at
    most so far apart, nearest first. ``spacing``: mm along k, j, i. Equal pairs are taken in the order of their
    component numbers. Raises `InputError` where several rules are given.
    """
    check_shapes(prediction, reference)
    neighbours = structure(connectivity, 0)
    ours, predicted = ndimage.label(prediction, structure=neighbours)
    theirs, referenced = ndimage.label(reference, structure=neighbours)
    return match_labelled(
        ours, predicted, theirs, referenced, spacing, overlap=overlap, iou=iou, distance_mm=distance_mm
    )


def match_labelled(
    ours: Labels,
    predicted: int,
    theirs: Labels,
    referenced: int,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    *,
    overlap: int | None = None,
    iou: float | None = None,
    distance_mm: float | None = None,
) -> LesionMatch:
    """As `match_lesions`, of components that are numbered already: 1 to ``predicted`` and 1 to ``referenced``."""
    rules = [rule for rule in (overlap, iou, distance_mm) if rule is not None]
    if len(rules) > 1:
        raise InputError("Lesions are matched by overlap, by iou, or by distance_mm; give exactly one of them.")
    check_shapes(ours, theirs)
    both = (ours > 0) & (theirs > 0)
    pair_index = ours[both].astype(np.int64) * (referenced + 1) + theirs[both]
    found, voxels = np.unique(pair_index, return_counts=True)
    shared = {
        (int(n // (referenced + 1)) - 1, int(n % (referenced + 1)) - 1): int(v)
        for n, v in zip(found, voxels, strict=True)
    }
    sizes_p = np.bincount(ours.ravel(), minlength=predicted + 1)[1:]
    sizes_r = np.bincount(theirs.ravel(), minlength=referenced + 1)[1:]
    candidates: list[tuple[float, int, int]]
    if distance_mm is not None:
        scale = np.asarray(spacing, dtype=float)
        apart = np.linalg.norm(
            (_centres(ours, predicted)[:, None] - _centres(theirs, referenced)[None]) * scale, axis=-1
        )
        candidates = [(float(apart[p, r]), int(p), int(r)) for p, r in np.argwhere(apart <= distance_mm)]
    elif iou is not None:
        unions = {(p, r): v / float(sizes_p[p] + sizes_r[r] - v) for (p, r), v in shared.items()}
        candidates = [(-share, p, r) for (p, r), share in unions.items() if share >= iou]
    else:
        candidates = [(-float(v), p, r) for (p, r), v in shared.items() if v >= max(1, overlap or 1)]
    free_p, free_r = set(range(predicted)), set(range(referenced))
    pairs, dice = [], []
    for _, p, r in sorted(candidates):
        if p in free_p and r in free_r:
            free_p.remove(p)
            free_r.remove(r)
            pairs.append((p + 1, r + 1))
            dice.append(float(2 * shared.get((p, r), 0) / (sizes_p[p] + sizes_r[r])))
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
        ratio(total.fp, len(scans)),
        ratio(total.fp, total.tp + total.fn),
    )


def _centres(labels: Labels, count: int) -> Floats:
    if not count:
        return np.zeros((0, labels.ndim))
    return np.array(ndimage.center_of_mass(labels > 0, labels, range(1, count + 1)), dtype=float)

"""Counts of what agrees and what does not, and the ratios that are made of them.

A figure that is not defined (a ratio of 0 to 0) is None, and means leave it out; they say of how many they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..geometry.components import Mask


@dataclass(frozen=True)
class Counts:
    """True positives, false positives, false negatives of pixels, lesions or scans. They add up: ``sum(counts)``.

    ``tn``: true negatives, where what is neither can be counted (pixels, scans; lesions have none).
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn)

    def __radd__(self, other: int) -> Counts:
        return self  # sum() starts from 0

    @property
    def precision(self) -> float | None:
        """tp / (tp + fp)."""
        return ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float | None:
        """tp / (tp + fn)."""
        return ratio(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> float | None:
        """tn / (tn + fp)."""
        return ratio(self.tn, self.tn + self.fp)

    @property
    def f1(self) -> float | None:
        """2 tp / (2 tp + fp + fn); of pixels it is the Dice coefficient."""
        return ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    dice = f1

    @property
    def iou(self) -> float | None:
        """tp / (tp + fp + fn), the Jaccard index."""
        return ratio(self.tp, self.tp + self.fp + self.fn)


def pixel_counts(prediction: Mask, reference: Mask) -> Counts:
    """Counts of the voxels of two masks of the same shape; pooled figures are those of the sum over all images."""
    check_shapes(prediction, reference)
    p, r = prediction.astype(bool, copy=False), reference.astype(bool, copy=False)
    tp, ours, theirs = (int(np.count_nonzero(mask)) for mask in (p & r, p, r))
    return Counts(tp, ours - tp, theirs - tp, p.size - ours - theirs + tp)


def mean_of_defined(values: Iterable[float | None]) -> tuple[float | None, int]:
    """Mean of the values that are defined, and how many were left out."""
    given = list(values)
    defined = [v for v in given if v is not None]
    return (float(np.mean(defined)) if defined else None), len(given) - len(defined)


def ratio(part: float, whole: float) -> float | None:
    """``part / whole``, None where ``whole`` is 0."""
    return part / whole if whole else None


def check_shapes(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> None:
    """`InputError` where the two differ in shape."""
    if one.shape != other.shape:
        raise InputError(
            f"Prediction {one.shape} and reference {other.shape} differ in shape; bring them onto one grid."
        )

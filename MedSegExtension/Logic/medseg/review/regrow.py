"""A finding at another threshold of the model's probability: what a reader sees while a slider moves."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ..errors import InputError
from ..geometry.components import Box, bounding_box, shifted, structure

Labels = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


def as_stored(threshold: float, probability: Labels) -> float:
    """A threshold from 0 to 1 in the units of ``probability``: whole numbers are fixed point of their type."""
    if probability.dtype.kind in "iu":
        return threshold * float(np.iinfo(probability.dtype).max)
    return threshold


def grown(probability: Labels, box: Box, seed: Mask, threshold: float, reach: int = 40) -> tuple[Box, Mask]:
    """Where ``probability`` (K, J, I) reaches ``threshold`` (0 to 1) and is connected with ``seed``: (box, mask there).

    ``seed``: the voxels of a finding within ``box``. Looked at is the box and ``reach`` voxels around it, so that a
    slider can be followed however large the volume is. Raises `InputError` for an empty seed.
    """
    if not seed.any():
        raise InputError("There is no finding to grow from.")
    ends = zip(box, probability.shape, strict=True)
    k, j, i = (slice(max(0, s.start - reach), min(n, s.stop + reach)) for s, n in ends)
    near: Box = (k, j, i)
    found, _ = ndimage.label(probability[near] >= as_stored(threshold, probability), structure=structure(26, 0))
    inner = tuple(slice(b.start - n.start, b.stop - n.start) for b, n in zip(box, near, strict=True))
    ids = np.unique(found[inner][seed])
    mask = np.isin(found, ids[ids > 0])
    tight = bounding_box(mask)
    return (near, mask) if tight is None else (shifted(tight, near), mask[tight])


def regrown(labels: Labels, value: int, box: Box, seed: Mask, grown_box: Box, mask: Mask) -> Labels:
    """``labels`` (K, J, I) with the finding ``seed`` (in ``box``, of label ``value``) in the shape of ``mask``.

    Voxels of other findings and classes stay what they are. A new array.
    """
    new = labels.copy()
    new[box][seed] = 0
    part = new[grown_box]
    part[mask & (part == 0)] = value
    return new


def all_regrown(labels: Labels, value: int, probability: Labels, threshold: float) -> Labels:
    """``labels`` with every finding of ``value`` at another threshold: regions that touch none of them stay out.

    Voxels of other values stay what they are. A new array.
    """
    above = probability >= as_stored(threshold, probability)
    box = bounding_box(above | (labels == value))
    new = labels.copy()
    if box is None:
        return new
    part = new[box]
    old = part == value
    found, count = ndimage.label(above[box], structure=structure(26, 0))
    touched = np.zeros(count + 1, bool)
    touched[np.unique(found[old])] = True
    touched[0] = False
    part[old] = 0
    part[touched[found] & (part == 0)] = value
    return new

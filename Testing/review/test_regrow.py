"""A finding at another threshold: what the slider shows is what it takes over, and nothing else is touched."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medseg.errors import InputError
from medseg.review.regrow import all_regrown, grown, regrown

SHAPE = (12, 24, 30)


def bumps(seed: int) -> np.ndarray:
    """A smooth map (K, J, I) from 0 to 1 with several hills."""
    rough = np.random.default_rng(seed).random(SHAPE)
    smooth = ndimage.gaussian_filter(rough, 1.5)
    return ((smooth - smooth.min()) / np.ptp(smooth)).astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), start=st.floats(0.5, 0.8), threshold=st.floats(0.3, 0.95), fixed=st.booleans())
def test_a_finding_has_the_shape_of_its_region_at_the_threshold(
    seed: int, start: float, threshold: float, fixed: bool
) -> None:
    probability = bumps(seed)
    if fixed:  # as maps are kept in memory
        probability = np.round(probability * 65535).astype(np.uint16)
    scale = 65535 if fixed else 1
    everywhere = np.ones((3, 3, 3))
    found, _ = ndimage.label(probability >= start * scale, everywhere)
    for box in ndimage.find_objects(found)[:3]:
        mask = found[box] == found[box][np.nonzero(found[box])][0]
        where, shape = grown(probability, box, mask, threshold, reach=99)
        at, _ = ndimage.label(probability >= threshold * scale, everywhere)
        whole = np.zeros(SHAPE, bool)
        whole[box] = mask
        ids = np.unique(at[whole])
        result = np.zeros(SHAPE, bool)
        result[where] = shape
        assert (result == np.isin(at, ids[ids > 0])).all()


def test_other_findings_and_classes_are_never_overwritten() -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[5, 5, 5], labels[5, 5, 8], labels[5, 8, 5] = 1, 2, 1
    probability = np.ones(SHAPE, np.float32)
    box = (slice(5, 6), slice(5, 6), slice(5, 6))
    where, mask = grown(probability, box, np.ones((1, 1, 1), bool), 0.5, reach=4)
    new = regrown(labels, 1, box, np.ones((1, 1, 1), bool), where, mask)
    assert new[5, 5, 8] == 2 and labels[4, 4, 4] == 0 and new[4, 4, 4] == 1
    assert (all_regrown(labels, 1, probability, 0.5) == np.where(labels == 2, 2, 1)).all()


def test_all_findings_at_once_are_each_at_the_threshold() -> None:
    probability = bumps(4)
    found, count = ndimage.label(probability >= 0.7, np.ones((3, 3, 3)))
    labels = (found > 0).astype(np.uint8)
    labels[found == count] = 0
    new = all_regrown(labels, 1, probability, 0.6)
    at, _ = ndimage.label(probability >= 0.6, np.ones((3, 3, 3)))
    assert ((new == 1) == np.isin(at, np.unique(at[labels == 1]))).all()
    assert not all_regrown(labels, 1, probability, 1.1).any()


def test_an_empty_finding_is_refused() -> None:
    with pytest.raises(InputError):
        grown(bumps(0), (slice(0, 1),) * 3, np.zeros((1, 1, 1), bool), 0.5)

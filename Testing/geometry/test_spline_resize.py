"""Resizing by products of matrices. If one failed, nnU-Net's models would get other images than in their training."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medseg.geometry.spline_resize import resize


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("shape", [(31, 12, 25), (9, 12, 40), (20, 16, 21)])
def test_the_numbers_are_those_of_scipys_zoom(order: int, shape: tuple[int, int, int]) -> None:
    """Larger, smaller and unchanged axes, on noise, whose neighbours share nothing."""
    x = np.random.default_rng(0).normal(size=(20, 17, 25))
    factors = [1 / (old / new) for old, new in zip(x.shape, shape, strict=True)]
    wanted = ndimage.zoom(x, factors, order=order, mode="nearest", grid_mode=True)
    if order > 1:
        wanted = np.clip(wanted, x.min(), x.max())
    np.testing.assert_allclose(resize(x, shape, order), wanted, rtol=0, atol=1e-13)


def test_slices_are_resized_too() -> None:
    """Thick axes are resized apart, slice by slice."""
    x = np.random.default_rng(1).normal(size=(17, 25))
    wanted = ndimage.zoom(x, [20 / 17, 11 / 25], order=1, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(resize(x, (20, 11), 1), wanted, rtol=0, atol=1e-13)


def test_a_value_that_is_no_number_spoils_its_neighbours_only() -> None:
    """A product with 0 would carry it along whole lines."""
    x = np.zeros((12, 12, 12))
    x[3, 4, 5] = np.inf
    found = resize(x, (24, 24, 24), 1)
    assert np.isfinite(found).mean() > 0.99 and not np.isfinite(found).all()

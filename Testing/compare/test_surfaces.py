"""Distances between surfaces against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.compare.counts import mean_of_defined
from medseg.compare.surfaces import assd, boundary, hd95, surface_distances


def mask(*places: tuple[int, ...], shape: tuple[int, ...] = (4, 12, 12)) -> np.ndarray:
    array = np.zeros(shape, bool)
    for place in places:
        array[place] = True
    return array


def test_boundary_is_the_mask_without_its_erosion():
    square = np.zeros((7, 7), bool)
    square[1:6, 1:6] = True
    expected = square.copy()
    expected[2:5, 2:5] = False
    assert np.array_equal(boundary(square), expected)
    assert boundary(np.ones((3, 3), bool)).sum() == 8, "beyond the image is background"


def test_distances_of_two_points_are_in_millimetres_along_the_right_axes():
    one, other = mask((0, 0, 0)), mask((2, 3, 0))
    distances = surface_distances(one, other, (5.0, 2.0, 1.0))
    np.testing.assert_allclose(distances.pooled, [np.hypot(10, 6)] * 2)
    assert hd95(one, other, (5.0, 2.0, 1.0)) == assd(one, other, (5.0, 2.0, 1.0)) == pytest.approx(np.hypot(10, 6))


def test_hd95_is_the_percentile_of_both_directions_together():
    """A line of 19 pixels on itself, and one pixel 10 away from it: 38 distances of 0 and one of 10."""
    reference = np.zeros((30, 30), bool)
    reference[5, 0:19] = True
    prediction = reference.copy()
    prediction[15, 0] = True
    distances = surface_distances(prediction, reference, (1.0, 1.0))
    assert sorted(distances.pooled) == [0.0] * 38 + [10.0]
    assert assd(prediction, reference, (1.0, 1.0)) == pytest.approx(10 / 39)
    # 95 % of the way lies between two zeros; the one direction alone would give 0.5.
    assert hd95(prediction, reference, (1.0, 1.0)) == 0
    assert np.percentile([0.0] * 19 + [10.0], 95) == pytest.approx(0.5)


def test_distances_to_an_empty_mask_are_left_out_of_means():
    empty = mask()
    assert surface_distances(mask((0, 0, 0)), empty, (1, 1, 1)) is None and hd95(empty, empty, (1, 1, 1)) is None
    assert mean_of_defined([2.0, hd95(empty, mask((0, 0, 0)), (1, 1, 1))]) == (2.0, 1)

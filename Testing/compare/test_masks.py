"""Figures of two masks: by hand, empty ones, and against other programs."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.compare.counts import Counts, mean_of_defined, pixel_counts
from medseg.compare.masks import COLUMNS, Matching, compare_masks
from medseg.errors import InputError
from medseg.geometry.grid import Grid

GRID = Grid((24, 20, 16), (1.0, 1.5, 3.0), (0.0, 0.0, 0.0), np.eye(3))


def test_counts_of_pixels_give_dice_precision_and_recall():
    prediction, reference = np.zeros((4, 5), bool), np.zeros((4, 5), bool)
    prediction[0, :4] = reference[0, 1:] = True
    counts = pixel_counts(prediction, reference)
    assert counts == Counts(3, 1, 1, 15) and counts.iou == 0.6 and counts.specificity == 15 / 16
    assert counts.dice == counts.precision == counts.recall == 0.75


def test_pooled_dice_is_of_all_pixels_and_not_the_mean_of_images():
    """The published WMH figures are pooled: a small case counts little."""
    large, small = Counts(90, 10, 10), Counts(0, 1, 1)
    assert sum([large, small], Counts()).dice == sum([large, small]).dice == pytest.approx(180 / 202)
    assert mean_of_defined([large.dice, small.dice])[0] == pytest.approx(0.45)


def test_what_is_not_defined_is_none_and_left_out():
    nothing = pixel_counts(np.zeros(3, bool), np.zeros(3, bool))
    assert nothing.dice is nothing.precision is nothing.recall is None
    assert mean_of_defined([1.0, None, 0.5]) == (0.75, 1) and mean_of_defined([None]) == (None, 1)
    with pytest.raises(InputError, match="differ in shape"):
        pixel_counts(np.zeros(3, bool), np.zeros(4, bool))


def test_empty_masks_are_defined():
    """Both empty: nothing to compare, and left out of means. One empty: no overlap, and infinitely far."""
    empty, full = np.zeros(GRID.shape, bool), np.zeros(GRID.shape, bool)
    full[2:4, 3:6, 5] = True
    both = compare_masks(empty, empty, GRID, matching=Matching()).values()
    assert both["dice"] is both["iou"] is both["hd95"] is both["surface_dice"] is both["lesion_f1"] is None
    assert both["specificity"] == 1 and both["volume_difference"] == 0 and both["volume_difference_percent"] is None
    missed = compare_masks(empty, full, GRID, matching=Matching()).values()
    assert missed["dice"] == missed["recall"] == 0 and missed["precision"] is missed["assd"] is None
    assert missed["volume_difference_percent"] == -100 and missed["lesions_fn"] == 1
    invented = compare_masks(full, empty, GRID, matching=Matching()).values()
    assert invented["dice"] == invented["precision"] == 0 and invented["recall"] is None
    assert invented["prediction_volume"] == pytest.approx(6 * 4.5 / 1000) and invented["lesions_fp"] == 1


def test_equal_masks_agree_in_everything():
    mask = np.zeros(GRID.shape, bool)
    mask[3:9, 4:12, 5:15] = True
    values = compare_masks(mask, mask, GRID, matching=Matching()).values()
    assert set(values) == set(COLUMNS)
    for name in ("dice", "iou", "precision", "recall", "specificity", "surface_dice", "lesion_f1"):
        assert values[name] == 1, name
    for name in ("hd", "hd95", "assd", "volume_difference", "lesions_fp", "lesions_fn"):
        assert values[name] == 0, name

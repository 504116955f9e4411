"""Figures against numbers worked out by hand, and against the published ones that can be reproduced."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.compare.evaluate import (
    Counts,
    LesionMatch,
    assd,
    boundary,
    classify_scans,
    detection_figures,
    hd95,
    match_lesions,
    mean_of_defined,
    pixel_counts,
    roc_auc,
    surface_distances,
    weighted_log_loss,
)
from medseg.errors import InputError


def mask(*places: tuple[int, ...], shape: tuple[int, ...] = (4, 12, 12)) -> np.ndarray:
    array = np.zeros(shape, bool)
    for place in places:
        array[place] = True
    return array


# -- overlap ----------------------------------------------------------------------------------------------------------


def test_counts_of_pixels_give_dice_precision_and_recall():
    prediction, reference = np.zeros((4, 5), bool), np.zeros((4, 5), bool)
    prediction[0, :4] = reference[0, 1:] = True
    counts = pixel_counts(prediction, reference)
    assert counts == Counts(3, 1, 1)
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


# -- distances --------------------------------------------------------------------------------------------------------


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
    np.testing.assert_allclose(distances, [np.hypot(10, 6)] * 2)
    assert hd95(one, other, (5.0, 2.0, 1.0)) == assd(one, other, (5.0, 2.0, 1.0)) == pytest.approx(np.hypot(10, 6))


def test_hd95_is_the_percentile_of_both_directions_together():
    """A line of 19 pixels on itself, and one pixel 10 away from it: 38 distances of 0 and one of 10."""
    reference = np.zeros((30, 30), bool)
    reference[5, 0:19] = True
    prediction = reference.copy()
    prediction[15, 0] = True
    distances = surface_distances(prediction, reference, (1.0, 1.0))
    assert sorted(distances) == [0.0] * 38 + [10.0]
    assert assd(prediction, reference, (1.0, 1.0)) == pytest.approx(10 / 39)
    # 95 % of the way lies between two zeros; the one direction alone would give 0.5.
    assert hd95(prediction, reference, (1.0, 1.0)) == 0
    assert np.percentile([0.0] * 19 + [10.0], 95) == pytest.approx(0.5)


def test_distances_to_an_empty_mask_are_left_out_of_means():
    empty = mask()
    assert surface_distances(mask((0, 0, 0)), empty, (1, 1, 1)) is None and hd95(empty, empty, (1, 1, 1)) is None
    assert mean_of_defined([2.0, hd95(empty, mask((0, 0, 0)), (1, 1, 1))]) == (2.0, 1)


# -- lesions ----------------------------------------------------------------------------------------------------------


def test_lesions_are_matched_one_to_one_the_best_pair_first():
    """One prediction over two reference lesions is one hit and one miss, not two hits."""
    reference = mask((0, 0, slice(0, 3)), (0, 0, slice(5, 7)))
    prediction = mask((0, 0, slice(1, 7)), (2, 5, 5))
    match = match_lesions(prediction, reference)
    assert match.counts == Counts(tp=1, fp=1, fn=1)
    assert match.pairs == ((1, 1),) and match.dice == (pytest.approx(2 * 2 / (6 + 3)),)


def test_a_better_pair_is_not_lost_to_an_earlier_one():
    """First come, first served would give reference 1 to the wrong prediction and leave 2 without."""
    reference = mask((0, 0, slice(0, 6)))
    prediction = mask((0, 0, slice(0, 1)), (0, 0, slice(2, 6)))
    assert match_lesions(prediction, reference).pairs == ((2, 1),)


def test_by_distance_the_nearest_are_matched_within_the_limit_in_millimetres():
    reference = mask((0, 2, 2), (0, 2, 9))
    prediction = mask((0, 2, 4), (3, 11, 11))
    assert match_lesions(prediction, reference, (5, 1, 1), overlap=None, distance_mm=5).pairs == ((1, 1),)
    assert match_lesions(prediction, reference, (5, 1, 3), overlap=None, distance_mm=5).pairs == ()
    with pytest.raises(InputError, match="exactly one of them"):
        match_lesions(prediction, reference, overlap=1, distance_mm=5)


def test_lesions_that_touch_by_a_corner_are_two_at_6_connectivity():
    diagonal = mask((0, 0, 0), (0, 1, 1))
    assert match_lesions(diagonal, diagonal).reference == 2
    assert match_lesions(diagonal, diagonal, connectivity=26).reference == 1


def test_a_scan_without_lesions_has_only_false_positives():
    assert match_lesions(mask((0, 0, 0)), mask()).counts == Counts(0, 1, 0)
    assert match_lesions(mask(), mask(), overlap=None, distance_mm=5).counts == Counts()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.02, 0.3))
def test_a_match_is_one_to_one_and_of_pairs_that_overlap(seed, density):
    rng = np.random.default_rng(seed)
    prediction, reference = rng.random((2, 5, 6, 7)) < density
    match = match_lesions(prediction, reference)
    ours, theirs = zip(*match.pairs, strict=True) if match.pairs else ((), ())
    assert len(set(ours)) == len(ours) and len(set(theirs)) == len(theirs)
    assert all(0 < d <= 1 for d in match.dice)
    assert bool(match.pairs) == bool((prediction & reference).any()), "greedy always finds a pair where there is one"
    swapped = match_lesions(reference, prediction)
    assert swapped.counts == Counts(match.counts.tp, match.counts.fn, match.counts.fp)


def test_micro_and_macro_differ_as_their_names_say():
    scans = [LesionMatch(4, 2, ((1, 1), (2, 2)), (0.5, 1.0)), LesionMatch(1, 4, ((1, 1),), (0.6,)), LesionMatch(0, 0)]
    figures = detection_figures(scans)
    assert figures.counts == Counts(3, 2, 3)
    assert (
        figures.micro_precision == 3 / 5 and figures.micro_recall == 3 / 6 and figures.micro_f1 == pytest.approx(6 / 11)
    )
    assert figures.macro_precision == pytest.approx((2 / 4 + 1 / 1) / 2)
    assert figures.macro_recall == pytest.approx((2 / 2 + 1 / 4) / 2)
    assert figures.macro_f1 == pytest.approx((4 / 6 + 2 / 5) / 2)
    assert figures.mean_dice_of_matched == pytest.approx(0.7)


def test_the_published_microbleed_figures_and_what_their_false_positives_are():
    """20 scans, 74 microbleeds, 51 found, 10 false: the published '0.1 a scan' is a microbleed, not a scan."""
    pairs = tuple((n, n) for n in range(1, 52))
    scans = [LesionMatch(61, 74, pairs, (1.0,) * 51), *[LesionMatch(0, 0)] * 19]
    figures = detection_figures(scans)
    assert figures.micro_precision == pytest.approx(0.836, abs=5e-4)
    assert figures.micro_recall == pytest.approx(0.689, abs=5e-4)
    assert figures.micro_f1 == pytest.approx(0.756, abs=5e-4)
    assert figures.false_positives_per_scan == 0.5
    assert figures.false_positives_per_true_lesion == pytest.approx(10 / 74)


def test_scans_are_classified_at_each_threshold():
    at = {c.threshold: c for c in classify_scans([0, 1, 4, 12, 2], [0, 0, 3, 11, 5])}
    assert at[1].counts == Counts(3, 1, 0) and at[1].tn == 1 and at[1].specificity == 0.5 and at[1].sensitivity == 1
    assert at[3].counts == Counts(2, 0, 1) and at[3].accuracy == pytest.approx(4 / 5)
    assert at[5].counts == Counts(1, 0, 1) and at[11].counts == Counts(1, 0, 0) and at[11].tn == 4


# -- scores -----------------------------------------------------------------------------------------------------------


def test_weighted_log_loss_by_hand():
    truth = [[1, 0, 0, 0, 0, 1]]
    probabilities = [[0.8, 0.1, 0.2, 0.3, 0.4, 0.5]]
    losses = -np.log([0.8, 0.9, 0.8, 0.7, 0.6, 0.5])
    assert weighted_log_loss(truth, probabilities) == pytest.approx((2 * losses[0] + losses[1:].sum()) / 7)
    two = weighted_log_loss(truth * 2, [*probabilities, [1, 0, 0, 0, 0, 1]])
    assert two == pytest.approx((2 * losses[0] + losses[1:].sum()) / 14)


@pytest.mark.parametrize("eps", [1e-15, 1e-7])
def test_a_certain_error_costs_what_the_clip_says(eps):
    wrong = weighted_log_loss([[1, 0, 0, 0, 0, 0]], np.zeros((1, 6)), eps=eps)
    assert wrong == pytest.approx(-2 * np.log(eps) / 7, rel=1e-6)
    assert weighted_log_loss([[1] * 6], [[0.0] * 6], eps=eps) == pytest.approx(-np.log(eps))
    assert weighted_log_loss([[0] * 6], [[1.0] * 6], eps=eps) == pytest.approx(-np.log(eps), rel=1e-2)


def test_a_constant_predictor_at_the_training_prevalence_loses_point_231():
    """Images with each label among the 752 803 of the challenge's stage 2 training set."""
    positives = np.array([107_933, 3_145, 36_118, 26_205, 35_675, 47_166])
    share = positives / 752_803
    truth = np.arange(10_000)[:, None] < np.rint(share * 10_000)
    loss = weighted_log_loss(truth.astype(int), np.broadcast_to(share, truth.shape))
    assert loss == pytest.approx(0.231, abs=5e-4)


def test_labels_of_another_shape_are_refused():
    with pytest.raises(InputError, match="one column for each weight"):
        weighted_log_loss([[1, 0]], [[0.5, 0.5]])


def test_area_under_the_curve_counts_pairs_and_halves_ties():
    assert roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) == 0.75
    assert roc_auc([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5]) == 0.5
    assert roc_auc([[0, 1], [0, 1]], [[0.1, 0.9], [0.3, 0.3]]) == pytest.approx(3.5 / 4)
    assert roc_auc([1, 1], [0.2, 0.3]) is None

"""Matching of lesions against cases worked out by hand and published figures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.compare.counts import Counts
from medseg.compare.lesions import LesionMatch, detection_figures, match_lesions
from medseg.errors import InputError


def mask(*places: tuple[int, ...], shape: tuple[int, ...] = (4, 12, 12)) -> np.ndarray:
    array = np.zeros(shape, bool)
    for place in places:
        array[place] = True
    return array


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
    assert match_lesions(prediction, reference, (5, 1, 1), distance_mm=5).pairs == ((1, 1),)
    assert match_lesions(prediction, reference, (5, 1, 3), distance_mm=5).pairs == ()
    with pytest.raises(InputError, match="exactly one of them"):
        match_lesions(prediction, reference, overlap=1, distance_mm=5)


def test_lesions_that_touch_by_a_corner_are_two_at_6_connectivity():
    diagonal = mask((0, 0, 0), (0, 1, 1))
    assert match_lesions(diagonal, diagonal).reference == 2
    assert match_lesions(diagonal, diagonal, connectivity=26).reference == 1


def test_a_scan_without_lesions_has_only_false_positives():
    assert match_lesions(mask((0, 0, 0)), mask()).counts == Counts(0, 1, 0)
    assert match_lesions(mask(), mask(), distance_mm=5).counts == Counts()


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


def test_by_intersection_over_union_the_best_share_comes_first():
    """A large prediction that shares more voxels must not win over the one of the right size."""
    reference = mask((0, 0, slice(0, 4)))
    prediction = mask((0, 0, slice(0, 2)), (0, 0, 3), (0, slice(0, 9), 3))
    assert match_lesions(prediction, reference).pairs == ((1, 1),)
    assert match_lesions(prediction, reference, iou=0.4).pairs == ((1, 1),)
    assert match_lesions(prediction, reference, iou=0.6).pairs == ()

"""Scores against the truth: by hand, against published figures, and against scikit-learn's numbers."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.compare.classification import (
    calibration,
    classify_scans,
    counts_at,
    log_loss,
    roc_auc,
    weighted_log_loss,
)
from medseg.compare.counts import Counts
from medseg.errors import InputError


def test_scans_are_classified_at_each_threshold():
    at = classify_scans([0, 1, 4, 12, 2], [0, 0, 3, 11, 5])
    assert at[1] == Counts(3, 1, 0, 1) and at[1].specificity == 0.5 and at[1].recall == 1
    assert at[3] == Counts(2, 0, 1, 2) and at[5] == Counts(1, 0, 1, 3) and at[11] == Counts(1, 0, 0, 4)


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


def test_calibration_by_hand():
    """Two bins: 0.2 and 0.4 are said, half of them happen; 0.9 is said and always happens."""
    found = calibration([0, 1, 1, 1], [0.2, 0.4, 0.9, 0.9], bins=2)
    assert found is not None
    np.testing.assert_array_equal(found.count, [2, 2])
    np.testing.assert_allclose(found.probability, [0.3, 0.9])
    np.testing.assert_allclose(found.frequency, [0.5, 1.0])
    assert found.error == pytest.approx((0.2 * 2 + 0.1 * 2) / 4)
    assert found.brier == pytest.approx((0.04 + 0.36 + 0.01 + 0.01) / 4)


def test_a_bin_without_samples_costs_nothing_and_no_samples_give_none():
    found = calibration([1, 1], [1.0, 1.0], bins=10)
    assert found is not None and found.error == 0 and found.brier == 0 and found.count[-1] == 2
    assert np.isnan(found.frequency[:-1]).all()
    assert calibration([], []) is None and log_loss([], []) is None
    with pytest.raises(InputError, match="from 0 to 1"):
        calibration([1], [1.5])


def test_log_loss_and_counts_at_a_threshold():
    assert log_loss([1, 0], [0.8, 0.1]) == pytest.approx(-(np.log(0.8) + np.log(0.9)) / 2)
    assert counts_at([1, 0, 1, 0], [0.5, 0.5, 0.4, 0.1]) == Counts(1, 1, 1, 1)

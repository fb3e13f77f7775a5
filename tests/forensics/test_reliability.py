"""Calibration measures: closed forms, scikit-learn, the published ten-point example, and data of known truth."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as sklearn_log_loss

from histoforensics.forensics.reliability import brier, expected_calibration_error, log_loss, reliability_curve
from histoforensics.slides import PatchError

P = np.arange(0.05, 1, 0.1)
Y = np.array([0, 0, 0, 0, 1, 0, 1, 1, 1, 1])


def test_ten_point_example_has_its_known_values():
    assert expected_calibration_error(Y, P, bins=10) == pytest.approx(0.27)
    assert brier(Y, P) == pytest.approx(0.1025)
    assert log_loss(Y, P) == pytest.approx(0.34616, abs=1e-5)


def test_brier_and_log_loss_are_scikit_learns():
    rng = np.random.default_rng(0)
    labels, p = rng.integers(0, 2, 300), rng.random(300)
    assert brier(labels, p) == pytest.approx(brier_score_loss(labels, p))
    assert log_loss(labels, p) == pytest.approx(sklearn_log_loss(labels, p))


def test_half_for_all_scores_what_theory_says():
    assert brier(Y, np.full(10, 0.5)) == 0.25
    assert log_loss(Y, np.full(10, 0.5)) == pytest.approx(np.log(2))
    assert expected_calibration_error(Y, np.full(10, 0.5)) == pytest.approx(0.0)


def test_saturated_scores_keep_the_log_loss_finite():
    assert log_loss(np.array([0, 1]), np.array([1.0, 0.0])) == pytest.approx(-np.log(1e-7), rel=1e-3)


def test_calibrated_probabilities_have_a_small_error_and_overconfident_ones_a_known_one():
    rng = np.random.default_rng(1)
    p = rng.random(200_000)
    labels = (rng.random(len(p)) < p).astype(int)
    assert expected_calibration_error(labels, p) < 0.006
    assert expected_calibration_error(labels, np.where(p > 0.5, 1.0, 0.0)) == pytest.approx(0.25, abs=0.005)


def test_bins_hold_equal_numbers_and_ties_stay_together():
    assert [b.n for b in reliability_curve(np.tile([0, 1], 30), np.linspace(0, 1, 60), 15)] == [4] * 15
    tied = reliability_curve(np.tile([0, 1], 30), np.repeat([0.2, 0.7], 30), 15)
    assert [(b.n, b.low, b.high) for b in tied] == [(30, 0.2, 0.2), (30, 0.7, 0.7)]
    assert [b.share_fake for b in tied] == [0.5, 0.5]


def test_order_of_patches_does_not_matter():
    rng = np.random.default_rng(2)
    labels, p = rng.integers(0, 2, 200), rng.random(200).round(1)
    shuffle = rng.permutation(200)
    assert expected_calibration_error(labels, p) == pytest.approx(
        expected_calibration_error(labels[shuffle], p[shuffle])
    )


@pytest.mark.parametrize(
    ("labels", "p", "message"),
    [
        ([0, 1], [0.5], "one label a probability"),
        ([], [], "one label a probability"),
        ([0, 2], [0.5, 0.5], r"labels 0 \(real\) and 1 \(fake\), got \[0, 2\]"),
        ([0, 1], [0.5, 1.5], r"from 0 to 1, got .*1\.5"),
        ([0, 1], [0.5, np.nan], "from 0 to 1, got .*nan"),
    ],
)
def test_what_is_no_probability_is_refused(labels, p, message):
    with pytest.raises(PatchError, match=message):
        brier(np.array(labels), np.array(p, float))

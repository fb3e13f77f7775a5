"""Probabilities and thresholds from a calibration split: closed forms, hand-made scores, data of known truth."""

import numpy as np
import pytest
from scipy import special, stats
from sklearn.linear_model import LogisticRegression

from histoforensics.forensics.calibration import calibrate, false_positive_promise, platt, probabilities, thresholds
from histoforensics.slides import PatchError


def test_thresholds_leave_five_percent_of_each_class_on_the_wrong_side():
    real, fake = np.linspace(0.0, 0.7, 100), np.linspace(0.3, 1.0, 100)
    real_below, fake_above, crossed = thresholds(real, fake)
    assert not crossed
    assert (real > fake_above).sum() == 5
    assert (fake < real_below).sum() == 5
    assert real_below == fake[5]
    assert fake_above == real[94]


def test_thresholds_of_separate_classes_become_one_cut_midway_in_log_odds():
    real_below, fake_above, crossed = thresholds(np.array([0.1, 0.2]), np.array([0.8, 0.9]))
    assert crossed
    assert real_below == fake_above == pytest.approx(0.5)


def test_fewer_than_twenty_reals_allow_no_false_positive():
    real = np.linspace(0, 0.5, 17)
    assert thresholds(real, np.linspace(0.2, 1, 17))[1] == 0.5


def test_tied_scores_are_unsure_and_not_fake():
    calibration = calibrate(np.zeros(40), np.zeros(40))
    assert calibration.real_below == calibration.fake_above == pytest.approx(0.5)
    assert (calibration.false_positive_rate, calibration.miss_rate, calibration.unsure_rate) == (0, 0, 1)


def test_saturated_scores_still_give_a_finite_cut():
    real_below, fake_above, crossed = thresholds(np.zeros(5, np.float32), np.ones(5, np.float32))
    assert crossed
    assert 0 < real_below == fake_above < 1


def test_platt_recovers_a_known_scale_and_bias():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, 40_000)
    is_fake = rng.random(len(logits)) < special.expit(0.7 * logits - 0.4)
    scale, bias = platt(logits[~is_fake], logits[is_fake])
    prior = np.log((~is_fake).mean() / is_fake.mean())  # both classes are weighted alike
    assert scale == pytest.approx(0.7, abs=0.02)
    assert bias == pytest.approx(-0.4 + prior, abs=0.05)


def test_platt_equals_balanced_logistic_regression_where_classes_overlap():
    rng = np.random.default_rng(1)
    real, fake = rng.normal(-1, 2, 3000), rng.normal(2, 2, 1000)
    model = LogisticRegression(C=1e9, class_weight="balanced").fit(
        np.r_[real, fake][:, None], np.repeat([0, 1], [3000, 1000])
    )
    scale, bias = platt(real, fake)
    assert scale == pytest.approx(model.coef_[0, 0], rel=0.02)
    assert bias == pytest.approx(model.intercept_[0], abs=0.02)


def test_platt_stays_finite_on_separate_classes_whatever_their_unit():
    for unit in (1e-6, 1.0, 1e6):
        scale, bias = platt(np.full(17, -unit), np.full(30, unit))
        assert special.expit([-scale * unit + bias, scale * unit + bias]) == pytest.approx([1 / 19, 31 / 32], abs=1e-4)


def test_scores_rise_with_logits_even_where_calibration_finds_the_opposite():
    scale, _ = platt(np.array([1.0, 2.0, 3.0]), np.array([-1.0, -2.0, -3.0]))
    assert scale > 0


def test_probabilities_are_single_precision():
    assert probabilities(np.array([0.0]), 1.0, 0.0).dtype == np.float32


@pytest.mark.parametrize(("n", "above"), [(17, 0), (20, 1), (100, 5)])
def test_promise_is_the_law_of_the_order_statistic(n, above):
    expected, upper = false_positive_promise(n)
    assert expected == pytest.approx((above + 1) / (n + 1))
    assert stats.binom.cdf(above, n, upper) == pytest.approx(0.05)  # Clopper and Pearson's bound


def test_promise_holds_in_a_simulation():
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(2000):
        _, fake_above, _ = thresholds(rng.random(17) * 0.6, np.linspace(0, 1, 40))
        rates.append(max(0.0, 1 - fake_above / 0.6))
    expected, upper = false_positive_promise(17)
    assert np.mean(rates) == pytest.approx(expected, abs=0.005)
    assert np.mean(np.array(rates) <= upper) == pytest.approx(0.95, abs=0.02)


def test_promise_says_what_seventeen_blocks_can_hold():
    calibration = calibrate(np.linspace(-3, 0, 200), np.linspace(-1, 3, 60), real_groups=17)
    assert "200 calibration reals from 17 independent groups" in calibration.promise
    assert "about 6 % false positives; with 95 % confidence at most 16 %" in calibration.promise


def test_one_percent_threshold_needs_ninety_nine_independent_reals():
    rng = np.random.default_rng(2)
    real, fake = rng.normal(-1, 1, 300), rng.normal(1, 1, 300)
    for groups, known in ((98, False), (99, True), (np.arange(300) % 98, False), (np.arange(300) // 3, True)):
        calibration = calibrate(real, fake, real_groups=groups)
        assert (calibration.strict_fake_above is not None) is known
    p = probabilities(real, calibration.scale, calibration.bias)
    assert (p > calibration.strict_fake_above).sum() == 3
    assert calibration.strict_fake_above > calibration.fake_above
    assert calibration.real_groups == 100


def test_class_missing_from_calibration_is_refused():
    with pytest.raises(PatchError, match="the calibration split has no real patches; thresholds need both classes"):
        calibrate(np.array([]), np.array([1.0]))


def test_the_cut_is_midway_between_the_thresholds_in_log_odds():
    rng = np.random.default_rng(3)
    calibration = calibrate(rng.normal(-1, 1, 200), rng.normal(1, 1, 200))
    odds = special.logit([calibration.real_below, calibration.fake_above])
    assert special.logit(calibration.cut) == pytest.approx(odds.mean(), abs=1e-6)

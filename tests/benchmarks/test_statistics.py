"""The oracles of the 2020 exam, textbook examples, and coverage on simulated readers of known truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom
from statsmodels.stats.multitest import multipletests

from histoforensics.benchmarks.statistics import (
    binomial_p,
    clopper_pearson,
    equivalence_p,
    fisher_p,
    holm,
    least_above_chance,
    newcombe,
    patches_to_beat_guessing,
    patches_to_show_guessing,
    power,
    sensitivity,
    wilson,
)
from histoforensics.slides import ConfigError


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [
        (34, 60, 0.441, 0.684),
        (17, 30, 0.392, 0.726),
        (17, 27, 0.442, 0.785),
        (34, 57, 0.467, 0.714),
        (57, 60, 0.863, 0.983),
        (30, 60, 0.377, 0.623),
        (48, 60, 0.682, 0.882),
        (24, 30, 0.627, 0.905),
    ],
)
def test_wilson_gives_the_published_exam_s_intervals(right, total, low, high):
    assert wilson(right, total) == pytest.approx((low, high), abs=5e-4)


def test_clopper_pearson_is_exact_for_a_perfect_and_a_worst_reader():
    # closed form: the lower end of n/n is (alpha / 2) ** (1 / n)
    assert clopper_pearson(60, 60) == pytest.approx((0.025 ** (1 / 60), 1.0))
    assert clopper_pearson(0, 60) == pytest.approx((0.0, 1 - 0.025 ** (1 / 60)))
    assert clopper_pearson(17, 30) == pytest.approx((0.374, 0.745), abs=5e-4)


def test_no_answers_leave_everything_possible():
    assert wilson(0, 0) == clopper_pearson(0, 0) == (0.0, 1.0)
    assert newcombe(0, 0, 3, 5) == (-1.0, 1.0)
    assert binomial_p(0, 0) == 1.0


def test_one_answer_is_hardly_any_evidence():
    low, high = wilson(1, 1)
    assert low < 0.25
    assert high == 1.0
    assert binomial_p(1, 1) == 1.0


@pytest.mark.parametrize(("right", "total", "p"), [(34, 60, 0.3663), (34, 57, 0.1849), (30, 60, 1.0), (60, 60, 2**-59)])
def test_binomial_p_against_chance(right, total, p):
    assert binomial_p(right, total) == pytest.approx(p, rel=5e-4)


@pytest.mark.parametrize(("total", "least"), [(60, 39), (100, 61), (200, 115), (6, 6), (5, None)])
def test_least_count_that_beats_chance(total, least):
    assert least_above_chance(total) == least


@pytest.mark.parametrize(("right", "p"), [(45, 0.0536), (46, 0.0325), (60, 9.2e-10), (34, 1.0)])
def test_fisher_p_against_the_pathologist(right, p):
    assert fisher_p(right, 60, 34, 60) == pytest.approx(p, rel=5e-3)


def test_fisher_p_says_nothing_where_one_reader_marked_nothing():
    assert fisher_p(0, 0, 34, 60) == 1.0


@pytest.mark.parametrize(
    ("counts", "low", "high"),  # Newcombe 1998, table II, method 10
    [
        ((56, 70, 48, 80), 0.0524, 0.3339),
        ((9, 10, 3, 10), 0.1705, 0.8090),
        ((5, 56, 0, 29), -0.0381, 0.1926),
        ((10, 10, 0, 20), 0.6791, 1.0),
        ((10, 10, 0, 10), 0.6075, 1.0),
    ],
)
def test_newcombe_gives_his_own_examples(counts, low, high):
    assert newcombe(*counts) == pytest.approx((low, high), abs=1.1e-4)


def test_newcombe_changes_sign_with_the_order():
    low, high = newcombe(50, 60, 34, 60)
    assert newcombe(34, 60, 50, 60) == pytest.approx((-high, -low))


def test_d_prime_of_the_pathologist_with_and_without_the_correction():
    assert sensitivity(17, 27, 13, 30, log_linear=False).d_prime == pytest.approx(0.499, abs=5e-4)
    assert sensitivity(17, 27, 13, 30).d_prime == pytest.approx(0.481, abs=5e-4)


def test_d_prime_of_a_perfect_a_random_and_a_worst_reader():
    assert sensitivity(30, 30, 0, 30).d_prime == pytest.approx(-sensitivity(0, 30, 30, 30).d_prime)
    assert sensitivity(15, 30, 15, 30) == pytest.approx((0.0, 0.0), abs=1e-12)
    assert math.isfinite(sensitivity(30, 30, 0, 30).d_prime)


def test_criterion_is_positive_for_a_reader_who_says_real():
    assert sensitivity(2, 30, 1, 30).criterion > 1
    assert sensitivity(29, 30, 28, 30).criterion < -1


def test_d_prime_needs_both_classes_and_a_finite_rate():
    with pytest.raises(ConfigError, match="of both classes, got '0 real and 30 fake'"):
        sensitivity(17, 30, 0, 0)
    with pytest.raises(ConfigError, match=r"an uncorrected rate must be between 0 and 1, got 1\.0"):
        sensitivity(30, 30, 3, 30, log_linear=False)


def test_holm_gives_the_textbook_example_and_keeps_ties():
    # smallest times 4, next times 3, ... and never falling
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert adjusted == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert holm({"a": 0.02, "b": 0.02}) == pytest.approx({"a": 0.04, "b": 0.04})
    assert holm({"only": 0.3}) == {"only": 0.3}
    assert holm({}) == {}


def test_holm_gives_what_statsmodels_gives():
    p = np.random.default_rng(0).random(30) ** 4
    found = holm({str(at): float(one) for at, one in enumerate(p)})
    assert list(found.values()) == pytest.approx(multipletests(p, method="holm")[1])


def test_bad_counts_are_refused_by_name():
    with pytest.raises(ConfigError, match="the number of right answers must be from 0 to 60, got 61"):
        wilson(61, 60)
    with pytest.raises(ConfigError, match="the number of right answers must be from 0 to 60, got nan"):
        clopper_pearson(float("nan"), 60)
    with pytest.raises(ConfigError, match="0 or more, got -1"):
        binomial_p(0, -1)
    with pytest.raises(ConfigError, match="confidence must be between 0 and 1, got 95"):
        wilson(3, 5, confidence=95)
    with pytest.raises(ConfigError, match="the p value of npr must be from 0 to 1, got nan"):
        holm({"npr": float("nan")})


def _coverage(interval, total, rates):
    counts = np.arange(total + 1)
    ends = np.array([interval(int(k), total) for k in counts])
    holds = (ends[:, 0] <= rates[:, None]) & (rates[:, None] <= ends[:, 1])
    return (holds * binom.pmf(counts, total, rates[:, None])).sum(axis=1)


@pytest.mark.parametrize("accuracy", [0.65, 0.7, 0.8, 0.95])
def test_the_size_that_beats_guessing_is_the_first_from_which_on_power_suffices(accuracy):
    size = patches_to_beat_guessing(accuracy)
    assert power(size - 1, accuracy) < 0.8
    assert all(power(more, accuracy) >= 0.8 for more in range(size, size + 25))


def test_the_size_that_shows_guessing_is_the_first_from_which_on_equivalence_is_found():
    def found(total):
        passes = [equivalence_p(right, total, 0.15) < 0.05 for right in range(total + 1)]
        return binom.pmf(np.arange(total + 1), total, 0.5)[passes].sum()

    size = patches_to_show_guessing(0.15)
    assert found(size - 1) < 0.8
    assert all(found(more) >= 0.8 for more in range(size, size + 8))


def test_sizes_that_no_exam_has_are_none_and_bad_wishes_are_refused():
    assert patches_to_beat_guessing(0.501) is None
    assert patches_to_show_guessing(0.01) is None
    assert patches_to_beat_guessing(1.0) == 6  # 2 ** -6 on either side
    with pytest.raises(ConfigError, match="the power wanted must be between 0 and 1, got 80"):
        patches_to_beat_guessing(0.7, wanted=80)
    with pytest.raises(ConfigError, match=r"margin must be between 0 and 0\.5, got 0\.5"):
        patches_to_show_guessing(0.5)


def test_clopper_pearson_covers_at_least_what_it_claims_everywhere():
    rates = np.linspace(0.001, 0.999, 499)
    for total in (10, 30, 60):
        assert _coverage(clopper_pearson, total, rates).min() >= 0.95


def test_wilson_covers_what_it_claims_on_average():
    rates = np.linspace(0.001, 0.999, 499)
    for total in (10, 30, 60):
        assert _coverage(wilson, total, rates).mean() == pytest.approx(0.95, abs=0.01)


def test_newcombe_covers_what_it_claims_on_simulated_readers():
    rng = np.random.default_rng(7)
    machine, human = rng.binomial(60, 0.8, 2000), rng.binomial(60, 0.6, 2000)
    ends = np.array([newcombe(int(a), 60, int(b), 60) for a, b in zip(machine, human, strict=True)])
    assert ((ends[:, 0] <= 0.2) & (ends[:, 1] >= 0.2)).mean() == pytest.approx(0.95, abs=0.015)

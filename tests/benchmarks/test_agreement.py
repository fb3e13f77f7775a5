"""Kappa and McNemar against published examples and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from histoforensics.benchmarks.agreement import cohen, fleiss, gwet, mcnemar, same_mistakes
from histoforensics.slides import ConfigError


def test_cohens_kappa_is_one_in_agreement_and_zero_for_a_guesser():
    assert cohen(["real", "fake", "unsure"], ["real", "fake", "unsure"]) == 1.0
    assert cohen(["real", "real", "fake", "fake"], ["real", "fake", "real", "fake"]) == 0.0
    assert cohen(["real", "fake"], ["fake", "real"]) == -1.0


def test_kappa_is_not_defined_where_everybody_says_the_same():
    assert math.isnan(cohen(["real"] * 5, ["real"] * 5))
    assert math.isnan(fleiss([["fake"] * 3] * 4))


def test_fleiss_kappa_by_hand():
    # Four patches, three readers: agreements 1, 1/3, 1/3, 1 give P = 2/3; half of all verdicts are real: P_e = 1/2.
    verdicts = [["real"] * 3, ["real", "real", "fake"], ["real", "fake", "fake"], ["fake"] * 3]
    assert fleiss(verdicts) == pytest.approx((2 / 3 - 1 / 2) / (1 / 2))


def test_gwets_ac1_gives_his_own_example():
    # Gwet's irrCAC, data cont3x3abstractors: two readers, 100 patients, AC1 0.8493305, kappa 0.7964094.
    counts = {"real": {"real": 13}, "fake": {"fake": 20, "unsure": 7}, "unsure": {"fake": 4, "unsure": 56}}
    pairs = [(a, b) for a, row in counts.items() for b, count in row.items() for _ in range(count)]
    assert gwet(pairs) == pytest.approx(0.8493305, abs=5e-8)
    assert cohen(*zip(*pairs, strict=True)) == pytest.approx(0.7964094, abs=5e-8)


def test_ac1_stays_high_where_nearly_everything_is_called_real_and_kappa_does_not():
    pairs = [("real", "real")] * 57 + [("real", "fake"), ("fake", "real"), ("real", "fake")]
    assert gwet(pairs) > 0.9
    assert cohen(*zip(*pairs, strict=True)) < 0.0
    assert gwet([["real"] * 3] * 5) == 1.0
    assert math.isnan(gwet([]))
    with pytest.raises(ConfigError, match="the number of readers must be at least 2, got 1"):
        gwet([["real"]])


def test_readers_who_miss_the_same_patches():
    first = [True] * 6 + [False] * 4
    assert same_mistakes(first, first)[:4] == pytest.approx((4, 1.6, 1.0, 1.0))
    opposite = same_mistakes(first, [not one for one in first])
    assert (opposite.both_wrong, opposite.phi) == (0, pytest.approx(-1.0))
    assert opposite.p == pytest.approx(1 / 210)  # one of the 210 ways to choose 4 of 10
    assert math.isnan(same_mistakes(first, [True] * 10).phi)
    assert same_mistakes(first, [True] * 10).p == 1.0


def test_phi_of_mistakes_is_their_correlation():
    rng = np.random.default_rng(2)
    one, two = rng.random((2, 50)) < 0.6
    assert same_mistakes(one, two).phi == pytest.approx(np.corrcoef(one, two)[0, 1])


def test_unequal_lengths_are_refused():
    with pytest.raises(ConfigError, match="the second reader's verdicts must be 3"):
        cohen(["real"] * 3, ["real"] * 2)


def test_mcnemar_is_fagerlands_example():
    # Fagerland 2013, table 1: 1 and 7 discordant of 21 pairs; exact conditional p 0.070, mid-p 0.039.
    first = [True] * 1 + [True] * 1 + [False] * 7 + [False] * 12
    second = [True] * 1 + [False] * 1 + [True] * 7 + [False] * 12
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (1, 7)
    assert (round(found.exact_p, 3), round(found.mid_p, 3)) == (0.070, 0.039)


def test_six_discordant_patches_all_one_way_are_the_least_that_can_differ():
    assert mcnemar([True] * 6, [False] * 6).exact_p == 0.03125
    assert mcnemar([True] * 5, [False] * 5).exact_p == 0.0625
    assert mcnemar([True, False], [True, False]) == (0, 0, 1.0, 1.0)
    assert mcnemar([True, False], [False, True]).mid_p == pytest.approx(1.0)  # 2 (1/4 + 2/4) - 2/4


def test_both_tests_keep_their_level_on_simulated_readers_of_equal_skill():
    rng = np.random.default_rng(0)
    found = [mcnemar(*(rng.random((2, 60)) < 0.7)) for _ in range(600)]
    assert np.mean([one.exact_p < 0.05 for one in found]) <= 0.05
    assert np.mean([one.mid_p < 0.05 for one in found]) < 0.075  # 0.05 and three standard errors

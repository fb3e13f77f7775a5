"""Kappa and McNemar against published examples and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from histoforensics.benchmarks.agreement import cohen, fleiss, mcnemar
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

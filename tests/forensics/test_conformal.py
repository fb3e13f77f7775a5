"""Conformal sets keep their promise on data of known truth, shrink as alpha grows, and abstain where they must."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histoforensics.forensics.conformal import MOST_KNOTS, Conformal, Tail, risk_at_coverage, selective
from histoforensics.slides import ConfigError, PatchError

SCORES = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=30).map(np.array)


def test_p_values_are_ranks_by_hand():
    found = Conformal.of(np.array([0.1, 0.2, 0.3]), np.array([0.6, 0.8, 0.9]))
    wanted = [[4 / 4, 1 / 4], [3 / 4, 1 / 4], [2 / 4, 1 / 4], [1 / 4, 2 / 4], [1 / 4, 4 / 4]]
    np.testing.assert_allclose(found.p_values(np.array([0.05, 0.2, 0.25, 0.7, 0.95])), wanted)
    assert found.least_alpha == 0.25


def test_verdicts_are_unsure_where_the_set_holds_both_or_none():
    overlapping = Conformal.of(np.array([0.1, 0.5, 0.7]), np.array([0.3, 0.6, 0.9]))
    assert overlapping.verdicts(np.array([0.2, 0.5, 0.8]), 0.25).tolist() == ["real", "unsure", "fake"]
    assert overlapping.sets(np.array([0.5]), 0.25).tolist() == [[True, True]]
    apart = Conformal.of(np.array([0.1, 0.2, 0.3]), np.array([0.7, 0.8, 0.9]))
    assert apart.sets(np.array([0.5]), 0.25).tolist() == [[False, False]]
    assert apart.verdicts(np.array([0.5, 0.25, 0.75]), 0.25).tolist() == ["unsure", "real", "fake"]


def test_below_the_least_alpha_nothing_can_be_excluded():
    few = Conformal.of(np.zeros(5), np.ones(5))
    assert set(few.verdicts(np.linspace(0, 1, 11), 0.1)) == {"unsure"}


@given(SCORES, SCORES, SCORES, st.floats(0.01, 0.98), st.floats(0.01, 0.98))
@settings(max_examples=60, deadline=None)
def test_a_larger_alpha_never_adds_a_class_and_never_keeps_more_truths(real, fake, new, one, other):
    low, high = sorted((one, other))
    found = Conformal.of(real, fake)
    wide, narrow = found.sets(new, low), found.sets(new, high)
    assert (narrow <= wide).all()
    labels = np.arange(len(new)) % 2
    kept = [selective(labels, found.verdicts(new, a), found.sets(new, a)) for a in (low, high)]
    assert kept[0].real_kept >= kept[1].real_kept


@given(SCORES, SCORES)
@settings(max_examples=60, deadline=None)
def test_p_values_are_monotone_in_the_score(real, fake):
    p = Conformal.of(real, fake).p_values(np.linspace(0, 1, 101))
    assert (np.diff(p[:, 0]) <= 0).all()
    assert (np.diff(p[:, 1]) >= 0).all()
    assert ((p > 0) & (p <= 1)).all()


def test_true_class_stays_in_the_set_as_often_as_promised():
    rng = np.random.default_rng(0)
    kept = []
    for _ in range(300):
        found = Conformal.of(rng.normal(0, 1, 40), rng.normal(1, 1, 40))
        new = np.r_[rng.normal(0, 1, 50), rng.normal(1, 1, 50)]
        sets = found.sets(new, 0.1)
        kept.append([sets[:50, 0].mean(), sets[50:, 1].mean()])
    assert np.mean(kept, axis=0) == pytest.approx(1 - 0.1, abs=0.02)  # exact: ceil(0.9 * 41) / 41 = 0.902


def test_groups_that_hang_together_keep_the_promise_where_single_patches_would_break_it():
    rng = np.random.default_rng(1)
    kept = {"groups": [], "patches": []}
    sizes = np.array([40] * 3 + [2] * 17)  # a few large blocks
    for _ in range(400):
        centre, codes = rng.normal(0, 1, 20), np.repeat(np.arange(20), sizes)
        real = centre[codes] + rng.normal(0, 0.3, len(codes))
        new = rng.normal(0, 1, 200) + rng.normal(0, 0.3, 200)  # each from a block of its own
        for name, groups in (("groups", codes), ("patches", None)):
            kept[name].append(Conformal.of(real, np.zeros(1), groups).sets(new, 0.1)[:, 0].mean())
    assert np.mean(kept["groups"]) >= 0.89
    assert np.mean(kept["patches"]) < 0.87


def test_number_of_groups_alone_sets_the_floor():
    found = Conformal.of(np.linspace(0, 0.5, 120), np.ones(120), real_groups=17)
    assert found.real.observations == 17
    assert found.p_values(np.array([0.9]))[0, 0] == pytest.approx(1 / 18)


def test_thinned_tails_never_give_a_smaller_p_and_stay_near():
    values = np.random.default_rng(2).random(5000)
    thin, new = Tail.of(values, np.ones(5000)), np.linspace(-0.1, 1.1, 999)
    assert len(thin.knots) <= MOST_KNOTS
    exact = ((values[None] >= new[:, None]).sum(1) + 1) / 5001
    assert (thin(new) >= exact - 1e-12).all()
    assert (thin(new) - exact).max() < 2 / MOST_KNOTS + 1e-3


def test_json_brings_it_back():
    found = Conformal.of(np.array([0.1, 0.2, 0.2]), np.array([0.6, 0.8]), np.array(["a", "a", "b"]))
    assert Conformal.from_json(json.loads(json.dumps(asdict(found)))) == found


def test_selective_risk_counts_wrong_verdicts_among_the_decided():
    labels = np.array([0, 0, 0, 1, 1, 1])
    told = selective(labels, np.array(["real", "fake", "unsure", "fake", "real", "unsure"]))
    assert (told.coverage, told.risk, told.real_kept) == (4 / 6, 0.5, None)
    nothing = selective(labels, np.full(6, "unsure"))
    assert (nothing.coverage, nothing.risk) == (0, None)


def test_risk_at_a_coverage_leaves_out_the_least_sure():
    labels, scores = np.repeat([0, 1], 30), np.r_[np.full(28, 0.1), [0.52, 0.95], np.full(30, 0.9)]
    assert risk_at_coverage(labels, scores, 0.5, 1.0) == pytest.approx(2 / 60)
    assert risk_at_coverage(labels, scores, 0.5, 59 / 60) == pytest.approx(1 / 59)
    assert risk_at_coverage(labels, scores, 0.5) == pytest.approx(1 / 57)
    assert risk_at_coverage(labels, scores, 0.92, 1.0) == pytest.approx(31 / 60)


def test_ties_at_the_edge_do_not_depend_on_order():
    labels = np.repeat([0, 1], 5)
    assert risk_at_coverage(labels, np.full(10, 0.5), 0.5, 0.5) == pytest.approx(0.5)
    assert risk_at_coverage(labels, np.full(10, 1.0), 0.5, 0.3) == pytest.approx(0.5)


@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1, width=32)), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_risk_at_full_coverage_is_the_error_of_the_cut(pairs):
    labels, scores = (np.array(column) for column in zip(*pairs, strict=True))
    wrong = np.where(scores == 0.5, 0.5, (scores > 0.5) != labels)
    assert risk_at_coverage(labels, scores, 0.5, 1.0) == pytest.approx(wrong.mean())


def test_bad_input_is_told():
    found = Conformal.of(np.array([0.1]), np.array([0.9]))
    with pytest.raises(ConfigError, match="alpha must be between 0 and 1, got 0"):
        found.sets(np.array([0.5]), 0)
    with pytest.raises(PatchError, match="finite real calibration scores, got 0"):
        Conformal.of(np.array([]), np.array([0.9]))
    with pytest.raises(PatchError, match="one verdict a label"):
        selective(np.array([0]), np.array(["real", "real"]))
    with pytest.raises(ConfigError, match=r"coverage must be above 0 and at most 1, got 1\.5"):
        risk_at_coverage(np.array([0]), np.array([0.1]), 0.5, 1.5)
    with pytest.raises(PatchError, match="one score a label"):
        risk_at_coverage(np.array([0]), np.array([0.1, 0.2]), 0.5)

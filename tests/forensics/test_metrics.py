"""The AUC is the textbook's, and its interval covers what it says when patches belong together."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from histoforensics.forensics.metrics import (
    AucInterval,
    auc,
    auc_difference,
    average_precision,
    cluster_bootstrap,
    cluster_bootstrap_auc,
    cluster_bootstrap_tpr,
    least_reals,
    tpr_at_fpr,
)
from histoforensics.slides.errors import ConfigError, PatchError

LABELS = np.array([0, 0, 1, 1])


def test_auc_is_scikit_learns_with_and_without_ties():
    rng = np.random.default_rng(0)
    for _ in range(50):
        labels = rng.permutation(np.r_[0, 1, rng.integers(0, 2, 40)])
        scores = rng.normal(labels * 0.5)
        assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
        assert auc(labels, scores.round()) == pytest.approx(roc_auc_score(labels, scores.round()), abs=1e-12)


@pytest.mark.parametrize(
    ("scores", "wanted"),
    [
        ([0.1, 0.4, 0.35, 0.8], 0.75),
        ([1, 2, 3, 4], 1.0),
        ([4, 3, 2, 1], 0.0),
        ([1, 1, 1, 1], 0.5),
        ([1, 2, 2, 3], 0.875),
    ],
)
def test_auc_of_known_cases(scores, wanted):
    assert auc(LABELS, np.array(scores, dtype=float)) == wanted


def test_auc_turns_around_when_labels_do():
    rng = np.random.default_rng(1)
    labels, scores = np.tile([0, 1], 30), rng.normal(size=60)
    assert auc(1 - labels, scores) == pytest.approx(1 - auc(labels, scores), abs=1e-12)


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 0], [0.1, 0.2], "both reals"),
        ([0, 2], [0.1, 0.2], "both reals"),
        ([], [], "both reals"),
        ([0, 1], [0.1, np.nan], "finite scores, got 1"),
        ([0, 1, 1], [0.1, 0.2], "one label a score"),
    ],
)
def test_what_has_no_auc_is_refused(labels, scores, message):
    with pytest.raises(PatchError, match=message):
        auc(np.array(labels), np.array(scores))


def test_perfect_scores_have_a_point_interval_and_the_estimate_is_the_plain_auc():
    got = cluster_bootstrap_auc(np.repeat([0, 1], 10), np.arange(20.0), np.repeat(np.arange(10), 2), n_boot=200)
    assert got == AucInterval(1.0, 1.0, 1.0, 10)
    assert got.ci95 == (1.0, 1.0)
    assert not got.holds(0.5)


def test_interval_repeats_with_its_seed_and_ignores_the_order_and_the_kind_of_group_labels():
    rng = np.random.default_rng(2)
    labels, scores, groups = np.tile([0, 1], 40), rng.normal(size=80), np.repeat(np.arange(16), 5)
    once = cluster_bootstrap_auc(labels, scores, groups, 300, seed=3)
    assert once == cluster_bootstrap_auc(labels, scores, groups, 300, seed=3)
    assert once != cluster_bootstrap_auc(labels, scores, groups, 300, seed=4)
    shuffled = rng.permutation(80)
    named = np.array([{0: "a", 1: 1}.get(g, float(g)) for g in groups], dtype=object)
    for other, tolerance in ((groups, 1e-12), (named, 0.04)):  # other names, another order of the draws
        moved = cluster_bootstrap_auc(labels[shuffled], scores[shuffled], other[shuffled], 300, seed=3)
        assert moved.auc == pytest.approx(once.auc)
        assert moved.ci95 == pytest.approx(once.ci95, abs=tolerance)


def test_bootstrap_agrees_with_resampling_by_hand():
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(12), 6)
    labels = np.tile([0, 1], 36)
    scores = (rng.normal(size=12)[groups] + rng.normal(labels * 0.7)).round(1)  # with ties
    hand = []
    for _ in range(1500):
        rows = np.concatenate([np.flatnonzero(groups == g) for g in rng.integers(0, 12, 12)])
        hand.append(roc_auc_score(labels[rows], scores[rows]))
    got = cluster_bootstrap_auc(labels, scores, groups, 1500)
    # 12 groups: t with 11 degrees of freedom and sqrt(12 / 11) widen 1.96 to 2.299, quantile 0.01076
    low, high = np.quantile(hand, [0.01076, 1 - 0.01076])
    assert got.ci95 == pytest.approx((low, high), abs=0.02)


def simulated(rng, n_groups, spread, effect):
    """Half of each group's 6 patches fake; the fakes' shift differs between groups, with mean ``effect``."""
    groups = np.repeat(np.arange(n_groups), 6)
    labels = np.tile([0, 0, 0, 1, 1, 1], n_groups)
    shift = effect + spread * rng.normal(size=n_groups)[groups]
    return labels, rng.normal(size=len(groups)) + shift * labels, groups


@pytest.mark.parametrize("n_groups", [8, 30])
def test_interval_covers_the_truth_where_patches_hang_together(n_groups):
    rng = np.random.default_rng(n_groups)
    spread, effect = 1.0, 0.0  # by symmetry the true AUC is 0.5
    clustered, naive = [], []
    for i in range(250):
        labels, scores, groups = simulated(rng, n_groups, spread, effect)
        clustered.append(cluster_bootstrap_auc(labels, scores, groups, 300, seed=i).holds(0.5))
        naive.append(cluster_bootstrap_auc(labels, scores, None, 300, seed=i).holds(0.5))
    assert 0.91 <= np.mean(clustered) <= 0.99
    assert np.mean(naive) < 0.88  # what forgetting the groups costs


def test_reals_and_fakes_in_different_groups_are_resampled_apart():
    rng = np.random.default_rng(6)
    labels = np.repeat([0, 1], [40, 6])
    groups = np.r_[np.repeat(np.arange(10), 4), 10 + np.repeat(np.arange(2), 3)]  # two groups of fakes only
    got = cluster_bootstrap_auc(labels, rng.normal(size=46), groups, 200)
    assert 0 <= got.low <= got.auc <= got.high <= 1
    assert got.n_groups == 12


def test_one_group_in_a_class_and_bad_arguments_are_refused():
    labels, scores = np.tile([0, 1], 5), np.arange(10.0)
    with pytest.raises(PatchError, match="at least two groups"):
        cluster_bootstrap_auc(labels, scores, np.zeros(10))
    with pytest.raises(PatchError, match="one group each"):
        cluster_bootstrap_auc(labels, scores, np.zeros(4))
    with pytest.raises(ConfigError, match="n_boot must be at least 100, got 3"):
        cluster_bootstrap_auc(labels, scores, None, 3)


def test_average_precision_is_scikit_learns_with_and_without_ties():
    rng = np.random.default_rng(5)
    for _ in range(50):
        labels = rng.permutation(np.r_[0, 1, rng.integers(0, 2, 40)])
        scores = rng.normal(labels * 0.5)
        for values in (scores, scores.round()):
            assert average_precision(labels, values) == pytest.approx(average_precision_score(labels, values))


def test_rate_at_a_false_positive_rate_is_the_highest_that_scikit_learns_curve_allows():
    rng = np.random.default_rng(6)
    for _ in range(20):
        labels = np.repeat([0, 1], [150, 80])
        scores = rng.normal(labels * 1.5).round(1)
        fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
        for rate in (0.01, 0.05, 0.2):
            assert tpr_at_fpr(labels, scores, rate) == pytest.approx(tpr[fpr <= rate + 1e-12].max())


def test_rates_need_enough_independent_reals():
    assert (least_reals(0.01), least_reals(0.05)) == (99, 19)
    for count, known in ((98, False), (99, True)):
        labels = np.repeat([0, 1], [count, 50])
        assert (tpr_at_fpr(labels, np.arange(count + 50.0), 0.01) is not None) is known
    labels, scores = np.repeat([0, 1], [400, 50]), np.arange(450.0)
    groups = np.r_[np.arange(400) // 20, 1000 + np.arange(50)]  # 20 blocks: enough for 5 %, not for 1 %
    assert tpr_at_fpr(labels, scores, 0.01, groups) is None
    assert tpr_at_fpr(labels, scores, 0.05, groups) == 1.0
    assert cluster_bootstrap_tpr(labels, scores, 0.01, groups) is None
    with pytest.raises(ConfigError, match="fpr must be between 0 and 1, got 1"):
        least_reals(1)


def test_interval_of_the_rate_covers_the_truth():
    rng = np.random.default_rng(7)
    truth = stats.norm.sf(stats.norm.ppf(0.95) - 1.5)
    held = 0
    for i in range(100):
        labels = np.repeat([0, 1], 100)
        found = cluster_bootstrap_tpr(labels, rng.normal(labels * 1.5), 0.05, n_boot=100, seed=i)
        assert found is not None
        held += found[1] <= truth <= found[2]
    assert held / 100 >= 0.9


def test_bootstrap_of_any_metric_agrees_with_that_of_the_auc():
    rng = np.random.default_rng(8)
    labels = np.repeat([0, 1], 60)
    scores, groups = rng.normal(labels * 1.0), np.arange(120) // 4
    wanted = cluster_bootstrap_auc(labels, scores, groups, 500, 3)
    assert cluster_bootstrap(auc, labels, scores, groups, 500, 3) == pytest.approx(wanted.ci95)


def test_difference_of_aucs_is_exact_and_its_p_is_uniform_where_there_is_none():
    rng = np.random.default_rng(9)
    labels = np.repeat([0, 1], 60)
    same = rng.normal(labels * 1.0)
    nothing = auc_difference(labels, same, same, n_boot=200)
    assert (nothing.difference, nothing.low, nothing.high, nothing.p) == (0, 0, 0, 1)
    perfect = auc_difference(labels, labels.astype(float), -labels.astype(float), n_boot=200)
    assert (perfect.difference, perfect.low) == (1, 1)
    assert perfect.p == pytest.approx(1 / 201)
    rejected = [
        auc_difference(labels, rng.normal(labels), rng.normal(labels), n_boot=100, seed=i).p < 0.05 for i in range(200)
    ]
    assert np.mean(rejected) == pytest.approx(0.05, abs=0.05)

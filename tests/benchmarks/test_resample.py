"""The cluster bootstrap on simulated blocks of known truth, and where nothing can be resampled."""

from __future__ import annotations

import os

import numpy as np
import pytest

from histoforensics.benchmarks.resample import cluster_bootstrap
from histoforensics.benchmarks.statistics import clopper_pearson, wilson
from histoforensics.slides import ConfigError, ExamError

SIMULATIONS = max(2000, int(os.environ.get("HISTOFORENSICS_SIMULATIONS", "0")))  # a standard error of 0.005

FEW = 300  # are enough to see a gross error


def _blocks(rng, blocks, size, accuracy, spread):
    """Answers to ``size`` patches of each block; a block's own accuracy is beta-distributed about ``accuracy``."""
    own = rng.beta(accuracy * spread, (1 - accuracy) * spread, blocks)
    return (rng.random((blocks, size)) < own[:, None]).ravel(), np.repeat(np.arange(blocks), size)


@pytest.mark.parametrize(
    ("blocks", "size", "accuracy", "spread"), [(30, 4, 0.7, 2.0), (20, 6, 0.6, 4.0), (60, 1, 0.7, 2.0)]
)
def test_the_interval_of_95_percent_covers_the_truth_in_93_to_97_on_simulated_blocks(blocks, size, accuracy, spread):
    rng = np.random.default_rng(1)
    holds = naive = 0
    for seed in range(SIMULATIONS):
        right, clusters = _blocks(rng, blocks, size, accuracy, spread)
        low, high = cluster_bootstrap(right, clusters, resamples=500, seed=seed)
        holds += low <= accuracy <= high
        if seed < FEW:
            low, high = wilson(int(right.sum()), len(right))
            naive += low <= accuracy <= high
    assert 0.93 <= holds / SIMULATIONS <= 0.97
    if size > 1:
        assert naive / FEW < 0.85  # what taking patches for independent costs


def test_blocks_are_kept_together():
    rng = np.random.default_rng(0)
    right, clusters = _blocks(rng, 15, 8, 0.6, 1.0)
    together, apart = cluster_bootstrap(right, clusters), cluster_bootstrap(right, np.arange(len(right)))
    assert together.high - together.low > 1.4 * (apart.high - apart.low)


def test_classes_are_drawn_apart_because_the_exam_fixed_their_number():
    right = np.r_[np.ones(30), np.zeros(30)]  # every real right, every fake wrong: within a class nothing varies
    truth = np.repeat(["real", "fake"], 30)
    assert cluster_bootstrap(right, np.arange(60), truth) == (0.5, 0.5)
    low, high = cluster_bootstrap(right, np.arange(60))
    assert low < 0.4
    assert high > 0.6


def test_a_stratum_of_one_block_is_drawn_with_the_others():
    right = np.r_[np.ones(5), np.zeros(5)]
    low, high = cluster_bootstrap(right, np.r_[np.zeros(5), np.arange(1, 6)], np.repeat([0, 1], 5))
    assert low < 0.5 < high


def test_where_all_are_right_a_block_counts_as_one_answer():
    assert cluster_bootstrap(np.ones(40), np.repeat(np.arange(10), 4)) == clopper_pearson(10, 10)
    assert cluster_bootstrap(np.zeros(40), np.repeat(np.arange(10), 4)) == clopper_pearson(0, 10)


def test_the_same_seed_gives_the_same_interval_and_labels_may_be_of_any_type():
    right = np.arange(12) % 3 == 0
    clusters = [None, None, "a", "a", "b", "b", 1, 1, 2, 2, "c", "c"]
    assert cluster_bootstrap(right, clusters, seed=4) == cluster_bootstrap(right, clusters, seed=4)


def test_what_cannot_be_resampled_is_refused():
    with pytest.raises(ExamError, match=r"two clusters .* at least, got 1"):
        cluster_bootstrap([1, 0, 1], ["a", "a", "a"])
    with pytest.raises(ExamError, match=r"two clusters .* at least, got 0"):
        cluster_bootstrap([], [])
    with pytest.raises(ExamError, match="3 answers need a cluster and a stratum each, got 2 and 3"):
        cluster_bootstrap([1, 0, 1], ["a", "b"])
    with pytest.raises(ConfigError, match="resamples must be at least 100, got 5"):
        cluster_bootstrap([1, 0], ["a", "b"], resamples=5)

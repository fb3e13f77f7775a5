"""The luck of the seed: figures of several trainings of one detector, on made-up scores of known AUC."""

import numpy as np
import pandas as pd
import pytest

from histoforensics.benchmarks.generalization import SCORE_COLUMNS, HeldOut
from histoforensics.benchmarks.seeds import named_scores, seed_spread, trained_again


def scores(wrong, trained_without=None):
    """Ten reals at 0.5, ten fakes of A and ten of B at 0.9, of which ``wrong`` a generator lie at 0.1."""
    low = np.r_[np.full(wrong, 0.1), np.full(10 - wrong, 0.9)]
    rows = {"label": ["real"] * 10 + ["fake"] * 20, "generator": [None] * 10 + ["A"] * 10 + ["B"] * 10}
    table = pd.DataFrame(rows | {"score": np.r_[np.full(10, 0.5), low, low]})
    told = {"id": [f"p{i}" for i in range(30)], "block": None, "detector": "npr", "verdict": "unsure"}
    return table.assign(trained_without=trained_without, **told)[list(SCORE_COLUMNS)]


def left_out(wrong_a, wrong_b):
    return pd.concat([scores(wrong_a, "A"), scores(wrong_b, "B")], ignore_index=True)


def test_the_spread_is_that_of_the_aucs_of_all_seeds():
    found = seed_spread(
        {0: (scores(0), left_out(1, 3)), 4: (scores(2), left_out(3, 5)), 5: (scores(4), left_out(2, 1))}
    )
    npr = found["npr"]
    assert npr["seeds"] == [0, 4, 5]
    assert npr["in_domain"]["auc"] == pytest.approx([1.0, 0.8, 0.6])
    assert npr["in_domain"]["mean"] == pytest.approx(0.8)
    assert npr["in_domain"]["sd"] == pytest.approx(0.2)
    assert (npr["in_domain"]["low"], npr["in_domain"]["high"]) == pytest.approx((0.6, 1.0))
    assert npr["generalization"]["A"]["auc"] == pytest.approx([0.9, 0.7, 0.8])
    assert npr["mean_left_out"]["auc"] == pytest.approx([0.8, 0.6, 0.85])


def test_with_one_generator_nothing_is_left_out():
    empty = scores(0).iloc[:0]
    found = seed_spread({0: (scores(0), empty), 1: (scores(1), empty)})
    assert (found["npr"]["generalization"], found["npr"]["mean_left_out"]) == ({}, None)


def test_one_seed_has_no_spread():
    assert seed_spread({0: (scores(0), scores(0).iloc[:0])}) == {}


def test_each_seed_is_trained_and_its_scores_are_kept_under_its_name():
    class Judge:
        def __init__(self, seed):
            self.seed = seed

        def score(self, pixels):
            return np.full(len(pixels), self.seed / 10, np.float32)

        def verdicts(self, found):
            return np.full(len(found), "unsure")

    asked = []

    def train(name, learn_from, seed):
        asked.append((name, learn_from, seed))
        return Judge(seed)

    table = scores(0)[["id", "label", "generator", "block"]]
    found = trained_again(["npr"], HeldOut(np.zeros((30, 8, 8, 3), np.uint8), table), train, [1, 2])
    wanted = [("npr", learn_from, seed) for seed in (1, 2) for learn_from in (("A", "B"), ("B",), ("A",))]
    assert asked == wanted
    named = pd.concat(named_scores(found))
    assert set(named["detector"]) == {"npr, seed 1", "npr, seed 2"}
    assert set(named.loc[named["detector"] == "npr, seed 2", "score"]) == {np.float32(0.2)}

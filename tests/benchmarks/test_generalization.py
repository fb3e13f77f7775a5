"""The orchestration with judges that know what they may know, and AUCs against scikit-learn and closed forms."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from histoforensics.benchmarks.generalization import (
    SCORE_COLUMNS,
    HeldOut,
    auc_cell,
    auc_matrix,
    in_domain,
    leave_one_out,
    same_generator,
)
from histoforensics.slides import PatchError, PatchSet, PatchSetWriter

GANS = {"A": 200, "B": 220, "C": 240}  # the brightness that gives a generator away


def _held_out(n_real: int = 20, n_fake: int = 8) -> HeldOut:
    values = [20] * n_real + [value for value in GANS.values() for _ in range(n_fake)]
    generators = [None] * n_real + [name for name in GANS for _ in range(n_fake)]
    table = pd.DataFrame({
        "id": [str(i) for i in range(len(values))],
        "label": ["real"] * n_real + ["fake"] * (len(values) - n_real),
        "generator": pd.Series(generators, dtype=object),
        "block": pd.Series([f"b{i // 4}" for i in range(n_real)] + [None] * (len(values) - n_real), dtype=object),
    })  # fmt: skip
    return HeldOut(np.array(values, np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8), table)


class _Rote:
    """Recognises the brightness of the generators that it learned from, and nothing else."""

    def __init__(self, generators):
        self.known = [GANS[name] for name in generators]

    def score(self, pixels, batch=64):
        return np.isin(pixels[:, 0, 0, 0], self.known).astype(np.float32)

    def verdicts(self, scores):
        return np.where(scores > 0.5, "fake", "real")


def test_a_detector_by_rote_is_perfect_on_what_it_learned_and_blind_to_what_was_left_out():
    test, asked = _held_out(), []

    def train(detector, generators):
        asked.append((detector, generators))
        return _Rote(generators)

    same = auc_matrix(same_generator(["rote"], test, train))
    left = auc_matrix(leave_one_out(["rote"], test, train))
    assert {name: cell.auc for name, cell in same["rote"].items()} == dict.fromkeys(GANS, 1.0)
    assert {name: cell.auc for name, cell in left["rote"].items()} == dict.fromkeys(GANS, 0.5)
    assert asked == [("rote", ("A", "B", "C")), ("rote", ("B", "C")), ("rote", ("A", "C")), ("rote", ("A", "B"))]


def test_the_score_table_has_a_row_a_patch_and_a_verdict():
    scores = same_generator(["x", "y"], _held_out(), lambda _, names: _Rote(names))
    assert tuple(scores.columns) == SCORE_COLUMNS
    assert len(scores) == 2 * (20 + 24)
    assert (scores["verdict"] == scores["label"]).all()
    assert scores["trained_without"].isna().all()


def test_progress_tells_every_round():
    told = []
    leave_one_out(["x"], _held_out(), lambda _, names: _Rote(names), progress=lambda *call: told.append(call))
    assert told == [(0, 3, "x without A"), (1, 3, "x without B"), (2, 3, "x without C")]


def test_a_single_generator_leaves_nothing_to_learn_from():
    test = _held_out()
    only = test.table["generator"].isna() | (test.table["generator"] == "A")
    alone = HeldOut(test.pixels[only], test.table[only].reset_index(drop=True))
    scores = leave_one_out(["x"], alone, lambda _, names: _Rote(names))
    assert len(scores) == 0
    assert auc_matrix(scores) == {}


def test_in_domain_pools_all_generators_and_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    table = _held_out().table.assign(detector="x", trained_without=None, verdict="unsure")
    table["score"] = rng.normal(size=len(table)) + (table["label"] == "fake")
    cell = in_domain(table)["x"]
    assert cell.auc == pytest.approx(roc_auc_score(table["label"] == "fake", table["score"]))
    assert cell.ci95[0] < cell.auc < cell.ci95[1]
    assert (cell.n_real, cell.n_fake) == (20, 24)
    one = auc_matrix(table)["x"]["B"]
    chosen = table[table["generator"].isna() | (table["generator"] == "B")]
    assert one.auc == pytest.approx(roc_auc_score(chosen["label"] == "fake", chosen["score"]))


def test_equal_scores_are_chance_and_say_so():
    table = _held_out().table.assign(detector="x", trained_without=None, score=0.5, verdict="unsure")
    assert in_domain(table)["x"].auc == 0.5
    assert in_domain(table)["x"].ci95 == (0.5, 0.5)


def test_one_block_gives_an_auc_without_an_interval_and_the_reason():
    table = _held_out().table.assign(detector="x", trained_without=None, verdict="real")
    table.loc[table["label"] == "real", "block"] = "only"
    table["score"] = (table["label"] == "fake").astype(float)
    told = auc_cell(table).to_json()
    assert told["auc"] == 1.0
    assert told["ci95"] is None
    assert "one slide or block" in told["reason"]


def test_a_missing_class_or_a_score_that_is_no_number_is_refused():
    table = _held_out().table.assign(score=0.1)
    with pytest.raises(PatchError, match="needs both reals"):
        auc_cell(table[table["label"] == "real"])
    with pytest.raises(PatchError, match="not"):
        auc_cell(table.assign(score=np.nan))


def _patch_set(path, label, count, size=16, blocks=True, **fields):
    with PatchSetWriter(path, card={}) as writer:
        for i in range(count):
            writer.add(
                np.full((size, size, 3), 10 * i, np.uint8), label=label, **fields, block=f"{i // 2}" if blocks else None
            )
    return PatchSet.open(path)


def test_held_out_sets_group_patches_by_slide_and_block_and_leave_fakes_of_neither_alone(tmp_path):
    real = _patch_set(tmp_path / "real", "real", 4, source_slide="skin")
    fake = _patch_set(tmp_path / "fake", "fake", 3, blocks=False, generator="A")
    test = HeldOut.of(real, {"A": fake})
    assert test.pixels.shape == (7, 16, 16, 3)
    assert test.table["block"].to_list()[:4] == ["skin/0", "skin/0", "skin/1", "skin/1"]
    assert test.table["block"][4:].isna().all()
    assert test.generators == ("A",)
    assert test.table["id"].is_unique


def test_held_out_sets_of_two_sizes_are_refused(tmp_path):
    real = _patch_set(tmp_path / "real", "real", 4, source_slide="skin")
    fake = _patch_set(tmp_path / "fake", "fake", 3, size=24, generator="A")
    with pytest.raises(PatchError, match="one size, got 16 px, 24 px"):
        HeldOut.of(real, {"A": fake})

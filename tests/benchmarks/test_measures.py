"""Measures of held-out scores against scikit-learn, hand counts and what must be refused to be told."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from histoforensics.benchmarks.measures import calibration, generalization_summary, measures, paired_margins


def rows(name="d", n=40, blocks=20, fakes=40, sure=0.2, seed=0, trained_without=None):
    rng = np.random.default_rng(seed)
    fake = np.arange(n + fakes) >= n
    score = np.clip(rng.normal(np.where(fake, 0.5 + sure, 0.5 - sure), 0.2), 0.01, 0.99)
    return pd.DataFrame({
        "id": [f"{i}" for i in range(n + fakes)],
        "label": np.where(fake, "fake", "real"),
        "generator": ["A" if i % 2 else "B" if f else None for i, f in enumerate(fake)],
        "block": [None if f else f"b{i % blocks}" for i, f in enumerate(fake)],
        "detector": name,
        "trained_without": trained_without,
        "score": score,
        "verdict": np.where(score > 0.6, "fake", np.where(score < 0.4, "real", "unsure")),
    }).assign(generator=lambda t: t["generator"].where(t["label"] == "fake", None))  # fmt: skip


def judge(cut=0.5):
    return SimpleNamespace(card=SimpleNamespace(calibration=SimpleNamespace(cut=cut)))


def test_on_a_balanced_pool_calibration_agrees_with_scikit_learn():
    table = rows()
    labels = table["label"] == "fake"
    told = calibration(table, 0.5)
    assert (told["n_real"], told["n_fake"]) == (40, 40)
    assert told["average_precision"] == pytest.approx(average_precision_score(labels, table["score"]))
    assert told["brier"] == pytest.approx(brier_score_loss(labels, table["score"]))
    assert sum(one["n"] for one in told["bins"]) == 80
    assert told["coverage"] == pytest.approx((table["verdict"] != "unsure").mean())


def test_more_fakes_than_reals_are_thinned_so_that_probabilities_can_be_judged():
    told = calibration(rows(fakes=200), 0.5)
    assert (told["n_real"], told["n_fake"]) == (40, 40)


def test_a_rate_that_so_few_reals_cannot_tell_is_null_with_its_reason():
    told = calibration(rows(blocks=18), 0.5)
    assert told["tpr_at_5_fpr"] is None
    assert told["tpr_at_5_fpr_reason"] == "18 independent groups of reals; 5 % takes 19"
    told = calibration(rows(blocks=19), 0.5)
    low, high = told["tpr_at_5_fpr_ci95"]
    assert 0 <= low <= told["tpr_at_5_fpr"] <= high <= 1
    assert told["tpr_at_1_fpr"] is None


def test_margins_are_paired_with_the_best_control_and_none_without_one():
    table = pd.concat([rows("good", sure=0.4), rows("rgb", sure=0.05, seed=1), rows("slope", sure=0.1, seed=2)])
    told = paired_margins(table, {"rgb", "slope"})
    assert set(told) == {"good"}
    aucs = {name: roc_auc_score(part["label"] == "fake", part["score"]) for name, part in table.groupby("detector")}
    best = max(("rgb", "slope"), key=aucs.get)
    assert told["good"]["over"] == best
    assert told["good"]["difference"] == pytest.approx(aucs["good"] - aucs[best])
    assert paired_margins(table, set()) == {}
    assert paired_margins(table.assign(block="one"), {"rgb"}) == {}


def test_the_summary_of_left_out_generators_names_the_worst_cell():
    table = pd.concat([rows(sure=0.3, trained_without="A"), rows(sure=0.05, seed=4, trained_without="B")])
    told = generalization_summary(table, ())["d"]
    aucs = []
    for left_out, part in table.groupby("trained_without"):
        chosen = part[(part["label"] == "real") | (part["generator"] == left_out)]
        aucs.append(roc_auc_score(chosen["label"] == "fake", chosen["score"]))
    assert told["worst_generator"] == "B"
    assert (told["mean_auc"], told["worst_auc"]) == (pytest.approx(np.mean(aucs)), pytest.approx(aucs[1]))
    reals = table[table["label"] == "real"]
    assert told["false_positive_rate"] == pytest.approx((reals["verdict"] == "fake").mean())


def test_all_four_keys_are_told_and_controls_are_not_calibrated():
    seen = pd.concat([rows("d", n=40), rows("rgb", seed=1)], ignore_index=True)
    told = measures(seen, seen.iloc[:0], {"d": judge(), "rgb": judge()}, {"rgb"})
    assert set(told) == {"exam_distribution", "calibration", "margins", "generalization_summary"}
    assert [one["name"] for one in told["exam_distribution"]] == ["d", "rgb"]
    assert set(told["calibration"]) == {"d"}
    assert told["generalization_summary"] == {}

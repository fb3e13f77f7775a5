"""Cascade: where the margin lies, who is asked, and that the second opinion counts only where it was asked for."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from histoforensics.forensics import load_detector
from histoforensics.forensics.cascade import CascadeDetector, confident_margin
from histoforensics.forensics.npr import NprDetector
from histoforensics.slides import ConfigError

LLRS = np.array([-4.0, -3, -2, 0.5, 4, 3, 2, -1])  # the mistakes are the two nearest to 0
LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1])


@pytest.mark.parametrize(
    ("risk", "most", "margin"),
    [(0.0, 1.0, 2.0), (0.0, 0.2, 1.0), (0.0, 0.0, 0.0), (0.3, 1.0, 0.0), (0.2, 1.0, 1.0)],
)
def test_the_margin_is_the_smallest_that_keeps_the_risk_within_what_may_be_deferred(risk, most, margin):
    assert confident_margin(LLRS, LABELS, risk=risk, most_deferred=most) == margin


def test_without_mistakes_nothing_is_deferred():
    assert confident_margin(np.array([-1.0, 2.0]), np.array([0, 1])) == 0


@pytest.fixture(scope="module")
def cascade(tissue, standin):
    real = tissue(24, 48)
    pixels = np.concatenate([real, standin(real, "nearest")])
    options = {"npr": {"width": 4}, "wht-lr": {"copies": 0}}
    return CascadeDetector.fit(pixels, np.repeat([0, 1], 24), seed=0, folds=2, member_options=options, budget_seconds=4)


def test_only_open_patches_reach_the_second_member(cascade, tissue, standin, monkeypatch):
    test = tissue(10, 48, seed=7)
    test = np.concatenate([test, standin(test, "smooth")])
    first = cascade.detectors[0].logits(test) * cascade.scales[0].item() + cascade.biases[0].item()
    cascade.margin.fill_(float(np.median(np.abs(first))) + 1e-4)
    asked = []
    plain = NprDetector.forward
    monkeypatch.setattr(NprDetector, "forward", lambda self, x: asked.append(len(x)) or plain(self, x))
    logits = cascade.logits(test, batch=32)
    unsure = cascade.deferred(test)
    assert asked == [int(unsure.sum())]
    assert 0 < unsure.sum() < len(test)
    np.testing.assert_allclose(logits[~unsure], first[~unsure], atol=1e-4)
    second = cascade.detectors[1].logits(test) * cascade.scales[1].item() + cascade.biases[1].item()
    both = cascade.weights[0].item() * first + cascade.weights[1].item() * second + cascade.intercept.item()
    np.testing.assert_allclose(logits[unsure], both[unsure], atol=1e-3)


def test_it_finds_enlarged_tissue_asks_little_and_loads_again(cascade, tissue, standin, tmp_path):
    test = tissue(16, 48, seed=9)
    both = np.concatenate([test, standin(test, "nearest")])
    assert roc_auc_score(np.repeat([0, 1], 16), cascade.logits(both)) >= 0.95
    loaded = load_detector(cascade.save(tmp_path / "cascade"))
    np.testing.assert_array_equal(loaded.logits(both), cascade.logits(both))
    assert torch.equal(loaded.margin, cascade.margin)


def test_three_members_and_shares_above_one_are_refused(blurred_noise):
    pixels, labels = blurred_noise(4, 32)
    with pytest.raises(ConfigError, match="members must be a cheap and a thorough one, got"):
        CascadeDetector.fit(pixels, labels, seed=0, members=("radial-lr", "wht-lr", "npr"))
    with pytest.raises(ConfigError, match="risk must be from 0 to 1, got 2"):
        confident_margin(LLRS, LABELS, risk=2)
    with pytest.raises(ConfigError, match="most_deferred must be from 0 to 1, got -1"):
        confident_margin(LLRS, LABELS, most_deferred=-1)

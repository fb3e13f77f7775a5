"""The fitting loop learns, keeps its best moment, keeps to its budget and repeats with its seed."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from histoforensics.forensics.batches import validation_split
from histoforensics.forensics.cnn import (
    CnnRecipe,
    fit_network,
    one_cycle,
    steps_that_fit,
)
from histoforensics.forensics.metrics import auc
from histoforensics.forensics.npr import NprDetector
from histoforensics.slides.errors import ConfigError, PatchError

QUICK = CnnRecipe(steps=30, check_every=10, batch=16, crop_px=32, precision="float32")


def tissue(n, px, rng):
    """Smooth colour fields with fine noise; enlarged 2 x they are fakes that only their pixels' neighbours betray."""
    coarse = rng.normal(size=(n, px // 8, px // 8, 3)).repeat(8, 1).repeat(8, 2)
    return np.clip(150 + 25 * coarse + 12 * rng.normal(size=(n, px, px, 3)), 0, 255).astype(np.uint8)


def enlarged(patches):
    return patches[:, ::2, ::2].repeat(2, 1).repeat(2, 2)


def material(n=40, px=48, seed=0):
    rng = np.random.default_rng(seed)
    real, fake = tissue(n, px, rng), tissue(n, px, rng)
    pixels = np.concatenate([real, enlarged(fake)])
    return pixels, np.repeat([0, 1], n), np.tile(np.arange(n) // 5, 2)


@pytest.fixture(scope="module")
def trained():
    torch.set_num_threads(1)
    pixels, labels, groups = material()
    seen = []
    detector = NprDetector.fit(
        pixels, labels, seed=0, groups=groups, recipe=QUICK, width=8, progress=lambda *a: seen.append(a)
    )
    return detector, seen


def test_a_cnn_tells_enlarged_patches_of_other_groups(trained):
    detector, _ = trained
    pixels, labels, _ = material(seed=1)
    assert auc(labels, detector.logits(pixels)) >= 0.95


def test_the_report_says_what_was_done(trained):
    detector, seen = trained
    report = detector.training_report
    assert report.best == min(report.checks, key=lambda c: c.loss)
    assert report.steps == report.checks[-1].step <= report.planned_steps == 30
    assert (report.n_train, report.n_validation) == (60, 20)  # two of eight groups: a fifth, in whole groups
    assert detector.card.run["training"]["best"]["auc"] == report.best.auc
    assert seen[-1][:2] == (report.steps, 30)
    assert "validation AUC" in seen[-1][2]


def test_a_seed_repeats_and_another_differs():
    pixels, labels, groups = material(12)
    short = CnnRecipe(steps=4, check_every=2, batch=8, crop_px=32, precision="float32")
    first, again, other = (
        NprDetector.fit(pixels, labels, seed=s, groups=groups, recipe=short, width=8).logits(pixels[:4])
        for s in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-4


def test_fitting_leaves_torchs_own_generator_alone():
    pixels, labels, groups = material(6)
    before = torch.random.get_rng_state()
    NprDetector.fit(pixels, labels, seed=0, groups=groups, recipe=CnnRecipe(steps=1, batch=4, crop_px=32), width=8)
    assert torch.equal(torch.random.get_rng_state(), before)


class Scripted(nn.Module):
    """Always right or wrong by the patch's colour; its one weight says how sure, so that the loss can be foretold."""

    def __init__(self, start):
        super().__init__()
        self.sure = nn.Parameter(torch.tensor(float(start)))

    def forward(self, pixels):
        return self.sure * (pixels.float().mean((1, 2, 3)) / 127.5 - 1)


def black_and_white(n=10):
    pixels = np.concatenate([np.zeros((n, 16, 16, 3), np.uint8), np.full((n, 16, 16, 3), 255, np.uint8)])
    return pixels, np.repeat([0, 1], n)


def fit_scripted(start, **fields):
    network = Scripted(start)
    pixels, labels = black_and_white()
    recipe = CnnRecipe(steps=40, check_every=4, batch=4, weight_decay=0, precision="float32", **fields)
    return network, fit_network(network, pixels, labels, recipe=recipe, seed=0)


def test_training_ends_at_once_when_it_is_good_enough():
    _, report = fit_scripted(6.0)
    assert report.ended_by == "good enough"
    assert report.steps == 4
    assert report.best.loss == pytest.approx(math.log1p(math.exp(-6.0)), abs=1e-3)


def test_training_ends_when_patience_does_and_the_best_weights_come_back():
    pixels, labels = black_and_white()
    groups = np.tile([0, 0, 1, 1, 1, 1, 1, 1, 1, 1], 2)
    # group 0 is labelled the wrong way round and set apart, so that every step makes the validation loss worse
    labels = np.where(groups == 0, 1 - labels, labels)
    seed = next(s for s in range(50) if validation_split(labels, groups, 0.2, np.random.default_rng(s))[0])
    network = Scripted(1.0)
    recipe = CnnRecipe(steps=40, check_every=4, batch=4, learning_rate=0.05, patience=2, precision="float32")
    report = fit_network(network, pixels, labels, groups=groups, recipe=recipe, seed=seed)
    assert report.ended_by == "patience"
    assert (report.best.step, report.steps) == (4, 12)
    # logits are -sure and +sure, all wrong: the loss tells which weight came back
    assert math.log1p(math.exp(network.sure.item())) == pytest.approx(report.best.loss, abs=1e-5)
    assert report.best.auc == 0


def test_a_budget_plans_fewer_steps_and_says_so():
    pixels, labels, groups = material(12)
    recipe = CnnRecipe(steps=100_000, check_every=2, batch=8, crop_px=32, patience=10**6, good_enough=0.0)
    detector = NprDetector.fit(pixels, labels, seed=0, groups=groups, recipe=recipe, width=8, budget_seconds=2.0)
    report = detector.training_report
    assert report.ended_by == "budget"
    assert report.steps < 100_000
    assert report.seconds < 6  # twice the budget and more, for a machine that stalls


def test_the_steps_that_fit_are_those_done_and_those_that_the_time_left_allows():
    assert steps_that_fit(10, 7.0, 0.5) == 24
    assert steps_that_fit(10, 7.4, 0.5) == 24
    assert steps_that_fit(10, -1.0, 0.5) == 10  # late already: no more


def test_the_cycle_rises_to_one_and_falls_to_zero():
    rates = [one_cycle(i / 100, 0.2) for i in range(101)]
    assert rates[20] == 1.0
    assert rates[100] == pytest.approx(0, abs=1e-12)
    assert all(a < b for a, b in itertools.pairwise(rates[:21]))
    assert all(a > b for a, b in itertools.pairwise(rates[20:]))


def test_bad_recipes_and_sets_are_named():
    with pytest.raises(ConfigError, match="batch must be even and at least 2, got 5"):
        CnnRecipe(batch=5)
    with pytest.raises(ConfigError, match="steps must be at least 1, got 0"):
        CnnRecipe(steps=0)
    with pytest.raises(ConfigError, match="warmup must be between 0 and 1, got 1"):
        CnnRecipe(warmup=1)
    with pytest.raises(ConfigError, match="crop_px must be at least 16 or None, got 8"):
        CnnRecipe(crop_px=8)
    pixels = np.zeros((4, 32, 32, 3), np.uint8)
    with pytest.raises(PatchError, match="at least 2 fake patches are needed"):
        NprDetector.fit(pixels, np.zeros(4, int), seed=0)

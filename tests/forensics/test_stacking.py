"""Stacking: evidence that is independent adds, evidence that is the same does not, noise gets no weight."""

import numpy as np
import pytest

from histoforensics.forensics.linear import grouped_folds
from histoforensics.forensics.stacking import cross_fitted_logits, fit_stack
from histoforensics.slides import ConfigError, PatchError

LABELS = np.repeat([0, 1], 4000)


def gaussian(seed, shift=1.0):
    """A member whose log-likelihood ratio is 2 x shift times its logit: unit variance about -shift and shift."""
    return np.random.default_rng(seed).standard_normal(len(LABELS)) + shift * (2 * LABELS - 1)


def test_independent_evidence_adds_up_and_is_calibrated():
    stack = fit_stack(np.stack([gaussian(0), 5 * gaussian(1) + 3], axis=1), LABELS)
    assert stack.scales == pytest.approx([2, 0.4], rel=0.1)
    assert stack.weights == pytest.approx([1, 1], abs=0.12)
    fused = stack.fused(np.array([[1.0, 8.0], [-1.0, -2.0]]))  # the second member's 8 and -2 are 1 and -1
    assert fused == pytest.approx([4, -4], rel=0.15)


def test_the_same_member_twice_shares_its_weight_and_noise_gets_none():
    one = gaussian(0)
    stack = fit_stack(np.stack([one, one, gaussian(1, shift=0)], axis=1), LABELS)
    assert stack.weights[:2] == pytest.approx([0.5, 0.5], abs=0.05)
    assert np.abs(stack.weights[2] * stack.llrs(np.ones((1, 3)))[0, 2]) < 0.05


def test_no_weight_is_negative_even_for_a_member_that_is_wrong():
    stack = fit_stack(np.stack([gaussian(0), -gaussian(1)], axis=1), LABELS)
    assert (stack.weights >= 0).all()
    assert (stack.scales > 0).all()


def test_a_stack_needs_both_classes_and_a_label_each():
    with pytest.raises(PatchError, match="a stack needs logits"):
        fit_stack(np.zeros((4, 2)), np.zeros(4, int))
    with pytest.raises(PatchError, match="a stack needs logits"):
        fit_stack(np.zeros(4), np.array([0, 1, 0, 1]))


def test_held_out_logits_never_come_from_a_member_that_saw_the_group(blurred_noise, monkeypatch):
    pixels, labels = blurred_noise(18, 32)
    groups = np.array([f"{label} {i % 6}" for i, label in enumerate(labels)])
    seen = []
    from histoforensics.forensics.radial import RadialDetector

    plain = RadialDetector.fit.__func__

    def spy(cls, p, y, **options):
        seen.append(set(options["groups"].tolist()))
        return plain(cls, p, y, **options)

    monkeypatch.setattr(RadialDetector, "fit", classmethod(spy))
    told = []
    whole, held_out = cross_fitted_logits(
        ["radial-lr"], pixels, labels, groups, seed=3, progress=lambda done, total, _: told.append((done, total))
    )
    fold = grouped_folds(labels, groups, np.random.default_rng(3), 3)
    assert [seen[k] & set(groups[fold == k]) for k in range(3)] == [set()] * 3
    assert seen[3] == set(groups)
    assert held_out.shape == (36, 1)
    assert (held_out[:, 0] != whole[0].logits(pixels)).all()
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_members_must_differ_and_folds_be_two_or_more(blurred_noise):
    pixels, labels = blurred_noise(4, 32)
    with pytest.raises(ConfigError, match="members must be different detectors, got"):
        cross_fitted_logits(["npr", "npr"], pixels, labels, None, seed=0)
    with pytest.raises(ConfigError, match="folds must be at least 2, got 1"):
        cross_fitted_logits(["npr"], pixels, labels, None, seed=0, folds=1)

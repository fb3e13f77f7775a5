"""Fusion: the weighed sum of its members, held-out fitting, and one folder that holds them all."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from histoforensics.forensics import DETECTORS, TrainingSet, load_detector, train_detector
from histoforensics.forensics.fusion import FusionDetector
from histoforensics.forensics.luma import logits_together
from histoforensics.slides import ConfigError, DetectorError, PatchError

FREQUENCY = ("radial-lr", "dct-ridge", "wht-lr")


@pytest.fixture(scope="module")
def fusion(blurred_noise):
    pixels, labels = blurred_noise(24, 32)
    return FusionDetector.fit(pixels, labels, seed=0, members=FREQUENCY)


def test_its_logit_is_the_weighed_sum_of_its_members(fusion, blurred_noise):
    test, truth = blurred_noise(20, 32, seed=1)
    logits = np.stack([member.logits(test) for member in fusion.detectors], axis=1)
    ours = (logits * fusion.scales.numpy() + fusion.biases.numpy()) @ fusion.weights.numpy() + fusion.intercept.item()
    np.testing.assert_allclose(fusion.logits(test), ours, rtol=1e-3, atol=1e-3)
    assert roc_auc_score(truth, fusion.logits(test)) >= 0.98


def test_sharing_the_luma_changes_no_logit(fusion, blurred_noise):
    pixels = torch.from_numpy(blurred_noise(4, 32)[0])
    with torch.inference_mode():
        together = logits_together(fusion.members, pixels)
        alone = torch.stack([member(pixels) for member in fusion.members], dim=1)
    torch.testing.assert_close(together, alone)


def test_one_folder_holds_the_fusion_and_its_members(blurred_noise, tmp_path):
    pixels, _ = blurred_noise(40, 32)
    data = TrainingSet(
        real=pixels[:20], fake=pixels[40:60], calibration_real=pixels[20:40], calibration_fake=pixels[60:]
    )
    options = {"members": ("radial-lr", "npr"), "member_options": {"npr": {"width": 4}}, "folds": 2}
    detector = train_detector("fusion", data, budget_seconds=4, options=options)
    loaded = load_detector(detector.save(tmp_path / "fusion"))
    assert [member.name for member in loaded.detectors] == ["radial-lr", "npr"]
    assert loaded.detectors[1].width == 4
    np.testing.assert_array_equal(loaded.score(data.real), detector.score(data.real))
    assert set(loaded.verdicts(loaded.score(data.real))) <= {"real", "fake", "unsure"}
    assert loaded.card.run["stack"]["members"] == ["radial-lr", "npr"]


def test_trained_detectors_are_stacked_on_patches_that_none_has_seen(blurred_noise):
    pixels, labels = blurred_noise(30, 32)
    more, truth = blurred_noise(20, 32, seed=2)
    members = [DETECTORS[name].fit(pixels, labels, seed=0) for name in ("radial-lr", "wht-lr")]
    fusion = FusionDetector.of(members, more, truth)
    assert roc_auc_score(truth, fusion.logits(more)) >= 0.98
    from histoforensics.forensics.leaks import sha256_of_patches

    members[0].seen = {"training": sha256_of_patches(more[:3])}
    with pytest.raises(PatchError, match="3 patches are in both the training and the fusion's patches"):
        FusionDetector.of(members, more, truth)


def test_members_of_two_sizes_one_alone_and_unknown_ones_are_refused(blurred_noise, fusion):
    pixels, labels = blurred_noise(6, 32)
    with pytest.raises(ConfigError, match="members must be two or more, got 1"):
        FusionDetector.fit(pixels, labels, seed=0, members=("radial-lr",))
    with pytest.raises(DetectorError, match="unknown detector 'fft'"):
        FusionDetector.fit(pixels, labels, seed=0, members=("radial-lr", "fft"))
    other = DETECTORS["radial-lr"](48)
    with pytest.raises(DetectorError, match=r"fusion: members judge patches of \[32, 48\] px; one size is wanted"):
        FusionDetector.assembled([fusion.detectors[0], other], None)

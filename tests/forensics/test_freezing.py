"""Freezing takes a split of its own: what trained or will test the detector is refused, byte for byte."""

import numpy as np
import pytest

from histoforensics.forensics.freezing import freeze
from histoforensics.forensics.leaks import sha256_of_patches
from histoforensics.forensics.radial import RadialDetector
from histoforensics.slides import PatchError


@pytest.fixture
def fitted(blurred_noise):
    pixels, labels = blurred_noise(20, 32)
    detector = RadialDetector.fit(pixels, labels, seed=0)
    detector.seen = {"training": sha256_of_patches(pixels)}
    return detector


def test_thresholds_domain_and_hashes_go_into_the_card(fitted, blurred_noise):
    pixels, _ = blurred_noise(30, 32, seed=1)
    calibration = freeze(fitted, pixels[:30], pixels[30:], real_groups=np.arange(30) // 3)
    assert fitted.is_calibrated
    assert fitted.card.calibration == calibration
    assert calibration.real_groups == calibration.conformal.real.observations == 10
    assert fitted.card.domain.n == 60
    assert set(fitted.card.splits) == {"training", "calibration"}
    with pytest.raises(PatchError, match="1 patch is in both the calibration and the test patches"):
        fitted.refuse_seen(pixels[3:4])


def test_test_and_training_patches_are_refused(fitted, blurred_noise):
    pixels, _ = blurred_noise(10, 32, seed=1)
    with pytest.raises(PatchError, match="2 patches are in both the test and the calibration patches"):
        freeze(fitted, pixels[:10], pixels[10:], test=sha256_of_patches(pixels[8:10]))
    trained_on, _ = blurred_noise(20, 32)
    with pytest.raises(PatchError, match="1 patch is in both the training and the calibration patches"):
        freeze(fitted, np.concatenate([pixels[:10], trained_on[:1]]), pixels[10:])
    with pytest.raises(PatchError, match="10 patches are in both the real calibration and the fake calibration"):
        freeze(fitted, pixels[:10], pixels[:10])
    with pytest.raises(PatchError, match="the calibration split has no fake patches"):
        freeze(fitted, pixels[:10], pixels[:0])
    with pytest.raises(PatchError, match="crop them on the 16-px grid"):
        freeze(fitted, pixels[:10, :16, :16], pixels[10:])
    assert not fitted.is_calibrated

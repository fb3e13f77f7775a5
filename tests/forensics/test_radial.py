"""The radial spectrum against a slow loop, closed forms and published lengths; its detector against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from histoforensics.forensics.luma import luma
from histoforensics.forensics.radial import RadialDetector, radial_means, radial_profile
from histoforensics.slides import ConfigError


def slow_profile(grey, compat):
    """The profile by its definition: every coefficient of the full spectrum visited, in double precision."""
    size = len(grey)
    loud = 20 * np.log(np.abs(np.fft.fftshift(np.fft.fft2(grey))) + 1e-8)
    centre = (size - 1) / 2 if compat else size // 2
    sums, counts = {}, {}
    for y in range(size):
        for x in range(size):
            r = int(np.hypot(y - centre, x - centre))
            sums[r] = sums.get(r, 0) + loud[y, x]
            counts[r] = counts.get(r, 0) + 1
    profile = np.array([sums[r] / counts[r] for r in sorted(sums)])
    return profile[1:-1] if compat else profile


@pytest.mark.parametrize("compat", [None, "durall"])
@pytest.mark.parametrize("size", [32, 33, 64])
def test_profile_equals_the_slow_loop(size, compat):
    grey = np.random.default_rng(size).integers(0, 256, (size, size)).astype(np.float32)
    got = radial_profile(torch.from_numpy(grey[None]), compat)[0].numpy()
    assert np.abs(got - slow_profile(grey.astype(np.float64), compat)).max() < 1e-3


@pytest.mark.parametrize(
    ("size", "length"),
    [(32, 20), (64, 43), (96, 66), (128, 88), (224, 156), (256, 179), (299, 209), (512, 360)],
)
def test_durall_profile_has_the_published_length(size, length):
    assert radial_means(size, "durall").shape[1] == length


def test_circles_about_dc_hold_1_8_16_20_24_coefficients():
    full = np.full((64, 33), 2.0)
    full[:, [0, 32]] = 1  # how often each half-spectrum coefficient stands in the full one
    used = (radial_means(64) > 0).numpy() * full.reshape(-1, 1)
    assert used.sum(0)[:5].tolist() == [1, 8, 16, 20, 24]


def test_every_circle_is_an_average():
    for compat in (None, "durall"):
        np.testing.assert_allclose(radial_means(48, compat).sum(0), 1, atol=1e-5)


def test_wave_of_period_8_stands_at_radius_32_and_durall_splits_it():
    wave = np.cos(2 * np.pi * 32 * np.arange(256) / 256)[None].repeat(256, 0)
    magnitude = torch.from_numpy(np.abs(np.fft.rfft2(wave))).float().flatten()
    centred, durall = magnitude @ radial_means(256), magnitude @ radial_means(256, "durall")
    assert magnitude.max().item() == pytest.approx(256**2 / 2)
    assert torch.nonzero(centred > 1).flatten().tolist() == [32]
    assert torch.nonzero(durall > 1).flatten().tolist() == [30, 31]
    assert durall[[30, 31]].tolist() == pytest.approx([160.6, 157.5], abs=0.1)


def test_white_noise_is_flat_at_ten_times_ln_n_squared_minus_eulers_constant():
    noise = torch.randn(40, 256, 256, generator=torch.Generator().manual_seed(0))
    profile = radial_profile(noise, "durall").mean(0)
    wanted = 10 * (np.log(256**2) - np.euler_gamma)
    assert wanted == pytest.approx(105.131, abs=1e-3)
    assert profile.mean().item() == pytest.approx(wanted, abs=0.03)
    assert (profile - wanted).abs().max().item() < 0.8  # few coefficients lie in the innermost bins


@pytest.mark.parametrize("compat", [None, "durall"])
def test_folded_forward_equals_the_pipeline_of_scikit_learn(blurred_noise, compat):
    pixels, labels = blurred_noise(40, 32)
    detector = RadialDetector.fit(pixels, labels, seed=0, compat=compat, penalties=(10.0,))
    grey = luma(torch.from_numpy(pixels))
    features = radial_profile(grey, compat, detector.floor).double().numpy()[:, 0 if compat else 1 :]
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", tol=1e-8))
    wanted = pipeline.fit(features, labels).decision_function(features)
    assert np.abs(detector.logits(pixels) - wanted).max() < 2e-3
    assert detector.from_luma(grey).numpy() == pytest.approx(detector.logits(pixels), abs=1e-4)


def test_compatibility_is_saved_and_other_words_are_refused():
    assert RadialDetector(32, compat="durall").config() == {"patch_px": 32, "compat": "durall"}
    with pytest.raises(ConfigError, match="compat must be None or \"durall\", got 'dural'"):
        RadialDetector(32, compat="dural")

"""The cosine spectrum against SciPy, Parseval and the statistics of white noise; its detector against scikit-learn."""

import numpy as np
import pytest
import torch
from scipy import fft
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from histoforensics.forensics.dct import DCTDetector, dct2, log_dct, packed_dct
from histoforensics.forensics.luma import ROUNDING_VARIANCE, luma


@pytest.mark.parametrize("size", [8, 15, 112, 256])
def test_dct_equals_scipys_in_double_precision(size):
    grey = np.random.default_rng(size).uniform(0, 255, (2, size, size))
    assert np.abs(dct2(torch.from_numpy(grey)).numpy() - fft.dctn(grey, axes=(1, 2), norm="ortho")).max() < 2e-10


def test_dct_equals_scipys_in_single_precision_to_six_thousandths():
    grey = np.random.default_rng(0).integers(0, 256, (1, 256, 256)).astype(np.float32)
    wanted = fft.dctn(grey.astype(np.float64), axes=(1, 2), norm="ortho")
    assert np.abs(dct2(torch.from_numpy(grey)).numpy() - wanted).max() < 6e-3


def test_dct_equals_the_product_with_the_orthonormal_cosine_matrix():
    grey = np.random.default_rng(0).uniform(0, 255, (24, 24))
    matrix = fft.dct(np.eye(24), axis=0, norm="ortho")
    np.testing.assert_allclose(dct2(torch.from_numpy(grey[None]))[0], matrix @ grey @ matrix.T, atol=1e-10)


def test_dct_keeps_energy():
    grey = torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (3, 64, 64)))
    assert torch.allclose(dct2(grey).square().sum((1, 2)), grey.square().sum((1, 2)), rtol=1e-12)


def test_constant_patch_has_only_dc():
    spectrum = log_dct(torch.full((1, 8, 8), 3.0, dtype=torch.float64), floor=1e-24)
    assert spectrum[0, 0, 0].item() == pytest.approx(np.log(24))
    assert spectrum[0].flatten()[1:].max().item() < np.log(1e-12) + 1


def test_log_of_white_noise_has_the_mean_and_variance_of_the_log_of_a_squared_normal():
    noise = torch.randn(20, 128, 128, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    spectrum = log_dct(noise)
    assert spectrum.mean().item() == pytest.approx(-(np.euler_gamma + np.log(2)) / 2, abs=0.01)
    assert spectrum.var().item() == pytest.approx(np.pi**2 / 8, abs=0.02)


def test_packed_halves_hold_every_coefficient_once():
    grey = torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (1, 9, 9)))
    packed, whole = packed_dct(grey), dct2(grey)
    assert packed.shape == (1, 9, 5)
    assert torch.allclose(packed.real, whole[..., :5])
    assert torch.allclose(-packed.imag[..., 1:], whole[..., 5:].flip(-1), atol=1e-9)


def test_folded_forward_equals_the_pipeline_of_scikit_learn(blurred_noise):
    pixels, labels = blurred_noise(40, 32)
    detector = DCTDetector.fit(pixels, labels, seed=0, copies=0, penalties=(100.0,))
    spectrum = (
        np.log(
            fft.dctn(luma(torch.from_numpy(pixels)).double().numpy(), axes=(1, 2), norm="ortho") ** 2
            + ROUNDING_VARIANCE
        )
        / 2
    )
    rows, columns = np.triu_indices(32)
    features = ((spectrum[:, rows, columns] + spectrum[:, columns, rows]) / 2)[:, 1:]
    pipeline = make_pipeline(StandardScaler(), RidgeClassifier(alpha=100.0, class_weight="balanced"))
    wanted = pipeline.fit(features, labels).decision_function(features)
    assert np.abs(detector.logits(pixels) - wanted).max() < 1e-3


def test_detector_scores_all_eight_views_alike(blurred_noise):
    pixels, labels = blurred_noise(20, 32)
    detector = DCTDetector.fit(pixels, labels, seed=0)
    for view in (pixels[:, ::-1], pixels[:, :, ::-1], pixels.transpose(0, 2, 1, 3)):
        np.testing.assert_allclose(detector.logits(view), detector.logits(pixels), atol=1e-4)


def test_detector_does_not_see_brightness(blurred_noise):
    pixels, labels = blurred_noise(20, 32)
    detector = DCTDetector.fit(pixels // 2, labels, seed=0, copies=0)
    np.testing.assert_allclose(detector.logits(pixels // 2 + 60), detector.logits(pixels // 2), atol=0.02)

"""Graphs of matrix products give what the fast transforms give."""

import numpy as np
import pytest
import torch

from histoforensics.forensics.controls import spectrum_slope
from histoforensics.forensics.exportgraphs import fourier_power, fourier_waves, portable_logits, slope_map
from histoforensics.forensics.luma import ROUNDING_VARIANCE
from histoforensics.forensics.radial import log_power
from histoforensics.forensics.registry import detector_class
from histoforensics.slides import DetectorError


@pytest.mark.parametrize("size", [32, 33])
def test_the_power_spectrum_by_products_is_numpys(size):
    grey = np.random.default_rng(0).normal(180, 4, (3, size, size)).astype(np.float32)
    wanted = np.abs(np.fft.rfft2(grey.astype(np.float64))) ** 2
    found = fourier_power(torch.from_numpy(grey), fourier_waves(size)).numpy()
    np.testing.assert_allclose(found[:, 0, 0], wanted[:, 0, 0], rtol=1e-5)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1.0)  # a millionth of the mean power


def test_a_bright_patch_keeps_its_faint_frequencies():
    ripple = np.cos(np.pi * np.arange(64)) * 0.01  # the highest frequency, at 1/20,000 of the brightness
    grey = torch.from_numpy((200 + np.tile(ripple, (64, 1))).astype(np.float32))[None]
    found = fourier_power(grey, fourier_waves(64))[0, 0, 32].sqrt().item()
    assert found == pytest.approx(64 * 64 * 0.01, rel=1e-3)


@pytest.mark.parametrize("size", [32, 33])
def test_the_slope_is_its_map_on_the_log_power(size):
    grey = torch.from_numpy(np.random.default_rng(1).normal(150, 20, (4, size, size)).astype(np.float32))
    power = log_power(grey, ROUNDING_VARIANCE * size**2)
    found = (power.flatten(1) @ slope_map(size).flatten()).numpy()
    np.testing.assert_allclose(found, spectrum_slope(grey)[:, 0].numpy(), atol=1e-4)


@pytest.mark.parametrize("name", ["morphology-lr", "cooccurrence"])
def test_what_is_measured_outside_of_a_graph_is_refused(name):
    with pytest.raises(DetectorError, match=rf"^{name}: cannot be exported, it measures .* through load_detector\.$"):
        portable_logits(detector_class(name)(64))

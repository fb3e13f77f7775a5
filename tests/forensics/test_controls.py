"""The controls find their cue where it is, and nothing where it is not."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from histoforensics.forensics.augment import jpeg
from histoforensics.forensics.controls import (
    BlockinessControl,
    ColourControl,
    SlopeControl,
    blockiness,
    colour_statistics,
    spectrum_slope,
)
from histoforensics.forensics.luma import luma


def test_luma_weighs_the_channels_as_jpeg_does():
    pixels = torch.tensor([[[[255, 0, 0], [0, 255, 0], [0, 0, 255], [200, 200, 200]]]], dtype=torch.uint8)
    assert luma(pixels).flatten().tolist() == pytest.approx([76.245, 149.685, 29.07, 200], abs=1e-3)


def test_colour_statistics_are_means_and_deviations_of_each_channel():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 20, 24, 3)).astype(np.uint8)
    wanted = np.concatenate([pixels.mean((1, 2)), pixels.std((1, 2))], axis=1)
    np.testing.assert_allclose(colour_statistics(torch.from_numpy(pixels)), wanted, rtol=1e-4)


def test_steps_on_the_jpeg_grid_stand_in_phase_0_and_move_with_the_crop():
    steps = (np.arange(64) // 8 * 10.0).astype(np.float32)
    grey = torch.from_numpy(np.stack([np.add.outer(steps, steps), np.add.outer(np.roll(steps, 3), np.roll(steps, 3))]))
    assert blockiness(grey).argmax(1).tolist() == [0, 3]


def test_grids_of_period_2_and_4_are_left_to_the_detectors():
    noise = torch.rand(1, 50, 50, generator=torch.Generator().manual_seed(0)) * 200
    for period in (2, 4):
        enlarged = noise.repeat_interleave(period, 1).repeat_interleave(period, 2)
        assert blockiness(enlarged).abs().max().item() < 0.2
    assert blockiness(noise.repeat_interleave(8, 1).repeat_interleave(8, 2)).max().item() > 3


def test_patch_without_a_grid_has_no_blockiness():
    noise = torch.randn(1, 400, 400, generator=torch.Generator().manual_seed(0)) * 20
    assert blockiness(noise).abs().max().item() < 0.03
    assert blockiness(torch.zeros(1, 32, 32)).abs().max().item() == pytest.approx(0, abs=1e-6)


def test_jpeg_raises_the_blockiness_of_drawn_tissue(tissue):
    before = blockiness(luma(torch.from_numpy(tissue(10, 96))))[:, 0].mean()
    after = blockiness(luma(torch.from_numpy(jpeg(tissue(10, 96), 50))))[:, 0].mean()
    assert after > before + 0.1


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_slope_of_a_power_law_is_its_exponent(exponent):
    n = 256
    k = np.hypot(np.fft.fftfreq(n, 1 / n)[:, None], np.fft.fftfreq(n, 1 / n)[None])
    phases = np.fft.fft2(np.random.default_rng(0).standard_normal((n, n)))
    image = np.fft.ifft2(phases / np.maximum(k, 1) ** (exponent / 2)).real * 1e3
    assert spectrum_slope(torch.from_numpy(image[None]).float()).item() == pytest.approx(-exponent, abs=0.12)


@pytest.mark.parametrize("control", [ColourControl, BlockinessControl, SlopeControl])
def test_controls_are_at_chance_on_twins(tissue, control):
    pixels = tissue(60, 64, seed=1)
    labels = np.arange(60) % 2
    detector = control.fit(pixels[:40], labels[:40], seed=0)
    assert 0.15 < roc_auc_score(labels[40:], detector.logits(pixels[40:])) < 0.85  # 10 against 10
    assert detector.kind == "control"


def test_each_control_finds_its_own_cue(tissue):
    real, labels = tissue(40, 64, seed=1), np.repeat([0, 1], 20)
    for control, change in (
        (ColourControl, lambda x: x // 2),
        (BlockinessControl, lambda x: jpeg(x, 40)),
        (SlopeControl, lambda x: x // 2 + np.roll(x, 1, 1) // 2),
    ):
        pixels = np.concatenate([real[:20], change(real[20:])])
        detector = control.fit(pixels[::2], labels[::2], seed=0)
        assert roc_auc_score(labels[1::2], detector.logits(pixels[1::2])) > 0.7, control.name

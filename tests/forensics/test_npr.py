"""The neighbour residual has its closed forms, and the network is the published one at full width."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.models import resnet50

from histoforensics.forensics import load_detector
from histoforensics.forensics.npr import NprDetector, neighbour_residual
from histoforensics.slides.errors import ConfigError


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_an_image_enlarged_by_nearest_neighbour_has_no_residual():
    enlarged = noise(2, 3, 16, 16).repeat_interleave(2, -1).repeat_interleave(2, -2)
    assert neighbour_residual(enlarged).abs().max() == 0
    assert neighbour_residual(enlarged[..., 1:, 1:]).abs().max() > 0  # and off its grid it has


def test_a_constant_has_no_residual():
    assert neighbour_residual(torch.full((1, 3, 8, 8), 7.0)).abs().max() == 0


def test_a_quarter_of_the_residual_is_zero_at_the_even_pixels():
    residual = neighbour_residual(noise(2, 3, 16, 16))
    zeros = residual == 0
    assert zeros.double().mean() == 0.25
    assert bool(zeros[..., ::2, ::2].all())


def test_the_residual_moves_with_a_shift_of_two_pixels_and_not_of_one():
    x = noise(1, 3, 20, 20)
    residual = neighbour_residual(x)
    torch.testing.assert_close(neighbour_residual(x[..., 2:, 2:]), residual[..., 2:, 2:], rtol=0, atol=0)
    assert (neighbour_residual(x[..., 1:, 1:]) - residual[..., 1:, 1:]).abs().max() > 0.1


def test_the_residual_of_a_hand_made_block():
    x = torch.tensor([[3.0, 6.0, 0.0], [0.0, 9.0, 3.0], [6.0, 3.0, 12.0]])[None, None]
    wanted = torch.tensor([[0.0, 2.0, 0.0], [-2.0, 4.0, 2.0], [0.0, -2.0, 0.0]])[None, None]
    torch.testing.assert_close(
        neighbour_residual(x), wanted
    )  # 2/3 of the difference; odd edges are blocks of their own


def test_full_width_has_the_published_number_of_parameters():
    assert sum(p.numel() for p in NprDetector(112, width=64).parameters()) == 1_437_761
    assert sum(p.numel() for p in NprDetector(112).parameters()) < 400_000


def test_the_stages_compute_what_torchvisions_resnet_50_does():
    ours = NprDetector(64, width=64).network[4:11].eval()
    reference = resnet50(weights=None)
    theirs = torch.nn.Sequential(*reference.layer1, *reference.layer2).eval()
    for mine, other in zip(ours, theirs, strict=True):
        for i, name in ((0, "conv1"), (1, "bn1"), (3, "conv2"), (4, "bn2"), (6, "conv3"), (7, "bn3")):
            mine.body[i].load_state_dict(getattr(other, name).state_dict())
        if other.downsample is not None:
            mine.shortcut.load_state_dict(other.downsample.state_dict())
    x = torch.randn(1, 64, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("px", [47, 48])
def test_odd_sizes_are_scored_like_even_ones(px):
    patches = np.random.default_rng(0).integers(0, 256, (3, px, px, 3), dtype=np.uint8)
    scores = NprDetector(px, width=8).score(patches)
    assert scores.shape == (3,)
    assert np.isfinite(scores).all()


def test_a_saved_detector_scores_the_same_after_loading(tmp_path):
    detector = NprDetector(48, width=8).eval()
    patches = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 3), dtype=np.uint8)
    loaded = load_detector(detector.save(tmp_path / "npr"))
    assert isinstance(loaded, NprDetector)
    assert loaded.width == 8
    np.testing.assert_allclose(loaded.score(patches), detector.score(patches), rtol=1e-5)


def test_a_width_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="width must be a whole number of at least 4, got 0"):
        NprDetector(112, width=0)

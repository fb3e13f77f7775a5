"""A truncated Xception: the published sizes, a map of small windows, and a fake half found where it is."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from histoforensics.forensics import CnnRecipe, load_detector
from histoforensics.forensics.xception import XceptionDetector
from histoforensics.slides import ConfigError, PatchError


@pytest.mark.parametrize(("blocks", "published", "channels"), [(1, 55_010, 128), (2, 191_330, 256)])
def test_at_full_width_it_has_the_published_parameters_less_one_of_two_outputs(blocks, published, channels):
    network = XceptionDetector(64, width=32, blocks=blocks)
    assert sum(p.numel() for p in network.parameters()) == published - (channels + 1)


@pytest.mark.parametrize(("px", "blocks", "edge"), [(299, 1, 74), (299, 2, 37), (256, 1, 63), (256, 2, 32)])
def test_maps_have_the_published_size(px, blocks, edge):
    with torch.inference_mode():
        maps = XceptionDetector(px, width=4, blocks=blocks).maps(torch.zeros(1, px, px, 3, dtype=torch.uint8))
    assert maps.shape == (1, edge, edge)


@pytest.mark.parametrize(("blocks", "field"), [(1, 19), (2, 43)])
def test_one_window_sees_the_published_field(blocks, field):
    network = XceptionDetector(128, width=4, blocks=blocks).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.MaxPool2d):  # a maximum passes one gradient on; a mean shows all that it sees
            module.forward = torch.nn.AvgPool2d(3, 2, 1).forward
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.constant_(module.weight, 0.01)
    x = torch.rand(1, 3, 128, 128, requires_grad=True)
    out = network.network(x)
    out[0, 0, out.shape[2] // 2, out.shape[3] // 2].backward()
    seen = torch.nonzero(x.grad[0].abs().sum(0).sum(0)).flatten()
    assert int(seen.max() - seen.min()) + 1 == field


def test_the_heatmap_shows_which_half_was_enlarged_and_the_detector_loads_again(tissue, standin, tmp_path):
    real = tissue(40, 64)
    fake = standin(real, "nearest")
    labels = np.repeat([0, 1], 40)
    recipe = CnnRecipe(steps=80, crop_px=None, learning_rate=4e-3)
    detector = XceptionDetector.fit(np.concatenate([real, fake]), labels, seed=0, recipe=recipe, width=8)
    test = tissue(12, 64, seed=5)
    fakes = standin(test, "nearest")
    assert roc_auc_score(np.repeat([0, 1], 12), detector.logits(np.concatenate([test, fakes]))) >= 0.95
    mixed = np.concatenate([test[:, :, :32], fakes[:, :, 32:]], axis=2)
    heat = detector.heatmap(mixed)
    assert heat.shape == (12, 8, 8)
    assert heat.dtype == np.float32
    assert (heat[..., 6:].mean((1, 2)) > heat[..., :2].mean((1, 2))).mean() >= 0.9
    loaded = load_detector(detector.save(tmp_path / "xception"))
    np.testing.assert_array_equal(loaded.heatmap(mixed), heat)


def test_a_patchs_logit_is_the_mean_of_its_windows():
    detector = XceptionDetector(48, width=4).eval()
    pixels = torch.randint(0, 256, (3, 48, 48, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(detector(pixels), detector.place_logits(pixels).mean(1))
    assert detector.heatmap(np.zeros((0, 48, 48, 3), np.uint8)).shape[0] == 0


def test_other_widths_cuts_and_patches_are_refused():
    with pytest.raises(ConfigError, match="width must be a whole number of at least 4, got 2"):
        XceptionDetector(48, width=2)
    with pytest.raises(ConfigError, match="blocks must be 1 or 2, got 5"):
        XceptionDetector(48, blocks=5)
    with pytest.raises(PatchError, match="patches are 32 x 32 px, but this detector judges 48 x 48 px"):
        XceptionDetector(48, width=4).heatmap(np.zeros((1, 32, 32, 3), np.uint8))

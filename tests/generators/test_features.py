"""Feature extractors by name, and networks of one's own with a weights file."""

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from histoforensics.generators import FEATURES, feature_extractor
from histoforensics.generators.features import DEFAULT_FEATURES
from histoforensics.slides import ConfigError, DetectorError, PatchError

PATCHES = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3)).astype(np.uint8)


def test_each_name_is_its_extractors_and_tells_the_resize():
    for name, make in FEATURES.items():
        extractor = make()
        assert extractor.name == name
        assert extractor.resize == f"bilinear, antialiased, to {name.rsplit('-', 1)[1]} px"
        assert extractor.features(PATCHES[:1]).shape == (1, extractor.dimensions)


def test_the_default_needs_no_file():
    assert feature_extractor().name == DEFAULT_FEATURES


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "mine.safetensors"
    torch.manual_seed(0)
    save_file(timm.create_model("resnet10t", pretrained=False).state_dict(), path)
    return path


def test_a_network_of_ones_own_gives_its_own_features(weights):
    extractor = feature_extractor("resnet10t", weights)
    network = timm.create_model("resnet10t", pretrained=False, checkpoint_path=str(weights)).eval()
    images = torch.tensor(PATCHES).permute(0, 3, 1, 2).float()
    images = torch.nn.functional.interpolate(images, (176, 176), mode="bilinear", antialias=True) / 255
    mean, std = (torch.tensor(network.default_cfg[k]).view(3, 1, 1) for k in ("mean", "std"))
    with torch.inference_mode():
        expected = network.forward_head(network.forward_features((images - mean) / std), pre_logits=True)
    assert extractor.name == "resnet10t with mine.safetensors"
    assert extractor.resize == "bilinear, antialiased, to 176 px"
    np.testing.assert_allclose(extractor.features(PATCHES, batch=2), expected.numpy(), atol=1e-4)


def test_what_is_no_extractor_is_refused(weights, tmp_path):
    with pytest.raises(
        ConfigError, match=r"features must be one of efficientnet-lite0-128, .+ with a weights file, got"
    ):
        feature_extractor("inception")
    with pytest.raises(ConfigError, match=r"features must be one of .+ or of timm, got 'no_such_net'"):
        feature_extractor("no_such_net", weights)
    with pytest.raises(DetectorError, match=r"mine\.safetensors: not weights of resnet18; its tensor 'conv1\.weight'"):
        feature_extractor("resnet18", weights)
    with pytest.raises(DetectorError, match=r"none\.pth: no such weights file"):
        feature_extractor("resnet18", tmp_path / "none.pth")
    with pytest.raises(PatchError, match=r"must be uint8 \(n, h, w, 3\), got float64"):
        feature_extractor("resnet10t", weights).features(np.zeros((1, 8, 8, 3)))

"""Any timm backbone becomes a detector, with weights only where they can be had."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors.torch
import timm
import torch

from histoforensics.forensics import load_detector
from histoforensics.forensics.resnet import ResnetDetector, keep_resolution
from histoforensics.generators.lite0 import lite0_state
from histoforensics.slides.errors import ConfigError, DetectorError

PATCHES = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 3), dtype=np.uint8)


@pytest.mark.parametrize("backbone", ["resnet10t", "resnet18", "tf_efficientnet_lite0", "regnetx_002"])
def test_backbones_of_several_families_give_one_logit_a_patch(backbone):
    scores = ResnetDetector(48, backbone).score(PATCHES)
    assert scores.shape == (3,)
    assert scores.dtype == np.float32


def test_patches_are_scaled_as_the_backbone_was_pretrained():
    detector = ResnetDetector(48, "tf_efficientnet_lite0")  # mean and deviation 0.5
    images = detector.images(torch.tensor(PATCHES))
    np.testing.assert_allclose(images.numpy().transpose(0, 2, 3, 1), PATCHES / 127.5 - 1, atol=1e-6)


def test_pretrained_weights_are_in_the_backbone_and_not_in_the_head():
    state = lite0_state()
    detector = ResnetDetector.build(48, backbone="tf_efficientnet_lite0", pretrained=True)
    got = detector.network.state_dict()
    torch.testing.assert_close(got["blocks.3.1.conv_dw.weight"], state["blocks.3.1.conv_dw.weight"])
    assert got["classifier.weight"].shape == (1, 1280)


def test_a_weights_file_of_a_backbone_is_taken_without_its_head(tmp_path):
    source = timm.create_model("resnet10t", num_classes=7)
    safetensors.torch.save_file(source.state_dict(), tmp_path / "mine.safetensors")
    detector = ResnetDetector.build(48, weights=tmp_path / "mine.safetensors")
    torch.testing.assert_close(detector.network.state_dict()["layer1.0.conv1.weight"], source.layer1[0].conv1.weight)


def test_weights_that_do_not_fit_are_named(tmp_path):
    safetensors.torch.save_file({"conv1.weight": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(DetectorError, match=r"^other\.safetensors: these weights do not fit resnet10t"):
        ResnetDetector.build(48, weights=tmp_path / "other.safetensors")
    safetensors.torch.save_file({"spare": torch.ones(2)}, tmp_path / "few.safetensors")
    with pytest.raises(DetectorError, match=r"tensors are missing \['.*1 are unknown \['spare'\]"):
        ResnetDetector.build(48, weights=tmp_path / "few.safetensors")


def test_what_cannot_be_had_is_refused_with_the_way_out():
    with pytest.raises(
        DetectorError, match="no package brings pretrained weights of resnet18; use tf_efficientnet_lite0"
    ):
        ResnetDetector.build(48, backbone="resnet18", pretrained=True)
    with pytest.raises(DetectorError, match="timm knows no backbone 'resnet10x'"):
        ResnetDetector(48, "resnet10x")
    with pytest.raises(DetectorError, match="either pretrained or weights"):
        ResnetDetector.build(48, pretrained=True, weights="file.pth")


def test_a_saved_detector_scores_the_same_after_loading(tmp_path):
    detector = ResnetDetector(48, "regnetx_002").eval()
    loaded = load_detector(detector.save(tmp_path / "resnet"))
    assert isinstance(loaded, ResnetDetector)
    assert loaded.backbone == "regnetx_002"
    np.testing.assert_allclose(loaded.score(PATCHES), detector.score(PATCHES), rtol=1e-5)


def test_a_stem_without_stride_sees_four_times_as_many_places_each_way(tmp_path):
    with torch.inference_mode():
        coarse, fine = (
            ResnetDetector(48, stem_stride=stride).network.forward_features(torch.zeros(1, 3, 64, 64))
            for stride in (2, 1)
        )
    assert coarse.shape[-2:] == (2, 2)
    assert fine.shape[-2:] == (8, 8)
    detector = ResnetDetector.build(48, stem_stride=1)
    loaded = load_detector(detector.eval().save(tmp_path / "resnet"))
    assert loaded.config()["stem_stride"] == 1
    np.testing.assert_array_equal(loaded.logits(PATCHES), detector.logits(PATCHES))


def test_a_stride_that_is_no_stride_and_a_stem_without_one_are_refused():
    with pytest.raises(ConfigError, match="stem_stride must be 1 or 2, got 3"):
        ResnetDetector(48, stem_stride=3)
    with pytest.raises(DetectorError, match=r"^plain: no strided convolution in the stem"):
        keep_resolution(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3)), "plain")

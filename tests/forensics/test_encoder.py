"""A frozen encoder and a linear head: whose features they are, that they learn, and that a folder holds them."""

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from sklearn.metrics import roc_auc_score

from histoforensics.forensics import load_detector
from histoforensics.forensics.encoder import EncoderDetector
from histoforensics.generators.lite0 import EfficientNetLite0Features
from histoforensics.slides import DetectorError


def test_features_are_those_of_the_installed_package():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    detector = EncoderDetector.build(64).eval()
    with torch.inference_mode():
        ours = detector.features(torch.from_numpy(pixels)).numpy()
    theirs = EfficientNetLite0Features().features(pixels)  # scales by 127 and 128, and ours by 127.5 both
    assert ours.shape == (2, 1280)
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.99


def test_it_finds_enlarged_tissue_and_loads_again(tissue, standin, tmp_path):
    def both(count, kernel, seed):
        return np.concatenate([tissue(count, 64, seed), standin(tissue(count, 64, seed + 50), kernel)])

    detector = EncoderDetector.fit(both(24, "nearest", 1), np.repeat([0, 1], 24), seed=0, copies=0)
    test = both(12, "nearest", 2)
    assert roc_auc_score(np.repeat([0, 1], 12), detector.logits(test)) >= 0.9
    assert not any(p.requires_grad for p in detector.parameters())
    loaded = load_detector(detector.save(tmp_path / "encoder"))
    np.testing.assert_array_equal(loaded.logits(test), detector.logits(test))


def test_training_mode_leaves_the_encoder_as_it_was():
    detector = EncoderDetector(48, "resnet10t")
    detector.train()
    assert not detector.encoder.training


def test_weights_come_from_a_file_and_a_transformer_sees_its_own_size(tmp_path):
    source = timm.create_model("vit_tiny_patch16_224", num_classes=5)
    safetensors.torch.save_file(source.state_dict(), tmp_path / "mine.safetensors")
    pixels = np.random.default_rng(0).integers(0, 256, (6, 48, 48, 3), dtype=np.uint8)
    options = {"backbone": "vit_tiny_patch16_224", "weights": tmp_path / "mine.safetensors"}
    detector = EncoderDetector.fit(pixels, np.arange(6) % 2, seed=0, copies=0, **options)
    assert detector.input_px == 224
    torch.testing.assert_close(detector.encoder.state_dict()["pos_embed"], source.pos_embed.data)
    assert detector.logits(pixels).shape == (6,)


def test_missing_unknown_and_unsafe_weights_are_refused(tmp_path):
    with pytest.raises(DetectorError, match="encoder-linear: no package brings pretrained weights of resnet10t"):
        EncoderDetector.build(48, backbone="resnet10t")
    with pytest.raises(DetectorError, match="encoder-linear: timm knows no backbone 'uni9'"):
        EncoderDetector.build(48, backbone="uni9")
    torch.save({"state_dict": {"a": print}}, tmp_path / "code.pth")
    with pytest.raises(DetectorError, match=r"^code\.pth: not a weights file that is safe to read"):
        EncoderDetector.build(48, weights=tmp_path / "code.pth")


def test_stages_are_read_as_means_and_log_deviations_of_their_channels():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    cut = EncoderDetector.build(64, stages=(1, 2)).eval()
    whole = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    whole.load_state_dict(EncoderDetector.build(64).encoder.state_dict())
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1  # Lite0's normalisation
    with torch.inference_mode():
        found = cut.features(torch.from_numpy(pixels))
        x = whole.bn1(whole.conv_stem(images))
        maps = []
        for block in list(whole.blocks)[:3]:
            x = block(x)
            maps.append(x)
    wanted = [t for m in maps[1:] for t in (m.mean((2, 3)), (m.std((2, 3), correction=0) + 1e-3).log())]
    torch.testing.assert_close(found, torch.cat(wanted, dim=1), atol=1e-4, rtol=1e-4)
    assert sum(p.numel() for p in cut.encoder.parameters()) < sum(p.numel() for p in whole.parameters()) / 10


def test_an_encoder_cut_after_a_stage_loads_again_and_its_features_can_be_measured_before(tissue, standin, tmp_path):
    pixels, labels = np.concatenate([tissue(16, 64, 1), standin(tissue(16, 64, 51), "nearest")]), np.repeat([0, 1], 16)
    detector = EncoderDetector.fit(pixels, labels, seed=0, copies=0, stages=(1, 2))
    with torch.inference_mode():
        measured = detector.features(torch.from_numpy(pixels)).numpy()
    again = EncoderDetector.fit_measured(measured, labels, patch_px=64, seed=0, stages=(1, 2))
    loaded = load_detector(detector.save(tmp_path / "cut"))
    np.testing.assert_array_equal(loaded.logits(pixels), detector.logits(pixels))
    np.testing.assert_allclose(again.logits(pixels), detector.logits(pixels), atol=1e-3)


def test_stages_that_a_network_does_not_have_are_refused():
    with pytest.raises(DetectorError, match="encoder-linear: resnet10t has no stages to read; use an EfficientNet"):
        EncoderDetector(48, "resnet10t", (1,))
    with pytest.raises(DetectorError, match=r"stages must be different ones from 0 to 6, rising, got \(3, 2\)"):
        EncoderDetector(48, stages=(3, 2))

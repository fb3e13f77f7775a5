import numpy as np
import pytest
import torch
from torch import nn

from histoforensics.forensics import DETECTORS, Detector
from histoforensics.forensics.heatmaps import grad_cam, heatmap, last_layer
from histoforensics.forensics.npr import NprDetector
from histoforensics.forensics.resnet import ResnetDetector
from histoforensics.forensics.xception import XceptionDetector
from histoforensics.slides import DetectorError, PatchError

PX = 32


class Toy(Detector):
    """Logit: mean of red less mean of green; the answer of Grad-CAM is known, red alone is evidence for fake."""

    name = "toy"

    def __init__(self, patch_px):
        super().__init__(patch_px)
        self.network = nn.Sequential(
            nn.Conv2d(3, 2, 1, bias=False), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.head = nn.Linear(2, 1, bias=False)
        with torch.no_grad():
            self.network[0].weight.copy_(torch.eye(3)[:2, :, None, None])
            self.head.weight.copy_(torch.tensor([[1.0, -1.0]]))

    def forward(self, pixels):
        return self.head(self.network(pixels.permute(0, 3, 1, 2).float() / 255)).squeeze(1)

    @classmethod
    def fit(cls, pixels, labels, **options):
        raise NotImplementedError


@pytest.fixture
def coloured():
    pixels = np.zeros((3, PX, PX, 3), np.uint8)
    pixels[0, 4:12, 20:28, 0] = 200  # red, evidence for fake
    pixels[0, 20:28, 4:12, 1] = 200  # green, evidence for real
    pixels[1, 20:28, 4:12, 1] = 200
    pixels[2, :16, :, 0], pixels[2, 16:, :, 0] = 200, 50
    return pixels


def test_a_toy_whose_logit_is_red_less_green_looks_at_red(coloured):
    toy = Toy(PX)
    cams = grad_cam(toy, coloured)
    assert cams.dtype == np.float32
    assert cams[0] == pytest.approx((coloured[0, ..., 0] > 0).astype(float))
    assert not cams[1].any()  # nothing there speaks for fake
    assert cams[2, 0, 0] == 1
    assert cams[2, -1, 0] == pytest.approx(0.25)


def test_a_strided_layer_is_enlarged_to_the_patch(coloured):
    toy = Toy(PX)
    toy.network[0] = nn.Conv2d(3, 2, 4, 4, bias=False)
    with torch.no_grad():
        toy.network[0].weight.copy_((torch.eye(3)[:2, :, None, None] / 16).expand(2, 3, 4, 4))
    cams = grad_cam(toy, coloured, layer="network.0")
    assert cams.shape == (3, PX, PX)
    assert np.unravel_index(cams[0].argmax(), (PX, PX))[0] in range(4, 12)
    assert cams[0, 4:12, 20:28].mean() > 0.7
    assert cams[0, :, :16].max() == 0


def test_a_batch_changes_no_map_and_the_detector_is_left_as_it_was(coloured):
    toy = Toy(PX).train()
    assert grad_cam(toy, coloured, batch=2) == pytest.approx(grad_cam(toy, coloured, batch=1))
    assert toy.training
    assert all(p.grad is None for p in toy.parameters())
    assert not toy.network[0]._forward_hooks
    assert grad_cam(toy, coloured[:0]).shape == (0, PX, PX)


@pytest.mark.parametrize(
    ("kind", "options"), [(NprDetector, {}), (XceptionDetector, {"width": 4}), (ResnetDetector, {})]
)
def test_each_cnn_has_a_map_in_range_from_its_last_layer(kind, options):
    torch.manual_seed(0)
    detector = kind(64, **options).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    for maps in (grad_cam(detector, pixels), heatmap(detector, pixels)):
        assert maps.shape == (2, 64, 64)
        assert maps.min() >= 0
        assert maps.max() <= 1
    assert last_layer(detector)


def test_a_detector_with_its_own_map_gives_that_one():
    torch.manual_seed(0)
    detector = XceptionDetector(64, width=4).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    own = detector.heatmap(pixels)
    assert heatmap(detector, pixels).mean() == pytest.approx(own.mean(), abs=0.05)
    assert own.min() - 1e-6 <= heatmap(detector, pixels).min()


def test_no_layer_no_network_and_other_sizes_are_refused(coloured):
    with pytest.raises(DetectorError, match=r"no layer 'body'; the last one with a map is 'network\.1'"):
        grad_cam(Toy(PX), coloured, layer="body")
    with pytest.raises(DetectorError, match="layer 'head' gives no map"):
        grad_cam(Toy(PX), coloured, layer="head")
    with pytest.raises(DetectorError, match="wht-lr: no layer with a map of channels"):
        heatmap(DETECTORS["wht-lr"](PX), coloured)
    with pytest.raises(PatchError, match="this detector judges 16 x 16 px"):
        grad_cam(Toy(16), coloured)

"""The domain knows its own tissue, and tells blur, noise, another stain and another size from it."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from scipy import ndimage

from histoforensics.forensics.augment import add_noise, blur, stain_jitter
from histoforensics.forensics.luma import LUMA
from histoforensics.forensics.ood import Domain, appearance, mpp_doubt, sharpness, size_doubt


@pytest.fixture(scope="module")
def domain(tissue):
    patches = tissue(120, 48)
    return Domain.measure(patches[:60], blur(patches[60:], 0.6), np.arange(60) // 3)


def test_sharpness_is_the_variance_of_scipys_laplacian(tissue):
    pixels = tissue(3, 48)
    wanted = [np.log10(ndimage.laplace(p @ LUMA)[1:-1, 1:-1].var() + 1e-2) for p in pixels.astype(float)]
    np.testing.assert_allclose(sharpness(pixels), wanted, atol=1e-4)


def test_known_tissue_is_rarely_doubted(domain, tissue):
    doubts = domain.doubts(tissue(100, 48, seed=1))
    assert sum(doubt is not None for doubt in doubts) <= 6


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda p: blur(p, 3.0), "blurrier"),
        (lambda p: add_noise(p, 25.0, np.random.default_rng(0)), "sharper"),
        (lambda p: stain_jitter(p, 1.0, [0.5, 0.0, 0.0]), "colour and texture unlike"),
        (lambda p: 255 - p, "colour and texture unlike"),
    ],
)
def test_what_never_calibrated_is_doubted_with_its_reason(domain, tissue, change, word):
    doubts = domain.doubts(change(tissue(20, 48, seed=2)))
    assert np.mean([doubt is not None and doubt.startswith(word) for doubt in doubts]) >= 0.9


def test_units_of_a_feature_do_not_change_the_distance(tissue):
    patches = tissue(40, 48)
    assert appearance(patches).shape == (40, 10)
    assert np.isfinite(appearance(np.full((2, 48, 48, 3), 255, np.uint8))).all()


def test_json_brings_the_domain_back(domain):
    assert Domain.from_json(json.loads(json.dumps(asdict(domain)))) == domain


def test_too_few_patches_make_no_domain(tissue):
    assert Domain.measure(tissue(7, 48), tissue(20, 48, seed=1)) is None


def test_size_and_resolution_are_told_only_where_they_differ():
    assert size_doubt(112, 112, 112) is None
    assert size_doubt(96, 128, 112) == "128 x 96 px, but this detector judges 112 x 112 px"
    assert mpp_doubt(0.5, None) is mpp_doubt(None, 0.5) is mpp_doubt(0.54, 0.5) is mpp_doubt(float("nan"), 0.5) is None
    assert mpp_doubt(0.25, 0.5) == "0.25 um/px, but this detector was trained at 0.5 um/px"

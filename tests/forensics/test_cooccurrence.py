"""Co-occurrence matrices against scikit-image, and a detector that learns from them."""

import numpy as np
import pytest
import torch
from skimage.feature import graycomatrix
from sklearn.metrics import roc_auc_score

from histoforensics.forensics import load_detector
from histoforensics.forensics.cooccurrence import CooccurrenceDetector, cooccurrence
from histoforensics.slides import ConfigError

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 40, 48, 3), dtype=np.uint8)


def test_each_channel_is_scikit_images_matrix():
    ours = cooccurrence(torch.from_numpy(PIXELS)).numpy()
    assert ours.shape == (3, 3, 256, 256)
    for image, matrices in zip(PIXELS, ours, strict=True):
        for channel in range(3):
            theirs = graycomatrix(image[..., channel], [5], [0], 256, symmetric=True, normed=True)[:, :, 0, 0]
            np.testing.assert_allclose(matrices[channel], theirs, atol=1e-9)


def test_fewer_levels_are_scikit_images_of_the_shifted_values():
    ours = cooccurrence(torch.from_numpy(PIXELS), distance_px=2, levels=32).numpy()
    theirs = graycomatrix(PIXELS[0, ..., 1] // 8, [2], [0], 32, symmetric=True, normed=True)[:, :, 0, 0]
    np.testing.assert_allclose(ours[0, 1], theirs, atol=1e-9)


def test_a_constant_image_stands_in_one_place_and_no_patches_give_none():
    flat = cooccurrence(torch.full((1, 16, 16, 3), 77, dtype=torch.uint8))
    assert torch.nonzero(flat[0, 0]).tolist() == [[77, 77]]
    assert flat.sum((2, 3)).tolist() == [[1, 1, 1]]
    assert cooccurrence(torch.zeros(0, 16, 16, 3, dtype=torch.uint8)).shape == (0, 3, 256, 256)


def test_it_learns_and_loads_again(blurred_noise, tmp_path):
    pixels, labels = blurred_noise(40, 32)
    detector = CooccurrenceDetector.fit(pixels, labels, seed=0)
    test, truth = blurred_noise(30, 32, seed=1)
    assert roc_auc_score(truth, detector.logits(test)) >= 0.95
    loaded = load_detector(detector.save(tmp_path / "cooccurrence"))
    np.testing.assert_array_equal(loaded.logits(test), detector.logits(test))


def test_levels_outside_what_a_patch_can_fill_are_refused():
    with pytest.raises(ConfigError, match="levels must be a whole number from 2 to 64, got 256"):
        CooccurrenceDetector(32, levels=256)

"""Orientations and differentiable augmentations."""

import numpy as np
import pytest
import torch

from histoforensics.generators.augment import check_policy, diff_augment, orient, orientation_code
from histoforensics.slides import ConfigError


def test_the_eight_orientations_of_an_asymmetric_patch_are_eight_different_patches():
    patch = np.arange(3 * 3 * 3, dtype=np.uint8).reshape(3, 3, 3)
    seen = {orient(patch, code).tobytes() for code in range(8)}
    assert len(seen) == 8
    assert all(sorted(np.frombuffer(one, np.uint8)) == sorted(patch.ravel()) for one in seen)


def test_orientation_zero_is_the_patch_itself_and_four_its_mirror():
    patch = np.random.default_rng(0).integers(0, 256, (5, 5, 3)).astype(np.uint8)
    np.testing.assert_array_equal(orient(patch, 0), patch)
    np.testing.assert_array_equal(orient(patch, 4), patch[:, ::-1])


def test_an_orientation_past_seven_is_refused_in_one_sentence():
    with pytest.raises(ConfigError, match="code must be from 0 to 7, got 8"):
        orient(np.zeros((2, 2, 3), np.uint8), 8)


@pytest.mark.parametrize(("orientations", "codes"), [("none", {0}), ("mirror", {0, 4}), ("dihedral", set(range(8)))])
def test_each_set_of_orientations_is_used_evenly(orientations, codes):
    drawn = [orientation_code(orientations, u) for u in (np.arange(800) + 0.5) / 800]
    assert set(drawn) == codes
    counts = np.bincount(drawn)
    assert {int(counts[code]) for code in codes} == {800 // len(codes)}


def test_translation_moves_by_at_most_an_eighth_and_fills_the_rest():
    images = torch.ones(64, 1, 16, 16)
    moved = diff_augment(images, ("translation",), torch.Generator().manual_seed(0), fill=-5.0)
    lost = (moved == -5.0).flatten(1).sum(1)
    assert lost.max() <= 16 * 16 - 14 * 14
    assert (lost > 0).any()
    assert set(moved.unique().tolist()) == {-5.0, 1.0}


def test_translation_keeps_the_picture_that_it_moves():
    images = torch.zeros(1, 1, 16, 16)
    images[0, 0, 8, 8] = 1
    for seed in range(20):
        moved = diff_augment(images, ("translation",), torch.Generator().manual_seed(seed))
        y, x = divmod(int(moved.argmax()), 16)
        assert moved.sum() == 1
        assert max(abs(y - 8), abs(x - 8)) <= 2


def test_cutout_removes_at_most_a_quarter_and_lets_gradients_reach_what_remains():
    images = torch.ones(32, 3, 16, 16, requires_grad=True)
    cut = diff_augment(images, ("cutout",), torch.Generator().manual_seed(1))
    cut.sum().backward()
    removed = (cut[:, 0] == 0).flatten(1).sum(1)
    assert 0 < removed.max() <= 8 * 8
    torch.testing.assert_close(images.grad, (cut != 0).float())


def test_every_pixel_is_cut_out_about_equally_often():
    images = torch.ones(4000, 1, 8, 8)
    kept = diff_augment(images, ("cutout",), torch.Generator().manual_seed(2)).mean(0)[0]
    assert kept[2:6, 2:6].std() < 0.02


def test_equal_generators_give_equal_augmentations():
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    first, second = (
        diff_augment(images, ("translation", "cutout"), torch.Generator().manual_seed(7)) for _ in range(2)
    )
    assert torch.equal(first, second)


def test_an_unknown_policy_is_refused_with_the_known_ones_named():
    with pytest.raises(ConfigError, match="diff_augment must be made of translation, cutout, got 'color'"):
        check_policy(("cutout", "color"))

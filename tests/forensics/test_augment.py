"""Every augmentation changes what it should, as much as it says, and nothing else."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from PIL import Image
from skimage import data
from skimage.color import hed2rgb, rgb2hed

from histoforensics.forensics.augment import (
    Augmentation,
    add_noise,
    augment,
    blur,
    check_patches,
    dihedral,
    jpeg,
    resize,
    stain_jitter,
)
from histoforensics.slides.errors import ConfigError, PatchError


@pytest.fixture(scope="module")
def patches():
    image = data.immunohistochemistry()
    return np.stack([image[y : y + 112, x : x + 112] for y in (40, 200) for x in (30, 180, 330)])


def change(a, b):
    return np.mean((a.astype(float) - b.astype(float)) ** 2)


def test_jpeg_loses_more_at_each_lower_quality(patches):
    changes = [change(patches, jpeg(patches, q)) for q in (100, 95, 90, 80, 70, 60, 50, 40, 30)]
    assert all(a < b for a, b in itertools.pairwise(changes))


def test_jpeg_at_phase_zero_is_pillows_own(patches):
    stream = io.BytesIO()
    Image.fromarray(patches[0]).save(stream, "JPEG", quality=55, subsampling="4:2:0")
    np.testing.assert_array_equal(jpeg(patches[:1], 55)[0], np.asarray(Image.open(stream)))


def test_jpeg_again_on_the_same_grid_changes_little_and_on_another_grid_much(patches):
    once = jpeg(patches, 50, (3, 5))
    again, moved = jpeg(once, 50, (3, 5)), jpeg(once, 50, (7, 1))
    inner = (slice(None), slice(16, -16), slice(16, -16))  # the padding is not the same twice
    assert 4 * change(once[inner], again[inner]) < change(once[inner], moved[inner])


def test_the_phase_is_where_the_block_borders_are(patches):
    coded = jpeg(patches, 10, (5, 0), subsampling="4:4:4").astype(float)
    steps = np.abs(np.diff(coded, axis=1)).mean((0, 2, 3))  # step between rows i and i + 1
    by_phase = [steps[k::8].mean() for k in range(8)]
    assert int(np.argmax(by_phase)) == 2  # rows 0..2 end the block that began 5 px above


def test_blur_takes_more_detail_at_each_larger_sigma(patches):
    changes = [change(patches, blur(patches, s)) for s in (0.5, 0.8, 1, 1.5, 2, 3)]
    assert all(a < b for a, b in itertools.pairwise(changes))


def test_blur_of_an_impulse_is_the_gaussian():
    image = np.zeros((1, 31, 31, 3), np.uint8)
    image[0, 15, 15] = 255
    peak = blur(image, 1.0)[0, 15, 15, 0]
    taps = np.exp(-0.5 * np.arange(-4, 5) ** 2)
    assert peak == round(255 / taps.sum() ** 2)


def test_noise_has_the_sigma_it_is_given():
    grey = np.full((4, 112, 112, 3), 128, np.uint8)
    noisy = add_noise(grey, [0, 2, 4, 8], np.random.default_rng(0)).astype(float)
    np.testing.assert_allclose(
        noisy.std((1, 2, 3)), [0, np.sqrt(4 + 1 / 12), np.sqrt(16 + 1 / 12), np.sqrt(64 + 1 / 12)], rtol=0.02
    )
    np.testing.assert_allclose(noisy.mean((1, 2, 3)), 128, atol=0.15)


def test_stain_jitter_agrees_with_scikit_image():
    # scikit-image clips negative densities of a stain, we do not: colours mixed of all three, none near zero
    densities = np.random.default_rng(0).uniform(0.02, 0.06, (2, 40, 40, 3))
    before = np.rint(hed2rgb(densities) * 256 - 1).astype(np.uint8)
    gain = np.array([1.1, 0.92, 1.05])
    theirs = hed2rgb(rgb2hed((before + 1.0) / 256) * gain) * 256 - 1
    assert 20 < theirs.min() < theirs.max() < 250
    assert np.abs(stain_jitter(before, gain) - theirs).max() < 0.51
    assert change(before, stain_jitter(before, gain)) > 1


def test_no_gain_and_no_shift_give_the_patch_back(patches):
    np.testing.assert_array_equal(stain_jitter(patches, 1.0), patches)


def test_stain_jitter_changes_more_at_each_larger_gain(patches):
    changes = [change(patches, stain_jitter(patches, 1 + g)) for g in (0.01, 0.05, 0.1, 0.2, 0.4)]
    assert all(a < b for a, b in itertools.pairwise(changes))
    darker = [stain_jitter(patches, 1.0, s).mean() for s in (0, 0.05, 0.1)]
    assert darker[0] > darker[1] > darker[2]


def test_the_eight_turns_are_exact_distinct_and_undo_each_other(patches):
    turned = [dihedral(patches[:1], k)[0] for k in range(8)]
    np.testing.assert_array_equal(turned[1], np.rot90(patches[0]))
    np.testing.assert_array_equal(turned[4], np.fliplr(patches[0]))
    assert len({t.tobytes() for t in turned}) == 8
    for k in range(8):
        np.testing.assert_array_equal(np.sort(turned[k], axis=None), np.sort(patches[0], axis=None))
        undo = (4 - k) % 4 if k < 4 else k  # a turned mirror is its own inverse
        np.testing.assert_array_equal(dihedral(turned[k][None], undo)[0], patches[0])


def test_augment_keeps_shape_and_type_and_repeats_with_the_seed(patches):
    once = augment(patches, np.random.default_rng(3))
    again = augment(patches, np.random.default_rng(3))
    other = augment(patches, np.random.default_rng(4))
    assert once.shape == patches.shape
    assert once.dtype == np.uint8
    np.testing.assert_array_equal(once, again)
    assert not np.array_equal(once, other)


def test_augment_leaves_its_input_alone_and_with_nothing_chosen_changes_nothing(patches):
    before = patches.copy()
    still = Augmentation(jpeg=0, blur=0, noise=0, stain=0, dihedral=False)
    out = augment(patches, np.random.default_rng(0), still)
    np.testing.assert_array_equal(out, before)
    out[:] = 0
    np.testing.assert_array_equal(patches, before)


@pytest.mark.parametrize("name", ["jpeg", "blur", "noise", "stain", "resize"])
def test_each_probability_is_how_often_its_change_happens(name):
    grey = np.random.default_rng(0).integers(90, 160, (1, 32, 32, 3), dtype=np.uint8).repeat(400, axis=0)
    recipe = Augmentation(**{"jpeg": 0, "blur": 0, "noise": 0, "stain": 0, "dihedral": False} | {name: 0.4})
    changed = (augment(grey, np.random.default_rng(1), recipe) != grey).any((1, 2, 3)).mean()
    # binomial 3 sigma, and a blur or noise close to zero rounds away
    assert 0.4 - 0.075 - 0.12 < changed < 0.4 + 0.075


def test_a_resized_patch_is_pillows_cut_or_mirrored_to_its_old_size(patches):
    same, large, small = (resize(patches[:1], factor, 1)[0] for factor in (1, 2, 0.5))
    size = len(same)
    np.testing.assert_array_equal(same, patches[0])
    image = Image.fromarray(patches[0])
    bicubic = Image.Resampling.BICUBIC
    np.testing.assert_array_equal(large, np.asarray(image.resize((2 * size, 2 * size), bicubic))[:size, :size])
    half = np.asarray(image.resize((size // 2, size // 2), bicubic))
    np.testing.assert_array_equal(small[: size // 2, : size // 2], half)
    np.testing.assert_array_equal(small[: size // 2, size // 2 :], half[:, ::-1])


def test_no_patches_give_no_patches():
    assert augment(np.zeros((0, 16, 16, 3), np.uint8), np.random.default_rng(0)).shape == (0, 16, 16, 3)


@pytest.mark.parametrize(
    "bad", [np.zeros((2, 8, 8, 3), np.float32), np.zeros((8, 8, 3), np.uint8), np.zeros((2, 8, 8, 4), np.uint8)]
)
def test_what_is_not_uint8_rgb_is_refused(bad):
    with pytest.raises(PatchError, match=r"uint8 \(n, h, w, 3\)"):
        check_patches(bad)


def test_bad_strengths_are_named():
    patch = np.zeros((1, 16, 16, 3), np.uint8)
    with pytest.raises(ConfigError, match="quality must be from 1 to 100"):
        jpeg(patch, 0)
    with pytest.raises(ConfigError, match="phase must be from 0 to 15"):
        jpeg(patch, 50, (16, 0))
    with pytest.raises(ConfigError, match="sigma_px must be at least 0"):
        blur(patch, -1)
    with pytest.raises(ConfigError, match="sigma must be at least 0"):
        add_noise(patch, -1, np.random.default_rng(0))
    with pytest.raises(ConfigError, match="element must be from 0 to 7"):
        dihedral(patch, 8)
    with pytest.raises(PatchError, match="square ones are wanted"):
        dihedral(np.zeros((1, 8, 16, 3), np.uint8), 0)
    with pytest.raises(ConfigError, match=r"factor must be from 0\.1 to 10, got \[0\.0\]"):
        resize(patch, 0)
    with pytest.raises(ConfigError, match=r"resampling must be 0, 1 or 2, got \[3\]"):
        resize(patch, 2, 3)
    with pytest.raises(ConfigError, match=r"resize_factor must be two factors from 0\.1 to 10, rising, got \(2, 1\)"):
        Augmentation(resize_factor=(2, 1))
    with pytest.raises(ConfigError, match="blur must be a probability from 0 to 1, got 2"):
        Augmentation(blur=2)
    with pytest.raises(ConfigError, match="jpeg_quality must be two qualities"):
        Augmentation(jpeg_quality=(90, 30))

"""Stand-in fakes: enlargements against Pillow's and numpy's own, energy kept, and what a detector learns from them."""

import numpy as np
import pytest
from PIL import Image

from histoforensics.forensics import TrainingSet, auc
from histoforensics.forensics.augment import jpeg
from histoforensics.forensics.standins import (
    HELD_OUT_KERNELS,
    KERNELS,
    TRAIN_KERNELS,
    _filters,
    _fine,
    draw_kernels,
    enlarge,
    enrich,
    stand_ins,
)
from histoforensics.forensics.wht import WHTDetector
from histoforensics.slides import ConfigError, PatchError


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("name", "resampling"),
    [("bilinear", "BILINEAR"), ("bicubic", "BICUBIC"), ("lanczos", "LANCZOS"), ("nearest", "NEAREST")],
)
def test_fixed_kernels_enlarge_as_pillow_does(name, resampling):
    small = rng().uniform(0, 255, (1, 12, 16, 3)).astype(np.float32)
    ours = enlarge(small, _filters(KERNELS[name], 1, rng()))[0, ..., 1]
    theirs = np.asarray(Image.fromarray(small[0, ..., 1]).resize((32, 24), Image.Resampling[resampling]))
    edge = 6  # Pillow renormalises at the border, where ours repeats the last pixel
    np.testing.assert_allclose(ours[edge:-edge, edge:-edge], theirs[edge:-edge, edge:-edge], atol=1e-3)


def test_zero_insertion_keeps_each_pixel_and_puts_means_between():
    small = np.arange(6, dtype=np.float32).reshape(1, 1, 6, 1).repeat(6, 1).repeat(3, 3)
    large = enlarge(small, _filters(KERNELS["zero-insert"], 1, rng()))
    assert large[0, 0, :10, 0].tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5]


def test_kernels_keep_brightness_save_the_uneven_one_which_draws_a_checkerboard():
    flat = np.full((3, 8, 8, 3), 100, np.float32)
    for name, kernel in KERNELS.items():
        large = enlarge(flat, _filters(kernel, 3, rng()))
        four = large[0, 4:6, 4:6, 0]
        assert np.allclose(four, 100, atol=1e-3) != (name == "transposed"), name
    assert not np.allclose(_filters(KERNELS["shuffle"], 2, rng())[0], _filters(KERNELS["shuffle"], 2, rng())[1])


@pytest.mark.parametrize("name", list(KERNELS))
def test_stand_ins_have_the_fine_energy_and_the_colours_of_their_patches(tissue, name):
    pixels = tissue(4, 64)
    fakes = stand_ins(pixels, [name], rng())
    assert fakes.dtype == np.uint8
    assert fakes.shape == pixels.shape
    fine = [_fine(p.astype(np.float32)) for p in (pixels, fakes)]
    assert (fine[1] > 0.85 * fine[0]).all()
    assert (fine[1] < 1.15 * fine[0]).all() or name == "nearest"  # whose edges alone hold more
    np.testing.assert_allclose(fakes.mean((1, 2)), pixels.mean((1, 2)), atol=3)


def test_one_state_of_the_generator_gives_the_same_stand_ins(tissue):
    pixels = tissue(6, 32)
    np.testing.assert_array_equal(stand_ins(pixels, TRAIN_KERNELS, rng(3)), stand_ins(pixels, TRAIN_KERNELS, rng(3)))
    assert (stand_ins(pixels, TRAIN_KERNELS, rng(4)) != stand_ins(pixels, TRAIN_KERNELS, rng(3))).any()


def test_kernels_are_drawn_equally_often_and_the_tables_do_not_overlap():
    drawn = draw_kernels(12, ["bilinear", "nearest", "smooth"], rng())
    assert np.unique(drawn, return_counts=True)[1].tolist() == [4, 4, 4]
    assert not set(TRAIN_KERNELS) & set(HELD_OUT_KERNELS)
    assert set(TRAIN_KERNELS) | set(HELD_OUT_KERNELS) == set(KERNELS)


def test_what_cannot_be_halved_or_enlarged_is_refused():
    with pytest.raises(PatchError, match="patches of 33 x 32 px cannot be halved"):
        stand_ins(np.zeros((1, 32, 33, 3), np.uint8), ["bilinear"], rng())
    with pytest.raises(PatchError, match="patches must be uint8"):
        stand_ins(np.zeros((1, 32, 32, 3)), ["bilinear"], rng())
    with pytest.raises(ConfigError, match="unknown kernel 'sharp'; kernels are bilinear, "):
        stand_ins(np.zeros((1, 32, 32, 3), np.uint8), ["sharp"], rng())
    with pytest.raises(ConfigError, match="kernels must be one or more, got 0"):
        stand_ins(np.zeros((1, 32, 32, 3), np.uint8), [], rng())


@pytest.fixture
def data(tissue):
    a, b, c, d = (tissue(8, 32, seed=s) for s in range(4))
    return TrainingSet(real=a, fake=b, calibration_real=c, calibration_fake=d, fake_groups=np.repeat(["gan"], 8))


def test_a_share_of_the_fakes_are_stand_ins_and_reals_stay(data):
    enriched = enrich(data, 0.5, rng(), kernels=("bilinear", "nearest"))
    assert enriched.real is data.real
    np.testing.assert_array_equal(enriched.fake[:8], data.fake)
    names, counts = np.unique(enriched.fake_groups, return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {
        "gan": 8,
        "stand-in bilinear": 4,
        "stand-in nearest": 4,
    }
    assert len(enriched.calibration_fake) == len(enriched.calibration_fake_groups) == 16
    assert enriched.provenance["stand_ins"]["share"] == 0.5
    assert enrich(data, 0, rng()) is data


def test_a_share_of_one_leaves_stand_ins_alone_one_for_each_real_patch(data):
    enriched = enrich(data, 1, rng())
    assert len(enriched.fake) == len(data.real)
    assert all(str(g).startswith("stand-in ") for g in enriched.fake_groups)


def test_stand_ins_take_the_path_that_is_given(data):
    enriched = enrich(data, 0.5, rng(), path=lambda pixels: np.full_like(pixels, 7))
    assert (enriched.fake[8:] == 7).all()
    assert (enriched.calibration_fake[8:] == 7).all()
    assert enriched.provenance["stand_ins"]["through_codec"]


def test_a_share_must_be_a_share_and_kernels_known(data):
    with pytest.raises(ConfigError, match=r"share must be from 0 to 1, got 1\.5"):
        enrich(data, 1.5, rng())
    with pytest.raises(ConfigError, match="unknown kernel 'sharp'"):
        enrich(data, 0.5, rng(), kernels=["sharp"])


def test_unseen_upsamplers_are_found_on_real_tissue_before_and_after_jpeg(glas):
    pixels, patients = glas
    held_out = np.isin(patients, np.unique(patients)[::3])
    train, test = pixels[~held_out][:150], pixels[held_out][:40]
    fakes = stand_ins(train, TRAIN_KERNELS, rng())
    detector = WHTDetector.fit(np.concatenate([train, fakes]), np.repeat([0, 1], len(train)), seed=0)
    truth = np.repeat([0, 1], len(test))
    for kernel in HELD_OUT_KERNELS:
        both = np.concatenate([test, stand_ins(test, [kernel], rng(4))])
        assert auc(truth, detector.logits(both)) >= 0.98, kernel
        assert auc(truth, detector.logits(jpeg(both, 70))) >= 0.95, kernel

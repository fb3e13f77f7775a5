"""Batches are balanced, validation is grouped, crops keep their phase."""

from __future__ import annotations

import numpy as np
import pytest

from histoforensics.forensics.batches import balanced_batches, random_crops, validation_split


def test_batches_are_half_and_half_and_use_every_patch_before_any_again():
    labels = np.repeat([0, 1], [30, 6])
    batches = balanced_batches(labels, np.arange(36), 12, np.random.default_rng(0))
    drawn = np.concatenate([next(batches) for _ in range(5)])
    assert (labels[drawn] == 1).sum() == 30
    assert np.unique(drawn[labels[drawn] == 0]).size == 30
    assert np.all(np.bincount(drawn[labels[drawn] == 1] - 30) == 5)


def test_real_groups_stay_whole_and_each_generator_is_in_both_parts():
    labels = np.repeat([0, 1], [60, 60])
    groups = np.array([f"block{i // 6}" for i in range(60)] + [f"gan{i // 20}" for i in range(60)], dtype=object)
    held_out = validation_split(labels, groups, 0.2, np.random.default_rng(3))
    for block in {g for g in groups if g.startswith("block")}:
        assert len(set(held_out[groups == block])) == 1
    for gan in ("gan0", "gan1", "gan2"):
        assert held_out[groups == gan].sum() == 4
    assert held_out[labels == 0].sum() == 12


def test_fakes_without_groups_are_set_apart_like_those_of_one_generator():
    labels = np.repeat([0, 1], 50)
    for fakes in (np.arange(50), np.zeros(50, int)):
        groups = np.array([f"real {i // 5}" for i in range(50)] + [f"fake {i}" for i in fakes])
        held_out = validation_split(labels, groups, 0.2, np.random.default_rng(0))
        assert held_out[labels == 1].sum() == held_out[labels == 0].sum() == 10


def test_a_block_shared_by_both_classes_is_set_apart_with_both():
    labels, groups = np.tile([0, 1], 30), np.repeat(np.arange(10), 6)
    held_out = validation_split(labels, groups, 0.2, np.random.default_rng(0))
    for block in range(10):
        assert len(set(held_out[groups == block])) == 1
    assert held_out.sum() == 12


@pytest.mark.parametrize("groups", [np.zeros(8), np.arange(8), np.array([0, 0, 0, 0, 1, 1, 1, 1]), np.tile([0, 1], 4)])
def test_the_smallest_sets_still_have_both_classes_in_both_parts(groups):
    labels = np.repeat([0, 1], 4)
    for seed in range(20):
        held_out = validation_split(labels, groups, 0.2, np.random.default_rng(seed))
        assert set(labels[held_out]) == set(labels[~held_out]) == {0, 1}


def test_crops_keep_the_eight_pixel_phase_and_reach_every_place():
    ys, xs = np.mgrid[0:48, 0:48].astype(np.uint8)
    pixels = np.stack([ys, xs, xs], -1)[None]
    crops = random_crops(pixels, np.zeros(300, dtype=int), 32, np.random.default_rng(0))
    assert crops.shape == (300, 32, 32, 3)
    corners = {(int(c[0, 0, 0]), int(c[0, 0, 1])) for c in crops}
    assert corners == {(y, x) for y in (0, 8, 16) for x in (0, 8, 16)}
    np.testing.assert_array_equal(random_crops(pixels, np.array([0]), None, np.random.default_rng(0)), pixels)
    np.testing.assert_array_equal(random_crops(pixels, np.array([0]), 64, np.random.default_rng(0)), pixels)

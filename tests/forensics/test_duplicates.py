"""Copies are found through compression, noise, another stain and a turn; different tissue and glass are not copies."""

import numpy as np
import pytest

from histoforensics.forensics.augment import add_noise, blur, dihedral, jpeg, stain_jitter
from histoforensics.forensics.duplicates import exact_duplicates, near_duplicates


def test_exact_ones_are_counted_within_and_between():
    assert exact_duplicates(["a", "b", "a", "a"]) == 2
    assert exact_duplicates(["a", "b", "a"], ["a", "c"]) == 2
    assert exact_duplicates(["a"], []) == 0


@pytest.mark.parametrize(
    "copy",
    [
        lambda p: jpeg(p, 30),
        lambda p: blur(p, 1.0),
        lambda p: add_noise(p, 10, np.random.default_rng(0)),
        lambda p: stain_jitter(p, 1.2, 0.1),
        lambda p: dihedral(p, np.arange(len(p)) % 8),
    ],
)
def test_treated_copies_are_found(tissue, copy):
    patches = tissue(16, 64)
    found = near_duplicates(copy(patches[4:12]), patches)
    assert {(pair.row, pair.other) for pair in found} >= {(i, i + 4) for i in range(8)}


def test_different_patches_and_glass_are_no_copies(glas):
    patches = glas[0][:200]
    glass = np.clip(np.random.default_rng(0).normal(240, 2, (5, *patches.shape[1:])), 0, 255).astype(np.uint8)
    assert near_duplicates(patches) == []
    assert near_duplicates(glass) == []
    assert near_duplicates(patches, glass) == []


def test_each_pair_within_a_set_counts_once(tissue):
    patches = tissue(6, 64)
    found = near_duplicates(np.concatenate([patches, patches[2:3, :, ::-1]]))
    assert [(pair.row, pair.other) for pair in found] == [(2, 6)]
    assert found[0].likeness == pytest.approx(1, abs=1e-5)
    assert near_duplicates(patches[:0], patches) == []

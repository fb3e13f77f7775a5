"""One-to-one matching against brute force, and features on patches made by hand."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from histoforensics.benchmarks.matching import colour_and_texture, match, standardise
from histoforensics.slides import ExamError


def test_match_has_the_least_sum_of_distances_of_all_assignments():
    rng = np.random.default_rng(0)
    targets, candidates = rng.normal(size=(4, 3)), rng.normal(size=(6, 3))
    costs = [
        sum(np.linalg.norm(targets[i] - candidates[j]) for i, j in enumerate(chosen))
        for chosen in permutations(range(6), 4)
    ]
    assert match(targets, candidates).distances.sum() == pytest.approx(min(costs))


def test_no_candidate_is_used_twice_even_if_it_is_nearest_to_all():
    targets = np.array([[0.0], [0.1], [0.2]])
    rows, distances = match(targets, np.array([[0.1], [5.0], [9.0], [7.0]]))
    assert sorted(rows) == [0, 1, 3]
    assert distances.shape == (3,)


def test_each_patch_finds_its_own_copy():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(8, 5))
    order = rng.permutation(8)
    rows, distances = match(features, features[order])
    assert (order[rows] == np.arange(8)).all()
    assert distances == pytest.approx(np.zeros(8))


def test_too_few_candidates_unequal_or_broken_features_are_refused():
    with pytest.raises(ExamError, match="3 patches want one match each, but there are only 2 candidates"):
        match(np.zeros((3, 2)), np.zeros((2, 2)))
    with pytest.raises(ExamError, match=r"must be \(n, 2\), got \(4, 5\)"):
        match(np.zeros((3, 2)), np.zeros((4, 5)))
    with pytest.raises(ExamError, match="1 features to match are not finite"):
        match(np.zeros((1, 2)), np.array([[0.0, np.nan]]))


def test_standardised_features_have_no_unit_and_constant_ones_survive():
    reference = np.array([[0.0, 7.0], [2.0, 7.0]])
    assert standardise(reference * [[10, 1]], reference * [[10, 1]]).tolist() == [[-1, 0], [1, 0]]


def test_a_flat_patch_has_its_density_and_no_texture():
    features = colour_and_texture(np.full((1, 32, 32, 3), 25, np.uint8))
    density = -np.log10(26 / 256)
    assert features[0, :3] == pytest.approx([density] * 3)
    assert features[0, 3:6] == pytest.approx([0] * 3, abs=1e-12)
    assert features[0, -4:] == pytest.approx([-6] * 4)


def test_a_checkerboard_has_all_its_energy_in_the_finest_octave():
    board = np.indices((32, 32)).sum(axis=0) % 2 * 200
    octaves = colour_and_texture(np.repeat(board[None, :, :, None], 3, axis=3).astype(np.uint8))[0, -4:]
    assert octaves[0] == pytest.approx(np.log10(np.log10(201) / 2), abs=1e-4)
    assert octaves[1:] == pytest.approx([-6] * 3)


def test_paler_and_rougher_patches_are_told_apart():
    rng = np.random.default_rng(2)
    pale = rng.integers(200, 210, (1, 64, 64, 3), dtype=np.uint8)
    dark, rough = pale // 4, rng.integers(150, 255, (1, 64, 64, 3), dtype=np.uint8)
    features = colour_and_texture(np.concatenate([pale, pale[:, ::-1], dark, rough]))
    near, far, rougher = (np.linalg.norm(features[0] - features[i]) for i in (1, 2, 3))
    assert near < 1e-3
    assert min(far, rougher) > 1

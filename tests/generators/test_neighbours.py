"""The check for copies: a copied patch is found in any orientation, and honest ones are not accused."""

import numpy as np
import pytest

from histoforensics.generators.augment import orient
from histoforensics.generators.neighbours import all_orientations, memorisation, nearest
from histoforensics.slides import PatchError

RNG = np.random.default_rng(0)
TRAINING = RNG.integers(0, 256, (6, 4, 4, 3)).astype(np.uint8)


def flat(pixels):
    return pixels.reshape(len(pixels), -1).astype(float) - 128


@pytest.mark.parametrize("code", range(8))
def test_a_turned_copy_is_found_with_its_orientation(code):
    copy = orient(TRAINING[4], code)[None]
    found = nearest(flat(copy), flat(all_orientations(TRAINING)))
    assert (found.index[0], found.orientation[0]) == (4, code)
    assert found.distance[0] == pytest.approx(0, abs=1e-6)


def test_distances_are_those_of_directions():
    targets = np.repeat(np.array([[1.0, 0.0]]), 8, axis=0)
    found = nearest(np.array([[0.0, 7.0], [5.0, 0.0], [-1.0, 0.0]]), targets)
    np.testing.assert_allclose(found.distance, [np.sqrt(2), 0, 2], atol=1e-7)


def test_a_generator_that_copies_is_found_out_and_one_that_does_not_is_not():
    rng = np.random.default_rng(1)
    training, held_out, honest = (rng.normal(size=(n, 5)) for n in (80, 400, 400))
    copies = training[rng.integers(80, size=400)] + rng.normal(scale=1e-3, size=(400, 5))
    assert memorisation(copies, held_out, training).share_below > 0.99
    share = memorisation(honest, held_out, training).share_below
    assert 0.05 - 3 * 0.0155 < share < 0.05 + 3 * 0.0155  # two samples of 400: the difference's standard error


def test_the_threshold_is_the_fifth_percentile_of_the_held_out_distances():
    angles = np.linspace(0.01, 1.0, 101)
    held_out = np.stack([np.cos(angles), np.sin(angles)], 1)
    training = np.repeat(np.array([[1.0, 0.0]]), 8, axis=0)
    found = memorisation(held_out, held_out, training)
    assert found.threshold == pytest.approx(2 * np.sin(angles[5] / 2))
    assert found.share_below == pytest.approx(5 / 101)
    assert found.to_json()["median_held_out"] == pytest.approx(2 * np.sin(angles[50] / 2))


def test_features_of_length_nothing_have_a_distance():
    assert np.isfinite(nearest(np.zeros((1, 3)), np.ones((8, 3))).distance).all()


@pytest.mark.parametrize(("queries", "targets"), [(0, 8), (3, 0), (3, 7)])
def test_patches_that_are_not_in_eight_orientations_are_refused(queries, targets):
    with pytest.raises(PatchError, match="patches in eight orientations are wanted"):
        nearest(np.ones((queries, 2)), np.ones((targets, 2)))

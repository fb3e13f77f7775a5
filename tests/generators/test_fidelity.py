"""KID, Frechet distance, precision and recall against torchmetrics, closed forms and hand-made samples."""

import numpy as np
import pytest
import torch
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.kid import poly_mmd

from histoforensics.generators.fidelity import (
    frechet_distance,
    frechet_is_singular,
    kernel_distance,
    polynomial_mmd,
    precision_recall,
    squared_distances,
)
from histoforensics.slides import PatchError


def normal(seed, n, d, shift=0.0, scale=1.0):
    return np.random.default_rng(seed).normal(shift, scale, (n, d))


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_the_mmd_is_torchmetrics(shift):
    x, y = normal(0, 40, 16), normal(1, 40, 16, shift)
    theirs = float(poly_mmd(torch.tensor(x), torch.tensor(y)))
    assert polynomial_mmd(x, y) == pytest.approx(theirs, abs=1e-10)


def test_the_mmd_takes_samples_of_two_sizes_and_sums_as_the_definition_says():
    x, y = normal(2, 5, 3), normal(3, 7, 3)

    def k(a, b):
        return float((a @ b / 3 + 1) ** 3)

    within_x = sum(k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j) / 20
    within_y = sum(k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j) / 42
    across = sum(k(a, b) for a in x for b in y) / 35
    assert polynomial_mmd(x, y) == pytest.approx(within_x + within_y - 2 * across)


def test_kid_is_unbiased_and_rises_with_the_distance():
    rng = np.random.default_rng(0)
    values = [polynomial_mmd(normal(2 * s, 20, 4), normal(2 * s + 1, 20, 4)) for s in range(300)]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(300)  # 0 where both are of one distribution
    near, far = (kernel_distance(normal(0, 200, 4), normal(1, 200, 4, shift), rng).mean for shift in (0.3, 1.0))
    assert 0 < near < far


def test_kid_subsets_are_at_most_half_of_the_smaller_sample_and_fixed_by_the_random_numbers():
    x, y = normal(0, 100, 4), normal(1, 31, 4)
    first, again = (kernel_distance(x, y, np.random.default_rng(5), subsets=10) for _ in range(2))
    assert first == again
    assert first.subset_size == 15
    assert first.std > 0
    assert kernel_distance(x, y, np.random.default_rng(5), subset_size=7).subset_size == 7


def test_the_frechet_distance_is_torchmetrics():
    x, y = normal(0, 300, 12), normal(1, 200, 12, 0.5, 1.5)
    pair = [(torch.tensor(a.mean(0)), torch.tensor(np.cov(a, rowvar=False))) for a in (x, y)]
    theirs = float(_compute_fid(*pair[0], *pair[1]))
    assert frechet_distance(x, y) == pytest.approx(theirs, rel=1e-6)


def test_the_frechet_distance_of_one_feature_is_the_closed_form():
    x, y = normal(0, 50, 1), normal(1, 60, 1, 2.0, 3.0)
    expected = (x.mean() - y.mean()) ** 2 + (x.std(ddof=1) - y.std(ddof=1)) ** 2
    assert frechet_distance(x, y) == pytest.approx(expected)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)


def test_the_frechet_distance_is_refused_where_the_covariance_is_singular():
    with pytest.raises(PatchError, match="Frechet distance: 12 patches do not outnumber the 12 features"):
        frechet_distance(normal(0, 12, 12), normal(1, 50, 12))
    assert frechet_is_singular(13, 50, 12) == ""


def test_precision_and_recall_of_a_hand_made_line():
    # with k = 1 the balls of 0, 1, 2, 3 reach to the next one; those of fakes at 0.5, 1.5, 9, 10 as well
    real, fake = (np.array(line, float)[:, None] for line in ((0, 1, 2, 3), (0.5, 1.5, 9, 10)))
    found = precision_recall(real, fake, k=1)
    assert (found.precision, found.recall, found.sample_size) == (0.5, 0.75, 4)  # 3 lies beyond 2.5


def test_precision_and_recall_at_their_ends():
    real, far = normal(0, 30, 3), normal(1, 30, 3, 100.0)
    assert precision_recall(real, real)[:2] == (1.0, 1.0)
    assert precision_recall(real, far)[:2] == (0.0, 0.0)
    one_mode = real[:1] + normal(2, 30, 3, 0.0, 1e-6)
    narrow = precision_recall(real, one_mode)
    assert narrow.precision == 1.0
    assert narrow.recall <= 1 / 30


def test_the_third_neighbour_sets_the_radius():
    real = np.array([0.0, 1.0, 2.0, 4.0])[:, None]  # third neighbours lie 4, 3, 2, 4 away
    fake = np.array([-3.9, 7.9, -4.1, 8.1])[:, None]
    assert precision_recall(real, fake).precision == 0.5


def test_of_the_larger_sample_as_many_are_taken_as_the_smaller_has():
    real = normal(0, 40, 3)
    assert precision_recall(real, real[:20]).sample_size == 20


def test_squared_distances_are_scipys():
    from scipy.spatial.distance import cdist

    x, y = normal(0, 9, 5), normal(1, 7, 5)
    np.testing.assert_allclose(squared_distances(x, y), cdist(x, y, "sqeuclidean"), atol=1e-12)
    assert (squared_distances(x + 1e8, x + 1e8) >= 0).all()


@pytest.mark.parametrize("measure", [polynomial_mmd, frechet_distance, precision_recall])
def test_samples_that_cannot_be_compared_are_refused(measure):
    with pytest.raises(
        PatchError, match=r"two samples of features \(n, d\) are wanted, got shapes \(5, 2\) and \(5, 3"
    ):
        measure(normal(0, 5, 2), normal(1, 5, 3))
    with pytest.raises(PatchError, match="patches on each side are wanted, got 1 and 5"):
        measure(normal(0, 1, 2), normal(1, 5, 2))

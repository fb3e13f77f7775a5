"""How near generated patches are to real ones in a space of features: KID, Frechet distance, precision and recall.

References: Binkowski et al. 2018, arXiv:1801.01401 (KID); Heusel et al. 2017, arXiv:1706.08500 (Frechet distance);
Kynkaanniemi et al. 2019, arXiv:1904.06991 (precision and recall).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from histoforensics.slides import PatchError

Features = NDArray[np.floating[Any]]

SUBSETS = 50
SUBSET_SIZE = 1000  # at most; and at most half of the smaller sample, so that subsets differ
NEIGHBOURS = 3  # of the manifolds of precision and recall, the authors' choice


class KernelDistance(NamedTuple):
    """KID over random subsets; 0 is expected of two samples of one distribution, so it may come out below 0."""

    mean: float
    std: float  # over the subsets: of one of them, not of the mean
    subset_size: int


class PrecisionRecall(NamedTuple):
    """Share of fakes within the reals' manifold, and of reals within the fakes'; higher is better, 0 to 1."""

    precision: float
    recall: float
    sample_size: int  # of each side


def polynomial_mmd(x: Features, y: Features) -> float:
    """The unbiased squared MMD of two samples (n, d) and (m, d) under the kernel (x.y / d + 1)^3; lower is closer.

    Raises:
        PatchError: If a sample has fewer than two members, or their features differ in number.

    References: Binkowski et al. 2018, eq. 4; Gretton et al. 2012, eq. 3.

    >>> x = np.array([[0.0], [1.0]])
    >>> polynomial_mmd(x, x)  # k(0, 1) + k(0, 1) - (k(0, 0) + 2 k(0, 1) + k(1, 1)) / 2
    -3.5
    """
    x, y = _checked(x, y, 2)
    d = x.shape[1]
    xx, yy, xy = ((a @ b.T / d + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    n, m = len(x), len(y)
    within = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(within - 2 * xy.mean())


def kernel_distance(
    x: Features,
    y: Features,
    rng: np.random.Generator,
    *,
    subsets: int = SUBSETS,
    subset_size: int = SUBSET_SIZE,
) -> KernelDistance:
    """KID of two samples (n, d) and (m, d): mean and standard deviation of `polynomial_mmd` over random subsets.

    Args:
        x: Features. y: Features.
        rng: Draws the subsets, without replacement.
        subsets: How many.
        subset_size: Members of each, at most; half of the smaller sample if that is less.

    Raises:
        PatchError: If a sample has fewer than four members, or their features differ in number.
    """
    x, y = _checked(x, y, 4)
    size = min(subset_size, len(x) // 2, len(y) // 2)
    values = [
        polynomial_mmd(x[rng.choice(len(x), size, replace=False)], y[rng.choice(len(y), size, replace=False)])
        for _ in range(subsets)
    ]
    return KernelDistance(float(np.mean(values)), float(np.std(values)), size)


def frechet_distance(x: Features, y: Features) -> float:
    """The squared Frechet distance of the normal distributions fitted to two samples; lower is closer, 0 at best.

    Raises:
        PatchError: If a sample does not outnumber its features: the covariance would be singular.

    References: Heusel et al. 2017, eq. 6, with the n - 1 covariance as in the authors' code.

    >>> x = np.random.default_rng(0).normal(size=(64, 3))
    >>> round(frechet_distance(x, x + 2), 6)  # equal covariances: the squared distance of the means
    12.0
    """
    x, y = _checked(x, y, 2)
    why_not = frechet_is_singular(len(x), len(y), x.shape[1])
    if why_not:
        raise PatchError(f"Frechet distance: {why_not}.")
    a, b = (np.atleast_2d(np.cov(one, rowvar=False)) for one in (x, y))
    # tr (ab)^(1/2) through the symmetric root a^(1/2) b a^(1/2), which has the same eigenvalues
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ b @ root), 0, None)).sum()
    shift = x.mean(0) - y.mean(0)
    return float(shift @ shift + np.trace(a) + np.trace(b) - 2 * cross)


def frechet_is_singular(n: int, m: int, dimensions: int) -> str:
    """Why samples of n and m patches are too few for a Frechet distance in so many dimensions; "" where they are not.

    >>> frechet_is_singular(50, 2000, 1280)
    '50 patches do not outnumber the 1280 features, so their covariance is singular'
    """
    smaller = min(n, m)
    if smaller > dimensions:
        return ""
    return f"{smaller} patches do not outnumber the {dimensions} features, so their covariance is singular"


def precision_recall(real: Features, fake: Features, k: int = NEIGHBOURS) -> PrecisionRecall:
    """Precision and recall of fakes (m, d) against reals (n, d); of the larger sample the first are taken.

    A sample's manifold is the union of balls around its members that reach to their k-th nearest neighbour.

    Raises:
        PatchError: If a sample has at most k members, or their features differ in number.

    References: Kynkaanniemi et al. 2019, eq. 1 and 2.
    """
    real, fake = _checked(real, fake, k + 1)
    size = min(len(real), len(fake))
    real, fake = real[:size], fake[:size]
    across = squared_distances(fake, real)  # (fake, real)
    precision = (across <= _radii(real, k)[None, :]).any(1).mean()
    recall = (across <= _radii(fake, k)[:, None]).any(0).mean()
    return PrecisionRecall(float(precision), float(recall), size)


def squared_distances(x: Features, y: Features) -> NDArray[np.float64]:
    """Squared Euclidean distances (n, m) of x (n, d) and y (m, d); rounding never takes one below 0."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    squares = np.square(x).sum(1)[:, None] + np.square(y).sum(1)[None, :] - 2 * x @ y.T
    return np.asarray(np.maximum(squares, 0.0))


def _radii(sample: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    squares = squared_distances(sample, sample)
    np.fill_diagonal(squares, np.inf)  # nobody is their own neighbour
    return np.asarray(np.partition(squares, k - 1, axis=1)[:, k - 1])


def _checked(x: Features, y: Features, least: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise PatchError(f"two samples of features (n, d) are wanted, got shapes {x.shape} and {y.shape}.")
    if min(len(x), len(y)) < least:
        raise PatchError(f"at least {least} patches on each side are wanted, got {len(x)} and {len(y)}.")
    return np.asarray(x, np.float64), np.asarray(y, np.float64)

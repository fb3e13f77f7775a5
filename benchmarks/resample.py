"""The cluster bootstrap: how far a share would move had other blocks of tissue been drawn.

Patches of one block are one question asked several times. So whole blocks are drawn anew, with everything that was
answered to their patches; an interval that takes the patches for independent is too narrow.

References: Field & Welsh 2007, Journal of the Royal Statistical Society B 69; Hesterberg 2015, arXiv:1411.5279, section
3.2 (percentiles expanded for few clusters).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm
from scipy.stats import t as student

from histoforensics.slides import ExamError, require

from .statistics import Interval, clopper_pearson

RESAMPLES = 2000


def cluster_bootstrap(
    right: ArrayLike,
    clusters: ArrayLike,
    strata: ArrayLike | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The interval, in [0, 1], of the share of right answers, from resampling clusters.

    Where all answers are right, or none is, no resample can differ: then it is the exact interval of as many answers as
    there are clusters.

    Args:
        right: Whether each answer is right, or half right, numbers in [0, 1], shape (n,).
        clusters: What belongs together (n,): equal labels go together into a resample or stay out together.
        strata: Labels (n,), such as the truth, within which clusters are drawn, because an exam fixes how many of each
            it has; a cluster that holds several makes a stratum with its like. None: all are one.
        confidence: Of the interval.
        resamples: How many.
        seed: Of the resampling.

    Raises:
        ExamError: If lengths differ, or there are fewer than two clusters.
    """
    require(0.0 < confidence < 1.0, "confidence", "between 0 and 1", confidence)
    require(resamples >= 100, "resamples", "at least 100", resamples)
    marks = np.asarray(right, dtype=np.float64)
    codes = _codes(clusters)
    kinds = np.zeros(len(marks), dtype=np.intp) if strata is None else _codes(strata)
    if not len(marks) == len(codes) == len(kinds):
        raise ExamError(f"{len(marks)} answers need a cluster and a stratum each, got {len(codes)} and {len(kinds)}.")
    groups = int(codes.max()) + 1 if len(codes) else 0
    if groups < 2:
        raise ExamError(f"An interval needs answers of two clusters (slides, blocks) at least, got {groups}.")
    if marks.min() == marks.max() and marks[0] in (0.0, 1.0):
        return clopper_pearson(groups if marks[0] == 1.0 else 0, groups, confidence)
    sums, sizes = np.bincount(codes, marks, groups), np.bincount(codes, minlength=groups)
    counts, fewest = _draws(_kinds(codes, kinds, groups), resamples, np.random.default_rng(seed))
    shares = counts @ sums / (counts @ sizes)
    tail = (1.0 - confidence) / 2
    # with G clusters the plain percentiles are too narrow by sqrt((G - 1) / G) and by z instead of t
    expanded = float(norm.cdf(np.sqrt(fewest / (fewest - 1)) * student.ppf(tail, fewest - 1)))
    low, high = np.quantile(shares, [expanded, 1.0 - expanded])
    return Interval(float(low), float(high))


def _codes(labels: ArrayLike) -> NDArray[np.intp]:
    texts = np.array([str(label) for label in np.asarray(labels, dtype=object).tolist()])
    found: NDArray[np.intp] = np.unique(texts, return_inverse=True)[1]
    return found


def _kinds(codes: NDArray[np.intp], strata: NDArray[np.intp], groups: int) -> NDArray[Any]:
    """Which strata each cluster touches, as one number; a kind of a single cluster joins the others' lot."""
    touched = np.zeros((groups, int(strata.max()) + 1), dtype=bool)
    touched[codes, strata] = True
    kinds: NDArray[np.intp] = np.unique(touched, axis=0, return_inverse=True)[1].reshape(-1)
    lone = np.isin(kinds, np.flatnonzero(np.bincount(kinds) < 2))
    return np.zeros_like(kinds) if lone.any() else kinds


def _draws(kinds: NDArray[Any], resamples: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], int]:
    """How often each cluster comes in each resample, and the clusters that are worth: each stratum loses one."""
    counts = np.zeros((resamples, len(kinds)), dtype=np.int64)
    strata = np.unique(kinds)
    for kind in strata:
        members = np.flatnonzero(kinds == kind)
        counts[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), resamples)
    return counts, len(kinds) - len(strata) + 1

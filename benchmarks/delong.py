"""AUC of several readers on the same patches, with the covariance that their comparison needs.

References: DeLong, DeLong & Clarke-Pearson 1988, Biometrics 44 (the covariance); Sun & Xu 2014, IEEE Signal Processing
Letters 21 (by midranks, n log n instead of n squared); Pepe 2003, section 5.2 (interval on the logit scale).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
from scipy.stats import norm, rankdata

from histoforensics.slides import ExamError, require

from .statistics import Interval


class Aucs(NamedTuple):
    """AUCs (k,) of k readers of the same patches, and their covariance (k, k)."""

    auc: NDArray[np.float64]
    covariance: NDArray[np.float64]
    fakes: int
    reals: int


class AucDifference(NamedTuple):
    """First AUC minus second, in [-1, 1], with its interval and the two-sided p of no difference."""

    difference: float
    low: float
    high: float
    p: float


def delong(labels: ArrayLike, ratings: ArrayLike) -> Aucs:
    """AUCs, in [0, 1] with 0.5 for guessing and ties counting half, of readers who rated the same patches.

    Args:
        labels: 0 real or 1 fake (n,), at least two of each.
        ratings: Finite numbers (k, n) that rise with fakeness, one row a reader.

    Raises:
        ExamError: If the shapes differ, a class has fewer than two patches, or a rating is not finite.

    >>> delong([0, 0, 1, 1], [[0.1, 0.4, 0.35, 0.8]]).auc.tolist()
    [0.75]
    """
    truth, rated = np.asarray(labels), np.asarray(ratings, dtype=np.float64)
    if truth.ndim != 1 or rated.ndim != 2 or rated.shape[1] != len(truth):
        raise ExamError(f"AUCs need one label a patch and one row a reader, got shapes {truth.shape}, {rated.shape}.")
    if not np.isfinite(rated).all():
        raise ExamError(f"AUCs need finite ratings, got {int((~np.isfinite(rated)).sum())} that are not.")
    fakes, reals = int((truth == 1).sum()), int((truth == 0).sum())
    if min(fakes, reals) < 2 or fakes + reals < len(truth):
        raise ExamError(f"An AUC with its variance needs two patches of each class, got {reals} real, {fakes} fake.")
    of_fakes, of_reals = _placements(rated[:, truth == 1], rated[:, truth == 0])
    covariance = _covariance(of_fakes) / fakes + _covariance(of_reals) / reals
    return Aucs(of_fakes.mean(axis=1), covariance, fakes, reals)


def auc_interval(found: Aucs, reader: int = 0, confidence: float = 0.95) -> Interval:
    """The interval of one AUC, on the logit scale so that it stays within [0, 1].

    A perfect AUC has no variance to estimate. Then the bound is exact instead: paired off, n fakes and n reals are n
    independent pairs, all of them in order with probability AUC to the n at most.
    """
    require(0.0 < confidence < 1.0, "confidence", "between 0 and 1", confidence)
    auc, variance = float(found.auc[reader]), float(found.covariance[reader, reader])
    end = ((1.0 - confidence) / 2) ** (1 / min(found.fakes, found.reals))
    if auc in (0.0, 1.0):
        return Interval(end, 1.0) if auc == 1.0 else Interval(0.0, 1.0 - end)
    half = float(norm.ppf((1 + confidence) / 2)) * math.sqrt(variance) / (auc * (1 - auc))
    centre = float(logit(auc))
    return Interval(float(expit(centre - half)), float(expit(centre + half)))


def compare(found: Aucs, first: int = 0, second: int = 1, confidence: float = 0.95) -> AucDifference:
    """DeLong's paired comparison of two readers; where neither varies, equal AUCs have p 1 and unequal ones p 0."""
    require(0.0 < confidence < 1.0, "confidence", "between 0 and 1", confidence)
    difference = float(found.auc[first] - found.auc[second])
    covariance = found.covariance
    variance = float(covariance[first, first] + covariance[second, second] - 2 * covariance[first, second])
    if variance <= 1e-15:  # rounding of a sum that is zero
        return AucDifference(difference, difference, difference, 1.0 if abs(difference) < 1e-12 else 0.0)
    error = math.sqrt(variance)
    half = float(norm.ppf((1 + confidence) / 2)) * error
    p = float(2 * norm.sf(abs(difference) / error))
    return AucDifference(difference, max(-1.0, difference - half), min(1.0, difference + half), p)


def _placements(fakes: NDArray[Any], reals: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of reals below each fake (k, m), and share of fakes above each real (k, n); ties count half."""
    m, n = fakes.shape[1], reals.shape[1]
    together = rankdata(np.concatenate([fakes, reals], axis=1), axis=1)
    below = (together[:, :m] - rankdata(fakes, axis=1)) / n
    above = 1.0 - (together[:, m:] - rankdata(reals, axis=1)) / m
    return below, above


def _covariance(placements: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.atleast_2d(np.cov(placements))

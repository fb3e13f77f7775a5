"""Whether probabilities mean what they say: Brier score, log loss, expected calibration error, reliability curve.

References: Brier 1950; Naeini et al. 2015 (expected calibration error), here in bins of equal mass (Nixon et al. 2019,
arXiv:1904.01685), since a detector's scores crowd at both ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from histoforensics.slides.errors import PatchError, require

from .metrics import Labels

BINS = 15
TINY = 1e-7  # float32 probabilities saturate at 0 and 1, whose log loss would be infinite

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class ReliabilityBin:
    """Patches of about the same score: how sure the detector was, and how many were fake."""

    low: float  # smallest score in the bin
    high: float  # largest
    mean_score: float
    share_fake: float
    n: int


def brier(labels: Labels, p: Floats) -> float:
    """Mean squared difference of P(fake) ``p`` (n,) and the truth (n,): 0 is perfect, 0.25 what 0.5 for all gives.

    Raises:
        PatchError: If a label is neither 0 nor 1, a probability not from 0 to 1, or there is none.
    """
    labels, p = _checked(labels, p)
    return float(np.mean((p - labels) ** 2))


def log_loss(labels: Labels, p: Floats) -> float:
    """Mean -ln of the probability of the truth, nats: ln 2 is what 0.5 for all gives. ``p`` stays 1e-7 off 0 and 1."""
    labels, p = _checked(labels, p)
    p = np.clip(p, TINY, 1 - TINY)
    return float(-np.mean(np.where(labels == 1, np.log(p), np.log1p(-p))))


def reliability_curve(labels: Labels, p: Floats, bins: int = BINS) -> list[ReliabilityBin]:
    """At most ``bins`` bins of as nearly equal numbers as ties allow, in rising order of P(fake).

    Equal scores are never parted, so that the order of the patches cannot matter.
    """
    labels, p = _checked(labels, p)
    require(bins >= 1, "bins", "at least 1", bins)
    order = np.argsort(p, kind="stable")
    first_equal = np.searchsorted(p[order], p[order], side="left")  # a run of ties goes where it begins
    bin_of = first_equal * bins // len(p)
    found = []
    for k in np.unique(bin_of):
        rows = order[bin_of == k]
        found.append(
            ReliabilityBin(
                float(p[rows].min()), float(p[rows].max()), float(p[rows].mean()), float(labels[rows].mean()), len(rows)
            )
        )
    return found


def expected_calibration_error(labels: Labels, p: Floats, bins: int = BINS) -> float:
    """Mean gap between P(fake) and the share of fakes over equal-mass bins, in [0, 1]; 0 is calibrated.

    With few patches it is above 0 by chance alone: about 0.05 for 200 patches of a perfectly calibrated detector.

    >>> p = np.arange(0.05, 1, 0.1)
    >>> round(expected_calibration_error(np.array([0, 0, 0, 0, 1, 0, 1, 1, 1, 1]), p, bins=10), 4)
    0.27
    """
    curve = reliability_curve(labels, p, bins)
    return sum(b.n * abs(b.mean_score - b.share_fake) for b in curve) / sum(b.n for b in curve)


def _checked(labels: Labels, p: Floats) -> tuple[Labels, npt.NDArray[np.float64]]:
    labels, told = np.asarray(labels), np.asarray(p, np.float64)
    if labels.ndim != 1 or labels.shape != told.shape or not len(told):
        raise PatchError(f"calibration needs one label a probability, got shapes {labels.shape} and {told.shape}.")
    if not set(np.unique(labels).tolist()) <= {0, 1}:
        raise PatchError(f"calibration needs labels 0 (real) and 1 (fake), got {np.unique(labels).tolist()}.")
    within = (told >= 0) & (told <= 1)
    if not within.all():
        raise PatchError(f"calibration needs probabilities from 0 to 1, got {told[~within][0]!r}.")
    return labels, told

"""How well scores separate fakes from reals, with an interval that knows which patches belong together.

References: Hanley & McNeil 1982 (AUC as a rank statistic); Field & Welsh 2007 (bootstrap of clusters); Hesterberg 2015,
arXiv:1411.5279, section 3.2 (percentile interval expanded for few clusters); Davison & Hinkley 1997, section 4.2 (a p
value's smallest step).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from histoforensics.slides.errors import PatchError, require

Labels = npt.NDArray[np.integer[Any]]
Scores = npt.NDArray[np.floating[Any]]
Groups = npt.NDArray[Any]

_CHUNK = 4_000_000  # weights held at once, so that a bootstrap of many patches stays in memory


@dataclass(frozen=True)
class AucInterval:
    """An AUC with its 95 % interval."""

    auc: float
    low: float
    high: float
    n_groups: int  # clusters that were resampled

    @property
    def ci95(self) -> tuple[float, float]:
        """Both ends, as reports write them."""
        return self.low, self.high

    def holds(self, value: float) -> bool:
        """Whether ``value`` lies in the interval."""
        return self.low <= value <= self.high


def auc(labels: Labels, scores: Scores) -> float:
    """Probability that a random fake (1) scores above a random real (0), ties counting half: 0.5 is chance, 1 perfect.

    Args:
        labels: 0 or 1 (n,), both present.
        scores: Any finite numbers (n,); only their order counts.

    Raises:
        PatchError: If the shapes differ, a class is missing, or a score is not finite.

    >>> auc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8]))
    0.75
    """
    from scipy import stats  # a second and 60 MB, which programs that only judge are spared

    labels, scores = _checked(labels, scores)
    fakes = labels == 1
    n_fake, n_real = int(fakes.sum()), int((~fakes).sum())
    ranks = stats.rankdata(scores)
    return float((ranks[fakes].sum() - n_fake * (n_fake + 1) / 2) / (n_fake * n_real))


def average_precision(labels: Labels, scores: Scores) -> float:
    """Mean precision over the fakes, ranked by score, ties entering at once: 1 is perfect, the share of fakes chance.

    Args:
        labels: 0 or 1 (n,), both present.
        scores: Any finite numbers (n,).

    Raises:
        PatchError: As :func:`auc`.

    >>> round(average_precision(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8])), 4)
    0.8333
    """
    labels, scores = _checked(labels, scores)
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(scores[order], append=-np.inf))  # of every run of equal scores
    found = np.cumsum(labels[order] == 1)[last]
    precision = found / (last + 1)
    return float(np.diff(found, prepend=0) @ precision / found[-1])


def least_reals(fpr: float) -> int:
    """How many independent reals a false-positive rate needs before it can be told: 99 for 1 %, 19 for 5 %.

    Of fewer, even the largest score would be exceeded by new reals more often than that.
    """
    require(0 < fpr < 1, "fpr", "between 0 and 1", fpr)
    return math.ceil(1 / fpr - 1 - 1e-9)


def tpr_at_fpr(labels: Labels, scores: Scores, fpr: float, groups: Groups | None = None) -> float | None:
    """Share of fakes above the smallest score that at most ``fpr`` of the reals exceed; None where reals are too few.

    The threshold comes from these very reals, so this measures the ranking; what a frozen threshold does is told by
    the verdicts.

    Args:
        labels: 0 or 1 (n,), both present.
        scores: Any finite numbers (n,).
        fpr: False-positive rate, between 0 and 1.
        groups: Slide, block or patient of each patch (n,); the reals' groups are what must be many enough, each patch
            being its own where None.

    Raises:
        PatchError: As :func:`auc`.
    """
    labels, scores = _checked(labels, scores)
    reals = labels == 0
    independent = int(reals.sum()) if groups is None else len(np.unique(_as_text(np.asarray(groups)[reals])))
    return None if independent < least_reals(fpr) else _tpr(labels, scores, fpr)


def cluster_bootstrap_tpr(
    labels: Labels, scores: Scores, fpr: float, groups: Groups | None = None, n_boot: int = 2000, seed: int = 0
) -> tuple[float, float, float] | None:
    """:func:`tpr_at_fpr` with a 95 % interval (tpr, low, high), threshold and fakes resampled together by group."""
    found = tpr_at_fpr(labels, scores, fpr, groups)
    if found is None:
        return None
    low, high = cluster_bootstrap(lambda y, s: _tpr(y, s, fpr), labels, scores, groups, n_boot, seed)
    return found, low, high


def cluster_bootstrap(
    metric: Callable[[Labels, Scores], float],
    labels: Labels,
    scores: Scores,
    groups: Groups | None = None,
    n_boot: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % interval of ``metric(labels, scores)`` from resampling whole groups, as :func:`cluster_bootstrap_auc` does.

    Raises:
        PatchError: As :func:`cluster_bootstrap_auc`.
    """
    labels, scores = _checked(labels, scores)
    codes, fewest = _grouped(labels, groups)
    counts = _resample_counts(labels, codes, n_boot, seed)[:, codes]
    rows = np.arange(len(labels))
    drawn = (np.repeat(rows, count) for count in counts)
    return _ends(np.array([metric(labels[r], scores[r]) for r in drawn]), fewest)


@dataclass(frozen=True)
class AucDifference:
    """By how much one AUC is above another on the same patches, with its 95 % interval and two-sided p."""

    difference: float
    low: float
    high: float
    p: float


def auc_difference(
    labels: Labels,
    scores: Scores,
    other: Scores,
    groups: Groups | None = None,
    n_boot: int = 2000,
    seed: int = 0,
) -> AucDifference:
    """AUC of ``scores`` less that of ``other``, both of the same patches, by a paired bootstrap of whole groups.

    The p value is twice the share of resamples on the far side of 0 (ties half), never under 1 / (n_boot + 1).

    Raises:
        PatchError: As :func:`cluster_bootstrap_auc`.
    """
    labels, scores = _checked(labels, scores)
    _, other = _checked(labels, other)
    codes, fewest = _grouped(labels, groups)
    weights = _resample_counts(labels, codes, n_boot, seed)[:, codes]
    drawn = _weighted_aucs(labels, scores, weights) - _weighted_aucs(labels, other, weights)
    low, high = _ends(drawn, fewest)
    below = (drawn < 0).sum() + (drawn == 0).sum() / 2
    p = min(1.0, 2 * (min(below, n_boot - below) + 0.5) / (n_boot + 1))
    return AucDifference(auc(labels, scores) - auc(labels, other), low, high, float(p))


def cluster_bootstrap_auc(
    labels: Labels, scores: Scores, groups: Groups | None, n_boot: int = 2000, seed: int = 0
) -> AucInterval:
    """AUC with a 95 % interval from resampling whole groups (slides, blocks, patients), not patches.

    Groups of reals only, of fakes only and of both are resampled apart, so that no resample lacks a class. The
    percentiles are expanded for the number of groups of the scarcer class, or few groups would claim too much.

    Args:
        labels: 0 or 1 (n,), both present.
        scores: Finite numbers (n,).
        groups: What belongs together (n,), any hashable labels; None makes every patch a group of its own.
        n_boot: Resamples.
        seed: Of the resampling.

    Raises:
        PatchError: As :func:`auc`, or if a class has fewer than two groups, when no interval can be had.
    """
    labels, scores = _checked(labels, scores)
    codes, fewest = _grouped(labels, groups)
    estimates = _weighted_aucs(labels, scores, _resample_counts(labels, codes, n_boot, seed)[:, codes])
    return AucInterval(auc(labels, scores), *_ends(estimates, fewest), int(codes.max()) + 1)


def _grouped(labels: Labels, groups: Groups | None) -> tuple[npt.NDArray[np.intp], int]:
    """Group number of each patch (n,), and how many groups the class with fewer has."""
    codes = np.arange(len(labels)) if groups is None else np.unique(_as_text(groups), return_inverse=True)[1]
    if codes.shape != labels.shape:
        raise PatchError(f"the AUC of {len(labels)} patches needs one group each, got {codes.shape}.")
    fewest = min(len(np.unique(codes[labels == c])) for c in (0, 1))
    if fewest < 2:
        raise PatchError("an interval of the AUC needs at least two groups (slides, blocks) in each class, got one.")
    return codes, fewest


def _ends(estimates: npt.NDArray[np.float64], fewest: int) -> tuple[float, float]:
    """Percentiles of a bootstrap. With G groups the plain ones are too narrow by sqrt((G - 1) / G) and z for t."""
    expanded = special.ndtr(np.sqrt(fewest / (fewest - 1)) * special.stdtrit(fewest - 1, 0.025))
    low, high = np.quantile(estimates, [expanded, 1 - expanded])
    return float(low), float(high)


def _tpr(labels: Labels, scores: Scores, fpr: float) -> float:
    reals = np.sort(scores[labels == 0])[::-1]
    return float((scores[labels == 1] > reals[math.floor(fpr * len(reals) + 1e-9)]).mean())


def _resample_counts(labels: Labels, codes: npt.NDArray[np.intp], n_boot: int, seed: int) -> npt.NDArray[np.int64]:
    """How often each group is drawn in each resample (n_boot, groups); drawn within its kind."""
    require(n_boot >= 100, "n_boot", "at least 100", n_boot)
    rng = np.random.default_rng(seed)
    n_groups = int(codes.max()) + 1
    kind = np.zeros(n_groups, dtype=int)  # 1 reals only, 2 fakes only, 3 both
    for c in (0, 1):
        kind[np.unique(codes[labels == c])] += c + 1
    counts = np.zeros((n_boot, n_groups), dtype=np.int64)
    for k in np.unique(kind):
        members = np.flatnonzero(kind == k)
        counts[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), n_boot)
    return counts


def _weighted_aucs(labels: Labels, scores: Scores, weights: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """AUC of each row of ``weights`` (resamples, n), each patch counting as often as it was drawn."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))  # first patch of every run of equal scores
    fakes = labels[order] == 1
    out = np.empty(len(weights))
    step = max(1, _CHUNK // len(scores))
    for i in range(0, len(weights), step):
        ordered = weights[i : i + step, order].astype(np.float64)
        real = np.add.reduceat(np.where(fakes, 0, ordered), starts, axis=1)
        fake = np.add.reduceat(np.where(fakes, ordered, 0), starts, axis=1)
        below = np.cumsum(real, axis=1) - real / 2
        out[i : i + step] = (fake * below).sum(1) / (fake.sum(1) * real.sum(1))
    return out


def _checked(labels: Labels, scores: Scores) -> tuple[Labels, Scores]:
    labels, scores = np.asarray(labels), np.asarray(scores)
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise PatchError(f"the AUC needs one label a score, got shapes {labels.shape} and {scores.shape}.")
    if not np.isfinite(scores).all():
        raise PatchError(f"the AUC needs finite scores, got {int((~np.isfinite(scores)).sum())} that are not.")
    if set(np.unique(labels).tolist()) != {0, 1}:
        raise PatchError(f"the AUC needs both reals (0) and fakes (1), got labels {np.unique(labels).tolist()}.")
    return labels, scores


def _as_text(groups: Groups) -> npt.NDArray[np.str_]:
    # labels of mixed type (object columns of a table) cannot be sorted otherwise
    return np.asarray([str(group) for group in np.asarray(groups).tolist()])

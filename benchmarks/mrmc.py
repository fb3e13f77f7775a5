"""Many readers, many cases: the average reader, and by how much a machine differs from the average reader.

Obuchowski and Rockette's analysis of variance with Hillis' degrees of freedom, readers and patches both random: the
interval holds for other readers of other patches, not for these alone. It takes any figure of merit with a covariance;
here AUC (DeLong's covariance) and accuracy. A machine has no readers of its own and is a fixed number to compare with:
every reader's difference to it is analysed as one modality (Chakraborty 2017, section 22.4). The same analysis on
readers' differences between two modalities *is* the crossed two-modality test.

References: Obuchowski & Rockette 1995, Communications in Statistics: Simulation and Computation 24; Hillis 2007,
Statistics in Medicine 26 (degrees of freedom); Hillis, Obuchowski & Berbaum 2011, Academic Radiology 18.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

from histoforensics.slides import ExamError, require

from .delong import delong

LEAST_READERS = 3  # two give one degree of freedom: an interval that says nothing


class AverageReader(NamedTuple):
    """The mean over readers with its interval, for readers and patches both drawn from many.

    ``p`` is two-sided, of the value that was asked about; ``df`` is infinite where neither readers nor ratings vary.
    """

    mean: float
    low: float
    high: float
    standard_error: float
    df: float
    p: float


class Merits(NamedTuple):
    """A figure of merit (k,) of k readers of the same patches, and its covariance (k, k) over patches."""

    value: NDArray[np.float64]
    covariance: NDArray[np.float64]

    def less(self, other: int) -> Merits:
        """Everybody's figure less that of reader number ``other``, who drops out."""
        step = np.delete(np.eye(len(self.value)), other, axis=0)
        step[:, other] = -1.0
        return Merits(step @ self.value, step @ self.covariance @ step.T)

    def among(self, readers: list[int]) -> Merits:
        """Those of some readers, in this order."""
        return Merits(self.value[readers], self.covariance[np.ix_(readers, readers)])


def auc_merits(labels: ArrayLike, ratings: ArrayLike) -> Merits:
    """AUCs of readers (k, n) who rated the same patches; labels and errors as of `delong`."""
    found = delong(labels, ratings)
    return Merits(found.auc, found.covariance)


def accuracy_merits(labels: ArrayLike, right: ArrayLike) -> Merits:
    """Accuracies of readers on the same patches, which were drawn class by class.

    Args:
        labels: 0 real or 1 fake (n,), at least two of each.
        right: Whether each reader was right, or half right, in [0, 1], shape (k, n).

    Raises:
        ExamError: If the shapes differ or a class has fewer than two patches.
    """
    truth, marks = np.asarray(labels), np.asarray(right, dtype=np.float64)
    if truth.ndim != 1 or marks.ndim != 2 or marks.shape[1] != len(truth):
        raise ExamError(f"Accuracies need a label a patch and a row a reader, got shapes {truth.shape}, {marks.shape}.")
    counts = [int((truth == label).sum()) for label in (0, 1)]
    if min(counts) < 2:
        raise ExamError(f"Accuracies need two patches of each class, got {counts[0]} real and {counts[1]} fake.")
    covariance = (
        sum(np.atleast_2d(np.cov(marks[:, truth == label])) * count for label, count in enumerate(counts))
        / len(truth) ** 2
    )
    return Merits(marks.mean(axis=1), np.asarray(covariance))


def average_reader(merits: Merits, null: float = 0.5, confidence: float = 0.95) -> AverageReader:
    """The average of three readers or more; ``p`` asks whether readers of such patches average ``null``.

    Args:
        merits: Of readers who judged the same patches.
        null: 0.5 for guessing, 0 for differences.
        confidence: Of the interval, which is not cut to [0, 1].

    Raises:
        ExamError: If there are fewer than three readers.
    """
    require(0.0 < confidence < 1.0, "confidence", "between 0 and 1", confidence)
    readers = len(merits.value)
    if readers < LEAST_READERS:
        raise ExamError(f"An average over readers needs {LEAST_READERS} of them, got {readers}.")
    mean = float(merits.value.mean())
    pairs = float(merits.covariance[~np.eye(readers, dtype=bool)].mean())
    shared = max(0.0, pairs)  # what the same patches do to any two readers alike: Cov2
    # The mean square of readers is at least what patches alone make of it. Where chance puts it below, Hillis lets it
    # pass: intervals of 3 to 5 readers then cover 0.91 to 0.94 of simulated truths, and with this floor 0.93 to 0.98.
    alone = float(np.diag(merits.covariance).mean()) - pairs
    between = max(float(merits.value.var(ddof=1)), alone)
    whole = between + readers * shared
    error = math.sqrt(whole / readers)
    if error < 1e-12:
        return AverageReader(mean, mean, mean, 0.0, math.inf, 1.0 if abs(mean - null) < 1e-12 else 0.0)
    df = whole**2 / (between**2 / (readers - 1)) if between > 1e-15 else math.inf
    half = float(student.ppf((1 + confidence) / 2, df)) * error
    p = float(2 * student.sf(abs(mean - null) / error, df))
    return AverageReader(mean, mean - half, mean + half, error, df, p)


def against(merits: Merits, machine: int, confidence: float = 0.95) -> AverageReader:
    """Average reader minus one machine, on the same patches: readers and patches random, the machine fixed.

    Raises:
        ExamError: As `average_reader`.
    """
    return average_reader(merits.less(machine), 0.0, confidence)

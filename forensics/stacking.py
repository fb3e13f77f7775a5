"""Stacking: several detectors' logits, each calibrated to a log-likelihood ratio, then one logistic regression on them.

What a stack is fitted on was judged by detectors that never saw it: scores of a detector's own training patches are too
good, and the most overfitted member would get the largest weight.

References: Wolpert 1992 (stacked generalisation); Breiman 1996 (weights that are not negative); Brummer & du Preez 2006
(calibrated log-likelihood ratios).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from histoforensics.slides import PatchError, require
from histoforensics.slides.progress import Progress

from .calibration import platt
from .cnn import CnnDetector
from .detector import FAKE, REAL, Detector, Groups, Labels, Pixels
from .leaks import as_groups
from .linear import balanced_weights, grouped_folds

FOLDS = 3
SHRINKAGE = 1e-2  # of the members' weights towards equal ones; members often say the same
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Stack:
    """logit = intercept + sum of weight * (scale * member's logit + bias)."""

    scales: Floats  # (members,) Platt's, above 0
    biases: Floats
    weights: Floats  # (members,) at least 0
    intercept: float

    def llrs(self, logits: npt.NDArray[np.floating[Any]]) -> Floats:
        """Log-likelihood ratios (n, members) of the members' logits (n, members)."""
        return np.asarray(logits, dtype=np.float64) * self.scales + self.biases

    def fused(self, logits: npt.NDArray[np.floating[Any]]) -> Floats:
        """The stack's logits (n,)."""
        fused: Floats = self.llrs(logits) @ self.weights + self.intercept
        return fused


def fit_stack(logits: npt.NDArray[np.floating[Any]], labels: Labels) -> Stack:
    """Calibrate each member, then weigh them: logistic regression with weights of at least 0, classes weighted alike.

    Args:
        logits: (n, members), of patches that no member was trained on.
        labels: REAL or FAKE (n,).

    Raises:
        PatchError: If a class is missing, or the shapes differ.
    """
    x = np.asarray(logits, dtype=np.float64)
    if x.ndim != 2 or labels.shape != (len(x),) or not {REAL, FAKE} <= set(labels.tolist()):
        raise PatchError(f"a stack needs logits (n, members) of both classes, got {x.shape} and labels {labels.shape}.")
    calibrated = [platt(column[labels == REAL], column[labels == FAKE]) for column in x.T]
    scales, biases = (np.array(values) for values in zip(*calibrated, strict=True))
    llrs = x * scales + biases
    signed = np.where(labels == FAKE, 1.0, -1.0)
    weight = balanced_weights(labels) / len(labels)
    equal = 1 / x.shape[1]

    def loss(theta: Floats) -> tuple[float, Floats]:
        margin = signed * (llrs @ theta[:-1] + theta[-1])
        pull = -weight * signed * special.expit(-margin)
        off = theta[:-1] - equal
        value = weight @ np.logaddexp(0, -margin) + SHRINKAGE / 2 * off @ off
        return float(value), np.append(pull @ llrs + SHRINKAGE * off, pull.sum())

    start = np.append(np.full(x.shape[1], equal), 0.0)
    bounds = [(0.0, None)] * x.shape[1] + [(None, None)]
    from scipy import optimize  # 30 MB, which programs that only judge are spared

    theta = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, tol=1e-10).x
    return Stack(scales=scales, biases=biases, weights=theta[:-1], intercept=float(theta[-1]))


def cross_fitted_logits(
    members: Sequence[str],
    pixels: Pixels,
    labels: Labels,
    groups: Groups | None,
    *,
    seed: int,
    folds: int = FOLDS,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    budget_seconds: float | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> tuple[list[Detector], npt.NDArray[np.float32]]:
    """The members fitted on all patches, and logits (n, members) of each patch by members that never saw its group.

    Args:
        members: Names of detectors.
        pixels: uint8 (n, h, w, 3).
        labels: REAL or FAKE (n,).
        groups: (n,); no fold cuts through one.
        seed: Of the folds and the trainings.
        folds: At least 2; fewer are used where a class has fewer groups.
        options: Of each member's ``fit``, by name.
        budget_seconds: Of all trainings together, where they are iterative.
        device: Where to train.
        progress: Told after each training.
    """
    from .registry import detector_class

    require(len(members) > 0 and len(set(members)) == len(members), "members", "different detectors", tuple(members))
    require(folds >= 2, "folds", "at least 2", folds)
    known = as_groups(groups, len(labels))
    fold = grouped_folds(labels, known, np.random.default_rng(seed), folds)
    count = int(fold.max()) + 1
    trainings = len(members) * (count + 1)
    iterative = sum(issubclass(detector_class(name), CnnDetector) for name in members)
    share = None if budget_seconds is None or not iterative else budget_seconds / (iterative * (count + 1))
    held_out = np.empty((len(labels), len(members)), dtype=np.float32)
    whole = []
    for i, name in enumerate(members):
        each = dict((options or {}).get(name, {}))
        each |= {"budget_seconds": share, "device": device}
        for k in range(count):
            rows = fold == k
            judge = detector_class(name).fit(pixels[~rows], labels[~rows], seed=seed, groups=known[~rows], **each)
            held_out[rows, i] = judge.logits(pixels[rows])
            if progress is not None:
                progress(i * (count + 1) + k + 1, trainings, f"{name}, fold {k + 1} of {count}")
        whole.append(detector_class(name).fit(pixels, labels, seed=seed, groups=known, **each))
        if progress is not None:
            progress((i + 1) * (count + 1), trainings, name)
    return whole, held_out

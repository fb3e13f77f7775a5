"""Linear detectors: measured features, standardised, then logistic regression with L2, folded into a dot product."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import Tensor

from histoforensics.slides import require
from histoforensics.slides.progress import Progress

from .augment import Augmentation, augment
from .detector import FAKE, REAL, Detector, Groups, Labels, Pixels, check_training
from .leaks import as_groups

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # scikit-learn's C: small is a strong penalty
FOLDS = 5
Features = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class LinearModel:
    """logit = features @ weights + bias, with the standardisation already folded in."""

    weights: npt.NDArray[np.float64]  # (d,)
    bias: float
    strength: float  # the C that was chosen


class LinearDetector(Detector):
    """A detector whose logit is linear in features that are measured, not learned."""

    def __init__(self, patch_px: int) -> None:
        super().__init__(patch_px)
        self.register_buffer("intercept", torch.zeros(()))

    intercept: Tensor

    @abstractmethod
    def features(self, pixels: Tensor) -> Tensor:
        """What the regression sees: float32 (n, d) of uint8 patches (n, h, w, 3)."""

    @abstractmethod
    def fold(self, model: LinearModel) -> None:
        """Put a fitted model into this module's buffers."""

    @classmethod
    def build(cls, patch_px: int, **options: Any) -> Self:
        """An empty detector for patches of that size."""
        return cls(patch_px, **options)

    @classmethod
    def fit(
        cls,
        pixels: Pixels,
        labels: Labels,
        *,
        seed: int,
        groups: Groups | None = None,
        budget_seconds: float | None = None,  # noqa: ARG003 - a convex fit of seconds has nothing to cut short
        progress: Progress | None = None,
        copies: int = 0,
        recipe: Augmentation | None = None,
        strengths: tuple[float, ...] = STRENGTHS,
        **options: Any,
    ) -> Self:
        """Measure, standardise, choose the penalty by grouped cross-validation on these patches, fit, fold.

        Args:
            pixels: uint8 (n, h, w, 3), square.
            labels: REAL or FAKE (n,).
            seed: Of the augmentation and the folds.
            groups: (n,), see :meth:`Detector.fit`.
            budget_seconds: Not used: the fit is convex and takes seconds.
            progress: Told after each batch.
            copies: How many augmented copies of every patch join it, both classes alike.
            recipe: Of the augmentation.
            strengths: Values of scikit-learn's C to choose from.
            options: Of the detector's constructor.
        """
        check_training(pixels, labels, groups, cls.name)
        require(copies >= 0, "copies", "at least 0", copies)
        detector = cls.build(pixels.shape[1], **options)
        rng = np.random.default_rng(seed)
        repeats = copies + 1
        measured = [
            detector._measure(augment(pixels, rng, recipe) if copy else pixels, progress, (copy, repeats))
            for copy in range(repeats)
        ]
        model = fit_logistic(
            np.concatenate(measured),
            np.tile(labels, repeats),
            groups=np.tile(as_groups(groups, len(labels)), repeats),
            seed=seed,
            strengths=strengths,
        )
        detector.fold(model)
        return detector.eval()

    def _measure(self, pixels: Pixels, progress: Progress | None, part: tuple[int, int], batch: int = 64) -> Features:
        out = []
        with torch.inference_mode():
            for i in range(0, len(pixels), batch):
                chunk = torch.from_numpy(np.ascontiguousarray(pixels[i : i + batch]))
                out.append(self.features(chunk).double().numpy())
                if progress is not None:
                    done = part[0] * len(pixels) + min(i + batch, len(pixels))
                    progress(done, part[1] * len(pixels), self.name)
        return np.concatenate(out)


def fit_logistic(
    features: Features,
    labels: Labels,
    *,
    groups: Groups | None = None,
    seed: int = 0,
    strengths: tuple[float, ...] = STRENGTHS,
) -> LinearModel:
    """Standardisation and L2 logistic regression, classes weighted alike, folded into weights and bias.

    The penalty is the strongest whose held-out AUC over grouped folds is within one standard error of the best. With
    more features than patches the regression is solved in the patches' own span, which is exact for an L2 penalty.

    Args:
        features: (n, d).
        labels: REAL or FAKE (n,).
        groups: (n,); a group stays in one fold.
        seed: Of the folds.
        strengths: Values of scikit-learn's C to choose from.
    """
    mean, std = features.mean(0), features.std(0)
    std[std < 1e-9 * (1 + np.abs(mean))] = 1.0  # a constant feature says nothing; its weight stays 0
    x = (features - mean) / std
    basis = None
    if x.shape[1] > x.shape[0]:
        x, basis = _span(x)
    strength = choose_strength(x, labels, as_groups(groups, len(labels)), seed=seed, strengths=strengths)
    model = _regression(strength).fit(x, labels)
    w = model.coef_[0] if basis is None else basis @ model.coef_[0]
    weights = w / std
    return LinearModel(weights=weights, bias=float(model.intercept_[0] - weights @ mean), strength=strength)


def choose_strength(
    x: Features, labels: Labels, groups: Groups, *, seed: int = 0, strengths: tuple[float, ...] = STRENGTHS
) -> float:
    """The strongest penalty (smallest C) within one standard error of the best mean held-out AUC."""
    if len(strengths) == 1:
        return strengths[0]
    fold = grouped_folds(labels, groups, np.random.default_rng(seed))
    aucs = np.array(
        [[_held_out_auc(x, labels, fold == k, c) for k in range(fold.max() + 1)] for c in sorted(strengths)]
    )
    best = int(aucs.mean(1).argmax())
    error = aucs[best].std(ddof=1) / np.sqrt(aucs.shape[1])
    return float(sorted(strengths)[int(np.argmax(aucs.mean(1) >= aucs[best].mean() - error))])


def grouped_folds(labels: Labels, groups: Groups, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Fold of each patch (n,): groups of either class are dealt out in turn, and no group is cut.

    There are as many folds as the class with fewer groups has, at most 5: with three generators, each is left out
    once. A class that is one single group is dealt out patch by patch, since nothing else is possible.
    """
    units = {label: np.unique(groups[labels == label], return_inverse=True) for label in (REAL, FAKE)}
    sizes = [len(names) for names, _ in units.values() if len(names) > 1]
    smallest = min([(labels == label).sum() for label in units])
    count = int(max(2, min([FOLDS, smallest, *sizes])))
    fold = np.empty(len(labels), dtype=np.intp)
    for label, (names, which) in units.items():
        unit = which if len(names) > 1 else np.arange(len(which))
        deal = rng.permutation(unit.max() + 1) % count
        fold[labels == label] = deal[unit]
    return fold


def _held_out_auc(x: Features, labels: Labels, held_out: npt.NDArray[np.bool_], strength: float) -> float:
    model = _regression(strength).fit(x[~held_out], labels[~held_out])
    return float(roc_auc_score(labels[held_out], model.decision_function(x[held_out])))


def _regression(strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, class_weight="balanced", max_iter=2000, tol=1e-6)


def _span(x: Features) -> tuple[Features, Features]:
    """Coordinates (n, r) of the rows of ``x`` (n, d) in an orthonormal basis (d, r) of their own span."""
    values, vectors = np.linalg.eigh(x @ x.T)
    keep = values > 1e-10 * values[-1]
    root = np.sqrt(values[keep])
    return vectors[:, keep] * root, x.T @ (vectors[:, keep] / root)

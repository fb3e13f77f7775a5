"""Linear detectors: measured features, standardised, then logistic regression with L2, folded into a dot product."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from histoforensics.slides import require
from histoforensics.slides.progress import Progress

from .augment import Augmentation, augment
from .detector import FAKE, REAL, Detector, Groups, Labels, Pixels, check_training
from .leaks import as_groups

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

FOLDS = 5
CHUNK = 256  # patches augmented at once: their optical densities are in floating point
STRONG = (1e4, 1e3, 1e2)  # weaker ones gain nothing in domain and lose under noise and JPEG (GlaS, stand-ins)
Features = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True)
class LinearModel:
    """logit = features @ weights + bias, with the standardisation already folded in."""

    weights: npt.NDArray[np.float64]  # (d,)
    bias: float
    penalty: float  # the one that was chosen


class LinearDetector(Detector):
    """A detector whose logit is linear in features that are measured, not learned."""

    copies: ClassVar[int] = 0  # augmented copies of every patch
    shift_px: ClassVar[int] = 0  # that they are moved by at most
    most_rows: ClassVar[int | None] = None  # patches and copies that a fit takes; beyond, patches are drawn
    recipe: ClassVar[Augmentation] = Augmentation()
    penalties: ClassVar[tuple[float, ...]] = STRONG
    intercept: Tensor

    def __init__(self, patch_px: int) -> None:
        super().__init__(patch_px)
        self.register_buffer("intercept", torch.zeros(()))

    @abstractmethod
    def features(self, pixels: Tensor) -> Tensor:
        """What the regression sees: float32 (n, d) of uint8 patches (n, h, w, 3)."""

    @classmethod
    def build(cls, patch_px: int, **options: Any) -> Self:
        """A detector for patches of that size that has not been fitted."""
        return cls(patch_px, **options)

    @abstractmethod
    def fold(self, model: LinearModel) -> None:
        """Put a fitted model into this module's buffers."""

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
        copies: int | None = None,
        recipe: Augmentation | None = None,
        penalties: tuple[float, ...] | None = None,
        device: str = "cpu",
        **options: Any,
    ) -> Self:
        """Measure, standardise, choose the penalty by grouped cross-validation on these patches, fit, fold.

        Args:
            pixels: uint8 (n, h, w, 3), square.
            labels: REAL or FAKE (n,).
            seed: Of the augmentation, the grid phases and the folds.
            groups: (n,), see :meth:`Detector.fit`.
            budget_seconds: Not used: the fit is convex and takes seconds.
            progress: Told after each batch.
            copies: How many augmented copies of every patch join it, both classes alike; the class's own if None.
            recipe: Of the augmentation; the class's own if None.
            penalties: To choose from; the class's own if None.
            device: Where features are measured; the regression is fitted on the CPU.
            options: Of :meth:`build`.
        """
        check_training(pixels, labels, groups, cls.name)
        copies = cls.copies if copies is None else copies
        require(copies >= 0, "copies", "at least 0", copies)
        detector = cls.build(pixels.shape[1], **options).to(device)
        rng = np.random.default_rng(seed)
        if cls.most_rows is not None and len(labels) * (copies + 1) > cls.most_rows:
            rows = draw_rows(labels, cls.most_rows // (copies + 1), rng)
            pixels, labels, groups = pixels[rows], labels[rows], as_groups(groups, len(labels))[rows]
        parts = [pixels] + [cls.copy_of(pixels, rng, recipe or cls.recipe) for _ in range(copies)]
        views = [view for part in parts for view in cls.views(part, rng)]
        measured = [detector._measure(view, progress, (i, len(views))) for i, view in enumerate(views)]
        model = cls.regress(
            np.concatenate(measured),
            np.tile(labels, len(views)),
            groups=np.tile(as_groups(groups, len(labels)), len(views)),
            seed=seed,
            penalties=penalties or cls.penalties,
        )
        detector.fold(model)
        fitted = {"patches": len(labels), "copies": copies, "views": len(views), "penalty": model.penalty}
        detector.card = replace(detector.card, run={"fit": fitted})
        return detector.eval()

    @classmethod
    def fit_measured(
        cls,
        features: Features,
        labels: Labels,
        *,
        patch_px: int,
        seed: int,
        groups: Groups | None = None,
        penalties: tuple[float, ...] | None = None,
        **options: Any,
    ) -> Self:
        """As :meth:`fit`, on features (n, d) that :meth:`features` measured before: for many fits on the same patches.

        Args:
            features: One row a patch.
            labels: REAL or FAKE (n,).
            patch_px: Size of the patches.
            seed: Of the folds.
            groups: (n,), see :meth:`Detector.fit`.
            penalties: To choose from; the class's own if None.
            options: Of :meth:`build`.
        """
        detector = cls.build(patch_px, **options)
        known = as_groups(groups, len(labels))
        model = cls.regress(features, labels, groups=known, seed=seed, penalties=penalties or cls.penalties)
        detector.fold(model)
        detector.card = replace(detector.card, run={"fit": {"patches": len(labels), "penalty": model.penalty}})
        return detector.eval()

    @staticmethod
    def regress(features: Features, labels: Labels, **options: Any) -> LinearModel:
        """The regression: logistic, unless a detector has more features than that can take."""
        return fit_logistic(features, labels, **options)

    @classmethod
    def copy_of(cls, pixels: Pixels, rng: np.random.Generator, recipe: Augmentation) -> Pixels:
        """An augmented copy of each patch, moved by up to ``shift_px`` so that no grid phase is special."""
        parts = [augment(pixels[i : i + CHUNK], rng, recipe) for i in range(0, len(pixels), CHUNK)]
        return shifted(np.concatenate(parts), rng.integers(0, cls.shift_px + 1, (len(pixels), 2)))

    @classmethod
    def views(cls, pixels: Pixels, rng: np.random.Generator) -> list[Pixels]:  # noqa: ARG003 - for those that draw
        """The ways of looking at patches that a fit learns from; a detector tied to a grid adds other phases."""
        return [pixels]

    def _measure(self, pixels: Pixels, progress: Progress | None, part: tuple[int, int], batch: int = 64) -> Features:
        out = []
        with torch.inference_mode():
            for i in range(0, len(pixels), batch):
                chunk = torch.from_numpy(np.ascontiguousarray(pixels[i : i + batch])).to(self.intercept.device)
                out.append(self.features(chunk).cpu().numpy())
                if progress is not None:
                    done = part[0] * len(pixels) + min(i + batch, len(pixels))
                    progress(done, part[1] * len(pixels), self.name)
        return np.concatenate(out)


def draw_rows(labels: Labels, most: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """At most ``most`` rows, sorted, drawn at random; the smaller class is kept whole as far as half of them go."""
    rows = {label: rng.permutation(np.flatnonzero(labels == label)) for label in (REAL, FAKE)}
    small, large = sorted(rows.values(), key=len)
    kept = small[: max(most // 2, most - len(large))]
    return np.sort(np.concatenate([kept, large[: most - len(kept)]]))


def shifted(pixels: Pixels, by: npt.NDArray[np.integer[Any]]) -> Pixels:
    """Patches (n, h, w, 3) cut ``by`` (n, 2) px (y, x) later; what is missing at the far border is mirrored."""
    out = np.empty_like(pixels)
    for i, (y, x) in enumerate(by):
        out[i] = np.pad(pixels[i, y:, x:], ((0, y), (0, x), (0, 0)), mode="symmetric")
    return out


def fit_logistic(
    features: Features,
    labels: Labels,
    *,
    groups: Groups | None = None,
    seed: int = 0,
    penalties: tuple[float, ...] = STRONG,
) -> LinearModel:
    """Standardisation, then logistic regression with L2, classes weighted alike, folded into weights and bias.

    Args:
        features: (n, d).
        labels: REAL or FAKE (n,).
        groups: (n,); a group stays in one fold.
        seed: Of the folds.
        penalties: To choose from by :func:`choose_penalty`; 1 / C in scikit-learn's words.
    """
    from sklearn.linear_model import LogisticRegression  # 100 MB, which programs that only judge are spared

    features = features.astype(np.float64)
    mean, std = _standard(features)
    x = (features - mean) / std

    def regression(penalty: float, rows: npt.NDArray[np.bool_]) -> LogisticRegression:
        model = LogisticRegression(C=1 / penalty, class_weight="balanced", max_iter=5000, tol=1e-6)
        return model.fit(x[rows], labels[rows])

    def held_out(penalty: float, rows: npt.NDArray[np.bool_]) -> Features:
        scores: Features = regression(penalty, ~rows).decision_function(x[rows])
        return scores

    penalty = choose_penalty(held_out, labels, as_groups(groups, len(labels)), seed=seed, penalties=penalties)
    model = regression(penalty, np.ones(len(labels), dtype=bool))
    weights = model.coef_[0] / std
    return LinearModel(weights=weights, bias=float(model.intercept_[0] - weights @ mean), penalty=penalty)


def fit_ridge(
    features: Features,
    labels: Labels,
    *,
    groups: Groups | None = None,
    seed: int = 0,
    penalties: tuple[float, ...] = (1e6, 1e5, 1e4, 1e3, 1e2),
) -> LinearModel:
    """Standardisation, then ridge regression on -1 and 1, classes weighted alike, folded into weights and bias.

    Solved in the patches' products with each other, so that 30,000 features cost no more than 300: cubic in patches.

    Args:
        features: (n, d).
        labels: REAL or FAKE (n,).
        groups: (n,); a group stays in one fold.
        seed: Of the folds.
        penalties: To choose from by :func:`choose_penalty`; alpha in scikit-learn's words.
    """
    from sklearn.kernel_ridge import KernelRidge

    mean, std = _standard(features)
    x = features - mean.astype(features.dtype)  # single precision stays single: there may be 10^8 numbers
    x /= std.astype(features.dtype)
    target = np.where(labels == FAKE, 1.0, -1.0)
    products = (x @ x.T).astype(np.float64)

    def dual(penalty: float, rows: npt.NDArray[np.bool_]) -> tuple[Features, Features]:
        """Weights of the patches, and of each in the centre that both classes weigh alike."""
        half = balanced_weights(labels[rows]) / rows.sum()
        gram = products[np.ix_(rows, rows)]
        about = gram @ half
        centred = gram - about[:, None] - about[None, :] + half @ about
        model = KernelRidge(alpha=penalty, kernel="precomputed")
        model.fit(centred, target[rows], sample_weight=half * rows.sum())
        return model.dual_coef_, half

    def held_out(penalty: float, rows: npt.NDArray[np.bool_]) -> Features:
        coefficients, half = dual(penalty, ~rows)
        scores: Features = products[np.ix_(rows, ~rows)] @ (coefficients - half * coefficients.sum())
        return scores  # up to a constant, which an AUC does not see

    penalty = choose_penalty(held_out, labels, as_groups(groups, len(labels)), seed=seed, penalties=penalties)
    coefficients, half = dual(penalty, np.ones(len(labels), dtype=bool))
    standardised = (x.T @ (coefficients - half * coefficients.sum()).astype(x.dtype)).astype(np.float64)
    weights = standardised / std
    bias = -float(standardised @ (half.astype(x.dtype) @ x)) - float(weights @ mean)
    return LinearModel(weights=weights, bias=bias, penalty=penalty)


def balanced_weights(labels: Labels) -> Features:
    """A weight a patch, mean 1, that makes both classes weigh the same."""
    counts = np.bincount(labels, minlength=2)
    weights: Features = len(labels) / (2 * counts[labels])
    return weights


def choose_penalty(
    held_out: Callable[[float, npt.NDArray[np.bool_]], Features],
    labels: Labels,
    groups: Groups,
    *,
    seed: int = 0,
    penalties: tuple[float, ...],
) -> float:
    """The largest penalty whose mean held-out AUC over grouped folds is within one standard error of the best.

    Args:
        held_out: Scores of the patches where the mask is true, by a model of this penalty fitted on the others.
        labels: REAL or FAKE (n,).
        groups: (n,); a group stays in one fold.
        seed: Of the folds.
        penalties: To choose from; a single one is taken as it is.
    """
    ordered = sorted(penalties, reverse=True)
    if len(ordered) == 1:
        return ordered[0]
    from sklearn.metrics import roc_auc_score

    fold = grouped_folds(labels, groups, np.random.default_rng(seed))
    masks = [fold == k for k in range(fold.max() + 1)]
    aucs = np.array([[roc_auc_score(labels[m], held_out(penalty, m)) for m in masks] for penalty in ordered])
    mean = aucs.mean(1)
    error = aucs[mean.argmax()].std(ddof=1) / np.sqrt(len(masks))
    return ordered[int(np.argmax(mean >= mean.max() - error))]


def grouped_folds(labels: Labels, groups: Groups, rng: np.random.Generator, most: int = FOLDS) -> npt.NDArray[np.intp]:
    """Fold of each patch (n,): groups of either class are dealt out in turn, and no group is cut.

    There are as many folds as the class with fewer groups has, at most ``most``: with three generators, each is
    left out once. A class that is one single group is dealt out patch by patch, since nothing else is possible.
    """
    units = {label: np.unique(groups[labels == label], return_inverse=True) for label in (REAL, FAKE)}
    sizes = [len(names) for names, _ in units.values() if len(names) > 1]
    smallest = min(int((labels == label).sum()) for label in units)
    count = max(2, min([most, smallest, *sizes]))
    fold = np.empty(len(labels), dtype=np.intp)
    for label, (names, which) in units.items():
        unit = which if len(names) > 1 else np.arange(len(which))
        fold[labels == label] = (rng.permutation(unit.max() + 1) % count)[unit]
    return fold


def _standard(features: Features) -> tuple[Features, Features]:
    """Mean and standard deviation (d,) of each feature; 1 for a constant one, which then says nothing."""
    mean, std = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
    return mean, np.where(std < 1e-9 * (1 + np.abs(mean)), 1.0, std)

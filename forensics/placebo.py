"""The retrained placebo: what a detector finds in real patches that merely took the path of the fakes.

A detector trained for nothing else is asked to tell real tissue from other real tissue that went through the fakes'
codec and crops. If it can, it would also tell fakes by their path, and its score says nothing of synthesis.

The design keeps the estimate honest in small samples. Labels are dealt patch by patch, half and half within each group
(block, patient), so that tissue cannot tell the classes apart. A group is judged only by a detector that never saw it.
And the training labels are dealt anew for every fold: were they kept, two folds would judge each other by the same
labels, their AUCs would rise and fall together, and the interval would be too narrow (simulated on 10 to 30 groups
without any difference, it held 0.5 in 87 to 92 % of runs, against 94 to 96 % as it is).

References: Bengio & Grandvalet 2004 (no unbiased variance of cross-validation); Parker, Gunter & Bedő 2007
(pooled AUCs of unbalanced folds are biased downwards).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy import stats

from histoforensics.slides import PatchError, require
from histoforensics.slides.progress import Progress

from .detector import Groups, Labels, Pixels, check_pixels
from .leaks import as_groups
from .metrics import cluster_bootstrap_auc
from .registry import detector_class

IntLabels = npt.NDArray[np.int64]


class Judge(Protocol):
    """Something trained that gives patches logits; a :class:`~histoforensics.forensics.Detector` does."""

    def logits(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """Higher is more like class 1; (n,) of uint8 (n, h, w, 3)."""


Fit = Callable[[Pixels, Labels, Groups, int], Judge]  # pixels, labels, groups, seed


@dataclass(frozen=True, kw_only=True)
class Placebo:
    """Held-out AUC of a detector retrained on a difference that should not be there; 0.5 is what a fair path gives."""

    auc: float
    ci95: tuple[float, float]
    n: int  # patches judged, each once, by a detector that saw nothing of its group
    n_groups: int
    trainings: int

    @property
    def holds(self) -> bool:
        """Whether the interval holds 0.5: the path leaves nothing that this detector finds in so many patches."""
        return self.ci95[0] <= 0.5 <= self.ci95[1]


def placebo_auc(
    name: str,
    real: Pixels,
    through_path: Pixels,
    groups: Groups | None,
    *,
    folds: int = 2,
    seed: int = 0,
    n_boot: int = 2000,
    budget_seconds: float | None = None,
    progress: Progress | None = None,
    options: Mapping[str, Any] | None = None,
) -> Placebo:
    """How well the detector ``name``, retrained, tells real patches from other real patches that took the fakes' path.

    Args:
        name: One of DETECTORS or CONTROLS.
        real: Patches as they enter the benchmark, uint8 (n, h, w, 3).
        through_path: The same patches after the whole path of the fakes, row by row.
        groups: Block, slide or patient of each patch (n,); None makes each patch its own.
        folds: Trainings; each judges the groups that it was not trained on.
        seed: Of folds, labels, trainings and resampling.
        n_boot: Resamples of whole groups for the interval.
        budget_seconds: Of each training, where it is iterative.
        progress: Told after each training.
        options: Of the detector's ``fit``.

    Raises:
        DetectorError: If no detector has that name.
        PatchError: If the two sets differ in shape, or there are too few groups or patches for so many folds.
    """
    check_pixels(real, None, name)
    if real.shape != through_path.shape or through_path.dtype != np.uint8:
        raise PatchError(
            f"{name}: the placebo needs each real patch once as it is and once after the path, got {real.dtype} "
            f"{real.shape} and {through_path.dtype} {through_path.shape}."
        )
    units = as_groups(groups, len(real))
    labels, scores = cross_fitted(
        _fitter(name, budget_seconds, options), real, through_path, units, folds=folds, seed=seed, progress=progress
    )
    return _placebo(labels, scores, units, folds, n_boot, seed)


def label_permutation_auc(
    name: str,
    pixels: Pixels,
    groups: Groups | None,
    *,
    seed: int = 0,
    n_boot: int = 2000,
    budget_seconds: float | None = None,
    progress: Progress | None = None,
    options: Mapping[str, Any] | None = None,
) -> Placebo:
    """Held-out AUC where labels mean nothing; above 0.5 says that training and test share patches.

    Labels are dealt once at random over all ``pixels`` (n, h, w, 3), real and fake alike; the detector learns them on
    half of the groups and is judged by them on the other half. A patch that stands in two groups keeps its label, so a
    leak shows. Since labels are dealt patch by patch, patches are what the interval resamples.
    """
    check_pixels(pixels, None, name)
    units = as_groups(groups, len(pixels))
    rng = np.random.default_rng(seed)
    held_out = deal_folds(units, 2, rng) == 0
    labels = deal_labels(_content(pixels), rng, together=True)
    detector = _fitter(name, budget_seconds, options)(pixels[~held_out], labels[~held_out], units[~held_out], seed)
    if progress is not None:
        progress(1, 1, f"{name} on labels that mean nothing")
    scores = detector.logits(pixels[held_out]).astype(np.float64)
    found = cluster_bootstrap_auc(labels[held_out], scores, None, n_boot, seed)
    return Placebo(auc=found.auc, ci95=found.ci95, n=len(scores), n_groups=len(set(units[held_out])), trainings=1)


def cross_fitted(
    fit: Fit,
    real: Pixels,
    through_path: Pixels,
    groups: Groups,
    *,
    folds: int,
    seed: int,
    progress: Progress | None = None,
) -> tuple[IntLabels, npt.NDArray[np.float64]]:
    """Dealt labels (n,) and held-out scores (n,), ranked to (0, 1) within each fold, of every patch.

    Patches labelled 1 are shown as they are after the path, the others as they were; in training and in judging alike.
    """
    rng = np.random.default_rng(seed)
    fold = deal_folds(groups, folds, rng)
    labels = np.zeros(len(real), dtype=np.int64)
    scores = np.zeros(len(real))
    for k in range(folds):
        held_out = fold == k
        labels[held_out] = deal_labels(groups[held_out], rng)
        learned = deal_labels(groups[~held_out], rng)  # anew for every fold; see the module's first lines
        judge = fit(_shown(real, through_path, ~held_out, learned), learned, groups[~held_out], seed + k)
        logits = judge.logits(_shown(real, through_path, held_out, labels[held_out]))
        # networks of different folds have different scales; each fold is balanced, so ranks can be pooled
        scores[held_out] = (stats.rankdata(logits) - 0.5) / held_out.sum()
        if progress is not None:
            progress(k + 1, folds, f"fold {k + 1} of {folds}")
    return labels, scores


def deal_folds(groups: Groups, folds: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Fold (n,) of each patch: whole groups, the largest first, each into the fold with the fewest patches so far.

    Raises:
        PatchError: If there are fewer than two groups a fold.
    """
    require(folds >= 2, "folds", "at least 2", folds)
    codes, sizes = _codes(groups)
    if len(sizes) < 2 * folds:
        raise PatchError(f"{folds} folds need at least {2 * folds} groups (slides, blocks), got {len(sizes)}.")
    order = rng.permutation(len(sizes))
    filled, fold_of_group = np.zeros(folds), np.zeros(len(sizes), dtype=np.intp)
    for group in order[np.argsort(-sizes[order], kind="stable")]:
        smallest = int(filled.argmin())
        fold_of_group[group] = smallest
        filled[smallest] += sizes[group]
    return fold_of_group[codes]


def deal_labels(groups: Groups, rng: np.random.Generator, *, together: bool = False) -> IntLabels:
    """Labels 0 or 1 (n,) at random: half of each group's patches each, and half of all, give or take one.

    With ``together`` each group gets one label for all of its patches, half of the groups each.
    """
    codes, sizes = _codes(groups)
    if together:
        return rng.permutation(len(sizes))[codes] % 2
    order = np.lexsort((rng.random(len(codes)), rng.permutation(len(sizes))[codes]))  # shuffled groups, shuffled within
    labels = np.empty(len(codes), dtype=np.int64)
    labels[order] = (np.arange(len(codes)) + rng.integers(2)) % 2
    return labels


def _fitter(name: str, budget_seconds: float | None, options: Mapping[str, Any] | None) -> Fit:
    kind = detector_class(name)

    def fit(pixels: Pixels, labels: Labels, groups: Groups, seed: int) -> Judge:
        return kind.fit(pixels, labels, seed=seed, groups=groups, budget_seconds=budget_seconds, **dict(options or {}))

    return fit


def _placebo(
    labels: IntLabels, scores: npt.NDArray[np.float64], groups: Groups, trainings: int, n_boot: int, seed: int
) -> Placebo:
    found = cluster_bootstrap_auc(labels, scores, groups, n_boot, seed)
    return Placebo(auc=found.auc, ci95=found.ci95, n=len(labels), n_groups=found.n_groups, trainings=trainings)


def _shown(real: Pixels, through_path: Pixels, rows: npt.NDArray[np.bool_], labels: IntLabels) -> Pixels:
    return np.where(labels[:, None, None, None] == 1, through_path[rows], real[rows])


def _content(pixels: Pixels) -> npt.NDArray[np.int64]:
    """A number for each patch (n,), the same for patches that are the same byte for byte."""
    known: dict[bytes, int] = {}
    return np.asarray([known.setdefault(patch.tobytes(), len(known)) for patch in pixels], dtype=np.int64)


def _codes(groups: Groups) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Group number of each patch (n,) and patches of each group."""
    names, codes = np.unique([str(group) for group in groups.tolist()], return_inverse=True)
    return codes, np.bincount(codes, minlength=len(names))

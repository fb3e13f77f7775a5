"""How well two sets can be told apart: each patch judged by a detector that saw nothing of its group.

The same folds serve every way of preparing the patches, so that a detector can be trained on one preparation and
judged on another: that is the codec-swap matrix.

An AUC clearly below 0.5 is no cue: it comes where fakes resemble all of the reals' groups together, and the reals of a
fold differ from those that the detector learned from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from histoforensics.slides import PatchError

from .detector import FAKE, REAL, Groups, Pixels
from .metrics import AucInterval, cluster_bootstrap_auc
from .placebo import deal_folds
from .registry import detector_class

FOLDS = 4


def fold_count(groups: Groups) -> int:
    """How many folds so many groups allow: at most 4, each with two groups or more.

    Raises:
        PatchError: If there are fewer than 4 groups.
    """
    found = len(np.unique(np.asarray(groups).astype(str)))
    if found < 4:
        raise PatchError(f"cross-fitting needs at least 4 groups (slides, blocks, patients) a class, got {found}.")
    return min(FOLDS, found // 2)


def cross_fitted_aucs(
    name: str,
    real: Mapping[str, Pixels],
    fake: Mapping[str, Pixels],
    real_groups: Groups,
    *,
    seed: int = 0,
    n_boot: int = 1000,
    options: Mapping[str, Any] | None = None,
) -> dict[tuple[str, str], AucInterval]:
    """Held-out AUC, with an interval over groups, of every (trained on, judged on) pair of preparations.

    Args:
        name: One of DETECTORS or CONTROLS.
        real: Preparation to reals, uint8 (n, h, w, 3), row by row the same patches.
        fake: The same preparations of the fakes (m, h, w, 3); each fake is a group of its own.
        real_groups: Block, slide or patient of each real (n,).
        seed: Of folds, trainings and resampling.
        n_boot: Resamples for the interval.
        options: Of the detector's ``fit``.

    Raises:
        DetectorError: If no detector has that name.
        PatchError: If there are too few groups, or the preparations differ in shape.
    """
    kind = detector_class(name)
    n, m = (len(next(iter(one.values()))) for one in (real, fake))
    groups = np.array([f"real {g}" for g in np.asarray(real_groups).tolist()] + [f"fake {i}" for i in range(m)])
    labels = np.repeat([REAL, FAKE], [n, m])
    both = {way: np.concatenate([real[way], fake[way]]) for way in real}
    folds, rng = min(fold_count(real_groups), fold_count(np.arange(m))), np.random.default_rng(seed)
    fold = np.concatenate([deal_folds(groups[:n], folds, rng), deal_folds(groups[n:], folds, rng)])
    ranks: dict[tuple[str, str], npt.NDArray[np.float64]] = {(a, b): np.zeros(n + m) for a in both for b in both}
    for k in range(folds):
        rows, held_out = fold != k, fold == k
        for learned in both:
            judge = kind.fit(
                both[learned][rows], labels[rows], seed=seed + k, groups=groups[rows], **dict(options or {})
            )
            for judged in both:
                logits = judge.logits(both[judged][held_out])
                # fits of different folds differ in scale; folds are balanced alike, so ranks can be pooled
                ranks[learned, judged][held_out] = (stats.rankdata(logits) - 0.5) / held_out.sum()
    return {pair: cluster_bootstrap_auc(labels, scores, groups, n_boot, seed) for pair, scores in ranks.items()}

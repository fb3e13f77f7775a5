"""Robustness: what a detector's ranking and its frozen threshold are worth on patches that something happened to.

Both classes are changed alike. The AUC tells whether fakes still rank above reals; the rates at the threshold frozen on
clean patches tell what a user would see, since nobody recalibrates for a stranger's JPEG.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from histoforensics.forensics import FAKE, REAL, Detector, cluster_bootstrap_auc
from histoforensics.slides import DetectorError, PatchError, Progress, require

from .perturbations import PERTURBATIONS, Perturbation, mean_change
from .statistics import wilson

CLEAN = "none"
LEAST_AUC = 0.9  # a detector is said to hold as far as its AUC stays there
COLUMNS = (
    "detector", "perturbation", "severity", "mean_change", "auc", "auc_low", "auc_high", "tpr", "tpr_low", "tpr_high",
    "fpr", "fpr_low", "fpr_high", "unsure", "doubtful", "fpr_trusted", "n_real", "n_fake",
)  # fmt: skip


def robustness(
    detector: Detector,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.integer[Any]],
    groups: NDArray[Any] | None = None,
    *,
    perturbations: Sequence[Perturbation] = PERTURBATIONS,
    limit: int | None = None,
    seed: int = 0,
    n_boot: int = 1000,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """One row a perturbation and severity, the unchanged patches first: AUC, and the rates at the frozen threshold.

    ``tpr`` is the share of fakes above the detector's ``fake_above`` (frozen for 5 % false positives), with a Wilson
    interval, ``fpr`` that of reals, ``unsure`` the share of both that gets no verdict; ``doubtful`` the share that the
    detector itself finds unlike its calibration, and ``fpr_trusted`` the false positives left when these are unsure;
    ``mean_change`` in grey levels; ``n_real`` and ``n_fake`` how many patches were used.

    Args:
        detector: A calibrated one.
        pixels: Held-out patches, uint8 (n, h, w, 3), of the judged size.
        labels: 0 real, 1 fake (n,).
        groups: Block, slide or patient of each patch (n,); each its own if None.
        perturbations: Of what.
        limit: At most so many patches of each class, drawn at random; all if None.
        seed: Of the draw, the perturbations and the resampling.
        n_boot: Resamples for the AUC's interval.
        progress: Told after each row.

    Raises:
        DetectorError: If the detector has no thresholds.
        PatchError: If a perturbation changed nothing, or patches, labels and groups do not fit together.
    """
    if not detector.is_calibrated:
        raise DetectorError(f"{detector.name}: no thresholds yet; robustness is measured at frozen ones.")
    labels = np.asarray(labels)
    if labels.shape != (len(pixels),) or (groups is not None and np.asarray(groups).shape != labels.shape):
        raise PatchError(f"{len(pixels)} patches need one label and one group each, got {labels.shape} labels.")
    rows = subsample(labels, limit, seed)
    pixels, labels = pixels[rows], labels[rows]
    groups = None if groups is None else np.asarray(groups)[rows]
    total = 1 + sum(len(one.severities) for one in perturbations)
    told = [_row(detector, CLEAN, np.nan, 0.0, pixels, labels, groups, n_boot, seed)]
    for one in perturbations:
        for severity in one.severities:
            changed = one(pixels, severity, seed)
            change = mean_change(pixels, changed)
            told.append(_row(detector, one.name, severity, change, changed, labels, groups, n_boot, seed))
            if progress is not None:
                progress(len(told), total, f"{detector.name}, {one.name} {severity:g}")
    return pd.DataFrame(told)[list(COLUMNS)]


def summary(table: pd.DataFrame, least_auc: float = LEAST_AUC) -> pd.DataFrame:
    """One row a detector and perturbation: mean and worst AUC, where it is under ``least_auc``, worst rates."""
    changed = table[table["perturbation"] != CLEAN]
    rows = [
        {
            "detector": detector,
            "perturbation": name,
            "mean_auc": float(part["auc"].mean()),
            "worst_auc": float(part["auc"].min()),
            "worst_fpr": float(part["fpr"].max()),
            "worst_fpr_trusted": float(part["fpr_trusted"].max()),
            "fails_at": ", ".join(f"{s:g}" for s in part.loc[part["auc"] < least_auc, "severity"]),
        }
        for (detector, name), part in changed.groupby(["detector", "perturbation"], sort=False)
    ]
    return pd.DataFrame(rows)


def subsample(labels: NDArray[np.integer[Any]], limit: int | None, seed: int = 0) -> NDArray[np.intp]:
    """Rows, rising, of at most ``limit`` patches of each class, drawn at random."""
    if limit is None:
        return np.arange(len(labels))
    require(limit >= 2, "limit", "at least 2", limit)
    rng = np.random.default_rng(seed)
    return np.sort(np.concatenate([rng.permutation(np.flatnonzero(labels == c))[:limit] for c in (REAL, FAKE)]))


def _row(
    detector: Detector,
    name: str,
    severity: float,
    change: float,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.integer[Any]],
    groups: NDArray[Any] | None,
    n_boot: int,
    seed: int,
) -> dict[str, Any]:
    scores = detector.score(pixels)
    verdicts = detector.verdicts(scores)
    doubts = np.array([reason is not None for reason in detector.reasons_to_doubt(pixels)], dtype=bool)
    trusted = detector.verdicts(scores, doubtful=doubts)
    found = cluster_bootstrap_auc(labels, scores, groups, n_boot, seed)
    counts = {c: int((labels == c).sum()) for c in (REAL, FAKE)}
    called = {c: int((verdicts[labels == c] == "fake").sum()) for c in (REAL, FAKE)}
    tpr, fpr = (wilson(called[c], counts[c]) for c in (FAKE, REAL))
    return {
        "detector": detector.name, "perturbation": name, "severity": severity, "mean_change": change,
        "auc": found.auc, "auc_low": found.low, "auc_high": found.high,
        "tpr": called[FAKE] / counts[FAKE], "tpr_low": tpr.low, "tpr_high": tpr.high,
        "fpr": called[REAL] / counts[REAL], "fpr_low": fpr.low, "fpr_high": fpr.high,
        "unsure": float((verdicts == "unsure").mean()), "doubtful": float(doubts.mean()),
        "fpr_trusted": float((trusted[labels == REAL] == "fake").mean()),
        "n_real": counts[REAL], "n_fake": counts[FAKE],
    }  # fmt: skip

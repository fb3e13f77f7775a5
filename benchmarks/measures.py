"""What held-out scores say beside their AUC: exams, calibration, margins over controls, and the generator left out.

All of it comes from the tables of scores that a run saves, so that anyone can compute it again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from histoforensics.forensics.conformal import risk_at_coverage, selective
from histoforensics.forensics.detector import FAKE, REAL, Detector
from histoforensics.forensics.metrics import average_precision, cluster_bootstrap_tpr, least_reals, tpr_at_fpr
from histoforensics.forensics.reliability import brier, expected_calibration_error, reliability_curve

from .distribution import distributions
from .generalization import auc_cell
from .margins import margins

BINS = 10  # of a reliability curve: a run holds out a few hundred patches
TPR_BOOT = 500
RATES = {"tpr_at_5_fpr": 0.05, "tpr_at_1_fpr": 0.01}


def measures(
    seen: pd.DataFrame,
    unseen: pd.DataFrame,
    judges: Mapping[str, Detector],
    controls: Collection[str],
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """The keys exam_distribution, calibration, margins and generalization_summary of results.json.

    Args:
        seen: Held-out scores of judges that learned from every generator, columns as of `generalization`.
        unseen: The same of judges that each did without one; may be empty.
        judges: Those that learned from every generator, calibrated, by name.
        controls: Which judges are controls.
        seed: Of draws and resampling.
    """
    return {
        "exam_distribution": [one.to_json() for one in distributions(seen, seed=seed)],
        "calibration": {
            str(name): calibration(rows, _cut(judges[str(name)]), seed=seed)
            for name, rows in seen.groupby("detector", sort=False)
            if name not in controls
        },
        "margins": paired_margins(seen, controls, seed=seed),
        "generalization_summary": generalization_summary(unseen, controls, seed=seed),
    }


def calibration(rows: pd.DataFrame, cut: float, *, seed: int = 0) -> dict[str, Any]:
    """Whether one judge's P(fake) means what it says, on held-out rows; rates with too few reals are null, and why.

    P(fake) is for a world with as many fakes as reals, so all but the true-positive rates are of a balanced draw: every
    patch of the smaller class and as many of the other.

    Args:
        rows: Of one judge, columns as of `generalization`.
        cut: P(fake) above which a patch is called fake where every patch must be decided.
        seed: Of the draw and the resampling.
    """
    labels, scores, groups = _arrays(rows)
    kept = _balanced(labels, seed)
    y, p = labels[kept], scores[kept]
    decided = selective(y, rows["verdict"].to_numpy(str)[kept])
    return {
        "n_real": int((y == REAL).sum()),
        "n_fake": int((y == FAKE).sum()),
        "average_precision": average_precision(y, p),
        **_rates(labels, scores, groups, seed),
        "ece": expected_calibration_error(y, p, BINS),
        "brier": brier(y, p),
        "coverage": decided.coverage,
        "risk": decided.risk,
        "risk_at_95_coverage": risk_at_coverage(y, p, cut),
        "bins": [asdict(one) for one in reliability_curve(y, p, BINS)],
    }


def paired_margins(seen: pd.DataFrame, controls: Collection[str], *, seed: int = 0) -> dict[str, Any]:
    """Each detector's AUC less that of the best control on the same patches; empty without controls or interval."""
    by_name = {str(name): rows for name, rows in seen.groupby("detector", sort=False)}
    scores = {name: rows["score"].to_numpy(np.float64) for name, rows in by_name.items()}
    trivial = {name: values for name, values in scores.items() if name in controls}
    if not trivial:
        return {}
    labels, _, groups = _arrays(next(iter(by_name.values())))  # every judge scored the same patches in one order
    if _fewest(labels, groups) < 2:
        return {}
    judged = {name: values for name, values in scores.items() if name not in controls}
    return {name: one.to_json() for name, one in margins(labels, judged, trivial, groups, seed=seed).items()}


def generalization_summary(unseen: pd.DataFrame, controls: Collection[str], *, seed: int = 0) -> dict[str, Any]:
    """Of each judge over the generators it did without: mean and worst AUC, and what its frozen thresholds did."""
    return {
        str(name): _summary(rows, str(name) in controls, seed) for name, rows in unseen.groupby("detector", sort=False)
    }


def _cut(judge: Detector) -> float:
    """P(fake) that decides every patch, as calibration froze it."""
    assert judge.card.calibration is not None  # `train_detector` always calibrates
    return float(np.clip(judge.card.calibration.cut, 1e-7, 1 - 1e-7))


def _summary(rows: pd.DataFrame, is_control: bool, seed: int) -> dict[str, Any]:
    cells, rates, false, unsure = {}, [], [], []
    for left_out, part in rows.groupby("trained_without", sort=False):
        chosen = part[(part["label"] == "real") | (part["generator"] == left_out)]
        labels, scores, groups = _arrays(chosen)
        cells[str(left_out)] = auc_cell(chosen, n_boot=100, seed=seed).auc
        rates.append(tpr_at_fpr(labels, scores, RATES["tpr_at_5_fpr"], groups))
        false.append(float((chosen["verdict"][chosen["label"] == "real"] == "fake").mean()))
        unsure.append(float((chosen["verdict"] == "unsure").mean()))
    worst = min(cells, key=lambda name: cells[name])
    known = [rate for rate in rates if rate is not None]
    return {
        "kind": "control" if is_control else "detector",
        "mean_auc": float(np.mean(list(cells.values()))),
        "worst_auc": cells[worst],
        "worst_generator": worst,
        "mean_tpr_at_5_fpr": float(np.mean(known)) if len(known) == len(rates) else None,
        "false_positive_rate": float(np.mean(false)),
        "unsure": float(np.mean(unsure)),
    }


def _rates(
    labels: NDArray[np.intp], scores: NDArray[np.float64], groups: NDArray[Any], seed: int
) -> dict[str, float | list[float] | str | None]:
    independent = len(set(groups[labels == REAL]))
    told: dict[str, float | list[float] | str | None] = {"independent_reals": independent}
    for key, rate in RATES.items():
        if independent < least_reals(rate):
            reason = f"{independent} independent groups of reals; {100 * rate:g} % takes {least_reals(rate)}"
            told |= {key: None, f"{key}_ci95": None, f"{key}_reason": reason}
            continue
        found = cluster_bootstrap_tpr(labels, scores, rate, groups, TPR_BOOT, seed)
        assert found is not None  # there are reals enough
        told |= {key: found[0], f"{key}_ci95": [found[1], found[2]]}
    return told


def _arrays(rows: pd.DataFrame) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[Any]]:
    """Labels, scores and what is resampled together, (n,) each."""
    labels = np.where(rows["label"] == "fake", FAKE, REAL)
    return labels, rows["score"].to_numpy(np.float64), rows["block"].fillna(rows["id"]).to_numpy(object)


def _balanced(labels: NDArray[np.intp], seed: int) -> NDArray[np.intp]:
    rng = np.random.default_rng([seed, 23])
    size = min(int((labels == c).sum()) for c in (REAL, FAKE))
    return np.sort(np.concatenate([rng.permutation(np.flatnonzero(labels == c))[:size] for c in (REAL, FAKE)]))


def _fewest(labels: NDArray[np.intp], groups: NDArray[Any]) -> int:
    return min(len(set(groups[labels == c])) for c in (REAL, FAKE))

"""What readers say set beside what can be measured: each reason's features on the very patches of the exam.

Two questions a reason: do the exam's fakes have more of it than its reals, and do the patches on which somebody ticked
it have more of it than those on which nobody did? The first asks of the generators, the second of the readers' eyes.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoforensics.forensics import FAKE, REAL
from histoforensics.forensics.effects import FEW_GROUPS, effect_sizes
from histoforensics.forensics.metrics import auc_difference
from histoforensics.forensics.morphology import FEATURES, MPP_RANGE, morphology

from .sheet import clusters, labels
from .study import Study

BOOT = 1000


def reasons_on_exam(study: Study, ticked: Mapping[str, Collection[str]], looked_at: Collection[str]) -> dict[str, Any]:
    """The measured features of every reason on the exam's items.

    Args:
        study: The exam, with its scale.
        ticked: Reason id to the items on which at least one reader ticked it.
        looked_at: Items that at least one reader answered.

    Returns:
        ``why_not``, null or why nothing was measured, and ``rows``: reason id to its features, each with ``feature``,
        ``what``, ``delta`` (Cliff's, fakes against reals: above 0, fakes have more) with ``ci95`` and ``p_holm``, and
        ``delta_ticked`` (ticked against not) with ``ticked_ci95`` and ``n_ticked``; null where too few can be told.
    """
    mpp = study.settings.mpp
    if mpp is None or not MPP_RANGE[0] <= mpp <= MPP_RANGE[1]:
        known = "is not known" if mpp is None else f"of {mpp:.3g} um/px is outside {MPP_RANGE[0]:g} to {MPP_RANGE[1]:g}"
        return {"why_not": f"the patches' resolution {known}", "rows": {}}
    key = study.exam.key
    measured, truth, groups = morphology(study.exam.pixels(), mpp), labels(key), np.array(clusters(key), dtype=object)
    table = effect_sizes(
        measured[truth == REAL], {"fakes": measured[truth == FAKE]}, real_groups=groups[truth == REAL], n_boot=BOOT
    )
    effects: dict[str, dict[str, Any]] = {str(row["feature"]): row for row in table.to_dict("records")}  # type: ignore[misc]
    ids = key["id"].astype(str)
    seen = ids.isin(list(looked_at)).to_numpy(bool)
    rows: dict[str, list[dict[str, Any]]] = {}
    for column, feature in enumerate(FEATURES):
        effect = effects[feature.name]
        mine = ids.isin(list(ticked.get(feature.reason, ()))).to_numpy(bool)
        values = measured[:, column].astype(np.float64)
        rows.setdefault(feature.reason, []).append({
            "feature": feature.name, "what": feature.formula, "delta": _number(effect["delta"]),
            "ci95": _ends(effect["low"], effect["high"]), "p_holm": _number(effect["p_holm"]),
            **_of_ticks(values[seen], mine[seen], groups[seen]),
        })  # fmt: skip
    return {"why_not": None, "rows": rows}


def _of_ticks(values: NDArray[np.float64], ticked: NDArray[np.bool_], groups: NDArray[Any]) -> dict[str, Any]:
    known = np.isfinite(values)
    told = {"n_ticked": int((ticked & known).sum())}
    if min(len(set(groups[known & side].tolist())) for side in (ticked, ~ticked)) < FEW_GROUPS:
        return told | {"delta_ticked": None, "ticked_ci95": None}
    # against a constant, whose AUC is a half in every resample: delta is twice the difference
    found = auc_difference(
        ticked[known].astype(np.intp), values[known], np.zeros(int(known.sum())), groups[known], BOOT, 0
    )
    return told | {"delta_ticked": 2 * found.difference, "ticked_ci95": [2 * found.low, 2 * found.high]}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _ends(low: float, high: float) -> list[float] | None:
    return None if math.isnan(low) else [float(low), float(high)]

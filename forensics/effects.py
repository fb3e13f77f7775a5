"""Which of the pathologist's reasons hold for a generator: how far its patches are from real ones, by feature.

References: Cliff 1993, Psychological Bulletin 114 (delta: free of units, and unlike a difference of means not driven by
a few patches); Holm 1979, Scand. J. Statistics 6.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from histoforensics.slides import PatchError

from .detector import FAKE, REAL, Groups
from .leaks import as_groups
from .metrics import auc_difference
from .morphology import FEATURES, REASONS

ALPHA = 0.05
FEW_GROUPS = 5  # of either class that a feature must be measured in: fewer tell nothing of other slides
COLUMNS = ("generator", "reason", "feature", "n_real", "n_fake", "share_real", "share_fake",
           "median_real", "median_fake", "delta", "low", "high", "p", "p_holm")  # fmt: skip

Features = npt.NDArray[np.floating[Any]]


def effect_sizes(
    real: Features,
    fakes: Mapping[str, Features],
    *,
    real_groups: Groups | None = None,
    fake_groups: Mapping[str, Groups] | None = None,
    n_boot: int = 4000,
    seed: int = 0,
) -> pd.DataFrame:
    """Cliff's delta of every feature of every generator against real tissue, one row each, with a 95 % interval.

    Delta is the probability that a fake patch has more of a feature than a real one, less that of the reverse: -1 to
    1, and 0 where both are alike. Patches without the feature are left out and counted in ``share_real`` and
    ``share_fake``; delta is NaN where fewer than 5 groups of a class have it. ``p_holm`` is adjusted over the whole
    table.

    Args:
        real: Of :func:`morphology`, (n, features).
        fakes: As much by generator.
        real_groups: Slide, block or patient of each real patch (n,), resampled whole.
        fake_groups: As much by generator; images of one generator are independent draws where it is not told.
        n_boot: Resamples; no p can be under 1 / (n_boot + 1), nor after Holm under the number of rows times that.
        seed: Of the resampling.

    Raises:
        PatchError: If a table has other columns than :data:`FEATURES`.
    """
    for name, some in {"real": real, **fakes}.items():
        if some.ndim != 2 or some.shape[1] != len(FEATURES) or not len(some):
            raise PatchError(f"{name}: features must be (n, {len(FEATURES)}) with n above 0, got {some.shape}.")
    rows = []
    for generator, fake in fakes.items():
        groups = _two_sorts(real_groups, len(real), (fake_groups or {}).get(generator), len(fake))
        for column, feature in enumerate(FEATURES):
            values = np.concatenate([real[:, column], fake[:, column]]).astype(np.float64)
            labels = np.repeat([REAL, FAKE], [len(real), len(fake)])
            row = {"generator": generator, "reason": feature.reason, "feature": feature.name}
            rows.append(row | _effect(values, labels, groups, n_boot, seed))
    table = pd.DataFrame(rows)
    table["p_holm"] = _holm(table["p"].to_numpy(dtype=np.float64)) if rows else []
    return table.reindex(columns=list(COLUMNS))


def effects_by_reason(table: pd.DataFrame) -> pd.DataFrame:
    """The pathologist's list beside the measurements: each reason, its text, and by generator what differs.

    A cell names the features that differ after Holm with their deltas, says "no difference seen", or "not measured".
    """
    rows = []
    for reason, text in REASONS.items():
        row = {"reason": reason, "text": text}
        for generator, part in table[table["reason"] == reason].groupby("generator", sort=False):
            known = part[part["delta"].notna()]
            found = [f"{r.feature} {r.delta:+.2f}" for r in known[known["p_holm"] < ALPHA].itertuples()]
            row[str(generator)] = ", ".join(found) or ("no difference seen" if len(known) else "not measured")
        rows.append(row)
    return pd.DataFrame(rows)


def _effect(
    values: npt.NDArray[np.float64], labels: npt.NDArray[np.integer[Any]], groups: Groups, n_boot: int, seed: int
) -> dict[str, float]:
    known = np.isfinite(values)
    sides = {"real": labels == REAL, "fake": labels == FAKE}
    row: dict[str, float] = {}
    for name, side in sides.items():
        seen = values[side & known]
        row |= {f"n_{name}": len(seen), f"share_{name}": len(seen) / int(side.sum())}
        row[f"median_{name}"] = float(np.median(seen)) if len(seen) else np.nan
    if min(len(np.unique(groups[side & known])) for side in sides.values()) < FEW_GROUPS:
        return row | dict.fromkeys(("delta", "low", "high", "p"), np.nan)
    # against a constant, whose AUC is a half in every resample: delta is twice the difference
    found = auc_difference(labels[known], values[known], np.zeros(known.sum()), groups[known], n_boot, seed)
    return row | {"delta": 2 * found.difference, "low": 2 * found.low, "high": 2 * found.high, "p": found.p}


def _two_sorts(real: Groups | None, n_real: int, fake: Groups | None, n_fake: int) -> Groups:
    parts = [(f"real {g}" for g in as_groups(real, n_real)), (f"fake {g}" for g in as_groups(fake, n_fake))]
    return np.array([name for part in parts for name in part])


def _holm(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Adjusted p values; NaN stays NaN and is not counted as a test."""
    adjusted = np.full(len(p), np.nan)
    order = np.argsort(p)[: int(np.isfinite(p).sum())]  # NaN sorts last
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return adjusted

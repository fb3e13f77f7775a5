"""What each detector adds to the best trivial cue, on the same patches, corrected for the number of detectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoforensics.forensics import auc
from histoforensics.forensics.metrics import auc_difference
from histoforensics.slides import ExamError

from .statistics import holm


@dataclass(frozen=True, kw_only=True)
class Margin:
    """A detector's AUC less that of the best control."""

    over: str  # the control
    auc: float
    difference: float
    low: float  # 95 %, not corrected
    high: float
    p: float
    p_holm: float  # over all detectors

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def margins(
    labels: NDArray[np.integer[Any]],
    detectors: Mapping[str, NDArray[np.floating[Any]]],
    controls: Mapping[str, NDArray[np.floating[Any]]],
    groups: NDArray[Any] | None = None,
    *,
    n_boot: int = 2000,
    seed: int = 0,
) -> dict[str, Margin]:
    """Each detector's margin over the control with the highest AUC, paired patch by patch, with Holm's p.

    The control is picked on these very patches, which can only make the margins smaller.

    Args:
        labels: 0 real, 1 fake (n,).
        detectors: Name to scores (n,).
        controls: Name to scores (n,).
        groups: Block, slide or patient of each patch (n,), resampled whole; each its own if None.
        n_boot: Resamples. The smallest p that they can show is 1 / (n_boot + 1).
        seed: Of the resampling.

    Raises:
        ExamError: If there is no control.
        PatchError: As :func:`histoforensics.forensics.auc`.
    """
    if not controls:
        raise ExamError("A margin is over the best control, and no control was given.")
    best = max(controls, key=lambda name: auc(labels, controls[name]))
    found = {
        name: auc_difference(labels, scores, controls[best], groups, n_boot, seed) for name, scores in detectors.items()
    }
    adjusted = holm({name: one.p for name, one in found.items()})
    return {
        name: Margin(
            over=best, auc=auc(labels, detectors[name]), difference=one.difference, low=one.low, high=one.high, p=one.p,
            p_holm=adjusted[name],
        )
        for name, one in found.items()
    }  # fmt: skip

"""Generalization: how well detectors do on the generators they learned from, and on one that they never saw.

Everything is computed from one long table of scores, which is saved: every AUC of a report can be computed again from
``scores.parquet``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from histoforensics.forensics.detector import FAKE, REAL
from histoforensics.forensics.metrics import auc, cluster_bootstrap_auc
from histoforensics.slides import PatchError, PatchSet, Progress

from .readers import Judge

TEST_COLUMNS = ("id", "label", "generator", "block")
SCORE_COLUMNS = (*TEST_COLUMNS, "detector", "trained_without", "score", "verdict")

Train = Callable[[str, tuple[str, ...]], Judge]  # (detector, generators to learn from) -> a calibrated detector


@dataclass(frozen=True)
class Cell:
    """One AUC: of the fakes of one generator, or of all, against the same reals.

    ``ci95`` is None where a class comes from one slide or block only, and ``reason`` says so.
    """

    auc: float
    ci95: tuple[float, float] | None
    n_real: int
    n_fake: int
    reason: str = ""

    def to_json(self) -> dict[str, object]:
        """The cell as results.json holds it."""
        ends = None if self.ci95 is None else list(self.ci95)
        told = {"auc": self.auc, "ci95": ends, "n_real": self.n_real, "n_fake": self.n_fake}
        return told | ({"reason": self.reason} if self.reason else {})


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-out patches that no training and no calibration has seen: uint8 (n, h, w, 3) and a row each.

    ``table`` has the columns id, label (real or fake), generator (of fakes) and block: what is resampled together.
    """

    pixels: NDArray[np.uint8]
    table: pd.DataFrame

    @classmethod
    def of(cls, real: PatchSet, fakes: Mapping[str, PatchSet]) -> HeldOut:
        """Real patches, resampled by patient, else by slide and block, and fakes, by the same where they have one."""
        tables = [_rows(real, "real", None), *(_rows(fake, "fake", name) for name, fake in fakes.items())]
        pixels = [patches.pixels() for patches in (real, *fakes.values())]
        if len({part.shape[1:] for part in pixels}) > 1:
            sizes = ", ".join(f"{part.shape[2]} px" for part in pixels)
            raise PatchError(f"Held-out patches must have one size, got {sizes}; crop them to the judged size.")
        return cls(np.concatenate(pixels), pd.concat(tables, ignore_index=True))

    @property
    def generators(self) -> tuple[str, ...]:
        """The generators in the order they were given."""
        return tuple(self.table["generator"].dropna().unique())

    def score(self, judge: Judge, detector: str, trained_without: str | None = None) -> pd.DataFrame:
        """One row a patch, columns `SCORE_COLUMNS`."""
        scores = judge.score(self.pixels)
        told = {"detector": detector, "trained_without": trained_without, "score": scores}
        return self.table[list(TEST_COLUMNS)].assign(**told, verdict=judge.verdicts(scores))[list(SCORE_COLUMNS)]


def same_generator(
    detectors: Sequence[str], test: HeldOut, train: Train, *, progress: Progress | None = None
) -> pd.DataFrame:
    """Scores of detectors that learned from every generator: the easy question, reported second."""
    everything = test.generators
    parts = []
    for number, detector in enumerate(detectors):
        if progress is not None:
            progress(number, len(detectors), detector)
        parts.append(test.score(train(detector, everything), detector))
    return _joined(parts)


def leave_one_out(
    detectors: Sequence[str], test: HeldOut, train: Train, *, progress: Progress | None = None
) -> pd.DataFrame:
    """Scores of detectors trained without a generator, on all patches: the honest question, reported first.

    With a single generator there is nothing left to learn from, and the table is empty.
    """
    names = test.generators
    rounds = [(detector, left_out) for left_out in names for detector in detectors if len(names) > 1]
    parts = []
    for number, (detector, left_out) in enumerate(rounds):
        if progress is not None:
            progress(number, len(rounds), f"{detector} without {left_out}")
        judge = train(detector, tuple(name for name in names if name != left_out))
        parts.append(test.score(judge, detector, left_out))
    return _joined(parts)


def auc_matrix(scores: pd.DataFrame, *, n_boot: int = 2000, seed: int = 0) -> dict[str, dict[str, Cell]]:
    """Detector -> generator -> AUC of that generator's fakes against all reals.

    Rows of detectors that were trained without a generator count for that generator only.
    """
    matrix: dict[str, dict[str, Cell]] = {}
    for (detector, left_out), rows in scores.groupby(["detector", "trained_without"], dropna=False, sort=False):
        names = [left_out] if isinstance(left_out, str) else list(rows["generator"].dropna().unique())
        for name in names:
            chosen = rows[(rows["label"] == "real") | (rows["generator"] == name)]
            matrix.setdefault(str(detector), {})[str(name)] = auc_cell(chosen, n_boot=n_boot, seed=seed)
    return matrix


def in_domain(scores: pd.DataFrame, *, n_boot: int = 2000, seed: int = 0) -> dict[str, Cell]:
    """Detector -> AUC of the fakes of all generators together, where it learned from all of them."""
    learned = scores[scores["trained_without"].isna()]
    return {
        str(detector): auc_cell(rows, n_boot=n_boot, seed=seed)
        for detector, rows in learned.groupby("detector", sort=False)
    }


def auc_cell(rows: pd.DataFrame, *, n_boot: int = 2000, seed: int = 0) -> Cell:
    """AUC of scored rows with a bootstrap of whole blocks; a patch without a block is resampled on its own.

    Raises:
        PatchError: If a class is missing or a score is not finite.
    """
    labels = np.where(rows["label"] == "fake", FAKE, REAL)
    scores = rows["score"].to_numpy(np.float64)
    groups = rows["block"].fillna(rows["id"]).to_numpy(object)
    n_fake = int(labels.sum())
    fewest = min(len(set(groups[labels == label])) for label in (0, 1))
    if fewest == 1:
        reason = "no interval: a class comes from one slide or block only"
        return Cell(auc(labels, scores), None, len(labels) - n_fake, n_fake, reason)
    interval = cluster_bootstrap_auc(labels, scores, groups, n_boot, seed)
    return Cell(interval.auc, interval.ci95, len(labels) - n_fake, n_fake)


def _rows(patches: PatchSet, label: str, generator: str | None) -> pd.DataFrame:
    table = patches.table
    block = (table["source_slide"].fillna("") + "/" + table["block"].fillna("")).where(table["patient"].isna(), "")
    block = table["patient"].fillna("") + block  # the patches of a patient belong together, whatever image they show
    known = table[["patient", "source_slide", "block"]].notna().any(axis=1)
    return pd.DataFrame(
        {
            "id": (generator or "real") + "/" + table["id"].astype(str),
            "label": label,
            "generator": pd.Series([generator] * len(table), dtype=object),
            "block": block.where(known, None).astype(object),
        },
        index=table.index,
    )


def _joined(parts: list[pd.DataFrame]) -> pd.DataFrame:
    columns: dict[str, Any] = {name: pd.Series(dtype=object) for name in SCORE_COLUMNS}
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns)

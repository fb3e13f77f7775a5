"""Answer sheets: what one reader, person or machine, answered to each patch of an exam, in one shape for both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from histoforensics.forensics.metrics import cluster_bootstrap_auc

from .delong import auc_interval, delong
from .exam import Marks
from .human_marks import HumanMarks, rating
from .readers import ReaderKind
from .resample import cluster_bootstrap
from .statistics import Interval


@dataclass(frozen=True, eq=False)
class Sheet:
    """One reader's answers in the exam's order.

    Attributes:
        name: Of the reader.
        kind: Person, detector or control.
        verdicts: None where a patch is not answered.
        ratings: Numbers (n,) that rise with fakeness, a person's confidence or a machine's score; NaN without one.
        graded: Whether the ratings say more than the verdicts do.
    """

    name: str
    kind: ReaderKind
    verdicts: tuple[str | None, ...]
    ratings: NDArray[np.float64]
    graded: bool

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Which patches have an answer (n,)."""
        return np.array([verdict is not None for verdict in self.verdicts], dtype=bool)

    @property
    def rated(self) -> NDArray[np.bool_]:
        """Which patches have a rating (n,)."""
        return np.isfinite(self.ratings)

    @property
    def is_complete(self) -> bool:
        """Whether every patch has an answer and a rating."""
        return bool(self.answered.all() and self.rated.all())

    def right(self, key: pd.DataFrame, unsure: float = 0.0) -> NDArray[np.float64]:
        """1 where the verdict is the truth, ``unsure`` where it is left open, else 0 (n,); no answer is not right."""
        verdicts = np.array([str(verdict) for verdict in self.verdicts])
        right = (verdicts == key["truth"].to_numpy(str)).astype(np.float64)
        return np.where(verdicts == "unsure", unsure, right)


def person_sheet(marks: HumanMarks) -> Sheet:
    """A person's answers; whoever never said how sure is rated by the verdicts alone."""
    ratings = np.array([np.nan if one is None else one for one in marks.ratings], dtype=np.float64)
    verdict_alone = {rating(verdict, None) for verdict in ("real", "fake", "unsure")}
    graded = not set(ratings[np.isfinite(ratings)].tolist()) <= verdict_alone
    return Sheet(marks.person.name, ReaderKind.HUMAN, marks.verdicts, ratings, graded)


def machine_sheet(name: str, marks: Marks) -> Sheet:
    """A machine's answers."""
    scores = np.full(len(marks.verdicts), np.nan) if marks.scores is None else np.asarray(marks.scores, np.float64)
    return Sheet(name, marks.reader.kind, marks.verdicts, scores, marks.scores is not None)


def labels(key: pd.DataFrame) -> NDArray[np.intp]:
    """0 for real and 1 for fake, in the exam's order (n,)."""
    return np.asarray(key["truth"] == "fake", dtype=np.intp)


def clusters(key: pd.DataFrame) -> list[str]:
    """What belongs together: reals of one block of one slide; a patch without a block is a cluster of its own."""
    return [
        f"item {row['id']}" if pd.isna(row["block"]) else f"{row['source_slide']} {row['block']}"
        for row in key.to_dict("records")
    ]


def clustered_accuracy(sheets: list[Sheet], key: pd.DataFrame) -> Interval | None:
    """The interval of the share of right answers of all sheets together, whole blocks resampled; None without two."""
    groups, truth = np.array(clusters(key)), key["truth"].to_numpy(str)
    parts = [(sheet.right(key)[sheet.answered], groups[sheet.answered], truth[sheet.answered]) for sheet in sheets]
    right, held, strata = (np.concatenate(part) for part in zip(*parts, strict=True))
    return cluster_bootstrap(right, held, strata) if len(set(held.tolist())) > 1 else None


def confidence_auc(sheet: Sheet, key: pd.DataFrame) -> dict[str, object] | None:
    """The AUC of the ratings with DeLong's interval and the cluster bootstrap's; None where a class has under two."""
    rated = sheet.rated
    truth, groups = labels(key)[rated], np.array(clusters(key))[rated]
    if min((truth == 0).sum(), (truth == 1).sum()) < 2:
        return None
    found = delong(truth, sheet.ratings[rated][None])
    fewest = min(len(set(groups[truth == label].tolist())) for label in (0, 1))
    by_cluster = cluster_bootstrap_auc(truth, sheet.ratings[rated], groups).ci95 if fewest > 1 else None
    return {
        "auc": float(found.auc[0]),
        "delong95": list(auc_interval(found)),
        "cluster95": None if by_cluster is None else list(by_cluster),
        "graded": sheet.graded,
        "patches": int(rated.sum()),
    }

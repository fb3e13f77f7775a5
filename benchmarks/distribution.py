"""A machine's exam distribution: how many of sixty it gets right, over many exams drawn from one scored pool.

One exam of 60 patches is one draw. A detector that has scored a whole held-out pool can sit a thousand exams of it at
no cost, and the spread of its results is what an exam of this size leaves to chance; a person's count from *one* exam
is then seen against it. Within an exam no patch comes twice, so the number right among ``n`` patches of one source is
hypergeometric, and it is drawn as that.

What the band does not hold: that another pool, other tissue or another training would score otherwise. For those there
are the cluster bootstrap and leave-one-generator-out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from histoforensics.slides import ExamError, require

from .readers import ALRASHEED_2020, Reader

EXAMS = 1000
REALS, FAKES_PER_GENERATOR = 30, 10


@dataclass(frozen=True, eq=False)
class ExamDistribution:
    """How one machine does in many exams of one size.

    Attributes:
        name: Of the detector or control.
        right: Number right in each exam (exams,).
        total: Patches of an exam.
        pool: Number of patches and of right answers in the pool, by source: "real" or a generator.
    """

    name: str
    right: NDArray[np.int64]
    total: int
    pool: Mapping[str, tuple[int, int]]

    @property
    def mean(self) -> float:
        """Mean number right."""
        return float(self.right.mean())

    @property
    def band95(self) -> tuple[float, float]:
        """Between these counts lie 95 % of exams."""
        low, high = np.quantile(self.right, (0.025, 0.975), method="inverted_cdf")
        return float(low), float(high)

    def against(self, right: int, total: int) -> dict[str, float]:
        """Shares of exams with a higher, an equal and a lower share of right answers than ``right`` of ``total``."""
        require(0 <= right <= total and total > 0, "the count to compare with", f"from 0 to {total}", right)
        difference = self.right * total - right * self.total  # in whole numbers: 34 of 60 is exactly 34 of 60
        return {
            "above": float((difference > 0).mean()),
            "equal": float((difference == 0).mean()),
            "below": float((difference < 0).mean()),
        }

    def to_json(self, reference: Reader = ALRASHEED_2020) -> dict[str, Any]:
        """The distribution as results hold it, beside the count of one published reader of one other exam."""
        table = reference.table
        counts = np.bincount(self.right, minlength=self.total + 1)
        return {
            "name": self.name,
            "exams": len(self.right),
            "patches": self.total,
            "mean": self.mean,
            "band95": list(self.band95),
            "counts": {str(right): int(count) for right, count in enumerate(counts) if count},
            "pool": {name: {"patches": size, "right": right} for name, (size, right) in self.pool.items()},
            "reference": {"name": reference.name, "right": table.right, "total": table.total},
            **self.against(table.right, table.total),
        }


def exam_distribution(
    name: str,
    labels: Sequence[str],
    generators: Sequence[str | None],
    verdicts: Sequence[str],
    *,
    n_real: int = REALS,
    n_per_generator: int = FAKES_PER_GENERATOR,
    exams: int = EXAMS,
    seed: int = 0,
) -> ExamDistribution:
    """Sit ``exams`` random exams drawn from a scored pool; unsure is wrong, as in the pathologist's 34 of 60.

    Args:
        name: Of the machine.
        labels: Truth of each patch of the pool, "real" or "fake" (n,).
        generators: Generator of each fake, None for reals (n,).
        verdicts: What the machine answered (n,).
        n_real: Reals of an exam.
        n_per_generator: Fakes of each generator of an exam.
        exams: How many.
        seed: Of the draws.

    Raises:
        ExamError: If lengths differ, a label is unknown, a fake has no generator, or a source has too few patches.
    """
    require(exams >= 1, "exams", "at least 1", exams)
    require(
        n_real >= 1 and n_per_generator >= 1,
        "the patches of an exam",
        "at least 1 of each source",
        (n_real, n_per_generator),
    )
    if not len(labels) == len(generators) == len(verdicts):
        raise ExamError(
            f"{name}: {len(labels)} labels, {len(generators)} generators, {len(verdicts)} verdicts; each patch has one."
        )
    pool: dict[str, list[int]] = {}
    for label, generator, verdict in zip(labels, generators, verdicts, strict=True):
        if label not in ("real", "fake") or (label == "fake" and not generator):
            raise ExamError(
                f"{name}: a patch of the pool is {label!r} by {generator!r}; wanted real, or fake by a generator."
            )
        size_right = pool.setdefault("real" if label == "real" else str(generator), [0, 0])
        size_right[0] += 1
        size_right[1] += verdict == label
    wanted = {source: n_real if source == "real" else n_per_generator for source in ("real", *pool)}
    rng = np.random.default_rng(seed)
    right = np.zeros(exams, dtype=np.int64)
    for source, count in sorted(wanted.items()):
        size, good = pool.get(source, (0, 0))
        if size < count:
            raise ExamError(f"{name}: an exam takes {count} patches of {source}, but the pool has only {size}.")
        right += rng.hypergeometric(good, size - good, count, size=exams)
    counted = {source: (size, good) for source, (size, good) in pool.items()}
    return ExamDistribution(name, right, sum(wanted.values()), counted)


def distributions(scores: pd.DataFrame, *, exams: int = EXAMS, seed: int = 0) -> list[ExamDistribution]:
    """The distribution of every detector and control in a table of held-out scores (`results.exam_scores`' columns).

    Exams are of half reals, half fakes, 60 patches where the pool has so many: 30 real and 30 dealt evenly to the
    generators. Rows of detectors that were trained without a generator are left out: they are another detector.
    """
    rows = scores[scores["trained_without"].isna()]
    found = []
    for name, part in rows.groupby("detector", sort=False):
        fakes = part[part["label"] == "fake"]["generator"].value_counts()
        if not len(fakes):
            raise ExamError(f"{name}: the pool has no fakes to draw an exam from.")
        each = min(math.floor(REALS / len(fakes)), int(fakes.min()), int((part["label"] == "real").sum()) // len(fakes))
        generators = [None if pd.isna(one) else str(one) for one in part["generator"]]
        found.append(
            exam_distribution(
                str(name), part["label"].tolist(), generators, part["verdict"].tolist(),
                n_real=each * len(fakes), n_per_generator=each, exams=exams, seed=seed,
            )
        )  # fmt: skip
    return found

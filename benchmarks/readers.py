"""Readers: somebody or something that marks an exam, and the published ones as data.

A person, a detector and a published table become the same `Reader`, which is how they stand side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np

from histoforensics.slides import ExamError

from .confusion import ConfusionTable, Counts
from .statistics import binomial_p, clopper_pearson, fisher_p, holm, newcombe, wilson

OTHER_PATCHES = (
    "The published reader marked other patches, of other tissue and other generators: the comparison is unpaired "
    "(Fisher's exact test, Newcombe's interval)."
)


class ReaderKind(StrEnum):
    """Who marks: a person, a detector, or a control that looks at something trivial."""

    HUMAN = "human"
    DETECTOR = "detector"
    CONTROL = "control"


class Judge(Protocol):
    """What marks patches; every `histoforensics.forensics.Detector` is one."""

    def score(self, pixels: np.ndarray, batch: int = 64) -> np.ndarray:
        """P(fake) in [0, 1], float32 (n,), of uint8 patches (n, h, w, 3)."""

    def verdicts(self, scores: np.ndarray) -> np.ndarray:
        """The verdict real, fake or unsure of each score, by thresholds frozen before the exam."""


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One reader's marks of one exam, counted."""

    name: str
    kind: ReaderKind
    table: ConfusionTable
    by_generator: Mapping[str, Counts] = field(default_factory=dict)  # the fakes' row, generator by generator
    source: str = ""  # where the counts come from
    same_exam: bool = True  # False: marked other patches, so only unpaired comparisons hold

    def __post_init__(self) -> None:
        rows = sum(self.by_generator.values(), Counts())
        if self.by_generator and rows != self.table.fake:
            raise ExamError(
                f"{self.name}: the rows by generator add up to {rows.to_json()}, "
                f"but the row of all fakes is {self.table.fake.to_json()}."
            )

    @classmethod
    def of_marks(
        cls,
        name: str,
        kind: ReaderKind,
        truths: Sequence[str],
        generators: Sequence[str | None],
        verdicts: Sequence[str],
        source: str = "",
    ) -> Reader:
        """Count one reader's marks; the three sequences go together, one entry a patch, ``generators`` None for reals.

        Raises:
            ExamError: If a truth or verdict is unknown, a fake has no generator, or the lengths differ.
        """
        table = ConfusionTable.of_marks(truths, verdicts)
        fakes = [
            (generator, verdict)
            for truth, generator, verdict in zip(truths, generators, verdicts, strict=True)
            if truth == "fake"
        ]
        if any(not generator for generator, _ in fakes):
            raise ExamError(f"{name}: {sum(not g for g, _ in fakes)} fake patches have no generator in the answer key.")
        names = list(dict.fromkeys(str(generator) for generator, _ in fakes))
        rows = {one: Counts.of(verdict for generator, verdict in fakes if generator == one) for one in names}
        return cls(name=name, kind=kind, table=table, by_generator=rows, source=source)

    def to_json(self) -> dict[str, object]:
        """The reader as results.json holds it: counts, accuracy with unsure as wrong, intervals, p against chance."""
        right, total = self.table.right, self.table.total
        return {
            "name": self.name,
            "kind": self.kind.value,
            "source": self.source,
            "same_exam": self.same_exam,
            "table": self.table.to_json(),
            "right": right,
            "total": total,
            "accuracy": self.table.accuracy(),
            "accuracy_unsure_dropped": self.table.accuracy("drop"),
            "accuracy_unsure_half": self.table.accuracy("half"),
            "wilson95": list(wilson(right, total)),
            "clopper_pearson95": list(clopper_pearson(right, total)),
            "p_chance": binomial_p(right, total),
            "by_generator": {name: _generator_row(row) for name, row in self.by_generator.items()},
        }


def versus(readers: Sequence[Reader], reference: Reader) -> dict[str, dict[str, object]]:
    """Each reader against a reference who marked other patches: unpaired, and p adjusted for their number by Holm.

    The difference is the reader's accuracy minus the reference's, in [-1, 1]; above 0 the reader did better.
    """
    mine, base = [(r.table.right, r.table.total) for r in readers], (reference.table.right, reference.table.total)
    p_values = {reader.name: fisher_p(*counts, *base) for reader, counts in zip(readers, mine, strict=True)}
    adjusted = holm(p_values)
    return {
        reader.name: {
            "reference": reference.name,
            "caption": OTHER_PATCHES,
            "difference": reader.table.accuracy() - reference.table.accuracy(),
            "newcombe95": list(newcombe(*counts, *base)),
            "fisher_p": p_values[reader.name],
            "fisher_p_holm": adjusted[reader.name],
        }
        for reader, counts in zip(readers, mine, strict=True)
    }


def _generator_row(row: Counts) -> dict[str, object]:
    return {
        **row.to_json(),
        "accuracy": row.fake / row.total if row.total else float("nan"),
        "wilson95": list(wilson(row.fake, row.total)),
        "clopper_pearson95": list(clopper_pearson(row.fake, row.total)),
    }


ALRASHEED_2020 = Reader(
    name="Pathologist, 2020",
    kind=ReaderKind.HUMAN,
    table=ConfusionTable(real=Counts(real=17, fake=13, unsure=0), fake=Counts(real=10, fake=17, unsure=3)),
    by_generator={
        "StyleGAN": Counts(real=4, fake=6, unsure=0),
        "StyleGAN2": Counts(real=6, fake=3, unsure=1),
        "PathologyGAN": Counts(real=0, fake=8, unsure=2),
    },
    source="Alrasheed, Zachariah, Prasanna, Rao & Rao, Deepfakes for Histopathology Images: Myth or Reality? "
    "IEEE AIPR 2020, tables I and II: one pathologist, 60 patches of 3 TCGA-COAD slides.",
    same_exam=False,
)

PUBLISHED: tuple[Reader, ...] = (ALRASHEED_2020,)

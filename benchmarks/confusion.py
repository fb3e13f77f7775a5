"""The three-way confusion table: one type for published readers, people and machines.

It is the paper's table: two rows of truth, three columns of verdict, with *unsure* kept as an answer of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, assert_never

from histoforensics.slides import ExamError, require

TRUTHS = ("real", "fake")
VERDICTS = ("real", "fake", "unsure")

UnsureRule = Literal["wrong", "drop", "half"]


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many patches of one truth were called real, fake or unsure."""

    real: int = 0
    fake: int = 0
    unsure: int = 0

    def __post_init__(self) -> None:
        for verdict in VERDICTS:
            count = self[verdict]
            require(count >= 0 and count == int(count), f"the count of {verdict}", "a whole number, 0 or more", count)

    def __getitem__(self, verdict: str) -> int:
        require(verdict in VERDICTS, "a verdict", f"one of {', '.join(VERDICTS)}", verdict)
        return int(getattr(self, verdict))

    def __add__(self, other: Counts) -> Counts:
        return Counts(**{verdict: self[verdict] + other[verdict] for verdict in VERDICTS})

    @property
    def total(self) -> int:
        """All patches of this row."""
        return self.real + self.fake + self.unsure

    @classmethod
    def of(cls, verdicts: Iterable[str]) -> Counts:
        """Count verdicts.

        Raises:
            ExamError: If one of them is no verdict.
        """
        marks = [str(verdict) for verdict in verdicts]
        unknown = sorted(set(marks) - set(VERDICTS))
        if unknown:
            raise ExamError(f"{unknown[0]!r} is no verdict; an answer is one of {', '.join(VERDICTS)}.")
        return cls(**{verdict: marks.count(verdict) for verdict in VERDICTS})

    def to_json(self) -> dict[str, int]:
        """The counts by verdict."""
        return {verdict: self[verdict] for verdict in VERDICTS}


@dataclass(frozen=True, kw_only=True)
class ConfusionTable:
    """Two rows of truth by three columns of verdict."""

    real: Counts
    fake: Counts

    @classmethod
    def of_marks(cls, truths: Iterable[str], verdicts: Iterable[str]) -> ConfusionTable:
        """Count the marks of one reader; ``truths`` and ``verdicts`` go together, one each a patch.

        Raises:
            ExamError: If a truth or a verdict is unknown, or the two are not equally many.

        >>> ConfusionTable.of_marks(["real", "fake", "fake"], ["real", "fake", "unsure"]).right
        2
        """
        marks, answers = [str(truth) for truth in truths], [str(verdict) for verdict in verdicts]
        if len(marks) != len(answers):
            raise ExamError(f"The exam has {len(marks)} patches, but the reader gave {len(answers)} answers.")
        unknown = sorted(set(marks) - set(TRUTHS))
        if unknown:
            raise ExamError(f"{unknown[0]!r} is no truth; a patch is one of {', '.join(TRUTHS)}.")
        pairs = list(zip(marks, answers, strict=True))
        return cls(**{truth: Counts.of(answer for mark, answer in pairs if mark == truth) for truth in TRUTHS})

    def __getitem__(self, truth: str) -> Counts:
        require(truth in TRUTHS, "a truth", f"one of {', '.join(TRUTHS)}", truth)
        return self.real if truth == "real" else self.fake

    @property
    def right(self) -> int:
        """Right answers; an unsure one is not right."""
        return self.real.real + self.fake.fake

    @property
    def unsure(self) -> int:
        """Answers left open."""
        return self.real.unsure + self.fake.unsure

    @property
    def total(self) -> int:
        """All patches."""
        return self.real.total + self.fake.total

    def accuracy(self, unsure: UnsureRule = "wrong") -> float:
        """Share of right answers in [0, 1], higher is better; NaN where nothing is left to count.

        Examples:
            >>> pathologist = ConfusionTable(real=Counts(real=17, fake=13), fake=Counts(real=10, fake=17, unsure=3))
            >>> [round(pathologist.accuracy(rule), 3) for rule in ("wrong", "drop", "half")]
            [0.567, 0.596, 0.592]
        """
        right: float = self.right
        total = self.total
        match unsure:
            case "wrong":
                pass
            case "drop":
                total -= self.unsure
            case "half":
                right += self.unsure / 2
            case _:
                assert_never(unsure)
        return right / total if total else math.nan

    def to_json(self) -> dict[str, dict[str, int]]:
        """The table as results.json holds it: truth, then verdict."""
        return {truth: self[truth].to_json() for truth in TRUTHS}

    @classmethod
    def from_json(cls, table: Mapping[str, Mapping[str, int]]) -> ConfusionTable:
        """The table of `to_json`."""
        return cls(**{truth: Counts(**table[truth]) for truth in TRUTHS})

"""What people answered, item by item: the verdict that counts, and the one given when the item came again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from .answer_tables import Answer, Person
from .answers import Answers
from .readers import Reader, ReaderKind
from .study import Study

HIGHEST = 6  # confidence of one who is certain


@dataclass(frozen=True, eq=False)
class HumanMarks:
    """One person's final answers, in the exam's order; None where an item is not answered yet.

    Attributes:
        person: Who.
        items: Their names.
        verdicts: To the item when it first came.
        ratings: From -6, certainly real, to 6, certainly fake, 0 unsure; None without an answer.
        again: Verdicts to the repeats, by item.
        reasons: Ids ticked, by item.
        client_ms: Times of the answers by the browser's clock, where it gave one.
    """

    person: Person
    items: tuple[str, ...]
    verdicts: tuple[str | None, ...]
    ratings: tuple[float | None, ...]
    again: dict[str, str]
    reasons: dict[str, tuple[str, ...]]
    client_ms: tuple[float, ...]

    @property
    def answered(self) -> int:
        """How many items have an answer."""
        return sum(verdict is not None for verdict in self.verdicts)

    def reader(self, study: Study) -> Reader:
        """The counts of what is answered so far."""
        key = study.exam.key
        done = [i for i, verdict in enumerate(self.verdicts) if verdict is not None]
        generators = [None if pd.isna(key["generator"][i]) else str(key["generator"][i]) for i in done]
        return Reader.of_marks(
            self.person.name, ReaderKind.HUMAN, [str(key["truth"][i]) for i in done], generators,
            [str(self.verdicts[i]) for i in done], source="this exam",
        )  # fmt: skip


def human_marks(study: Study, answers: Answers) -> list[HumanMarks]:
    """The marks of all who take part, in the order in which they joined; practice is left out."""
    people = answers.people()
    rows: dict[int, list[Answer]] = {person.id: [] for person in people}
    for person, answer in answers.rows():
        if not answer.practice:
            rows.setdefault(person.id, []).append(answer)
    return [_marks(study, person, rows[person.id]) for person in people]


def rating(verdict: str, confidence: int | None) -> float:
    """A verdict and its confidence as one number that rises with fakeness; no confidence counts as the middle, 3.5."""
    if verdict == "unsure":
        return 0.0
    strength = (HIGHEST + 1) / 2 if confidence is None else float(confidence)
    return strength if verdict == "fake" else -strength


def _marks(study: Study, person: Person, rows: Sequence[Answer]) -> HumanMarks:
    final = {answer.showing: answer for answer in rows}  # revisions come in order
    firsts: dict[str, Answer] = {}
    again: dict[str, str] = {}
    for answer in sorted(final.values(), key=lambda one: one.place):
        item = study.item(answer.showing)
        if item in firsts:
            again[item] = answer.verdict
        else:
            firsts[item] = answer
    ids = [str(name) for name in study.exam.key["id"]]
    mine: list[Any] = [firsts.get(name) for name in ids]
    return HumanMarks(
        person,
        tuple(ids),
        tuple(one.verdict if one else None for one in mine),
        tuple(rating(one.verdict, one.confidence) if one else None for one in mine),
        again,
        {name: tuple(one.reason_ids) for name, one in firsts.items()},
        tuple(one.client_ms for one in rows if one.client_ms is not None),
    )

"""What the room keeps of its readers: four tables, of which only answers and events grow."""

from __future__ import annotations

import json

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Table(DeclarativeBase):
    """Base of the four tables."""


class Fact(Table):
    """One thing that the room remembers about itself."""

    __tablename__ = "fact"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class Person(Table):
    """A reader who agreed to take part. Known by a pseudonym; sessions and return codes are kept as digests."""

    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    role: Mapped[str]
    years: Mapped[int]
    consent_version: Mapped[str]
    joined_at: Mapped[str]
    seed: Mapped[int | None]  # of the order; None: the exam's own order, on paper
    session_digest: Mapped[str | None] = mapped_column(index=True)
    code_digest: Mapped[str | None] = mapped_column(index=True)
    zoom: Mapped[int | None]
    smooth: Mapped[bool] = mapped_column(default=False)
    shortcuts: Mapped[bool] = mapped_column(default=True)


class Answer(Table):
    """One revision of one answer."""

    __tablename__ = "answer"
    __table_args__ = (UniqueConstraint("person_id", "showing", "revision"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    person_id: Mapped[int] = mapped_column(ForeignKey("person.id", ondelete="CASCADE"), index=True)
    showing: Mapped[str]
    place: Mapped[int]  # 1, 2, ... as this reader meets them
    practice: Mapped[bool]
    revision: Mapped[int]  # 0, 1, ...
    verdict: Mapped[str]
    confidence: Mapped[int | None]
    reasons: Mapped[str]  # JSON list of ids
    note: Mapped[str]
    client_ms: Mapped[float | None]  # from the decoded image to the answer, by the browser's clock
    server_ms: Mapped[float | None]  # from the page sent to the answer received
    shown_as: Mapped[str]  # JSON: zoom, smoothing, window and pixel ratio
    answered_at: Mapped[str]

    @property
    def reason_ids(self) -> list[str]:
        """The reasons that were ticked."""
        return [str(name) for name in json.loads(self.reasons)]


class Event(Table):
    """Something a reader did that is no answer: a page shown, a step back."""

    __tablename__ = "event"
    id: Mapped[int] = mapped_column(primary_key=True)
    person_id: Mapped[int] = mapped_column(ForeignKey("person.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str]
    showing: Mapped[str]
    at: Mapped[str]

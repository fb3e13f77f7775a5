"""A reader's seat: who it is, in which order the patches come, and what is answered already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from starlette.exceptions import HTTPException

from .answer_tables import Answer, Person
from .room_forms import Posted, Room, posted, room_of, session_of

InRoom = Annotated[Room, Depends(room_of)]
Form = Annotated[Posted, Depends(posted)]


class Elsewhere(Exception):
    """The reader has to go somewhere else first."""

    def __init__(self, path: str) -> None:
        self.path = path


@dataclass(frozen=True)
class Seat:
    """A reader with an order and the answers given so far."""

    room: Room
    person: Person
    practice: list[str]
    order: list[str]
    answered: frozenset[str]

    def last(self, showing: str) -> Answer | None:
        """What was answered to this showing last."""
        return self.room.answers.last(self.person, showing) if showing in self.answered else None

    @property
    def next_path(self) -> str:
        """Where this reader goes on."""
        return self.next_after("")

    def next_after(self, showing: str) -> str:
        """Where this reader goes on once ``showing`` is answered too."""
        for kind, names in (("practice", self.practice), ("patch", self.order)):
            for at, name in enumerate(names, 1):
                if name not in self.answered and name != showing:
                    return f"/{kind}/{at}"
        return "/done"

    @property
    def place(self) -> int:
        """The first place without an answer, from 1; one past the last where all have one."""
        return next((at for at, name in enumerate(self.order, 1) if name not in self.answered), len(self.order) + 1)


async def admitted(request: Request, room: InRoom) -> None:
    """Let in whoever may be here: on a room open to other machines, only those who hold its token."""
    if room.keys.access is not None and not room.has_cookie(request, "pass", room.keys.access):
        raise HTTPException(403, "Ask the study lead for the address with its token.")


async def seated(request: Request, room: InRoom, _admitted: Annotated[None, Depends(admitted)]) -> Seat:
    """The reader whose session this is; two short reads, quicker done than handed to another thread.

    Raises:
        Elsewhere: To the first page, if there is none.
    """
    session = session_of(request, room)
    person = room.answers.by_session(session) if session else None
    if person is None or person.seed is None:
        raise Elsewhere("/")
    study = room.study
    return Seat(room, person, study.practice_order(), study.order(person.seed), room.answers.answered(person))


Seated = Annotated[Seat, Depends(seated)]


def showing_at(order: list[str], number: int) -> str:
    """The showing at this place, counted from 1.

    Raises:
        HTTPException: 404 where there is none.
    """
    if not 1 <= number <= len(order):
        raise HTTPException(404, "There is no such patch.")
    return order[number - 1]


def turn_back_if_ahead(seat: Seat, path: str, showing: str) -> None:
    """Readers answer in order: what lies behind the first open question cannot be looked at yet."""
    if showing not in seat.answered and path != seat.next_path:
        raise Elsewhere(seat.next_path)

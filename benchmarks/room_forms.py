"""What the room holds, its cookies, and what a form sent to it may say."""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException

from .answers import Answers, Given
from .pages import render
from .room_security import Keys, same
from .study import Study

MOST_FIELDS = 200
SESSION_SECONDS = 180 * 24 * 3600


@dataclass(frozen=True)
class Room:
    """One study being served."""

    study: Study
    answers: Answers
    keys: Keys
    name: str  # cookies know no ports: two rooms on one machine must not share theirs

    def cookie(self, kind: str) -> str:
        """The name of one of our cookies."""
        return f"room-{self.name}-{kind}"

    def set_cookie(
        self, request: Request, reply: Response, kind: str, value: str, seconds: int = SESSION_SECONDS
    ) -> None:
        """Set a cookie that no script reads and no other site sends."""
        reply.set_cookie(
            self.cookie(kind), value, max_age=seconds, httponly=True, samesite="strict",
            secure=request.url.scheme == "https",
        )  # fmt: skip

    def has_cookie(self, request: Request, kind: str, value: str) -> bool:
        """Whether the browser holds this."""
        return same(request.cookies.get(self.cookie(kind), ""), value)

    def forget(self, request: Request, reply: Response) -> None:
        """Take the reader's cookies back."""
        for kind in ("session", "code"):
            self.set_cookie(request, reply, kind, "", seconds=0)

    def page(self, template: str, session: str, **values: Any) -> HTMLResponse:
        """A page for this session."""
        title, csrf = self.study.settings.title, self.keys.csrf(session)
        return HTMLResponse(render(template, title=title, csrf=csrf, **values))

    def draw_seed(self) -> int:
        """The seed of a new reader's order: from the system, since two readers must not share one."""
        return secrets.randbits(62)


@dataclass(frozen=True)
class Posted:
    """The fields of a form that came from one of our pages."""

    fields: FormData
    session: str

    def text(self, name: str) -> str:
        """One field, empty where it is missing."""
        value = self.fields.get(name, "")
        return value if isinstance(value, str) else ""

    def texts(self, name: str) -> tuple[str, ...]:
        """A field that may come several times."""
        return tuple(value for value in self.fields.getlist(name) if isinstance(value, str))


async def room_of(request: Request) -> Room:
    """The room that is being served; async, so that FastAPI asks no other thread for it."""
    room = request.app.state.room
    assert isinstance(room, Room)
    return room


def session_of(request: Request, room: Room) -> str:
    """The visitor's session, empty for a first visit."""
    return str(request.cookies.get(room.cookie("session"), ""))


async def posted(request: Request) -> Posted:
    """The form, if it was made for this session.

    Raises:
        HTTPException: 403 if it was not.
    """
    room = await room_of(request)
    form = Posted(await request.form(max_files=0, max_fields=MOST_FIELDS), session_of(request, room))
    if not room.keys.is_csrf(form.session, form.text("csrf")):
        raise HTTPException(403, "This form is not from this session. Please load the page again.")
    return form


def answer_of(form: Posted, study: Study) -> Given:
    """The answer that a form gives.

    Raises:
        HTTPException: 400 if there is no verdict.
        ExamError: If something is not on the form.
    """
    if not form.text("verdict"):
        raise HTTPException(400, "Please go back and choose real, fake or unsure.")
    confidence = form.text("confidence")
    given = Given(
        verdict=form.text("verdict"),
        confidence=None if confidence == "" else (-1 if whole(confidence) is None else whole(confidence)),
        reasons=tuple(dict.fromkeys(form.texts("reason"))),
        note=form.text("note").replace("\r\n", "\n").strip(),
        client_ms=_finite(form.text("client_ms")),
        shown_as={
            name: value for name in ("zoom", "smooth", "viewport", "pixel_ratio") if (value := form.text(name)[:40])
        },
    )
    given.check(study.reasons)
    return given


def whole(text: str) -> int | None:
    """The number in a text of digits, else None."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _finite(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return round(number, 1) if math.isfinite(number) and 0 <= number < 1e9 else None

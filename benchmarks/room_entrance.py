"""The way into the reading room and out of it: consent, return codes, leaving, withdrawing."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response
from starlette.exceptions import HTTPException

from .answer_tables import Person
from .pages import paragraphs
from .room_forms import Room, session_of, whole
from .room_seat import Form, InRoom, Seated, admitted
from .room_security import new_token

ROLES = ("Pathologist", "Pathologist in training", "Other physician", "Scientist", "Technician", "Student", "Other")
CODE_SECONDS = 900  # how long the return code can be read again on its page

router = APIRouter()


@router.get("/enter")
def enter(request: Request, room: InRoom, token: str = "") -> Response:
    """Admit a reader who was given the room's token."""
    if not room.keys.opens_room(token):
        raise HTTPException(403, "This is not the room's token.")
    reply = RedirectResponse("/", 303)
    room.set_cookie(request, reply, "pass", str(room.keys.access))
    return reply


@router.get("/", dependencies=[Depends(admitted)])
def welcome(request: Request, room: InRoom) -> Response:
    """What this is, consent, and the way in or back in."""
    session = session_of(request, room)
    if session and room.answers.by_session(session) is not None:
        return RedirectResponse("/continue", 303)
    session = session or new_token()
    study = room.study
    page = room.page(
        "room_welcome.html.j2",
        session,
        consent=paragraphs(study.consent),
        version=study.consent_version,
        patches=study.showings,
        practice=len(study.practice),
        told=study.settings.told,
        roles=ROLES,
    )
    room.set_cookie(request, page, "session", session)
    return page


@router.post("/join", dependencies=[Depends(admitted)])
def join(request: Request, room: InRoom, form: Form) -> Response:
    """Take part."""
    role, years = form.text("role"), whole(form.text("years"))
    if form.text("agree") != room.study.consent_version:
        raise HTTPException(400, "Please go back, read the consent text and tick that you agree.")
    if role not in ROLES or years is None or not 0 <= years <= 80:
        raise HTTPException(400, "Please go back and give a role and whole years of experience, 0 to 80.")
    person = room.answers.join(
        role=role,
        years=years,
        consent_version=room.study.consent_version,
        session=form.session,
        seed=room.draw_seed(),
    )
    return _with_code(request, room, person)


@router.post("/return", dependencies=[Depends(admitted)])
def come_back(room: InRoom, form: Form) -> Response:
    """Go on where one left, perhaps on another machine."""
    if room.answers.return_with(form.text("code"), form.session) is None:
        raise HTTPException(400, "No reader has this return code. Please go back and check it.")
    return RedirectResponse("/continue", 303)


@router.post("/code")
def code(request: Request, seat: Seated, _form: Form) -> Response:
    """A new return code in place of a lost one."""
    return _with_code(request, seat.room, seat.person)


@router.get("/ready")
def ready(request: Request, seat: Seated) -> Response:
    """The return code and how to answer."""
    shown = request.cookies.get(seat.room.cookie("code"), "")
    begun = bool(seat.answered)
    return seat.room.page("room_ready.html.j2", session_of(request, seat.room), seat=seat, code=shown, begun=begun)


@router.get("/leave")
def ask_to_leave(request: Request, seat: Seated) -> Response:
    """How to come back, before it is too late to ask."""
    return seat.room.page("room_leave.html.j2", session_of(request, seat.room), seat=seat)


@router.post("/leave")
def leave(request: Request, seat: Seated, _form: Form) -> Response:
    """Make the machine free for another reader; the answers stay."""
    reply = RedirectResponse("/", 303)
    seat.room.forget(request, reply)
    return reply


@router.get("/withdraw")
def ask_to_withdraw(request: Request, seat: Seated) -> Response:
    """What withdrawing means."""
    return seat.room.page("room_withdraw.html.j2", session_of(request, seat.room), seat=seat)


@router.post("/withdraw")
def withdraw(request: Request, seat: Seated, form: Form) -> Response:
    """Delete everything this reader gave."""
    if form.text("sure") != "yes":
        raise HTTPException(400, "Please go back and tick that everything shall be deleted.")
    seat.room.answers.withdraw(seat.person)
    reply = RedirectResponse("/withdrawn", 303)
    seat.room.forget(request, reply)
    return reply


@router.get("/withdrawn")
def withdrawn(request: Request, room: InRoom) -> Response:
    """That it was done."""
    return room.page("room_withdrawn.html.j2", session_of(request, room))


def _with_code(request: Request, room: Room, person: Person) -> Response:
    reply = RedirectResponse("/ready", 303)
    room.set_cookie(request, reply, "code", room.answers.new_code(person), seconds=CODE_SECONDS)
    return reply

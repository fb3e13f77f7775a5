"""The reading room: one local page on which people mark an exam.

Every change is a plain POST that is answered by a redirect, so refreshing never sends a form twice and everything works
without JavaScript. An answer is committed before its reply is sent.
"""

from __future__ import annotations

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from histoforensics.slides import HistoforensicsError

from . import room_entrance, room_lead
from .answer_tables import Answer
from .answers import LONGEST_NOTE, Answers, Given
from .pages import ZOOMS, asset, first_zoom, render, scale_bar
from .room_forms import Room, answer_of, session_of, whole
from .room_seat import Elsewhere, Form, Seat, Seated, showing_at, turn_back_if_ahead
from .room_security import Doorkeeper, Keys
from .study import Study

LARGEST_SHOWN_PX = 900
NO_SUCH_PAGE = "There is no such page."

router = APIRouter()


def create_room(
    study: Study,
    answers: Answers,
    *,
    hosts: frozenset[str],
    lead_token: str,
    access_token: str | None = None,
) -> FastAPI:
    """The web application of one study.

    Args:
        study: What is shown.
        answers: Where answers go.
        hosts: Host headers that are ours, see `room_security.allowed_hosts`.
        lead_token: Opens the study lead's page.
        access_token: Opens the room to readers; None where only this machine can reach it.
    """
    app = FastAPI(title=study.settings.title, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.room = Room(study, answers, Keys(answers.secret, lead_token, access_token), study.digest[:8])
    app.include_router(router)
    app.include_router(room_entrance.router)
    app.include_router(room_lead.router)
    app.add_middleware(Doorkeeper, hosts=hosts)
    app.add_exception_handler(Elsewhere, _go_elsewhere)
    app.add_exception_handler(HistoforensicsError, _explain)
    app.add_exception_handler(HTTPException, _explain)
    app.add_exception_handler(RequestValidationError, _explain)
    return app


@router.get("/continue")
def go_on(seat: Seated) -> Response:
    """To the first thing that is not answered."""
    return RedirectResponse(seat.next_path, 303)


@router.get("/practice/{number}")
def practice(request: Request, seat: Seated, number: int) -> Response:
    """A practice item, or what it was once it is answered."""
    showing = showing_at(seat.practice, number)
    turn_back_if_ahead(seat, f"/practice/{number}", showing)
    given = seat.last(showing)
    truth = None
    if given is not None:
        trials = seat.room.study.practice
        truth = str(trials.loc[trials["id"] == showing, "truth"].iloc[0])
    else:
        seat.room.answers.log(seat.person, "shown", showing)
    return _patch_page(request, seat, seat.practice, number, given, practice=True, truth=truth)


@router.post("/practice/{number}")
def answer_practice(seat: Seated, form: Form, number: int) -> Response:
    """Commit the answer to a practice item, then say what it was."""
    showing = showing_at(seat.practice, number)
    turn_back_if_ahead(seat, f"/practice/{number}", showing)
    if showing not in seat.answered:
        _save(seat, showing, number, answer_of(form, seat.room.study), practice=True, revision=0)
    return RedirectResponse(f"/practice/{number}", 303)


@router.get("/patch/{number}")
def patch(request: Request, seat: Seated, number: int) -> Response:
    """One patch and the form for its answer."""
    showing = showing_at(seat.order, number)
    turn_back_if_ahead(seat, f"/patch/{number}", showing)
    seat.room.answers.log(seat.person, "shown", showing)
    return _patch_page(request, seat, seat.order, number, seat.last(showing), practice=False, truth=None)


@router.post("/patch/{number}")
def answer_patch(seat: Seated, form: Form, number: int) -> Response:
    """Commit an answer; one that changes nothing is not written again."""
    showing = showing_at(seat.order, number)
    turn_back_if_ahead(seat, f"/patch/{number}", showing)
    given, before = answer_of(form, seat.room.study), seat.last(showing)
    if before is None or not given.repeats(before):
        revision = whole(form.text("revision"))
        if revision is None:
            raise HTTPException(400, "This form is not complete; please load the page again.")
        _save(seat, showing, number, given, practice=False, revision=revision)
    return RedirectResponse(f"/patch/{number + 1}" if number + 1 < seat.place else seat.next_after(showing), 303)


@router.post("/back/{number}")
def back(seat: Seated, _form: Form, number: int) -> Response:
    """From this patch, or from the end, one back; that this happened is written down."""
    showing = showing_at(seat.order, number - 1)
    turn_back_if_ahead(seat, f"/patch/{number - 1}", showing)
    seat.room.answers.log(seat.person, "back", showing)
    return RedirectResponse(f"/patch/{number - 1}", 303)


@router.post("/settings")
def settings(seat: Seated, form: Form) -> Response:
    """Keep zoom, smoothing and whether keys answer."""
    zoom = whole(form.text("zoom"))
    if zoom not in _zooms(seat.room.study.patch_px):
        raise HTTPException(400, "This zoom is not offered.")
    seat.room.answers.prefer(
        seat.person, zoom=zoom, smooth=form.text("smooth") == "on", shortcuts=form.text("shortcuts") == "on"
    )
    here = whole(form.text("place"))
    trial = form.text("practice") == "yes"
    return RedirectResponse("/continue" if here is None else f"/{'practice' if trial else 'patch'}/{here}", 303)


@router.get("/done")
def done(request: Request, seat: Seated) -> Response:
    """The end, once it is reached."""
    if seat.next_path != "/done":
        raise Elsewhere(seat.next_path)
    return seat.room.page("room_done.html.j2", session_of(request, seat.room), seat=seat)


@router.get("/image/{showing}")
def image(seat: Seated, showing: str) -> Response:
    """The bytes of one of the reader's own showings."""
    if showing not in seat.practice and showing not in seat.order:
        raise HTTPException(404, "There is no such patch.")
    return Response(seat.room.study.images[showing], media_type="image/png")


@router.get("/static/room.css")
def style() -> Response:
    """The style sheet."""
    return Response(asset("room.css"), media_type="text/css; charset=utf-8")


@router.get("/static/room.js")
def script() -> Response:
    """The script."""
    return Response(asset("room.js"), media_type="text/javascript; charset=utf-8")


@router.get("/static/room.svg")
def icon() -> Response:
    """The icon of the window."""
    return Response(asset("room.svg"), media_type="image/svg+xml")


def _patch_page(
    request: Request,
    seat: Seat,
    order: list[str],
    number: int,
    given: Answer | None,
    *,
    practice: bool,
    truth: str | None,
) -> HTMLResponse:
    study = seat.room.study
    zooms = _zooms(study.patch_px)
    zoom = seat.person.zoom if seat.person.zoom in zooms else first_zoom(study.patch_px)
    return seat.room.page(
        "room_patch.html.j2",
        session_of(request, seat.room),
        seat=seat,
        showing=order[number - 1],
        number=number,
        total=len(order),
        practice=practice,
        truth=truth,
        given=given,
        ticked=[] if given is None else given.reason_ids,
        revision=0 if given is None else given.revision + 1,
        ahead=not practice and number < seat.place,
        reasons=study.reasons,
        patch_px=study.patch_px,
        zoom=zoom,
        zooms=zooms,
        bar=scale_bar(study.patch_px, study.settings.mpp),
        longest_note=LONGEST_NOTE,
    )


def _save(seat: Seat, showing: str, number: int, given: Given, *, practice: bool, revision: int) -> None:
    seat.room.answers.save(seat.person, showing, given, place=number, practice=practice, revision=revision)


def _zooms(patch_px: int) -> list[int]:
    return [zoom for zoom in ZOOMS if zoom * patch_px <= LARGEST_SHOWN_PX] or [1]


def _go_elsewhere(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Elsewhere)
    return RedirectResponse(error.path, 303)


def _explain(request: Request, error: Exception) -> Response:
    """A page that says in a sentence what went wrong."""
    match error:
        case HTTPException(status_code=404):
            status, sentence = 404, error.detail if error.detail != "Not Found" else NO_SUCH_PAGE
        case HTTPException():
            status, sentence = error.status_code, error.detail
        case RequestValidationError():
            status, sentence = 404, NO_SUCH_PAGE
        case _:
            status, sentence = 400, str(error)
    title = request.app.state.room.study.settings.title
    return HTMLResponse(render("room_error.html.j2", title=title, sentence=sentence, csrf=""), status)

"""The study lead's page: who is where, tables as they grow, exports. Nothing here is shown without the token."""

from __future__ import annotations

import statistics
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from .case_tables import imrmc, imrmc_csv, mrmcaov_csv
from .confusion import ConfusionTable, Counts
from .exports import answer_rows, timing_flag, to_csv, to_jsonl
from .human_marks import HumanMarks, human_marks
from .pages import render
from .room_forms import Room, room_of
from .sheet import Sheet, person_sheet
from .statistics import wilson

router = APIRouter(prefix="/lead")
InRoom = Annotated[Room, Depends(room_of)]


def lead(request: Request, room: InRoom) -> None:
    """Turn away whoever is not the study lead."""
    if not room.has_cookie(request, "lead", room.keys.lead):
        raise HTTPException(403, "This page is the study lead's; open it by the address that `exam serve` printed.")


@router.get("/enter")
def enter(request: Request, room: InRoom, token: str = "") -> Response:
    """Take the token from the address into a cookie, so that no address that is copied holds it."""
    if not room.keys.opens_lead(token):
        raise HTTPException(403, "This is not the study lead's token; `exam serve` prints a new one at every start.")
    reply = RedirectResponse("/lead", 303)
    room.set_cookie(request, reply, "lead", room.keys.lead)
    return reply


@router.get("", dependencies=[Depends(lead)])
def overview(room: InRoom) -> Response:
    """Everybody's progress and everybody's counts."""
    marks = human_marks(room.study, room.answers)
    latest = {person.id: answer.answered_at for person, answer in room.answers.rows()}
    backs = room.answers.events("back")
    people = [_row(one, room, latest.get(one.person.id), backs.get(one.person.id, 0)) for one in marks]
    readers = [one.reader(room.study) for one in marks if one.answered]
    page = render(
        "room_lead.html.j2",
        title=room.study.settings.title,
        csrf="",
        study=room.study,
        people=people,
        withdrawn=room.answers.withdrawn,
        tables=[
            _table("All readers", _sum([one.table for one in readers])),
            *(_table(one.name, one.table) for one in readers),
        ]
        if readers
        else [],
        generators=[
            (name, *_share(sum((one.by_generator.get(name, Counts()) for one in readers), Counts())))
            for name in room.study.exam.generators
        ],
    )
    return HTMLResponse(page)


@router.get("/answers.csv", dependencies=[Depends(lead)])
def answers_csv(room: InRoom) -> Response:
    """Every revision of every answer, for a spreadsheet."""
    return _file(to_csv(answer_rows(room.study, room.answers)), "answers.csv", "text/csv")


@router.get("/imrmc.csv", dependencies=[Depends(lead)])
def imrmc_frame(room: InRoom) -> Response:
    """Every rating so far, for the R package iMRMC."""
    return _file(imrmc_csv(_sheets(room), room.study.exam.key), "imrmc.csv", "text/csv")


@router.get("/exam.imrmc", dependencies=[Depends(lead)])
def imrmc_input(room: InRoom) -> Response:
    """The same for the Java program iMRMC."""
    title = room.study.settings.title
    return _file(imrmc(_sheets(room), room.study.exam.key, title), "exam.imrmc", "text/plain")


@router.get("/mrmcaov.csv", dependencies=[Depends(lead)])
def mrmcaov_frame(room: InRoom) -> Response:
    """The same for the R package MRMCaov."""
    return _file(mrmcaov_csv(_sheets(room), room.study.exam.key), "mrmcaov.csv", "text/csv")


@router.get("/answers.jsonl", dependencies=[Depends(lead)])
def answers_jsonl(room: InRoom) -> Response:
    """The same, a JSON object a line."""
    return _file(to_jsonl(answer_rows(room.study, room.answers)), "answers.jsonl", "application/jsonl")


def _sheets(room: Room) -> list[Sheet]:
    return [person_sheet(one) for one in human_marks(room.study, room.answers) if one.answered]


def _row(marks: HumanMarks, room: Room, last: str | None, backs: int) -> dict[str, Any]:
    done = marks.answered + len(marks.again)
    return {
        "person": marks.person,
        "done": done,
        "total": room.study.showings if marks.person.seed is not None else len(room.study.exam),
        "last": "" if last is None else last[:16].replace("T", " "),
        "seconds": None if not marks.client_ms else statistics.median(marks.client_ms) / 1000,
        "flagged": sum(timing_flag(ms) != "" for ms in marks.client_ms),
        "backs": backs,
    }


def _sum(tables: list[ConfusionTable]) -> ConfusionTable:
    return ConfusionTable(
        real=sum((one.real for one in tables), Counts()), fake=sum((one.fake for one in tables), Counts())
    )


def _table(name: str, table: ConfusionTable) -> dict[str, Any]:
    return {"name": name, "table": table.to_json(), "right": table.right, "total": table.total,
            "wilson": wilson(table.right, table.total)}  # fmt: skip


def _share(counts: Counts) -> tuple[Counts, Any]:
    return counts, wilson(counts.fake, counts.total)


def _file(text: str, name: str, kind: str) -> Response:
    return Response(
        text.encode(),
        media_type=f"{kind}; charset=utf-8",
        headers={"content-disposition": f'attachment; filename="{name}"'},
    )

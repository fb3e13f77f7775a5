"""Marks from paper: a table that somebody typed off the form, read strictly."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from histoforensics.slides import ExamError

from .answer_tables import Person
from .answers import Answers, Given
from .confusion import VERDICTS
from .paper import MARK_COLUMNS, reason_letters
from .study import Study


def read_marks(path: Path, study: Study) -> dict[int, Given]:
    """The marks by patch number, columns as in marks_template.csv; a patch left empty is left out.

    Reasons are letters of the form or ids, apart by spaces, commas or semicolons.

    Raises:
        ExamError: If the table is not readable, or a row is not one that the form could give; it names the row.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file, delimiter=_delimiter(path))
            missing = [name for name in MARK_COLUMNS[:2] if name not in (table.fieldnames or [])]
            if missing:
                raise ExamError(f"{path.name}: lacks the column {missing[0]}; start from marks_template.csv.")
            rows = list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as err:
        raise ExamError(f"{path.name}: not a readable table ({err}).") from err
    marks: dict[int, Given] = {}
    for line, row in enumerate(rows, 2):
        cells = {name: (row.get(name) or "").strip() for name in MARK_COLUMNS}
        if not cells["verdict"]:
            continue
        number = cells["patch"]
        if not number.isdigit() or not 1 <= int(number) <= len(study.exam):
            raise ExamError(f"{path.name}, line {line}: patch must be from 1 to {len(study.exam)}, got {number!r}.")
        if int(number) in marks:
            raise ExamError(f"{path.name}, line {line}: patch {number} is marked twice.")
        marks[int(number)] = _given(cells, study, f"{path.name}, line {line}")
    if not marks:
        raise ExamError(f"{path.name}: no patch is marked.")
    return marks


def import_marks(study: Study, answers: Answers, path: Path, *, role: str, years: int) -> tuple[Person, int]:
    """Add the marks of one reader, under a new pseudonym; returns who, and how many patches are marked.

    Raises:
        ExamError: As `read_marks`; nothing is added then.
    """
    marks = read_marks(path, study)
    ids = [str(name) for name in study.exam.key["id"]]
    person = answers.join(
        role=role, years=years, consent_version=study.consent_version, session=None, seed=None,
        given=[(number, ids[number - 1], given) for number, given in sorted(marks.items())],
    )  # fmt: skip
    return person, len(marks)


def _given(cells: dict[str, str], study: Study, where: str) -> Given:
    verdict = next((one for one in VERDICTS if cells["verdict"].lower() in (one, one[0])), cells["verdict"])
    confidence = cells["confidence"]
    if confidence and not confidence.isdigit():
        raise ExamError(f"{where}: confidence is a number from 1 to 6, got {confidence!r}.")
    letters = {letter: name for letter, name, _ in reason_letters(study)}
    ticked = [one for one in re.split(r"[\s,;]+", cells["reasons"]) if one]
    given = Given(
        verdict=verdict,
        confidence=int(confidence) if confidence else None,
        reasons=tuple(dict.fromkeys(letters.get(one.lower(), one) for one in ticked)),
        note=cells["note"],
        shown_as={"on": "paper"},
    )
    try:
        given.check(study.reasons)
    except ExamError as err:
        raise ExamError(f"{where}: {err}") from err
    return given


def _delimiter(path: Path) -> str:
    """Semicolons are what a spreadsheet writes where the comma is the decimal sign."""
    with path.open(encoding="utf-8-sig") as file:
        first = file.readline()
    return ";" if first.count(";") > first.count(",") else ","

"""Exports of an exam's answers for the two standard programs of multi-reader, multi-case analysis.

- **iMRMC** (FDA): ``imrmc.csv`` is the data frame of its R package, ``readerID,caseID,modalityID,score`` with the truth
  as reader and modality ``truth``; ``.imrmc`` is the same with the header that its Java program reads, where the truth
  is reader ``-1``.
- **MRMCaov**: a long data frame, one row a rating: ``reader,test,case,truth,rating``.

All people are one modality, every machine one of its own; scores rise with fakeness. Patches without a rating are left
out, as both programs want.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from typing import Any

import pandas as pd

from histoforensics.slides import ExamError

from .readers import ReaderKind
from .sheet import Sheet, labels

PEOPLE, TRUTH = "people", "truth"
_UNSAFE = re.compile(r"[^\w.-]+")  # neither program quotes: a comma in a name would be a column


def imrmc_csv(sheets: Sequence[Sheet], key: pd.DataFrame) -> str:
    """The data frame of the R package iMRMC.

    Raises:
        ExamError: If two readers have one name once it is written in plain letters.
    """
    truth = [(TRUTH, case, TRUTH, label) for case, label in _truth(key)]
    return _csv(("readerID", "caseID", "modalityID", "score"), [*truth, *_ratings(sheets, key)])


def imrmc(sheets: Sequence[Sheet], key: pd.DataFrame, title: str = "") -> str:
    """The input file of the Java program iMRMC; errors as of `imrmc_csv`."""
    fakes = int(labels(key).sum())
    ratings = _ratings(sheets, key)
    head = [
        f"Exam: {_UNSAFE.sub(' ', title).strip()}",
        f"NR: {len({reader for reader, _, _, _ in ratings})}",
        f"N0: {len(key) - fakes}",
        f"N1: {fakes}",
        f"NM: {len({modality for _, _, modality, _ in ratings})}",
        "BEGIN DATA:",
    ]
    rows = [*((-1, case, 0, label) for case, label in _truth(key)), *ratings]
    return "\n".join([*head, *(",".join(str(cell) for cell in row) for row in rows)]) + "\n"


def mrmcaov_csv(sheets: Sequence[Sheet], key: pd.DataFrame) -> str:
    """The long data frame of MRMCaov; errors as of `imrmc_csv`."""
    truth = dict(_truth(key))
    rows = [(reader, test, case, truth[case], score) for reader, case, test, score in _ratings(sheets, key)]
    return _csv(("reader", "test", "case", "truth", "rating"), rows)


def _truth(key: pd.DataFrame) -> list[tuple[str, int]]:
    return list(zip(key["id"].astype(str), labels(key).tolist(), strict=True))


def _ratings(sheets: Sequence[Sheet], key: pd.DataFrame) -> list[tuple[str, str, str, float]]:
    """(reader, case, modality, score) of every rating."""
    names = [_plain(sheet.name) for sheet in sheets]
    taken = [PEOPLE, TRUTH, "-1", *names]
    if len(set(taken)) < len(taken):
        raise ExamError(
            f"Readers need names of their own in plain letters, other than {PEOPLE}, got {', '.join(names)}."
        )
    cases = key["id"].astype(str)
    return [
        (name, case, PEOPLE if sheet.kind is ReaderKind.HUMAN else name, float(f"{rating:.7g}"))
        for name, sheet in zip(names, sheets, strict=True)
        for case, rating, is_rated in zip(cases, sheet.ratings, sheet.rated, strict=True)
        if is_rated
    ]


def _plain(name: str) -> str:
    return _UNSAFE.sub("_", name).lstrip("-") or "_"


def _csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerows([columns, *rows])
    return buffer.getvalue()

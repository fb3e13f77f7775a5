"""The exam on paper: a page to print, and the table that its marks come back in."""

from __future__ import annotations

import base64

from histoforensics.slides import write_atomic

from .exam import ITEMS
from .pages import paragraphs, render, scale_bar
from .study import Study

FORM, TEMPLATE = "paper_form.html", "marks_template.csv"
MARK_COLUMNS = ("patch", "verdict", "confidence", "reasons", "note")
PRINTED_MM = 52  # edge of a patch on paper: three by three fill a page of A4


def write_paper_form(study: Study) -> None:
    """Write the printable form and an empty table of marks into the study's folder.

    The patches stand in the exam's own order, without practice and repeats: on paper one could leaf back to compare.
    """
    patches = [
        base64.b64encode((study.root / ITEMS / str(file)).read_bytes()).decode() for file in study.exam.key["file"]
    ]
    bar = scale_bar(study.patch_px, study.settings.mpp)
    page = render(
        "paper_form.html.j2",
        study=study.settings,
        digest=study.digest,
        consent=paragraphs(study.consent),
        consent_version=study.consent_version,
        reasons=reason_letters(study),
        patches=patches,
        printed_mm=PRINTED_MM,
        bar=bar,
        bar_mm=None if bar is None else round(bar.px / study.patch_px * PRINTED_MM, 2),
    )
    write_atomic(study.root / FORM, page)
    rows = [f"{number},,,," for number in range(1, len(patches) + 1)]
    write_atomic(study.root / TEMPLATE, "\n".join([",".join(MARK_COLUMNS), *rows]) + "\n")


def reason_letters(study: Study) -> list[tuple[str, str, str]]:
    """(letter on paper, id, text) of every reason; after z come aa, ab, ..."""
    return [(_letter(at), name, text) for at, (name, text) in enumerate(study.reasons.items())]


def _letter(at: int) -> str:
    return ("" if at < 26 else chr(96 + at // 26)) + chr(97 + at % 26)

"""The grading as one self-contained page: who was right, machines beside people, reasons beside what is measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from .pages import asset, render

TEMPLATE = "grade_report.html.j2"


def grade_report(results: Mapping[str, Any]) -> str:
    """The page of a grading (`grading.grade`): no script, no request, light and dark.

    It holds the truth of the exam in numbers only; no patch is shown.
    """
    return render(TEMPLATE, results=results, style=Markup(asset("room.css").decode()))  # noqa: S704 - our own style sheet

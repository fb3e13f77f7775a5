"""The first page of a cohort: its slides with their verdicts, and those that failed with their cause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from histoforensics.slides.runcard import package_version

from .scan_page import render
from .verdict import ALPHA, SlideCall

INDEX = "index.html"
ROWS = 2000  # of a table; cohort.csv has all

_ORDER = [SlideCall.SUSPICIOUS.value, SlideCall.NOT_JUDGED.value, SlideCall.NOTHING_FOUND.value]


def render_index(cohort: Mapping[str, Any]) -> str:
    """The page, HTML; suspicious slides first, then those that nobody could judge.

    Args:
        cohort: The content of cohort.json.
    """
    return render(
        "scan_index.html.j2",
        version=package_version(),
        cohort=cohort,
        alpha=ALPHA,
        headline=index_headline(cohort),
        detectors=list(cohort["parameters"]["detectors"]),
        slides=_by_suspicion(cohort["slides"])[:ROWS],
        failures=cohort["failures"][:ROWS],
        rows=ROWS,
    )


def index_headline(cohort: Mapping[str, Any]) -> str:
    """How many slides there are and how many of them are suspicious or failed.

    >>> index_headline({"finished": 3, "failed": 1, "calls": {"suspicious": 1, "nothing found": 2}})
    '1 of 3 scanned slides is suspicious; 1 could not be scanned.'
    """
    suspicious, finished = cohort["calls"].get(SlideCall.SUSPICIOUS.value, 0), cohort["finished"]
    told = f"{suspicious:,} of {finished:,} scanned slides {'is' if suspicious == 1 else 'are'} suspicious"
    return f"{told}; {cohort['failed']:,} could not be scanned." if cohort["failed"] else f"{told}."


def _by_suspicion(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    def least_p(row: Mapping[str, Any]) -> float:
        return min((said["p"] for said in row["detectors"].values() if said["p"] is not None), default=1.0)

    return sorted(rows, key=lambda row: (_ORDER.index(row["call"]), least_p(row), row["slide"]))

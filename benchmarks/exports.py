"""Every answer as a table: for the study lead, with the truth beside it."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from .answers import Answers
from .study import Study

FAST_MS, SLOW_MS = 300.0, 300_000.0  # an answer outside is flagged: hardly looked at, or left lying
DANGEROUS = ("=", "+", "-", "@", "\t", "\r", "\n")
COLUMNS = (
    "reader", "role", "years", "consent_version", "place", "practice", "showing", "item", "repeat", "revision",
    "final", "verdict", "confidence", "reasons", "note", "client_ms", "server_ms", "flag", "shown_as", "answered_at",
    "truth", "generator",
)  # fmt: skip


def answer_rows(study: Study, answers: Answers) -> list[dict[str, Any]]:
    """One row a revision of an answer, columns as `COLUMNS`; ``final`` marks the last one."""
    key = study.exam.key[["id", "truth", "generator"]]
    truths = {str(row.id): row for frame in (key, study.practice) for row in frame.itertuples()}
    rows = answers.rows()
    last = {(person.id, answer.showing): answer.revision for person, answer in rows}
    seen: dict[tuple[int, str], str] = {}
    found = []
    for person, answer in rows:
        item = study.item(answer.showing)
        first = seen.setdefault((person.id, item), answer.showing)
        truth = truths[item]
        found.append({
            "reader": person.name, "role": person.role, "years": person.years,
            "consent_version": person.consent_version, "place": answer.place, "practice": answer.practice,
            "showing": answer.showing, "item": item, "repeat": answer.showing != first, "revision": answer.revision,
            "final": answer.revision == last[person.id, answer.showing], "verdict": answer.verdict,
            "confidence": answer.confidence, "reasons": answer.reason_ids, "note": answer.note,
            "client_ms": answer.client_ms, "server_ms": answer.server_ms, "flag": timing_flag(answer.client_ms),
            "shown_as": json.loads(answer.shown_as), "answered_at": answer.answered_at, "truth": str(truth.truth),
            "generator": truth.generator if isinstance(truth.generator, str) else None,
        })  # fmt: skip
    return found


def to_jsonl(rows: list[dict[str, Any]]) -> str:
    """One JSON object a line; nothing is changed."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def to_csv(rows: list[dict[str, Any]]) -> str:
    """A table that a spreadsheet opens without running anything that a reader wrote."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    for row in rows:
        flat = row | {"reasons": ";".join(row["reasons"]), "shown_as": json.dumps(row["shown_as"])}
        writer.writerow({name: harmless(value) for name, value in flat.items()})
    return buffer.getvalue()


def harmless(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and value.lstrip(" ").startswith(DANGEROUS) else value


def timing_flag(client_ms: float | None) -> str:
    """``fast`` below 300 ms, ``slow`` above five minutes, else empty."""
    if client_ms is None:
        return ""
    return "fast" if client_ms < FAST_MS else "slow" if client_ms > SLOW_MS else ""

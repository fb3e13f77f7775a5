"""A grading as flat tables, for a spreadsheet: readers, generators, pairs, shared mistakes, the average, reasons."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from .confusion import TRUTHS, VERDICTS
from .exports import harmless

_ENDS = ("low", "high")


def grade_tables(results: Mapping[str, Any]) -> dict[str, str]:
    """The tables of a grading (`grading.grade`) by name, as CSV; a cell that a spreadsheet would run is defused."""
    tables = {
        "readers": [_reader(row) for row in results["readers"]],
        "generators": [row for reader in results["readers"] for row in _generators(reader)],
        "pairs": [_flat(row) for row in results["paired"]],
        "mistakes": [_flat(row) for row in results["mistakes"]],
        "average": _average(results["average"]),
        "agreement": _agreement(results["agreement"]),
        "reasons": results["reasons"],
    }
    return {name: _csv(rows) for name, rows in tables.items() if rows}


def _reader(row: Mapping[str, Any]) -> dict[str, Any]:
    counts = {f"{truth}_called_{verdict}": row["table"][truth][verdict] for truth in TRUTHS for verdict in VERDICTS}
    kept = {name: row[name] for name in ("name", "kind", "right", "total")}
    rules = {name: row[name] for name in ("accuracy", "accuracy_unsure_dropped", "accuracy_unsure_half")}
    rest = {name: row[name] for name in ("p_chance", "d_prime", "criterion")}
    spans = {name: row[name] for name in ("wilson95", "clopper_pearson95", "cluster95")}
    rates = {
        name: {"rate": row[name]["rate"], "wilson95": row[name]["wilson95"]} for name in ("sensitivity", "specificity")
    }
    auc = row["auc"] or dict.fromkeys(("auc", "delong95", "cluster95", "graded", "patches"))
    return _flat(kept | counts | rules | spans | rest | rates | {"equivalence": row["equivalence"], "ranking": auc})


def _generators(reader: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [_flat({"reader": reader["name"], "generator": name, **row}) for name, row in reader["by_generator"].items()]


def _average(average: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """One row a figure of merit for people, and one more for every machine's difference to them."""
    rows: list[dict[str, Any]] = []
    for merit in () if average is None else ("auc", "accuracy", "accuracy_unsure_half"):
        people = dict(average[merit]) if average else {}
        machines = people.pop("machines")
        rows.append(_flat({"merit": merit, "of": "people", "p_holm": None, **people}))
        rows += [
            _flat({"merit": merit, "of": f"people minus {name}", **row["difference"]}) for name, row in machines.items()
        ]
    return rows


def _agreement(agreement: Mapping[str, Any]) -> list[dict[str, Any]]:
    columns = ("patches", "kappa", "ac1")
    rows = [("two readers", " and ".join(row["readers"]), row) for row in agreement["cohen"]]
    rows += [("all readers", "", agreement["fleiss"])] if agreement["fleiss"] else []
    rows += [("with oneself", row["reader"], row) for row in agreement["intra_reader"]]
    return [{"between": kind, "readers": names, **{name: row[name] for name in columns}} for kind, names, row in rows]


def _flat(row: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested mappings and intervals as columns: ``auc.delong95`` becomes auc_delong95_low and _high."""
    out: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            out |= _flat(value, f"{before}{name}_")
        elif name.endswith("95"):
            out |= {f"{before}{name}_{end}": one for end, one in zip(_ENDS, value or (None, None), strict=True)}
        else:
            out[f"{before}{name}"] = " and ".join(value) if isinstance(value, list) else value
    return out


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\r\n", restval="")
    writer.writeheader()
    writer.writerows({name: harmless(value) for name, value in row.items()} for row in rows)
    return buffer.getvalue()

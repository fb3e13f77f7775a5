"""Readers of one exam against each other: pair by pair, and people on average against each machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from .agreement import mcnemar, same_mistakes
from .delong import compare, delong
from .mrmc import LEAST_READERS, AverageReader, Merits, accuracy_merits, against, auc_merits, average_reader
from .sheet import Sheet, labels
from .statistics import holm

FEW_READERS = (
    f"An average over readers and patches needs {LEAST_READERS} people who answered every patch, two of each class; "
    "what is told of fewer people holds for these alone."
)


def paired(people: Sequence[Sheet], machines: Sequence[Sheet], key: pd.DataFrame) -> list[dict[str, Any]]:
    """Each person against each machine on the patches that the person answered; p adjusted by Holm over all of these.

    One row a pair: McNemar's counts and tests, the difference of the AUCs with DeLong's test, and whether the two miss
    the same patches. ``auc`` is None where there are no ratings of both classes to compare.
    """
    rows = [_pair(person, machine, key) for person in people for machine in machines]
    for source, target in (("exact_p", "exact_p_holm"), ("mid_p", "mid_p_holm")):
        _adjust(rows, source, target)
    _adjust([row["auc"] for row in rows if row["auc"] is not None], "p", "p_holm")
    return rows


def mistakes(sheets: Sequence[Sheet], key: pd.DataFrame) -> list[dict[str, Any]]:
    """Every two readers, people and machines alike: do they miss the same patches? p by Holm over all pairs."""
    rows = [{"readers": [one.name, two.name], **_mistakes(one, two, key)} for one, two in combinations(sheets, 2)]
    _adjust(rows, "p", "p_holm")
    return rows


def average_of_readers(people: Sequence[Sheet], machines: Sequence[Sheet], key: pd.DataFrame) -> dict[str, Any] | None:
    """The average person by AUC and accuracy, and each machine beside it; None with fewer than three who finished.

    Readers and patches are random, machines fixed. Differences are person minus machine: above 0 people are better.
    """
    whole = [person for person in people if person.is_complete]
    truth = labels(key)
    if len(whole) < LEAST_READERS or min((truth == 0).sum(), (truth == 1).sum()) < 2:
        return None
    found: dict[str, Any] = {"readers": [person.name for person in whole], "patches": len(truth)}
    scored = [machine for machine in machines if machine.is_complete]
    merits = {
        "auc": (scored, auc_merits(truth, [sheet.ratings for sheet in (*whole, *scored)])),
        "accuracy": (list(machines), accuracy_merits(truth, [sheet.right(key) for sheet in (*whole, *machines)])),
        "accuracy_unsure_half": (
            list(machines), accuracy_merits(truth, [sheet.right(key, 0.5) for sheet in (*whole, *machines)]),
        ),
    }  # fmt: skip
    for name, (rivals, merit) in merits.items():
        found[name] = _average(average_reader(merit.among(list(range(len(whole)))))) | {
            "machines": _beside(merit, len(whole), rivals)
        }
    return found


def _beside(merit: Merits, people: int, rivals: Sequence[Sheet]) -> dict[str, Any]:
    rows: dict[str, dict[str, Any]] = {
        rival.name: {
            "value": float(merit.value[people + at]),
            "difference": _average(against(merit.among([*range(people), people + at]), people)),
        }
        for at, rival in enumerate(rivals)
    }
    _adjust([row["difference"] for row in rows.values()], "p", "p_holm")
    return rows


def _pair(person: Sheet, machine: Sheet, key: pd.DataFrame) -> dict[str, Any]:
    done = person.answered & machine.answered
    mine, theirs = person.right(key)[done] == 1, machine.right(key)[done] == 1
    found = mcnemar(mine.tolist(), theirs.tolist())
    return {
        "person": person.name, "machine": machine.name, "patches": int(done.sum()),
        "only_person_right": found.only_first, "only_machine_right": found.only_second,
        "exact_p": found.exact_p, "mid_p": found.mid_p,
        "auc": _auc_difference(person, machine, key), "mistakes": _mistakes(person, machine, key),
    }  # fmt: skip


def _auc_difference(person: Sheet, machine: Sheet, key: pd.DataFrame) -> dict[str, Any] | None:
    rated = person.rated & machine.rated
    truth = labels(key)[rated]
    if min((truth == 0).sum(), (truth == 1).sum()) < 2:
        return None
    found = compare(delong(truth, np.stack([person.ratings[rated], machine.ratings[rated]])))
    return {"difference": found.difference, "delong95": [found.low, found.high], "p": found.p}


def _mistakes(one: Sheet, two: Sheet, key: pd.DataFrame) -> dict[str, Any]:
    done = one.answered & two.answered
    found = same_mistakes((one.right(key)[done] == 1).tolist(), (two.right(key)[done] == 1).tolist())
    return {
        "patches": int(done.sum()), "both_wrong": found.both_wrong, "expected": found.expected,
        "phi": _finite(found.phi), "kappa": _finite(found.kappa), "p": found.p,
    }  # fmt: skip


def _average(found: AverageReader) -> dict[str, Any]:
    return {
        "mean": found.mean, "ci95": [found.low, found.high], "standard_error": found.standard_error,
        "df": _finite(found.df), "p": found.p,
    }  # fmt: skip


def _adjust(rows: Sequence[dict[str, Any]], source: str, target: str) -> None:
    adjusted = holm({str(at): row[source] for at, row in enumerate(rows)})
    for at, row in enumerate(rows):
        row[target] = adjusted[str(at)]


def _finite(value: float) -> float | None:
    """JSON has no NaN and no infinity."""
    return value if math.isfinite(value) else None

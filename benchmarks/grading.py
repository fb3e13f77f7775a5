"""Grading: everybody who marked an exam, people and machines, as one table of results."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from histoforensics.slides import write_atomic

from .agreement import cohen, fleiss, gwet
from .case_tables import imrmc, imrmc_csv, mrmcaov_csv
from .comparisons import FEW_READERS, average_of_readers, mistakes, paired
from .confusion import TRUTHS, VERDICTS, ConfusionTable, Counts
from .exam import Marks
from .grade_report import grade_report
from .grade_tables import grade_tables
from .human_marks import HumanMarks
from .published import PUBLISHED_GROUPS
from .readers import ALRASHEED_2020, Reader, ReaderKind, versus
from .reason_measures import reasons_on_exam
from .sheet import Sheet, clustered_accuracy, confidence_auc, machine_sheet, person_sheet
from .statistics import clopper_pearson, equivalence_p, sensitivity, wilson
from .study import Study

POOLED = (
    "Answers of several people to one patch are not independent: the intervals of all people together are too narrow."
)
MARGIN = 0.1  # what "no different from guessing" allows: an accuracy from 0.4 to 0.6


def grade(study: Study, people: Sequence[HumanMarks], machines: Mapping[str, Marks]) -> dict[str, Any]:
    """Everything that grade.json holds; a person who has not finished is counted on what is answered.

    Keys: ``exam``; ``readers`` (people, all people together, machines: counts, intervals, d', AUC); ``pooled_note``;
    ``answered``; ``paired`` (each person against each machine); ``mistakes`` (every two readers: the same patches?);
    ``average`` (the average of three people or more, and machines beside it), with fewer an ``average_note`` why not;
    ``published`` (everybody against the pathologist of 2020, unpaired) and ``published_groups``; ``agreement``;
    ``reasons`` (by truth and by correctness); ``reasons_measured`` (`reason_measures.reasons_on_exam`).

    Args:
        study: The exam.
        people: Who marked it, from `human_marks`; those without an answer are left out.
        machines: Detectors' marks by name.
    """
    people = [one for one in people if one.answered]
    readers = [one.reader(study) for one in people]
    pooled = pool(readers) if len(readers) > 1 else None
    every = [*readers, *([pooled] if pooled else []), *(marks.reader for marks in machines.values())]
    persons = [person_sheet(one) for one in people]
    rivals = [machine_sheet(name, marks) for name, marks in machines.items()]
    key = study.exam.key
    average = average_of_readers(persons, rivals, key)
    sheets = [*([one] for one in persons), *([persons] if pooled else []), *([one] for one in rivals)]
    return {
        "exam": {"digest": study.digest, "patches": len(study.exam), "title": study.settings.title},
        "readers": [_graded(one, given, study) for one, given in zip(every, sheets, strict=True)],
        "pooled_note": POOLED if pooled else None,
        "answered": {one.person.name: one.answered for one in people},
        "paired": paired(persons, rivals, key),
        "mistakes": mistakes([*persons, *rivals], key),
        "average": average,
        "average_note": FEW_READERS if average is None else None,
        "published": versus(every, ALRASHEED_2020),
        "published_groups": [group.to_json() for group in PUBLISHED_GROUPS],
        "agreement": _agreement(people),
        "reasons": _reasons(study, people),
        "reasons_measured": _reasons_measured(study, people),
    }


def write_grading(
    path: Path | str,
    results: Mapping[str, Any],
    study: Study,
    people: Sequence[HumanMarks],
    machines: Mapping[str, Marks],
) -> list[Path]:
    """Write a grading: ``path`` and beside it, by its stem, a page, tables as CSV, and ratings for iMRMC and MRMCaov.

    Returns:
        What was written, the JSON first, then the page.

    Raises:
        ExamError: If two readers' names are one in plain letters.
    """
    path = Path(path)
    sheets = [
        *(person_sheet(one) for one in people if one.answered),
        *(machine_sheet(*one) for one in machines.items()),
    ]
    key = study.exam.key
    cases = {
        f"{path.stem}_imrmc.csv": imrmc_csv(sheets, key),
        f"{path.stem}.imrmc": imrmc(sheets, key, study.settings.title),
        f"{path.stem}_mrmcaov.csv": mrmcaov_csv(sheets, key),
    }
    tables = {f"{path.stem}_{name}.csv": text for name, text in grade_tables(results).items()}
    written = [
        write_atomic(path, json.dumps(results, indent=2, allow_nan=False) + "\n"),
        write_atomic(path.with_suffix(".html"), grade_report(results)),
    ]
    return [*written, *(write_atomic(path.with_name(name), text) for name, text in (tables | cases).items())]


def pool(readers: Sequence[Reader]) -> Reader:
    """All readers' counts as one. Their answers to one patch go together, so intervals of it are too narrow."""
    names = list(dict.fromkeys(name for one in readers for name in one.by_generator))
    return Reader(
        name="all people",
        kind=ReaderKind.HUMAN,
        table=ConfusionTable(**{truth: sum((one.table[truth] for one in readers), Counts()) for truth in TRUTHS}),
        by_generator={name: sum((one.by_generator.get(name, Counts()) for one in readers), Counts()) for name in names},
        source="this exam",
    )


def _graded(reader: Reader, sheets: list[Sheet], study: Study) -> dict[str, Any]:
    """One reader's row; several sheets are all people together, who have no one scale of confidence to rank by."""
    table = reader.table
    hits, fakes, rejections, reals = table.fake.fake, table.fake.total, table.real.real, table.real.total
    detection = sensitivity(hits, fakes, table.real.fake, reals) if fakes and reals else None
    clustered = clustered_accuracy(sheets, study.exam.key)
    return reader.to_json() | {
        "cluster95": None if clustered is None else list(clustered),
        "auc": confidence_auc(sheets[0], study.exam.key) if len(sheets) == 1 else None,
        "sensitivity": _rate(hits, fakes),
        "specificity": _rate(rejections, reals),
        "d_prime": None if detection is None else detection.d_prime,
        "criterion": None if detection is None else detection.criterion,
        "equivalence": {"margin": MARGIN, "p": equivalence_p(table.right, table.total, MARGIN)},
    }


def _rate(right: int, total: int) -> dict[str, Any]:
    return {
        "right": right, "total": total, "rate": right / total if total else None,
        "wilson95": list(wilson(right, total)), "clopper_pearson95": list(clopper_pearson(right, total)),
    }  # fmt: skip


def _agreement(people: Sequence[HumanMarks]) -> dict[str, Any]:
    """Kappa between readers, on the patches that they share, and of each reader with himself."""
    pairs = []
    for one, two in combinations(people, 2):
        both = [(a, b) for a, b in zip(one.verdicts, two.verdicts, strict=True) if a is not None and b is not None]
        kappa = cohen([a for a, _ in both], [b for _, b in both]) if both else math.nan
        pairs.append({
            "readers": [one.person.name, two.person.name], "patches": len(both), "kappa": _number(kappa),
            "ac1": _number(gwet(both)),
        })  # fmt: skip
    common = [patch for patch in zip(*(one.verdicts for one in people), strict=True) if None not in patch]
    shared = [[str(verdict) for verdict in patch] for patch in common]
    together = fleiss(shared) if len(people) > 2 and shared else None
    given = [verdict for one in people for verdict in one.verdicts if verdict is not None]
    return {
        "cohen": pairs,
        "fleiss": None
        if together is None
        else {"patches": len(shared), "kappa": _number(together), "ac1": _number(gwet(shared))},
        "prevalence": {verdict: given.count(verdict) / len(given) for verdict in VERDICTS} if given else None,
        "intra_reader": [_with_oneself(one) for one in people if one.again],
    }


def _with_oneself(person: HumanMarks) -> dict[str, Any]:
    first = {item: verdict for item, verdict in zip(person.items, person.verdicts, strict=True) if verdict is not None}
    twice = [(first[item], again) for item, again in person.again.items()]
    same = sum(a == b for a, b in twice)
    kappa = cohen([a for a, _ in twice], [b for _, b in twice])
    return {
        "reader": person.person.name, "patches": len(twice), "same": same, "kappa": _number(kappa),
        "ac1": _number(gwet(twice)),
    }  # fmt: skip


def _reasons(study: Study, people: Sequence[HumanMarks]) -> list[dict[str, Any]]:
    """How often each reason was ticked: by truth, by whether the verdict was right, and by both."""
    truth = {str(row.id): str(row.truth) for row in study.exam.key.itertuples()}
    rows = []
    for name, text in study.reasons.items():
        ticks = [
            (truth[item], verdict == truth[item])
            for one in people
            for item, verdict in zip(one.items, one.verdicts, strict=True)
            if verdict is not None and name in one.reasons.get(item, ())
        ]
        rows.append({
            "id": name, "text": text, "ticked": len(ticks), "on_real": sum(kind == "real" for kind, _ in ticks),
            "on_fake": sum(kind == "fake" for kind, _ in ticks), "right": sum(right for _, right in ticks),
            "wrong": sum(not right for _, right in ticks),
            **{
                f"on_{mark}_{told}": sum(kind == mark and right == (told == "right") for kind, right in ticks)
                for mark in TRUTHS
                for told in ("right", "wrong")
            },
        })  # fmt: skip
    return sorted(rows, key=lambda row: -row["ticked"])


def _reasons_measured(study: Study, people: Sequence[HumanMarks]) -> dict[str, Any]:
    ticked: dict[str, set[str]] = {}
    for one in people:
        for item, reasons in one.reasons.items():
            for name in reasons:
                ticked.setdefault(name, set()).add(item)
    looked_at = {
        item for one in people for item, verdict in zip(one.items, one.verdicts, strict=True) if verdict is not None
    }
    return reasons_on_exam(study, ticked, looked_at)


def _number(value: float) -> float | None:
    """JSON has no NaN: a kappa that is not defined is null."""
    return None if math.isnan(value) else value

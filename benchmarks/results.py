"""Results: everything that a benchmark found, as plain JSON, a long table of counts and a long table of scores.

``results.json`` is the contract with whoever reads it: its keys are told in `assemble`. A report can be made again from
this file, the figures and the exam's items alone.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from histoforensics.slides import ExamError, write_atomic

from .confusion import TRUTHS, VERDICTS
from .exam import Exam, Marks
from .generalization import SCORE_COLUMNS, Cell
from .headline import answer
from .probes import NOT_FAIR, not_audited
from .published import PUBLISHED_GROUPS
from .readers import PUBLISHED, Reader, ReaderKind, versus

FORMAT = 2
RESULTS, CONFUSION, SCORES = "results.json", "confusion.csv", "scores.parquet"

LEAST_IN_DOMAIN_AUC = 0.9  # below it a network has not learned its own training fakes: it is labelled as failed
EASY_CONTROL_AUC = 0.85  # above it a trivial cue tells the classes apart: the comparison is called easy
UNMEASURED: Mapping[str, Any] = {
    "exam_distribution": [],
    "calibration": {},
    "margins": {},
    "generalization_summary": {},
    "robustness": {"rows": [], "summary": []},
    "reasons": {"rows": [], "by_reason": [], "why_not": "not measured"},
    "seeds": {},
    "beside": None,
}
LEAST_RAW_AUC = 0.95  # what the placebo's positive control must reach: the proof that the placebo can fail

Matrix = Mapping[str, Mapping[str, Cell]]


class Interval(Protocol):
    """An AUC with its interval, as the placebo returns one."""

    @property
    def auc(self) -> float:
        """In [0, 1]."""

    @property
    def ci95(self) -> tuple[float, float] | None:
        """Both ends, or None where there is no interval."""


@dataclass(frozen=True, kw_only=True)
class GeneratorFacts:
    """What a report tells of one generator; None where it is not known, as for a folder of fakes."""

    source: (
        str  # "shipped with the tool", "trained in this run", "given as a checkpoint", "given as a folder of patches"
    )
    resolution_px: int | None = None
    seconds: float | None = None  # of training
    kimg: float | None = None  # thousands of real images shown
    published_kimg: float | None = None  # what its authors trained for
    parameters_g: int | None = None
    parameters_d: int | None = None
    checkpoint_sha256: str | None = None
    psi: float | None = None
    noise: str | None = None


def assemble(
    *,
    exam: Exam,
    marks: Mapping[str, Marks],
    generalization: Matrix,
    same_generator: Matrix,
    in_domain: Mapping[str, Cell],
    placebo: Mapping[str, Interval],
    run: Mapping[str, Any],
    generators: Mapping[str, GeneratorFacts],
    splits: Mapping[str, Any],
    codec: Mapping[str, Any],
    raw_placebo: Mapping[str, Interval] | None = None,
    permutation: Mapping[str, Interval] | None = None,
    not_fair: str | None = None,
    inspection: Mapping[str, Any] | None = None,
    measured: Mapping[str, Any] | None = None,
    limits: Sequence[str] = (),
    published: Sequence[Reader] = PUBLISHED,
) -> dict[str, Any]:
    """The content of results.json, plain JSON without NaN.

    Keys: ``format``; ``answer`` (verdict, headline, lines); ``readers`` (published first, then who marked this exam);
    ``versus`` (detector against ``readers[0]``, unpaired); ``generalization``, ``same_generator`` (detector, generator,
    {auc, ci95}); ``in_domain`` (all generators together); ``margin`` (its AUC over the best control's); ``failed``
    (detector, why); ``placebo``; ``audit`` (controls, best control, whether the comparison is easy or not fair, the
    positive control of the placebo, and what `probes.audit_material` found: ``verdict``, ``sentence``, ``reasons``,
    ``notes`` and the measurements behind them); ``exam_distribution``, ``calibration``, ``margins`` and
    ``generalization_summary`` (`measures.measures`); ``robustness`` (``rows``, ``summary``); ``reasons`` (``rows``,
    ``by_reason``); ``seeds`` (`seeds.seed_spread`); ``beside`` (`beside.Beside.judged`); ``published_groups``;
    ``exam`` (facts, and every item with every verdict); ``generators``,
    ``splits``, ``codec``, ``limits``, ``run``. A run with ``tamper`` adds that key (`tampering.tamper_benchmark`).

    Args:
        exam: The exam that ``marks`` answer.
        marks: Reader name to marks, in the order of the report: people, detectors, controls.
        generalization: `generalization.auc_matrix` of `leave_one_out`; may hold controls too.
        same_generator: The same of `same_generator`.
        in_domain: `generalization.in_domain`, controls among them.
        placebo: Detector to its retrained placebo: real against real through the whole path of the fakes.
        run: The run card.
        generators: What is known of each.
        splits: Facts of the split and its digest.
        codec: ``policy`` in words; ``unmatched``, name to AUC cell where nothing was matched; and what was replayed.
        raw_placebo: The placebo's positive control: lossless tissue, one class compressed; it must reach 0.95.
        permutation: AUC after training on shuffled labels.
        not_fair: Why no verdict may be given, such as reals and fakes of different tissue; a sentence.
        inspection: Of `probes.audit_material`; a comparison that it calls not fair gets no verdict.
        measured: Any of the keys of `UNMEASURED`, which stand empty where they are not given.
        limits: Sentences on what this run does not show, beside those that every report has.
        published: Readers of other exams; the first is the one compared with.

    Raises:
        ExamError: If two readers have one name, or there is no published reader to compare with.
    """
    if not published:
        raise ExamError("A benchmark compares with at least one published reader, got none.")
    readers = [*published, *(mark.reader for mark in marks.values())]
    names = [reader.name for reader in readers]
    if len(set(names)) < len(names) or [mark.reader.name for mark in marks.values()] != list(marks):
        raise ExamError(f"Readers need names of their own, got {', '.join(names)}.")
    controls = {name for name, mark in marks.items() if mark.reader.kind is ReaderKind.CONTROL}
    detectors = [mark.reader for mark in marks.values() if mark.reader.kind is ReaderKind.DETECTOR]
    inspection = not_audited("nobody asked for it") if inspection is None else inspection
    if not_fair is None and inspection["verdict"] == NOT_FAIR:
        not_fair = inspection["sentence"]
    audit = _audit(in_domain, controls, not_fair) | dict(inspection)
    audit["controls_generalization"] = _cells(generalization, controls)
    audit["controls_same_generator"] = _cells(same_generator, controls)
    audit["raw_placebo"] = {
        name: told | {"reaches_095": told["auc"] >= LEAST_RAW_AUC}
        for name, told in _intervals(raw_placebo or {}).items()
    }
    audit["label_permutation"] = _intervals(permutation or {})
    judged = {name: cell for name, cell in in_domain.items() if name not in controls}
    found = {
        "format": FORMAT,
        "readers": [_in_order(reader.to_json(), "by_generator", generators) for reader in readers],
        "versus": versus(detectors, published[0]),
        "generalization": _cells(generalization, set(generalization) - controls),
        "same_generator": _cells(same_generator, set(same_generator) - controls),
        "in_domain": {name: cell.to_json() for name, cell in judged.items()},
        "margin": {
            name: None if audit["best_control_auc"] is None else cell.auc - audit["best_control_auc"]
            for name, cell in judged.items()
        },
        "failed": {name: _why_failed(cell.auc) for name, cell in judged.items() if cell.auc < LEAST_IN_DOMAIN_AUC},
        "placebo": _intervals(placebo),
        "audit": audit,
        **{key: (measured or {}).get(key, empty) for key, empty in UNMEASURED.items()},
        "published_groups": [group.to_json() for group in PUBLISHED_GROUPS],
        "exam": _in_order(exam.facts(), "fake", generators) | {"items": exam.items(marks)},
        "generators": {name: asdict(facts) for name, facts in generators.items()},
        "splits": splits,
        "codec": codec,
        "limits": list(limits),
        "run": run,
    }
    told: dict[str, Any] = plain(found)
    return {"format": told.pop("format"), "answer": answer(told), **told}


def write_results(out: Path | str, results: Mapping[str, Any], scores: Sequence[pd.DataFrame]) -> None:
    """Write results.json, confusion.csv and scores.parquet into ``out``, each whole or not at all."""
    out = Path(out)
    write_atomic(out / RESULTS, json.dumps(results, indent=2, allow_nan=False) + "\n")
    write_atomic(out / CONFUSION, confusion_table(results["readers"]).to_csv(index=False))
    buffer = io.BytesIO()
    pd.concat([table for table in scores if len(table)], ignore_index=True).to_parquet(buffer, index=False)
    write_atomic(out / SCORES, buffer.getvalue())


def read_results(out: Path | str) -> dict[str, Any]:
    """The content of a results.json.

    Raises:
        ExamError: If there is none, or it is broken or of another format.
    """
    path = Path(out) / RESULTS
    try:
        results = json.loads(path.read_text("utf-8"))
    except OSError as err:
        raise ExamError(f"{path.parent.name}: no {RESULTS} in the folder; run the benchmark first.") from err
    except ValueError as err:
        raise ExamError(f"{path.parent.name}/{RESULTS}: not readable JSON ({err}).") from err
    if not isinstance(results, dict) or results.get("format") != FORMAT:
        raise ExamError(f"{path.parent.name}/{RESULTS}: wanted results of format {FORMAT}; run the benchmark again.")
    return results


def confusion_table(readers: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a count: reader, kind, truth, generator, verdict, count; a fake counts once, with its generator."""
    rows = [
        (reader["name"], reader["kind"], truth, generator, verdict, counts[verdict])
        for reader in readers
        for truth in TRUTHS
        for generator, counts in _by_source(reader, truth)
        for verdict in VERDICTS
    ]
    return pd.DataFrame(rows, columns=["reader", "kind", "truth", "generator", "verdict", "count"])


def exam_scores(exam: Exam, marks: Mapping[str, Marks]) -> pd.DataFrame:
    """The machines' scores of the exam's items, one row an item and reader, columns as of held-out scores."""
    key = exam.key[["id", "generator", "block"]].assign(label=exam.key["truth"])
    parts = [
        key.assign(detector=name, trained_without=None, score=mark.scores, verdict=list(mark.verdicts))
        for name, mark in marks.items()
        if mark.scores is not None
    ]
    return pd.concat(parts, ignore_index=True)[list(SCORE_COLUMNS)] if parts else pd.DataFrame(columns=SCORE_COLUMNS)


def plain(value: Any) -> Any:
    """``value`` as JSON can hold it: numpy becomes Python, and a NaN becomes null with its reason beside it.

    >>> plain({"auc": float("nan")})
    {'auc': None, 'auc_reason': 'not a finite number: there was nothing to count'}
    """
    match value:
        case Mapping():
            told = {str(key): plain(item) for key, item in value.items()}
            lost = [key for key, item in value.items() if isinstance(item, float | np.floating) and told[key] is None]
            return told | {f"{key}_reason": "not a finite number: there was nothing to count" for key in lost}
        case np.ndarray():
            return plain(value.tolist())
        case np.generic():
            return plain(value.item())
        case float():
            return value if math.isfinite(value) else None
        case None | bool() | int() | str():
            return value
        case Sequence():
            return [plain(item) for item in value]
        case _:
            raise TypeError(f"results hold plain values, got {type(value).__name__}")


def _in_order(told: dict[str, Any], key: str, generators: Iterable[str]) -> dict[str, Any]:
    """``told`` with the generators under ``key`` in the order of the run, and any others after them."""
    rows = told[key]
    return told | {key: {name: rows[name] for name in dict.fromkeys([*generators, *rows]) if name in rows}}


def _audit(in_domain: Mapping[str, Cell], controls: set[str], not_fair: str | None) -> dict[str, Any]:
    cells = {name: cell for name, cell in in_domain.items() if name in controls}
    best = max(cells, key=lambda name: cells[name].auc, default=None)
    return {
        "controls": {name: cell.to_json() for name, cell in cells.items()},
        "best_control": best,
        "best_control_auc": None if best is None else cells[best].auc,
        "comparison_is_easy": best is not None and cells[best].auc > EASY_CONTROL_AUC,
        "fair": not_fair is None,
        "not_fair": not_fair,
    }


def _cells(matrix: Matrix, names: set[str]) -> dict[str, Any]:
    return {
        name: {generator: cell.to_json() for generator, cell in row.items()}
        for name, row in matrix.items()
        if name in names
    }


def _intervals(found: Mapping[str, Interval]) -> dict[str, Any]:
    return {
        name: {
            "auc": one.auc,
            "ci95": None if one.ci95 is None else list(one.ci95),
            "holds_half": None if one.ci95 is None else one.ci95[0] <= 0.5 <= one.ci95[1],
        }
        for name, one in found.items()
    }


def _why_failed(auc: float) -> str:
    return f"AUC {auc:.2f} on the generators it learned from, below {LEAST_IN_DOMAIN_AUC}: it has not learned its task"


def _by_source(reader: Mapping[str, Any], truth: str) -> list[tuple[str, Mapping[str, int]]]:
    if truth == "fake" and reader["by_generator"]:
        return list(reader["by_generator"].items())
    return [("", reader["table"][truth])]

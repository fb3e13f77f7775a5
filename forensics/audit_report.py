"""An audit for people: tables for a terminal, and files."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from histoforensics.slides import write_atomic

from .auditing import Audit
from .metrics import AucInterval

SHOWN_V = 0.1  # weaker associations stay in the files
WAYS = ("raw", "matched")

Rows = list[dict[str, str]]


def to_json(found: Audit) -> str:
    """The whole audit as indented JSON."""
    return json.dumps(found.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_audit(found: Audit, folder: Path | str) -> Path:
    """Write audit.json, associations.csv and reasons.csv into ``folder``, each whole or not at all."""
    folder = Path(folder)
    told = found.to_json()
    write_atomic(folder / "associations.csv", pd.DataFrame(told["associations"]).to_csv(index=False))
    rows = [{"unfair": unfair, **row} for unfair, key in ((True, "reasons"), (False, "notes")) for row in told[key]]
    reasons = pd.DataFrame(rows, columns=["unfair", "code", "sentence", "number"])
    write_atomic(folder / "reasons.csv", reasons.to_csv(index=False))
    write_atomic(folder / "audit.json", to_json(found))
    return folder


def tables(found: Audit) -> dict[str, Rows]:
    """Title to rows, each a column to a text: controls, codec swap, associations of at least 0.1."""
    measured = found.findings
    controls = [{"control": name, "AUC": _interval(cell)} for name, cell in measured.controls.items()]
    swap = [
        {"trained on": learned, **{f"judged on {judged}": _interval(measured.swap[learned, judged]) for judged in WAYS}}
        for learned in WAYS
    ]
    fields = [
        {"field": a.field, "kind": a.role.value, "V": f"{a.v:.2f}", "real": a.real, "fake": a.fake}
        for a in measured.associations
        if a.v >= SHOWN_V
    ]
    titles = {
        "Trivial cues": controls,
        f"Codec swap, {measured.detector}; matched is {measured.codec_policy}": swap,
        "Fields that go with the label (Cramér's V)": fields,
    }
    return {title: rows for title, rows in titles.items() if rows}


def _interval(cell: AucInterval) -> str:
    return f"{cell.auc:.2f} ({cell.low:.2f} to {cell.high:.2f})"

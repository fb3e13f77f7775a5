"""Sentences of the report that follow from numbers: texts for who cannot see a figure, and what curves come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Results = Mapping[str, Any]

HOLDS_AUC, BEARABLE_FPR = 0.9, 0.1


def figure_texts(results: Results) -> dict[str, str]:
    """File name of a figure to what it shows, in words."""
    made_by = ", ".join(results["exam"]["fake"])
    return {
        "accuracy.svg": _accuracy(results["readers"]),
        "generalization.svg": "Dot plot, a panel a generator and a row a detector; the two tables below hold its "
        "numbers.",
        "spectra.svg": f"Mean spectra of real patches and of {made_by}, and the difference of each generator's radial "
        "profile from that of real tissue.",
        "distribution.svg": _distribution(results["exam_distribution"]),
        "reliability.svg": "Reliability curves, a panel a detector; the table below holds the numbers.",
        "robustness_auc.svg": "Curves of AUC against severity, a panel a perturbation; the table below holds the worst "
        "of each.",
        "robustness_fpr.svg": "Curves of false positives against severity, a panel a perturbation; the table below "
        "holds the worst of each.",
        "reasons.svg": "Effect size of every measured feature of every generator, with its interval; the table below "
        "names those that differ.",
    }


def robustness_in_words(summary: Sequence[Mapping[str, Any]]) -> str:
    """What ranking and frozen thresholds came to, in one or two sentences; empty without curves."""
    if not summary:
        return ""
    held = [row for row in summary if row["worst_auc"] >= HOLDS_AUC]
    told = f"The AUC stays at {HOLDS_AUC} or more throughout in {len(held)} of {len(summary)} curves."
    worst = max(held, key=lambda row: row["worst_fpr"], default=None)
    if worst is None:
        return told
    if worst["worst_fpr"] <= BEARABLE_FPR:
        return f"{told} In these, false positives at the frozen threshold never exceed {_percent(worst)}."
    return (
        f"{told} That is no safety: in one of these the threshold, frozen for 5 % false positives, calls "
        f"{_percent(worst)} of real patches fake ({worst['detector']}, {worst['perturbation']}). Fakes still rank "
        "above reals, but both have moved, and a verdict is worth nothing there."
    )


def patches_in_words(rows: Sequence[Mapping[str, Any]]) -> str:
    """How many patches the curves of each detector are made of."""
    counts: dict[tuple[int, int], list[str]] = {}
    for row in rows:
        if row["perturbation"] == "none":
            counts.setdefault((row["n_real"], row["n_fake"]), []).append(row["detector"])
    return "; ".join(f"{real} real and {fake} fake for {', '.join(names)}" for (real, fake), names in counts.items())


def robustness_table(summary: Sequence[Mapping[str, Any]]) -> tuple[list[str], dict[str, dict[str, Mapping[str, Any]]]]:
    """Detectors, and perturbation to detector to row."""
    names = list(dict.fromkeys(row["detector"] for row in summary))
    table: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in summary:
        table.setdefault(row["perturbation"], {})[row["detector"]] = row
    return names, table


def _percent(row: Mapping[str, Any]) -> str:
    return f"{100 * row['worst_fpr']:.0f} %"


def _accuracy(readers: Sequence[Mapping[str, Any]]) -> str:
    told = "; ".join(f"{reader['name']} {reader['right']} of {reader['total']}" for reader in readers)
    return f"Dot plot of right answers: {told}."


def _distribution(rows: Sequence[Mapping[str, Any]]) -> str:
    told = "; ".join(
        f"{row['name']} {row['mean']:.1f} on average, {row['band95'][0]:.0f} to {row['band95'][1]:.0f}" for row in rows
    )
    return f"Histograms of right answers of {rows[0]['patches']}: {told}." if rows else ""

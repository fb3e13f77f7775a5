"""Robustness curves: a panel a perturbation, a line a detector, in the report's colours, dashes and markers."""

from __future__ import annotations

from typing import Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from histoforensics.forensics.calibration import FALSE_POSITIVE_RATE

from .figures import _STYLE, DASHES, SERIES, THEME, WIDTH_IN, _svg
from .perturbations import PERTURBATIONS, Perturbation
from .robustness import CLEAN

COLUMNS = 3
MARKERS = ("o", "s", "D", "^", "v", "P")
KNOWN = {one.name: one for one in PERTURBATIONS}


Value = Literal["auc", "fpr"]
LABELS: dict[Value, str] = {"auc": "AUC", "fpr": "false positives"}
LINES: dict[Value, float] = {"auc": 0.5, "fpr": FALSE_POSITIVE_RATE}  # guessing, and what thresholds were frozen for


def robustness_figure(table: pd.DataFrame, value: Value = "auc") -> bytes:
    """SVG: AUC or false positives against severity with the 95 % band, one panel a perturbation.

    The dashed line is guessing, or the rate that thresholds were frozen for. On the axis of JPEG quality the unchanged
    patches have no place: a dotted line in each colour shows their value.

    Args:
        table: Of :func:`robustness.robustness`; those of several detectors may be put under each other.
        value: What is drawn.
    """
    detectors = list(dict.fromkeys(table["detector"]))
    names = [name for name in dict.fromkeys(table["perturbation"]) if name != CLEAN]
    lines = -(-max(1, len(names)) // COLUMNS)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH_IN, 0.6 + 1.9 * lines), layout="constrained")
        panels = np.atleast_1d(figure.subplots(lines, COLUMNS, sharey=True)).ravel()
        for axes, name in zip(panels, names, strict=False):
            for i, detector in enumerate(detectors):
                _curve(axes, table[table["detector"] == detector], name, i, value)
            _dress(axes, name, value, first=axes in panels[::COLUMNS])
        for axes in panels[len(names) :]:
            axes.set_axis_off()
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=6, frameon=False, handlelength=2.4,
                      columnspacing=1.2)  # fmt: skip
        return _svg(figure, f"robustness-{value}")


def _curve(axes: Axes, table: pd.DataFrame, name: str, i: int, value: Value) -> None:
    rows = table[table["perturbation"] == name].sort_values("severity")
    clean = table[table["perturbation"] == CLEAN]
    neutral = KNOWN[name].neutral if name in KNOWN else None
    if neutral is not None:  # the unchanged patches have a place on this axis
        rows = pd.concat([rows, clean.assign(severity=neutral)]).sort_values("severity")
    colour, x = SERIES[i % len(SERIES)], rows["severity"].to_numpy(float)
    axes.fill_between(x, rows[f"{value}_low"], rows[f"{value}_high"], color=colour, alpha=0.13, linewidth=0)
    axes.plot(
        x, rows[value], color=colour, linestyle=DASHES[i % len(DASHES)], marker=MARKERS[i % len(MARKERS)],
        markersize=4, linewidth=1.5, label=str(rows["detector"].iloc[0]),
    )  # fmt: skip
    if neutral is None:
        axes.axhline(float(clean[value].iloc[0]), color=colour, linewidth=0.8, linestyle=(0, (1, 3)))


def _dress(axes: Axes, name: str, value: Value, *, first: bool) -> None:
    known: Perturbation | None = KNOWN.get(name)
    axes.set(xlabel=known.axis if known else name, ylim=(0, 1.03), yticks=(0, 0.5, 1))
    axes.set_yticklabels(["0", "0.5", "1"])
    if name == "jpeg":
        axes.invert_xaxis()  # worse to the right, as everywhere
    if first:
        axes.set_ylabel(LABELS[value])
    axes.axhline(LINES[value], color=THEME["muted"], linewidth=0.9, linestyle=(0, (3, 3)))
    axes.grid(axis="y")
    axes.set_axisbelow(True)

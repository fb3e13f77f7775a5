"""The figure of exam distributions: one row a machine, its exams as a histogram, the pathologist as a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from .figures import _STYLE, SERIES, THEME, WIDTH_IN, _svg

ROW_IN = 0.52


def distribution_figure(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """SVG: of each machine the number right in many exams, in percent, with the mean and the 95 % band.

    Args:
        rows: `ExamDistribution.to_json` of each, in the order of the report.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH_IN, 1.1 + ROW_IN * max(1, len(rows))), layout="constrained")
        axes = figure.subplots()
        for at, row in enumerate(rows):
            percent = np.array([int(right) for right in row["counts"]]) / row["patches"] * 100
            heights = np.array(list(row["counts"].values()), dtype=float)
            axes.bar(
                percent,
                -0.7 * heights / heights.max(),
                100 / row["patches"] * 0.86,
                bottom=at + 0.28,
                color=SERIES[0],
                alpha=0.35,
            )
            low, high = (end / row["patches"] * 100 for end in row["band95"])
            axes.plot([low, high], [at + 0.36, at + 0.36], color=SERIES[0], linewidth=2.2, solid_capstyle="round")
            axes.plot([row["mean"] / row["patches"] * 100], [at + 0.36], "o", color=SERIES[0], markersize=5.5)
            axes.text(1.02, at + 0.2, f"{row['above']:.0%}", va="center", transform=axes.get_yaxis_transform())
        if rows:
            reference = rows[0]["reference"]
            share = reference["right"] / reference["total"] * 100
            axes.axvline(share, color=SERIES[1], linewidth=1.4, linestyle=(0, (5, 1.5)))
            note = f"{reference['name']}: {reference['right']} of {reference['total']}"
            axes.annotate(note, (share, -0.62), xytext=(4, 0), textcoords="offset points", color=SERIES[1], va="center")
            axes.text(1.02, -0.62, "above", va="center", color=THEME["muted"], transform=axes.get_yaxis_transform())
        axes.axvline(50, color=THEME["muted"], linewidth=1, linestyle=(0, (1.5, 1.5)))
        axes.set(
            xlim=(0, 101), ylim=(len(rows) - 0.5, -0.9), yticks=range(len(rows)), xlabel="right answers of one exam, %"
        )
        axes.set_yticklabels([row["name"] for row in rows])
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        return _svg(figure, "distribution")

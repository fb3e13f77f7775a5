"""Reliability curves: how sure a detector was against how often it was right, a panel each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from .figures import _STYLE, SERIES, THEME, WIDTH_IN, _svg

COLUMNS = 3
LARGEST_PT = 10.0  # marker of a bin that holds all patches; the area goes with the number


def reliability_figure(calibration: Mapping[str, Mapping[str, Any]]) -> bytes:
    """SVG: of each detector the share of fakes against the mean P(fake), a circle a bin, its area the bin's patches.

    Args:
        calibration: ``calibration`` of results.json.
    """
    lines = -(-max(1, len(calibration)) // COLUMNS)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH_IN, 0.3 + 2.3 * lines), layout="constrained")
        panels = np.atleast_1d(figure.subplots(lines, COLUMNS, sharex=True, sharey=True)).ravel()
        for axes, (name, told) in zip(panels, calibration.items(), strict=False):
            bins = told["bins"]
            sizes = np.array([one["n"] for one in bins], dtype=float)
            x, y = ([one[key] for one in bins] for key in ("mean_score", "share_fake"))
            axes.plot([0, 1], [0, 1], color=THEME["muted"], linewidth=1, linestyle=(0, (3, 3)))
            axes.plot(x, y, color=SERIES[0], linewidth=1.2, alpha=0.6)
            for at, share, size in zip(x, y, sizes / sizes.sum(), strict=True):
                axes.plot([at], [share], "o", color=SERIES[0], markersize=3 + LARGEST_PT * size**0.5, clip_on=False)
            axes.set_title(f"{name}   ECE {told['ece']:.2f}", loc="left")
            axes.set(xlim=(0, 1), ylim=(0, 1), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1), aspect="equal")
            axes.set_xticklabels(["0", "0.5", "1"])
            axes.set_yticklabels(["0", "0.5", "1"])
            axes.tick_params(labelbottom=True, labelleft=True)
            axes.grid(visible=True)
            axes.set_axisbelow(True)
        for axes in panels[len(calibration) :]:
            axes.set_axis_off()
        figure.supxlabel("mean P(fake) of a bin", fontsize=9.5, color=THEME["muted"])
        figure.supylabel("share of fakes", fontsize=9.5, color=THEME["muted"])
        return _svg(figure, "reliability")

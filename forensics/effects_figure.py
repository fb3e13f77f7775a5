"""Effects as a figure: how far each generator is from real tissue, feature by feature, beside the reasons."""

from __future__ import annotations

import io
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from histoforensics.slides import PatchError

from .effects import ALPHA
from .morphology import FEATURES, REASONS

INK, MUTED, RULE = "#1d1b27", "#5d5a68", "#d9d5de"  # the report's, which it swaps on dark pages
SERIES = (("#1f5fa8", "o"), ("#c2500a", "s"), ("#1a7f5a", "D"), ("#a1478a", "^"), ("#2f7fa3", "v"), ("#8a6d00", "P"))
_STYLE: dict[Any, Any] = {"svg.fonttype": "none", "font.size": 9.5, "font.sans-serif": ["DejaVu Sans"],
                          "text.parse_math": False, "text.color": INK, "axes.labelcolor": MUTED,
                          "axes.edgecolor": RULE, "xtick.color": MUTED, "ytick.color": INK,
                          "figure.facecolor": "none", "axes.facecolor": "none"}  # fmt: skip


def effects_figure(table: pd.DataFrame) -> bytes:
    """SVG of :func:`effect_sizes`: delta with its interval by feature under its reason, filled where it differs.

    Generators differ in shape as well as in colour.

    Raises:
        PatchError: If the table has no rows.
    """
    if not len(table):
        raise PatchError("a figure of effects needs at least one generator, got an empty table.")
    generators = list(dict.fromkeys(table["generator"]))
    ordered = [feature for reason in REASONS for feature in FEATURES if feature.reason == reason]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.6, 1.2 + 0.36 * len(ordered)), layout="constrained")
        axes = figure.subplots()
        for row, feature in enumerate(ordered):
            if row and feature.reason != ordered[row - 1].reason:
                axes.axhline(row - 0.5, color=RULE, linewidth=0.6)
            if not row or feature.reason != ordered[row - 1].reason:
                axes.text(1.02, row, REASONS[feature.reason], va="center", transform=axes.get_yaxis_transform(),
                          color=MUTED, fontsize=8)  # fmt: skip
            for at, generator in enumerate(generators):
                chosen = table[(table["feature"] == feature.name) & (table["generator"] == generator)]
                y = row + (at - (len(generators) - 1) / 2) * 0.7 / len(generators)
                colour, marker = SERIES[at % len(SERIES)]
                if chosen["delta"].isna().all():
                    axes.text(0.03, y, f"{generator}: in too few patches", va="center", fontsize=7, color=MUTED)
                for one in chosen[chosen["delta"].notna()].itertuples():
                    axes.plot([one.low, one.high], [y, y], color=colour, linewidth=1.2)
                    axes.plot(one.delta, y, marker, color=colour, markersize=4.5,
                              markerfacecolor=colour if one.p_holm < ALPHA else "none")  # fmt: skip
        axes.axvline(0, color=MUTED, linewidth=1, linestyle=(0, (3, 3)), zorder=0)
        axes.set(xlim=(-1.02, 1.02), ylim=(len(ordered) - 0.5, -0.5), yticks=range(len(ordered)),
                 xlabel="less than in real tissue  \N{LEFTWARDS ARROW}  Cliff's delta, 95 % interval  "
                        "\N{RIGHTWARDS ARROW}  more; filled: differs after Holm")  # fmt: skip
        axes.set_yticklabels([feature.name.replace("_", " ") for feature in ordered])
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.tick_params(left=False)
        keys = [Line2D([], [], color=SERIES[i % len(SERIES)][0], marker=SERIES[i % len(SERIES)][1], label=name)
                for i, name in enumerate(generators)]  # fmt: skip
        figure.legend(handles=keys, loc="outside upper left", ncols=3, frameon=False)
        buffer = io.BytesIO()
        # without a date and with a fixed salt, the same numbers give the same file
        with mpl.rc_context({"svg.hashsalt": "effects"}):
            figure.savefig(buffer, format="svg", metadata={"Date": None})
        return buffer.getvalue()

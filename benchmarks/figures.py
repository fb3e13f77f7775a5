"""Figures of the report, drawn by matplotlib: text stays text, and every colour is one of `THEME`.

The report puts the SVGs inline and swaps each colour for a CSS variable, so that one drawing serves light and dark.
Series differ in shape or dash as well as in colour.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from histoforensics.forensics.luma import luma
from histoforensics.forensics.radial import DURALL_FLOOR, radial_profile

THEME: Mapping[str, str] = {  # each at least 3 : 1 on the page; the report has a lighter twin of each for dark pages
    "ink": "#1d1b27",
    "muted": "#5d5a68",
    "rule": "#d9d5de",
    "surface": "#fffefd",
    "series-0": "#1f5fa8",
    "series-1": "#c2500a",
    "series-2": "#1a7f5a",
    "series-3": "#a1478a",
    "series-4": "#2f7fa3",
    "series-5": "#8a6d00",
}
SERIES = tuple(colour for name, colour in THEME.items() if name.startswith("series"))
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)), (0, (5, 1.5, 1.5, 1.5)), (0, (8, 2)), (0, (2, 3)))

WIDTH_IN = 7.6
COLUMNS = 10  # of the contact sheet

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9.5,
    "font.sans-serif": ["DejaVu Sans"],
    "axes.edgecolor": THEME["rule"],
    "axes.labelcolor": THEME["muted"],
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.titlecolor": THEME["ink"],
    "axes.titlesize": 9.5,
    "text.color": THEME["ink"],
    "text.parse_math": False,  # a reader's name may hold a dollar sign
    "xtick.color": THEME["muted"],
    "ytick.color": THEME["ink"],
    "ytick.left": False,
    "grid.color": THEME["rule"],
    "grid.linewidth": 0.6,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}
_MARKS = {"human": ("D", SERIES[1]), "detector": ("o", SERIES[0]), "control": ("s", THEME["muted"])}


def accuracy_figure(readers: Sequence[Mapping[str, Any]]) -> bytes:
    """SVG: each reader's share of right answers with its Wilson interval, a diamond for people, a square for controls.

    Args:
        readers: ``readers`` of results.json.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH_IN, 0.7 + 0.34 * len(readers)), layout="constrained")
        axes = figure.subplots()
        _share_axis(axes, [reader["name"] for reader in readers], "share of right answers, unsure counted as wrong")
        axes.axvline(0.5, color=THEME["muted"], linewidth=1, linestyle=(0, (3, 3)))
        axes.text(0.5, -0.6, "guessing", ha="center", va="bottom", color=THEME["muted"])
        for row, reader in enumerate(readers):
            marker, colour = _MARKS[reader["kind"]]
            _interval(axes, reader["accuracy"], reader["wilson95"], row, colour, marker)
            axes.text(
                1.03, row, f"{reader['right']}/{reader['total']}", va="center", transform=axes.get_yaxis_transform()
            )
        return _svg(figure, "accuracy")


def generalization_figure(left_out: Mapping[str, Any], same: Mapping[str, Any]) -> bytes:
    """SVG: a panel a generator; AUC of each detector with that generator left out (filled) and learned (hollow).

    Args:
        left_out: ``generalization`` of results.json.
        same: ``same_generator`` of results.json.
    """
    detectors = list(same)
    generators = list(dict.fromkeys(name for row in same.values() for name in row))
    with mpl.rc_context(_STYLE):
        size = (WIDTH_IN, 1.1 + 0.42 * len(detectors))
        figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.12))
        panels = np.atleast_1d(figure.subplots(1, max(1, len(generators)), sharey=True))
        for axes, generator in zip(panels, generators, strict=False):
            _share_axis(axes, detectors, "AUC")
            axes.set_title(generator, loc="left")
            axes.axvline(0.5, color=THEME["muted"], linewidth=1, linestyle=(0, (3, 3)))
            for row, detector in enumerate(detectors):
                for table, shift, filled in ((left_out, -0.14, True), (same, 0.17, False)):
                    cell = table.get(detector, {}).get(generator)
                    if cell is not None and cell["auc"] is not None:
                        colour = SERIES[0] if filled else THEME["muted"]
                        _interval(axes, cell["auc"], cell["ci95"], row + shift, colour, "o", filled)
        return _svg(figure, "generalization")


def spectra_figure(real: NDArray[np.uint8], fakes: Mapping[str, NDArray[np.uint8]]) -> bytes:
    """SVG: the mean log spectrum of each class, and each generator's radial profile less that of real tissue, in dB.

    Args:
        real: Real patches, uint8 (n, h, h, 3).
        fakes: Patches by generator, of the same size and the same codec history.
    """
    sets = {"Real": real, **fakes}
    spectra = {name: mean_spectrum(pixels) for name, pixels in sets.items()}
    profiles = {name: radial_decibels(pixels) for name, pixels in sets.items()}
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH_IN, 4.7), layout="constrained")
        grid = figure.add_gridspec(2, 1, height_ratios=(1, 1.25))
        images, curve = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
        low, high = np.quantile(np.stack(list(spectra.values())), (0.01, 0.999))
        for axes, (name, spectrum) in zip(np.atleast_1d(images.subplots(1, len(sets))), spectra.items(), strict=True):
            axes.imshow(spectrum, cmap="cividis", vmin=low, vmax=high, interpolation="nearest")
            axes.set(title=name, xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        _profiles(curve.subplots(), profiles, real.shape[1])
        return _svg(figure, "spectra")


def mean_spectrum(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean of 20 log10 |F| of the luma, dB, (h, h), frequency zero in the middle, of uint8 (n, h, h, 3)."""
    grey = luma(torch.from_numpy(pixels)).numpy().astype(np.float64)
    decibels = 10 * np.log10(np.abs(np.fft.fft2(grey)) ** 2 + DURALL_FLOOR)
    mean: NDArray[np.float64] = np.fft.fftshift(decibels.mean(axis=0))
    return mean


def radial_decibels(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The radial profile of each patch, dB, (n, h // 2): radius 1 to the highest frequency of the rows."""
    profile = radial_profile(luma(torch.from_numpy(pixels))).numpy() / np.log(10)
    decibels: NDArray[np.float64] = profile[:, 1 : pixels.shape[1] // 2 + 1].astype(np.float64)
    return decibels  # beyond, a circle leaves the square of the spectrum


def contact_sheet(items: Sequence[Mapping[str, Any]], pixels: NDArray[np.uint8]) -> bytes:
    """PNG: the exam in its order, under each patch the truth and the readers' verdicts (R, F, ?), wrong ones boxed.

    Args:
        items: ``exam.items`` of results.json.
        pixels: The same items, uint8 (n, h, w, 3).
    """
    height, width = pixels.shape[1:3]
    readers = list(items[0]["verdicts"]) if items else []
    step = min(0.12, 0.94 / max(1, len(readers)))
    rows = -(-len(items) // COLUMNS)
    pitch_x, pitch_y = width * 1.12, height * 1.46
    with mpl.rc_context(_STYLE):
        scale = WIDTH_IN * 1.4 / (COLUMNS * pitch_x)
        figure = Figure(figsize=(COLUMNS * pitch_x * scale, (rows * pitch_y + height * 0.3) * scale))
        figure.set_facecolor(THEME["surface"])
        axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
        for i, (item, patch) in enumerate(zip(items, pixels, strict=True)):
            x, y = (i % COLUMNS) * pitch_x, (i // COLUMNS) * pitch_y
            axes.imshow(patch, extent=(x, x + width, y + height, y), interpolation="nearest")
            axes.text(x, y + height * 1.05, f"{item['order']} {item['truth']}", va="top", fontsize=6.5)
            for j, name in enumerate(readers):
                _verdict(axes, x + width * (0.06 + j * step), y + height * 1.29, item["verdicts"][name], item["truth"])
        legend = "Verdicts, left to right: " + ", ".join(readers) + ". R real, F fake, ? unsure; boxed where wrong."
        axes.text(0, rows * pitch_y, legend, va="top", fontsize=7)
        axes.set(xlim=(-width * 0.02, COLUMNS * pitch_x), ylim=(rows * pitch_y + height * 0.25, -height * 0.02))
        axes.set_aspect("equal")
        axes.axis("off")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=200, metadata={"Software": None})
        return buffer.getvalue()


def _share_axis(axes: Axes, names: Sequence[str], label: str) -> None:
    axes.set(xlim=(0, 1.0), ylim=(len(names) - 0.5, -0.5), yticks=range(len(names)), xlabel=label)
    axes.set_yticklabels(names)
    ticks = {0: "0", 0.5: "0.5", 1: "1"} if label == "AUC" else {0: "0", 0.25: "0.25", 0.5: "0.5", 0.75: "0.75", 1: "1"}
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.grid(axis="x")
    axes.set_axisbelow(True)


def _interval(
    axes: Axes, at: float, ends: Sequence[float] | None, row: float, colour: str, marker: str, filled: bool = True
) -> None:
    if ends is not None:
        axes.plot(ends, [row, row], color=colour, linewidth=2.2, solid_capstyle="round", alpha=0.55, clip_on=False)
    face = colour if filled else THEME["surface"]
    axes.plot(
        [at], [row], marker, color=colour, markerfacecolor=face, markersize=6.5, markeredgewidth=1.5, clip_on=False
    )


def _profiles(axes: Axes, profiles: Mapping[str, NDArray[np.float64]], size: int) -> None:
    real = profiles["Real"]
    frequency = np.arange(1, real.shape[1] + 1) / size
    low, high = np.quantile(real, (0.025, 0.975), axis=0) - real.mean(axis=0)
    axes.fill_between(frequency, low, high, color=THEME["rule"], alpha=0.7, linewidth=0)
    axes.axhline(0, color=THEME["ink"], linewidth=1)
    fakes = [(name, profile) for name, profile in profiles.items() if name != "Real"]
    for i, (name, profile) in enumerate(fakes):
        difference = profile.mean(axis=0) - real.mean(axis=0)
        style = {"color": SERIES[i % len(SERIES)], "linestyle": DASHES[i % len(DASHES)]}
        axes.plot(frequency, difference, linewidth=1.6, label=name, **style)
    axes.plot([], [], color=THEME["rule"], linewidth=7, label="95 % of real patches")
    axes.set(xlim=(0, 0.5), xlabel="spatial frequency, cycles per pixel", ylabel="power less that of real, dB")
    axes.yaxis.label.set_color(THEME["muted"])
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.legend(frameon=False, ncols=4, loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0, handlelength=2.6)


def _verdict(axes: Axes, x: float, y: float, verdict: str, truth: str) -> None:
    letter = {"real": "R", "fake": "F", "unsure": "?"}[verdict]
    wrong = verdict != truth
    box = {"boxstyle": "square,pad=0.15", "facecolor": THEME["ink"], "edgecolor": "none"} if wrong else None
    colour = THEME["surface"] if wrong else THEME["muted"]
    axes.text(x, y, letter, va="center", ha="center", fontsize=5.5, color=colour, bbox=box)


def _svg(figure: Figure, name: str) -> bytes:
    """The figure as SVG without a date; ``name`` salts the ids, so that two figures on one page do not share any."""
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()

"""Shipping: every detector of the stock, made anew from slides and generators, with a card that says where it fails.

The card's limits follow from its own figures; nothing of them is written by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from histoforensics.slides import atomic_folder, require
from histoforensics.slides.progress import Progress

from .card import DetectorCard
from .detector import Detector
from .stock import STOCK
from .workshop import Workshop
from .workshop_exam import Examiner, Unseen

# What a shipped detector should reach: (words, path to the figure, wanted, whether more is better).
BARS: tuple[tuple[str, tuple[str, ...], float, bool], ...] = (
    ("mean AUC on the generator left out", ("leave_one_out", "clean", "mean"), 0.95, True),
    ("AUC on the worst generator left out", ("leave_one_out", "clean", "worst"), 0.90, True),
    ("share of unsure verdicts in scope", ("in_domain", "clean", "unsure"), 0.20, False),
    ("mean AUC on the generator left out after JPEG 70", ("leave_one_out", "jpeg_70", "mean"), 0.90, True),
    ("mean AUC on the generator left out after 0.75x resizing", ("leave_one_out", "resize_0.75", "mean"), 0.90, True),
    ("false positives on tissue of a kind never seen", ("unseen_tissue", "clean", "false_positive_rate"), 0.10, False),
)
MOST_UNSURE = 0.2  # share of unsure verdicts on tissue never seen that needs no word
NARROW = (
    "Its fakes came from small GANs that were trained for hours on one slide of skin at 0.5 um/px, and from resampled "
    "tissue. Fakes of well-trained GANs and of diffusion models were not seen."
)
RESEARCH_ONLY = (
    "Tissue that may be used for research only (such as GlaS) is not in its weights. Training on lossless tissue of "
    "other organs, stains and scanners is what it would add: see unseen_tissue for what its absence costs."
)


def ship(
    workshop: Workshop,
    out: Path | str,
    *,
    names: Sequence[str] = STOCK,
    unseen: Unseen | None = None,
    command: str = "",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, DetectorCard]:
    """Train, calibrate, measure and write every detector of ``names`` into ``out/<name>``; their cards by name.

    Trainings are kept in the workshop's folder, so that a run that was stopped goes on where it was.

    Args:
        workshop: Made of the mixture.
        out: Folder to write; each detector in it is replaced whole.
        names: Of `STOCK`.
        unseen: Real tissue from elsewhere, to measure false positives on.
        command: What made them, for the card.
        overwrite: Replace what is there.
        progress: Told after each detector.
    """
    for name in names:
        require(name in STOCK, "names", f"some of {', '.join(STOCK)}", name)
    examiner = Examiner(workshop, unseen)
    controls = examiner.controls()
    best = max(controls, key=lambda control: controls[control]["mean"])
    cards = {}
    for number, name in enumerate(names):
        detector = workshop.trained(name, workshop.mixture.generators)
        found = {**examiner.measure(name, detector), "best_control": {"name": best, **controls[best]}}
        detector.card = replace(detector.card, evaluation=found, limits=limits(found), commands=_told(command))
        write(detector, Path(out) / name, overwrite=overwrite)
        cards[name] = detector.card
        if progress is not None:
            progress(number + 1, len(names), name)
    return cards


def write(detector: Detector, folder: Path, *, overwrite: bool) -> None:
    """The detector's folder, whole or not at all.

    Raises:
        ConfigError: If it is not empty and ``overwrite`` is false.
    """
    with atomic_folder(folder, overwrite=overwrite) as work:
        detector.save(work)


def limits(found: Mapping[str, Any]) -> tuple[str, ...]:
    """Where a detector fails, a sentence each, from what was measured of it."""
    out = [NARROW, RESEARCH_ONLY]
    for words, path, wanted, more in BARS:
        figure = _at(found, path)
        if figure is not None and (figure < wanted if more else figure > wanted):
            out.append(f"{words[0].upper()}{words[1:]}: {figure:.2f}, where {'at least' if more else 'at most'} "
                       f"{wanted:.2f} was aimed at.")  # fmt: skip
    left_out = found["leave_one_out"]["clean"]["each"]
    worst = min(left_out, key=lambda name: left_out[name]["auc"])
    out.append(
        f"Weakest on {worst} when that was left out of training: AUC {left_out[worst]['auc']:.2f}, "
        f"{100 * left_out[worst]['true_positive_rate']:.0f} % of its fakes called fake at the frozen threshold."
    )
    unseen = _at(found, ("unseen_tissue", "clean", "unsure"))
    if unseen is not None and unseen > MOST_UNSURE:
        out.append(
            f"Of real tissue of a kind never seen, {100 * unseen:.0f} % is unsure, mostly since it looks unlike what "
            "calibrated: this detector decides on tissue like its own."
        )
    control = found["best_control"]
    if control["mean"] > 0.85:
        out.append(
            f"The comparison is easy: the trivial cue {control['name']} alone reaches AUC {control['mean']:.2f} on "
            "generators left out."
        )
    return tuple(out)


def _at(found: Mapping[str, Any], path: Sequence[str]) -> float | None:
    """A figure in nested tables; None where it was not measured."""
    value: Any = found
    for key in path:
        if key not in value:
            return None
        value = value[key]
    return float(value)


def _told(command: str) -> tuple[str, ...]:
    return (command,) if command else ()

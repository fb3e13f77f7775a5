"""The report: one self-contained HTML page, made from results.json, the figures and the exam's items alone.

No script, no request, light and dark by the reader's preference, printable. The answer stands first.
"""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from histoforensics.slides import write_atomic

from .exam import ITEMS
from .figures import THEME
from .headline import LOOKS_AT, Verdict
from .readers import OTHER_PATCHES
from .report_facts import figure_texts, patches_in_words, robustness_in_words, robustness_table
from .results import read_results
from .statistics import clopper_pearson

REPORT, FIGURES = "report.html", "figures"
THUMBNAIL_QUALITY = 90  # JPEG 4:4:4; the exam's own files stay lossless

DARK: Mapping[str, str] = {  # the twins of `THEME` on a dark page
    "ink": "#ece9f1",
    "muted": "#aca6b8",
    "rule": "#3b3845",
    "surface": "#17161c",
    "series-0": "#7fb3f0",
    "series-1": "#f08c4a",
    "series-2": "#5cc9a0",
    "series-3": "#dd8fcb",
    "series-4": "#7fcfe8",
    "series-5": "#d9b84a",
}

PATHOLOGIST_SAW = (
    "The pathologist marked other patches: colon from three TCGA slides, 256 px wide, by other trainings of the "
    "generators. A difference between her and a machine here is also a difference between two exams."
)
NOT_INDEPENDENT = (
    "Neighbouring patches are not independent: the AUC intervals resample whole blocks, the intervals of the exam's "
    "counts do not, and are too narrow."
)
ONLY_GANS = (
    "The detectors learned from these generators only. Nothing here speaks of diffusion models, of edited or spliced "
    "tissue, or of another scanner, stain or organ."
)

TOLD_ELSEWHERE = ("easy", "field", "too-few")  # notes of the audit: in the text, of file headers only, its own sentence

CLAIMS: Mapping[Verdict, str] = {
    Verdict.WITHHELD: "The comparison is not fair",
    Verdict.NO_DETECTOR: "No detector to compare",
    Verdict.EASY: "The comparison is easy",
    Verdict.MACHINES: "Machines did better, on other patches than hers",
    Verdict.HUMAN: "The pathologist did better, on other patches",
    Verdict.NOT_SHOWN: "No difference shown",
}


def write_report(folder: Path | str) -> Path:
    """Make report.html in a benchmark's folder from what stands there: results.json, figures/ and exam/items/.

    Raises:
        ExamError: If there are no results, or they are broken.
    """
    folder = Path(folder)
    results = read_results(folder)
    figures = {path.name: path.read_bytes() for path in sorted((folder / FIGURES).glob("*.svg"))}
    items = {path.name: path.read_bytes() for path in sorted((folder / "exam" / ITEMS).glob("*.png"))}
    return write_atomic(folder / REPORT, render_report(results, figures, items))


def render_report(results: Mapping[str, Any], figures: Mapping[str, bytes], items: Mapping[str, bytes]) -> str:
    """The page.

    Args:
        results: The content of results.json.
        figures: SVG by file name, those of `report_facts.figure_texts`; what is missing is left out.
        items: The exam's PNGs by file name.
    """
    readers = results["readers"]
    first = results["exam"]["items"][0]["verdicts"] if results["exam"]["items"] else {}
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "day": _day, "fact": _fact, "known": _known, "nested": _nested, "p": _p, "pretty": _pretty, "share": share,
        "sentence": _sentence, "signed": _signed, "thousands": _thousands, "verdicts_in_words": _verdicts_in_words,
        "words": _words,
    }  # fmt: skip
    curve_names, curve_table = robustness_table(results["robustness"]["summary"])
    return environment.get_template("report.html.j2").render(
        results=results,
        light=THEME,
        dark=DARK,
        claim=CLAIMS[Verdict(results["answer"]["verdict"])],
        looks_at=LOOKS_AT,
        other_patches=OTHER_PATCHES,
        figures={name: themed(figures[name]) if name in figures else None for name in figure_texts(results)},
        thumbnails={name: _thumbnail(png) for name, png in items.items()},
        item_readers=list(first),
        raw=results["codec"].get("unmatched", {}),
        unseen=results["generalization"] | results["audit"]["controls_generalization"],
        learned=results["same_generator"] | results["audit"]["controls_same_generator"],
        generators=list(dict.fromkeys(name for reader in readers for name in reader["by_generator"])),
        generator_names=list(dict.fromkeys(name for row in results["same_generator"].values() for name in row)),
        sheet=_sheet(results["exam"]["items"], results["exam"]["fake"]),
        limits=all_limits(results),
        run_card=_pretty(results["run"]),
        source=readers[0]["source"],
        texts=figure_texts(results),
        audit_notes=[note for note in results["audit"]["notes"] if note["code"] not in TOLD_ELSEWHERE],
        curve_patches=patches_in_words(results["robustness"]["rows"]),
        curves=robustness_in_words(results["robustness"]["summary"]),
        curve_names=curve_names,
        curve_table=curve_table,
    )


def themed(svg: bytes) -> Markup:
    """A figure's SVG to stand inline: without prolog, size or style of its own, its colours turned into variables."""
    text = svg.decode("utf-8")
    text = re.sub(r"^.*?(?=<svg)", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"(<svg[^>]*?) width=\"[^\"]*\"", r"\1", text, count=1)
    text = re.sub(r"(<svg[^>]*?) height=\"[^\"]*\"", r'\1 aria-hidden="true"', text, count=1)
    text = re.sub(r"<g id=\"[^\"]*\"", "<g", text)  # axes_1 and the like stand in every figure
    for name, colour in THEME.items():
        text = text.replace(colour, f"var(--{name})")
    return Markup(text)  # noqa: S704 - our own drawing; matplotlib has escaped the names in it


def _sheet(
    items: Sequence[Mapping[str, Any]], generators: Iterable[str]
) -> list[tuple[str, list[tuple[Mapping[str, Any], ...]]]]:
    """By generator, each fake with its real; then the reals that stand against no fake."""
    by_id = {item["id"]: item for item in items}
    fakes = [item for item in items if item["truth"] == "fake"]
    sheet: list[tuple[str, list[tuple[Mapping[str, Any], ...]]]] = [
        (name, [(fake, by_id[fake["matched_id"]]) for fake in fakes if fake["generator"] == name])
        for name in generators
    ]
    alone: list[tuple[Mapping[str, Any], ...]] = [
        (item,) for item in items if item["truth"] == "real" and item["matched_id"] is None
    ]
    return [*sheet, *([("Real patches without a counterpart", alone)] if alone else [])]


def all_limits(results: Mapping[str, Any]) -> list[str]:
    """What the numbers do not show: what every report says, then what this run adds."""
    return [*_limits(results), *results["limits"]]


def _limits(results: Mapping[str, Any]) -> list[str]:
    exam, patches = results["exam"], results["exam"]["patches"]
    lowest = clopper_pearson(patches, patches).low
    where = " and ".join(
        f"{count} {name if count == 1 else name + 's'}"
        for name, count in (("slide", exam["slides"]), ("block", exam["blocks"]))
        if count
    )
    told = [
        PATHOLOGIST_SAW,
        "She was one person. How much pathologists differ among themselves cannot be seen.",
        f"{patches} patches cannot rank detectors: even {patches} of {patches} only proves {100 * lowest:.0f} %.",
        f"The exam's real tissue comes from {where or 'unnamed sources'}. {NOT_INDEPENDENT}",
        f"The exam's fakes are those most like real patches in {exam['matched_on']}; a random fake may be easier.",
        ONLY_GANS.replace("edited or spliced tissue", "tissue edited by hand") if "tamper" in results else ONLY_GANS,
    ]
    if results["answer"]["verdict"] == Verdict.EASY.value:
        told.insert(0, "A trivial cue tells these classes apart, so the detectors' figures say little of their worth.")
    return told


def _thumbnail(png: bytes) -> str:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).save(buffer, "JPEG", quality=THUMBNAIL_QUALITY, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _verdicts_in_words(item: Mapping[str, Any]) -> str:
    wrong = [f"{name} said {verdict}" for name, verdict in item["verdicts"].items() if verdict != item["truth"]]
    return f"Wrong: {', '.join(wrong)}." if wrong else "Every reader was right." if item["verdicts"] else ""


def _day(moment: str) -> str:
    return f"{datetime.fromisoformat(moment):%-d %B %Y}"


def share(value: float | None) -> str:
    """A share as a percentage, or none."""
    return "none" if value is None else f"{100 * value:.1f} %"


def _sentence(told: str) -> str:
    return f"{told[:1].upper()}{told[1:].rstrip('.')}."


def _signed(value: float | None) -> str:
    return "none" if value is None else f"{value:+z.2f}".replace("-", "\u2212")


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def _known(value: object) -> str:
    return "unknown" if value is None else str(value)


def _thousands(value: float | None) -> str:
    return "unknown" if value is None else f"{value:,.1f}" if value < 100 and value % 1 else f"{value:,.0f}"


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _fact(value: object) -> str:
    """One value as a reader wants it."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_fact(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(_fact(one) for one in value)
    return (
        {None: "unknown", True: "yes", False: "no"}[value] if value is None or isinstance(value, bool) else str(value)
    )


def _nested(found: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that are too deep for one line; the AUCs of unmatched patches stand in a table of their own."""

    def is_deep(value: object) -> bool:
        inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
        return any(isinstance(one, Mapping | list) for one in inner)

    return {name: value for name, value in found.items() if name != "unmatched" and is_deep(value)}


def _pretty(value: object) -> str:
    """Indented JSON with each list of plain values on one line: a quantisation table has 64 of them."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return re.sub(r"\[\s+([^\[\]{}]+?)\s+\]", lambda found: f"[{' '.join(found[1].split())}]", text)

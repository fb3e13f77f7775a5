"""A page of the manual from a run's results: its tables and curves in Markdown, without a single patch.

For tissue that may be studied but not shown: what is written holds numbers and drawings of numbers only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from histoforensics.slides import ConfigError, write_atomic

from .figures import THEME
from .gallery import measured_figures
from .learning import LOSSLESS_POLICY
from .report import all_limits, share
from .report_facts import figure_texts, patches_in_words, robustness_in_words, robustness_table
from .results import RESULTS

DRAWN = ("generalization.svg", "robustness_auc.svg", "robustness_fpr.svg", "reliability.svg", "accuracy.svg")


def write_page(results: Mapping[str, Any], page: Path, command: str) -> Path:
    """Write ``page`` and, in a folder of its name beside it, its figures and results.json.

    Args:
        results: The content of results.json.
        page: A file that ends in .md.
        command: What made it, as one would type it.

    Raises:
        ConfigError: If the page is not to be Markdown.
    """
    check_page(page)
    folder = page.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    figures = {name: drawn for name, drawn in measured_figures(results).items() if name in DRAWN}
    for name in DRAWN:
        (folder / name).unlink(missing_ok=True)
    for name, drawn in figures.items():
        write_atomic(folder / name, _on_paper(drawn))
    write_atomic(folder / RESULTS, json.dumps(results, indent=2, allow_nan=False) + "\n")
    return write_atomic(page, render_page(results, folder.name, command, figures))


def check_page(page: Path) -> None:
    """Refuse what is not the name of a Markdown file, before a long run.

    Raises:
        ConfigError: If it is not.
    """
    if page.suffix != ".md":
        raise ConfigError(f"a page is a Markdown file that ends in .md, got {page.name!r}.")


def render_page(results: Mapping[str, Any], folder: str, command: str, figures: Mapping[str, bytes]) -> str:
    """The page's Markdown.

    Args:
        results: The content of results.json.
        folder: Where the figures stand, as seen from the page.
        command: What made it.
        figures: Those that were drawn, by file name.
    """
    environment = Environment(  # noqa: S701 - Markdown, where a name is a name
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["share"] = share
    names, curves = robustness_table(results["robustness"]["summary"])
    config = results["run"]["config"]
    text = environment.get_template("page.md.j2").render(
        results=results,
        title=config.get("title") or "A benchmark",
        terms=config.get("terms", ""),
        stand_ins=bool(config.get("stand_ins")),
        lossless=LOSSLESS_POLICY,
        command=command,
        folder=folder,
        drawn=figures,
        texts=figure_texts(results),
        controls=set(results["audit"]["controls"]),
        generators=list(results["generators"]),
        unit={"patient": "patients", "slide": "slides", "file": "images"}.get(
            results["splits"]["split"]["by"], "blocks"
        ),
        unseen=results["generalization"] | results["audit"]["controls_generalization"],
        learned=results["same_generator"] | results["audit"]["controls_same_generator"],
        seeds=next(iter(results["seeds"].values()))["seeds"] if results["seeds"] else [],
        curves=curves,
        curve_names=names,
        curve_words=robustness_in_words(results["robustness"]["summary"]),
        curve_patches=patches_in_words(results["robustness"]["rows"]),
        limits=all_limits(results),
    )
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def _on_paper(svg: bytes) -> bytes:
    """The drawing on the light page that its colours were chosen for: as an image it cannot follow a dark one."""
    return svg.replace(b"<svg ", f'<svg style="background: {THEME["surface"]}" '.encode(), 1)

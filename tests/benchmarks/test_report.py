"""The page: whole in itself, honest, accessible, and drawn from files alone."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from histoforensics.benchmarks.figures import THEME
from histoforensics.benchmarks.gallery import write_figures
from histoforensics.benchmarks.generalization import Cell
from histoforensics.benchmarks.report import DARK, render_report, themed, write_report
from histoforensics.benchmarks.results import write_results
from histoforensics.slides import ExamError

CHROMIUM = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)


class _Page(HTMLParser):
    """Collects elements with their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("report")
    results = run.results()
    shutil.copytree(run.exam.root, out / "exam")
    write_results(out, results, [run.scores()])
    fakes = {name: patches.pixels() for name, patches in run.fakes.items()}
    write_figures(out / "figures", results, run.exam, run.real.pixels(), fakes)
    return out


@pytest.fixture(scope="module")
def page(folder) -> _Page:
    return _Page(write_report(folder).read_text("utf-8"))


def _rendered(run, **changes) -> str:
    items = {path.name: path.read_bytes() for path in (run.exam.root / "items").iterdir()}
    return render_report(run.results(**changes), {}, items)


def test_the_page_asks_nobody_for_anything(folder, page):
    html = (folder / "report.html").read_text("utf-8")
    assert not page.all("script")
    assert not page.all("link")
    sources = [attributes["src"] for attributes in page.all("img")]
    assert sources
    assert all(source.startswith("data:image/") for source in sources)
    fetched = re.findall(r"(?:src|href)=\"([^\"]*)\"|url\(([^)]*)\)", html)
    assert all(one.startswith(("#", "data:")) for pair in fetched for one in pair if one)


def test_the_answer_stands_before_everything_else(run, page):
    headline = run.results()["answer"]["headline"]
    assert headline in page.text
    assert page.text.index(headline) < page.text.index("Is the comparison worth anything?")
    assert "trained only briefly" in page.text


def test_the_page_has_a_language_one_heading_and_an_order_of_headings(page):
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("h1")) == 1
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert all(b - a <= 1 for a, b in pairwise(levels))


def test_every_table_has_a_caption_and_every_header_a_scope(page):
    assert len(page.all("caption")) == len(page.all("table")) >= 10
    assert all("scope" in attributes for attributes in page.all("th"))


def test_every_image_has_a_text_and_every_figure_a_label(page):
    assert len(page.all("img")) == 60
    assert all(attributes["alt"] for attributes in page.all("img"))
    labels = [attributes["aria-label"] for attributes in page.all("div") if attributes.get("role") == "img"]
    assert len(labels) == 8
    assert "Pathologist, 2020 34 of 60" in labels[0]


def test_anchors_lead_somewhere_and_ids_are_unique(page):
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert all(attributes["href"][1:] in ids for attributes in page.all("a"))


def test_the_pathologist_s_tables_are_reproduced(page):
    text = " ".join(page.text.split())
    assert "34 of 60 right; other patches" in text
    assert re.search(r"Pathologist, 2020 human ?34 of 60 ?56\.7 % ?0\.44 to 0\.68", text)
    assert "marked other patches" in text


def test_each_patch_tells_its_wrong_readers_in_words(run, page):
    item = run.results()["exam"]["items"][0]
    wrong = [f"{name} said {verdict}" for name, verdict in item["verdicts"].items() if verdict != item["truth"]]
    assert (f"Wrong: {', '.join(wrong)}." if wrong else "Every reader was right.") in page.text


def test_an_easy_comparison_says_so_at_the_top_and_among_the_limits(run):
    easy = run.parts["in_domain"] | {"rgb": Cell(0.93, (0.9, 0.95), 35, 200)}
    text = _Page(_rendered(run, in_domain=easy)).text
    assert "The comparison is easy" in text
    assert "An easy comparison: the mean colour alone" in text
    assert "A trivial cue tells these classes apart" in text


def test_an_unfair_comparison_gives_no_verdict(run):
    text = _Page(_rendered(run, not_fair="the fakes are of another tissue")).text
    assert "The comparison is not fair" in text
    assert "No verdict is given" in text


def test_what_the_codec_alone_is_worth_stands_beside_what_was_matched(run, page):
    assert "Codec not matched" in page.text
    assert "Codec not matched" not in _rendered(run, codec={"policy": "none"})


def test_deep_facts_are_folded_and_shallow_ones_stand_in_a_list(page):
    summaries = [tag for tag, _ in page.elements].count("details")
    assert summaries == 2  # what was replayed, and the run card
    assert '"quality": 30' in page.text
    assert '"phase": [7, 0]' in page.text
    assert "Train positions" in page.text


def test_controls_stand_below_the_detectors_in_both_auc_tables(page):
    assert page.text.count("rgb control") >= 4


def test_failed_detectors_wear_a_tag(run):
    assert re.search(r"resnet <span class=\"tag\">failed</span>", _rendered(run))


def test_a_run_without_placebo_controls_or_a_second_generator_still_has_a_page(run):
    only = {name: cell for name, cell in run.parts["in_domain"].items() if name != "rgb"}
    marks = {name: mark for name, mark in run.marks.items() if name != "rgb"}
    changes = {"placebo": {}, "raw_placebo": None, "generalization": {}, "in_domain": only, "marks": marks}
    text = _Page(_rendered(run, **changes)).text
    assert "No control was run" in text
    assert "With a single generator none can be left out" in text


def test_names_with_markup_are_escaped(run):
    generators = {"<img src=x onerror=alert(1)>": next(iter(run.parts["generators"].values()))}
    html = _rendered(run, generators=generators, limits=["<script>alert(2)</script>"])
    assert "<img src=x" not in html
    assert "<script" not in html


def test_no_path_of_this_machine_stands_in_the_page(folder, page):
    html = (folder / "report.html").read_text("utf-8")
    assert str(folder) not in html
    assert not re.search(r"/(?:home|root|Users|tmp)/", html)


def test_a_figure_s_colours_become_variables_that_both_themes_define():
    svg = f'<?xml version="1.0"?><svg width="7pt" height="3pt" viewBox="0 0 7 3"><path fill="{THEME["ink"]}"/></svg>'
    told = str(themed(svg.encode()))
    assert told.startswith('<svg aria-hidden="true" viewBox="0 0 7 3">')
    assert 'fill="var(--ink)"' in told
    assert THEME.keys() == DARK.keys()


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(ExamError, match=r"no results\.json in the folder; run the benchmark first"):
        write_report(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine; Debian's package chromium has it")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_and_nothing_is_requested(folder, page, scheme):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1100, "height": 900}, color_scheme=scheme)
        asked = []
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto((folder / "report.html").as_uri())
        found = axe.Axe().run(tab).response["violations"]
        wide = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        browser.close()
    assert found == [], json.dumps([(one["id"], one["nodes"][0]["html"]) for one in found], indent=1)
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert wide <= 0

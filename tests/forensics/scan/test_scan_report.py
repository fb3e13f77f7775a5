from __future__ import annotations

import base64
import io
import json
import re
import shutil
import zlib
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from histoforensics.forensics import Detector, scan_report
from histoforensics.forensics.scan_grid import ScanGrid
from histoforensics.forensics.scan_index import index_headline, render_index
from histoforensics.forensics.scan_page import address
from histoforensics.forensics.scan_places import MAX_PLACES, best_patches, view_around
from histoforensics.forensics.scan_report import headline, map_squares, sentences
from histoforensics.forensics.scanner import Scanner
from histoforensics.forensics.scoremap import BACKGROUND, CORRUPT, OK, ScoreMap
from histoforensics.forensics.windows import Lattice
from histoforensics.slides.synthetic import purple_tissue, write_svs

CHROMIUM = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)
EVIL = '"><img src=x onerror=alert(1)>'
in_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")


class Page(HTMLParser):
    """Elements with their attributes, and the text outside of scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text, self._hidden = "", False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._hidden = tag in ("script", "style")

    def handle_endtag(self, tag):
        self._hidden = False

    def handle_data(self, data):
        self.text += "" if self._hidden else data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def scanned(
    detector: Detector,
    forge: Callable[[np.ndarray], np.ndarray],
    destroy_tile: Callable[[Path, int], None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Results: one slide of hostile name with a planted area and a destroyed tile, and one file that is no slide."""
    folder = tmp_path_factory.mktemp("slides")
    image = purple_tissue((600, 800), np.random.default_rng(5))
    image[192:320, 352:544] = forge(image[192:320, 352:544])
    path = write_svs(folder / "a <b onclick=alert(1)>.svs", image)
    destroy_tile(path, 0)
    (folder / f"{EVIL.replace('/', '')}.svs").write_bytes(b"no slide")
    out = tmp_path_factory.mktemp("out") / "scan"
    report = Scanner([detector, detector], ScanGrid()).run(sorted(folder.glob("*.svs")), out, engine="serial")
    assert len(report.cohort.failures) == 1
    return out


@pytest.fixture(scope="module")
def report(scanned: Path) -> Path:
    return next(scanned.glob("*/report.html"))


@pytest.fixture(scope="module")
def page(report: Path) -> Page:
    return Page(report.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def maps(report: Path) -> dict:
    html = report.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="maps">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_the_page_tells_the_verdict_its_rate_and_what_was_not_read(report: Path, page: Page) -> None:
    verdict = json.loads((report.parent / "verdict.json").read_text())
    said = verdict["detectors"]["wht-lr"]
    assert f"{said['called_fake']:,} of {said['patches']:,} disjoint patches fake" in page.text
    assert f"{verdict['patches']['corrupt']} touch pixels that cannot be decoded" in page.text
    assert all(line in page.text for line in [*verdict["does_not_show"], *verdict["warnings"]])
    assert "both classes through the slide's JPEG" in page.text
    assert verdict["slide"] in page.text


def test_every_link_leads_to_a_file_beside_it_or_a_place_on_it(report: Path, page: Page) -> None:
    ids = {attributes.get("id") for _, attributes in page.elements}
    targets = [attributes["href"] for attributes in page.all("a")]
    assert {"./regions.geojson", "./scores.parquet", "./scores.csv"} <= set(targets)
    for target in targets:
        assert target[1:] in ids if target.startswith("#") else (report.parent / target).is_file()


def test_nothing_is_asked_of_anybody_and_no_path_or_time_is_told(scanned: Path, report: Path, page: Page) -> None:
    html = report.read_text(encoding="utf-8")
    assert all(image["src"].startswith("data:image/") for image in page.all("img"))
    assert not page.all("link")
    assert "http" not in re.sub(r"data:image/[^\"]*|http-equiv", "", html)
    for text in (html, (scanned / "index.html").read_text(encoding="utf-8")):
        assert str(scanned.parent) not in text
        assert "/tmp" not in text
    assert len(html) < 4_000_000


def test_the_first_place_is_the_planted_one_at_full_resolution(page: Page) -> None:
    found = re.search(r"region: x (\d+), y (\d+), (\d+) x (\d+) px", page.text)
    assert found is not None
    x, y, width, height = map(int, found.groups())
    assert max(abs(x - 352), abs(y - 192), abs(x + width - 544), abs(y + height - 320)) <= 32  # to a cell
    assert len([image for image in page.all("img") if image.get("alt", "").startswith("Tissue of place")]) <= MAX_PLACES
    shown = re.search(r"picture: x (\d+), y (\d+), (\d+) x (\d+) px", page.text)
    assert shown is not None
    assert [int(v) for v in shown.groups()[2:]] == [256, 256]


def test_the_map_holds_each_cells_score_and_marks_what_is_unreadable() -> None:
    status = np.array([[OK, OK, CORRUPT], [BACKGROUND, OK, OK]], np.uint8)
    grid = np.array([[0, 1, np.nan], [np.nan, 0.5, 0.25]], np.float32)
    squares, step = map_squares(ScoreMap(Lattice(24, 16, 8, 8), 0.25, status, {"a": grid}), "a")
    assert step == 1
    assert squares.tolist() == [[2, 255, 1], [0, 2 + 126, 2 + 63]]


def test_on_a_large_slide_the_highest_score_of_a_square_is_shown() -> None:
    grid = np.zeros((3, 2500), np.float32)
    grid[2, 1234] = 1
    scores = ScoreMap(Lattice(2500 * 8, 24, 8, 8), 0.25, np.zeros(grid.shape, np.uint8), {"a": grid})
    squares, step = map_squares(scores, "a")
    assert (step, squares.shape) == (3, (1, 834))
    assert np.argwhere(squares == 255).tolist() == [[0, 411]]


def test_the_pages_map_is_the_one_of_the_picture_that_stands_without_the_script(maps: dict, page: Page) -> None:
    first = maps["maps"][0]
    cells = np.frombuffer(zlib.decompress(base64.b64decode(first["cells"])), np.uint8)
    picture = next(image for image in page.all("img") if image.get("class") == "map")
    with Image.open(io.BytesIO(base64.b64decode(picture["src"].partition(",")[2]))) as image:
        indices = np.asarray(image.convert("RGBA"))
    colours = np.frombuffer(bytes.fromhex(maps["colours"]), np.uint8).reshape(256, 4)
    cells = cells.reshape(first["height"], first["width"])
    assert ((indices[..., 3] > 0) == (cells > 0)).all()
    assert (indices[cells > 0] == colours[cells[cells > 0]]).all()


def test_the_best_patches_share_no_pixel_and_come_in_order() -> None:
    grid = np.zeros((6, 6), np.float32)
    grid[1, 1], grid[2, 2], grid[1, 3], grid[5, 5] = 0.9, 0.8, 0.7, 0.6  # (2, 2) overlaps the first at half a stride
    status = np.zeros(grid.shape, np.uint8)
    scores = ScoreMap(Lattice(56, 56, 16, 8), 0.25, status, {"a": grid})
    assert list(best_patches(scores, "a", 3)) == [(1, 1), (1, 3), (5, 5)]
    status[:] = BACKGROUND
    assert list(best_patches(scores, "a", 3)) == []


def test_a_picture_stays_on_the_slide() -> None:
    assert view_around(0, 0, 256, (1000, 600)) == (0, 0, 256, 256)
    assert view_around(999, 599, 256, (1000, 600)) == (744, 344, 256, 256)
    assert view_around(50, 300, 256, (100, 600)) == (0, 172, 100, 256)


def test_a_picture_as_dense_as_noise_has_a_place_in_the_page() -> None:
    """More than a byte a pixel: Pillow's optimised writer reserves no more and would have failed the slide."""
    noise = np.random.default_rng(0).integers(0, 256, (1024, 531, 3)).astype(np.uint8)
    data = base64.b64decode(scan_report._jpeg(noise).removeprefix("data:image/jpeg;base64,"))
    assert len(data) > noise.size / 3
    assert Image.open(io.BytesIO(data)).size == (531, 1024)


def test_the_headline_says_no_more_than_the_calibration_allows() -> None:
    nothing = {"call": "nothing found", "detectors": {"a": {"needed": None}}}
    assert headline(nothing).startswith("Nothing can be said")
    assert headline({**nothing, "detectors": {"a": {"needed": 9}}}) == "Nothing that false alarms would not explain."
    assert "could be judged" in headline({"call": "not judged", "detectors": {}})
    assert "than false alarms explain" in headline({"call": "suspicious", "detectors": {}})


def test_a_verdict_in_words_holds_its_numbers_and_its_warning() -> None:
    said = {
        "p": 0.0312, "patches": 200, "called_fake": 21, "false_alarm_rate": 0.05, "false_alarm_rate_upper95": 0.123,
        "calibration_groups": 19, "needed": 33, "alpha": 0.01, "scope": "other resolution", "warnings": ("Other mpp.",),
    }  # fmt: skip
    rate, rule, warning = sentences("wht-lr", said)
    assert "21 of 200 disjoint patches" in rate
    assert "19 independent groups" in rate
    assert "about 10" in rate
    assert "a chance of 0.031" in rule
    assert "from 33 patches" in rule
    assert warning == "Other mpp."
    assert sentences("a", {**said, "needed": None})[1].startswith("No count could have")
    assert sentences("a", {**said, "p": None}) == ["a found no whole patch of tissue to judge."]


def test_hostile_names_stay_text_on_every_page(scanned: Path, page: Page) -> None:
    cohort = json.loads((scanned / "cohort.json").read_text())
    row = cohort["slides"][0] | {"slide": EVIL, "call": "suspicious"}
    failure = {"slide": EVIL, "cause": EVIL, "kind": "error", "message": f"</script><script>{EVIL}"}
    index = Page(render_index({**cohort, "slides": [row], "failures": [failure]}))
    for one in (page, index, Page((scanned / "index.html").read_text(encoding="utf-8"))):
        assert not any(name.startswith("on") for _, attributes in one.elements for name in attributes)
    assert index.all("img") == index.all("script") == []
    assert index.text.count(EVIL) == 4
    assert len(page.all("script")) == 2
    assert address("../../etc/x") == "./..%2F..%2Fetc%2Fx"


def test_the_index_puts_suspicious_slides_first_and_names_the_failures(scanned: Path) -> None:
    cohort = json.loads((scanned / "cohort.json").read_text())
    one = cohort["slides"][0]
    calls = {"a": "nothing found", "b": "suspicious", "c": "not judged"}
    rows = [one | {"slide": slide, "call": call} for slide, call in calls.items()]
    index = Page(render_index({**cohort, "slides": rows}))
    assert [a["href"] for a in index.all("a")][:3] == [f"./{slide}/report.html" for slide in "bca"]
    assert index_headline(cohort) == "0 of 1 scanned slides are suspicious; 1 could not be scanned."
    assert cohort["failures"][0]["cause"] in Page((scanned / "index.html").read_text(encoding="utf-8")).text


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


ALPHAS = """index => {
    const canvas = document.querySelector(`#layer-${index} canvas`);
    const picture = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    return [...picture.data].filter((_, place) => place % 4 === 3);
}"""


@in_chromium
def test_the_sliders_change_the_picture_and_the_keyboard_moves_them(chromium, report: Path, maps: dict) -> None:
    tab, asked, problems = chromium.new_page(), [], []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
    tab.goto(report.as_uri())
    tab.wait_for_selector("html.scripted", state="attached")
    first = maps["maps"][0]
    cells = np.frombuffer(zlib.decompress(base64.b64decode(first["cells"])), np.uint8)
    assert np.array_equal(np.array(tab.evaluate(ALPHAS, 0)) > 0, cells > 0)
    tab.click("#frozen")
    above = (cells == 1) | ((cells > 1) & ((cells - 2.0) / 253 >= first["fakeAbove"]))
    assert np.array_equal(np.array(tab.evaluate(ALPHAS, 0)) > 0, above)
    assert tab.inner_text("#said").startswith(f"{(above & (cells > 1)).sum()} of {(cells > 1).sum()} squares")
    tab.focus("#threshold")
    tab.keyboard.press("End")
    assert tab.inner_text("#threshold-said") == "1.00"
    assert np.array_equal(np.array(tab.evaluate(ALPHAS, 0)) > 0, (cells == 1) | (cells == 255))
    tab.click("#whole")
    tab.focus("#opacity")
    tab.keyboard.press("Home")
    assert tab.evaluate("getComputedStyle(document.querySelector('#layer-0 canvas')).opacity") == "0"
    tab.check("#map-1")
    assert [tab.is_visible(f"#layer-{index} canvas") for index in (0, 1)] == [False, True]
    tab.close()
    assert problems == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []


@in_chromium
def test_without_javascript_the_map_is_there_and_can_be_chosen(chromium, report: Path) -> None:
    context = chromium.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(report.as_uri())
    assert not tab.is_visible("#controls")
    assert "Without JavaScript" in tab.inner_text("figcaption >> nth=0")
    assert [tab.is_visible(f"#layer-{index} img") for index in (0, 1)] == [True, False]
    tab.check("#map-1")
    assert [tab.is_visible(f"#layer-{index} img") for index in (0, 1)] == [False, True]
    context.close()


@in_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_and_no_page_is_wider_than_a_phone(chromium, scanned: Path, report: Path, scheme) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    for file in (report, scanned / "index.html"):
        tab = chromium.new_page(viewport={"width": 380, "height": 800}, color_scheme=scheme)
        tab.goto(file.as_uri())
        if file == report:
            tab.wait_for_selector("html.scripted", state="attached")
        found = axe.Axe().run(tab).response["violations"]
        wide = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        tab.close()
        assert found == [], json.dumps([(one["id"], one["nodes"][0]["html"]) for one in found], indent=1)
        assert wide <= 0

"""The reading room in a real browser: by keyboard alone, by mouse alone, without JavaScript, and checked by axe."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import uvicorn

from histoforensics.benchmarks.answers import Answers
from histoforensics.benchmarks.grading import grade, write_grading
from histoforensics.benchmarks.human_marks import human_marks
from histoforensics.benchmarks.readers import ReaderKind
from histoforensics.benchmarks.room import create_room
from histoforensics.benchmarks.room_security import allowed_hosts
from histoforensics.benchmarks.study import Study
from histoforensics.benchmarks.study_build import build_study
from histoforensics.slides import PatchSet

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
CHROMIUM = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
LEAD = "lead-token"
TOTAL, TRIALS = 9, 1  # showings and practice items of the exam that is taken here


class Served:
    """A study served by a thread of this process."""

    def __init__(self, root):
        self.study = Study.open(root)
        self.answers = Answers(root, self.study.digest)
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        self.base = f"http://127.0.0.1:{port}"
        hosts = allowed_hosts("127.0.0.1", port, (), False)
        app = create_room(self.study, self.answers, hosts=hosts, lead_token=LEAD)
        self.server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", ws="none"))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listener]})
        self.listener = listener

    def __enter__(self):
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        return self

    def __exit__(self, *_):
        self.stop()
        self.answers.close()

    def stop(self):
        self.server.should_exit = True
        self.thread.join()
        self.listener.close()

    def final(self):
        return [answer for _, answer in self.answers.rows() if not answer.practice]


@pytest.fixture(scope="module")
def short_root(tmp_path_factory, study_root):
    real = PatchSet.open(study_root.parent / "real")
    fakes = {name: PatchSet.open(study_root.parent / name) for name in ("StyleGAN", "StyleGAN2")}
    root = tmp_path_factory.mktemp("short") / "exam"
    return build_study(real, fakes, root, n_real=4, n_per_generator=2, repeats=0.125, practice=TRIALS).root


@pytest.fixture
def served(tmp_path, short_root):
    shutil.copytree(short_root, tmp_path / "exam")
    with Served(tmp_path / "exam") as served:
        yield served


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium):
    contexts = []

    def start(**options):
        context = chromium.new_context(**options)
        context.set_default_timeout(20_000)
        contexts.append(context)
        page = context.new_page()
        page.problems = []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("console", lambda said: page.problems.append(said.text) if "Policy" in said.text else None)
        return page

    yield start
    for context in contexts:
        context.close()


def _join(page, base):
    page.goto(base)
    page.select_option("#role", "Pathologist")
    page.fill("#years", "9")
    page.check("[name=agree]")
    page.click("button.primary")
    page.wait_for_selector("h1:text('How to answer')")


def _at(page, text):
    """Wait until the page with this heading is there and its script has run."""
    page.wait_for_selector(f'html.scripted h1:text-is("{text}")', state="attached")
    page.wait_for_load_state()


def _tab_to(page, selector):
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{selector} cannot be reached by the tab key")


def test_a_whole_exam_by_keyboard_alone(served, open_page):
    page = open_page()
    page.goto(served.base)
    _tab_to(page, "#role")
    page.keyboard.press("ArrowDown")
    _tab_to(page, "#years")
    page.keyboard.type("12")
    _tab_to(page, "[name=agree]")
    page.keyboard.press("Space")
    _tab_to(page, "button.primary")
    page.keyboard.press("Enter")
    _at(page, "How to answer")
    page.keyboard.press("Enter")
    for number in range(1, TRIALS + 1):
        _at(page, f"Practice patch {number} of {TRIALS}")
        page.keyboard.press("2")
        page.keyboard.press("Enter")
        page.wait_for_selector("#told")
        page.keyboard.press("Enter")
    wanted = []
    for number in range(1, TOTAL + 1):
        _at(page, f"Tissue patch {number} of {TOTAL}")
        key = "123"[number % 3]
        page.keyboard.press(key)
        if number == 5:
            _tab_to(page, "[name=reason]")
            page.keyboard.press("Space")
            _tab_to(page, "#note")
            page.keyboard.type("123 stays text")
            page.keyboard.press("Backspace")
            _tab_to(page, "button.primary")
        page.keyboard.press("Enter")
        wanted.append({"1": "real", "2": "fake", "3": "unsure"}[key])
    _at(page, "That was the last one. Thank you.")
    rows = served.final()
    assert [row.verdict for row in rows] == wanted
    assert (rows[4].note, rows[4].reason_ids) == ("123 stays tex", ["cell-size"])
    assert all(row.client_ms is not None for row in rows)
    assert page.problems == []


def test_back_by_key_changes_an_answer_and_keeps_the_old_one(served, open_page):
    page = open_page()
    _join(page, served.base)
    _practise(page)
    for number, key in ((1, "1"), (2, "Backspace"), (1, "2")):
        _at(page, f"Tissue patch {number} of {TOTAL}")
        page.keyboard.press(key)
        if key != "Backspace":
            page.keyboard.press("Enter")
    _at(page, f"Tissue patch 2 of {TOTAL}")
    assert [(row.revision, row.verdict) for row in served.final()] == [(0, "real"), (1, "fake")]
    page.go_back()
    _at(page, f"Tissue patch 1 of {TOTAL}")
    page.reload()
    _at(page, f"Tissue patch 1 of {TOTAL}")
    assert page.is_checked("[value=fake]")


def test_a_whole_exam_by_mouse_alone(served, open_page):
    page = open_page()
    _join(page, served.base)
    page.click("a.primary")
    for number in range(1, TRIALS + 1):
        _at(page, f"Practice patch {number} of {TRIALS}")
        page.click("label:has([value=unsure])")
        page.click("button.primary")
        page.click("a.primary")
    for number in range(1, TOTAL + 1):
        _at(page, f"Tissue patch {number} of {TOTAL}")
        page.click("label:has([value=fake])")
        page.click("label:has([name=confidence][value='4'])")
        page.click("label:has([value=pleomorphism])")
        page.click("button.primary")
    _at(page, "That was the last one. Thank you.")
    rows = served.final()
    assert {(row.verdict, row.confidence, tuple(row.reason_ids)) for row in rows} == {("fake", 4, ("pleomorphism",))}
    assert len(rows) == TOTAL
    assert page.problems == []


def test_a_whole_exam_without_javascript(served, open_page):
    page = open_page(java_script_enabled=False)
    _join(page, served.base)
    page.click("a.primary")
    for _ in range(TRIALS):
        page.wait_for_load_state()  # the style sheet moves what is to be clicked
        page.click("label:has([value=real])")
        page.click("button.primary")
        page.click("a.primary")
    page.wait_for_load_state()
    page.click("label:has([name=zoom][value='2'])")
    page.click("text=Apply")
    assert page.get_attribute("#patch", "width") == "64"
    for number in range(1, TOTAL + 1):
        page.wait_for_selector(f'h1:text-is("Tissue patch {number} of {TOTAL}")', state="attached")
        page.wait_for_load_state()
        page.click("label:has([value=unsure])")
        page.fill("#note", f"n{number}")
        page.click("button.primary")
    page.wait_for_selector("h1:text('That was the last one')")
    assert [row.note for row in served.final()] == [f"n{number}" for number in range(1, TOTAL + 1)]


def test_keys_can_be_switched_off_and_zoom_and_smoothing_act_at_once(served, open_page):
    page = open_page()
    _join(page, served.base)
    _practise(page)
    assert page.evaluate("getComputedStyle(document.querySelector('#patch')).imageRendering") == "pixelated"
    with page.expect_response("**/settings"):  # each by itself: a later answer must not be taken for an earlier one
        page.check("[name=zoom][value='3']", force=True)
    with page.expect_response("**/settings"):
        page.check("[name=smooth]")
    assert page.evaluate("document.querySelector('#patch').width") == 96
    assert float(page.get_attribute("#bar", "width")) == 5 / 0.5 * 3
    assert page.evaluate("getComputedStyle(document.querySelector('#patch')).imageRendering") == "auto"
    with page.expect_response("**/settings"):
        page.uncheck("[name=shortcuts]")
    page.keyboard.press("1")
    assert not page.is_checked("[name=verdict][value=real]")
    page.reload()
    _at(page, f"Tissue patch 1 of {TOTAL}")
    assert (page.is_checked("[name=shortcuts]"), page.is_checked("[name=smooth]")) == (False, True)
    assert page.get_attribute("#patch", "width") == "96"


def test_progress_is_announced_and_focus_moves_with_the_patch(served, open_page):
    page = open_page()
    _join(page, served.base)
    _practise(page)
    page.evaluate("document.querySelector('#progress').dataset.kept = 'yes'")
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    _at(page, f"Tissue patch 2 of {TOTAL}")
    progress = page.locator("#progress")
    assert (progress.get_attribute("aria-live"), progress.get_attribute("data-kept")) == ("polite", "yes")
    assert f"Patch 2 of {TOTAL}" in progress.inner_text()
    assert page.evaluate("document.activeElement.tagName") == "H1"


def test_an_answer_to_a_dead_server_is_kept_on_the_page(served, open_page):
    page = open_page()
    _join(page, served.base)
    _practise(page)
    page.fill("#note", "typed for nothing?")
    page.keyboard.press("Escape")
    served.stop()
    page.check("[value=fake]", force=True)
    page.click("button.primary")
    page.wait_for_selector("#notice:text('Not saved')")
    assert page.input_value("#note") == "typed for nothing?"
    assert served.final() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_any_page(served, open_page, scheme):
    axe_playwright = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    page = open_page(color_scheme=scheme)

    def check(name):
        page.wait_for_load_state("load")
        page.wait_for_selector("html.scripted", state="attached")
        found = axe_playwright.Axe().run(page)
        assert found.violations_count == 0, f"{name}: {found.generate_report()}"

    page.goto(f"{served.base}/lead/enter?token={LEAD}")
    check("study lead before anybody came")
    page.goto(served.base)
    check("welcome")
    _join(page, served.base)
    check("ready")
    page.click("a.primary")
    _at(page, f"Practice patch 1 of {TRIALS}")
    check("practice")
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    page.wait_for_selector("#told")
    check("told")
    _practise(page)
    check("patch")
    page.keyboard.press("3")
    page.keyboard.press("Enter")
    _at(page, f"Tissue patch 2 of {TOTAL}")
    page.keyboard.press("Backspace")
    _at(page, f"Tissue patch 1 of {TOTAL}")
    check("answered before")
    for path in ("/leave", "/withdraw", "/nothing", f"/lead/enter?token={LEAD}"):
        page.goto(served.base + path)
        check(path)
    _finish(served)
    page.goto(served.base + "/done")
    check("done")
    graded = _graded(served)
    page.click("a[href='/withdraw']")
    page.check("[name=sure]")
    page.click("button.danger, button.primary")
    page.wait_for_url("**/withdrawn")
    check("withdrawn")
    for path in (served.study.root / "paper_form.html", graded):
        page.goto(path.as_uri())
        found = axe_playwright.Axe().run(page)
        assert found.violations_count == 0, f"{path.name}: {found.generate_report()}"


def test_targets_are_large_enough_to_hit(served, open_page):
    page = open_page()
    _join(page, served.base)
    _practise(page)
    boxes = page.evaluate("""
        [...document.querySelectorAll('button, a.button, label, textarea')]
            .filter(one => one.getClientRects().length && !one.matches('.note label'))
            .map(one => [one.innerText, one.getBoundingClientRect().width, one.getBoundingClientRect().height])
    """)
    assert len(boxes) > 25
    assert [box for box in boxes if min(box[1:]) < 44] == []


def _practise(page):
    base = page.url.split("/", 3)[:3]
    for _ in range(8):
        page.goto("/".join(base) + "/continue")
        page.wait_for_selector("html.scripted", state="attached")
        if "/patch/" in page.url:
            return
        page.keyboard.press("3")
        page.keyboard.press("Enter")
        page.wait_for_selector("#told")


def _graded(served):
    """The page of the grading, with a machine beside the one reader."""
    marks = human_marks(served.study, served.answers)
    truth = served.study.exam.key["truth"]
    scores = np.where(truth == "fake", 0.9, 0.1).astype(np.float32)
    machines = {"wht-lr": served.study.exam.grade(list(truth), "wht-lr", ReaderKind.DETECTOR, scores)}
    results = grade(served.study, marks, machines)
    return write_grading(served.study.root / "grade.json", results, served.study, marks, machines)[1]


def _finish(served):
    """Answer the rest without the browser."""
    from histoforensics.benchmarks.answers import Given

    (person,) = served.answers.people()
    done = served.answers.answered(person)
    for place, name in enumerate(served.study.order(person.seed), 1):
        if name not in done:
            served.answers.save(person, name, Given(verdict="real"), place=place, practice=False, revision=0)
    assert human_marks(served.study, served.answers)[0].answered == 8
    assert Path(served.study.root).is_dir()

"""The reading room through its pages, as a browser without JavaScript would use it."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser

import numpy as np
import pytest
from starlette.testclient import TestClient

from histoforensics.benchmarks.answers import Answers, Given
from histoforensics.benchmarks.human_marks import human_marks, rating
from histoforensics.benchmarks.room import create_room
from histoforensics.benchmarks.room_security import allowed_hosts
from histoforensics.benchmarks.study import Study

BASE = "http://127.0.0.1:8765"
LEAD = "the-lead-token"


class Page(HTMLParser):
    """The forms, links and texts of a page."""

    def __init__(self, reply):
        super().__init__()
        self.forms, self.images, self.headings, self.text, self.reply = [], [], [], "", reply
        self._heading = False
        self.feed(reply.text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "form":
            self.forms.append({"action": given["action"], "fields": {}})
        elif tag == "input" and given.get("type") == "hidden":
            self.forms[-1]["fields"][given["name"]] = given.get("value", "")
        elif tag == "img":
            self.images.append(given)
        self._heading = tag == "h1"
        if self._heading:
            self.headings.append("")

    def handle_endtag(self, tag):
        self._heading = False

    def handle_data(self, data):
        self.text += data
        if self._heading:
            self.headings[-1] += data

    def form(self, action):
        return next(form for form in self.forms if form["action"] == action)


class Browser:
    """A browser with cookies, that follows redirects and sends the hidden fields of the forms it fills."""

    def __init__(self, app, base=BASE):
        self.client = TestClient(app, base_url=base)

    def get(self, path):
        return Page(self.client.get(path))

    def send(self, page, action, **fields):
        data = page.form(action)["fields"] | fields
        return Page(self.client.post(action, data=data, headers={"origin": BASE}))

    def join(self, years=7):
        page = self.get("/")
        version = re.search(r'name="agree" value="(\w+)"', page.reply.text)[1]
        return self.send(page, "/join", role="Pathologist", years=str(years), agree=version)

    def answer(self, verdict="real", **fields):
        page = self.get("/continue")
        return self.send(page, page.reply.url.path, verdict=verdict, **fields)

    def practise(self):
        while "/practice/" in str((page := self.get("/continue")).reply.url):
            self.send(page, page.reply.url.path, verdict="unsure")
        return page


@pytest.fixture
def root(tmp_path, study_root):
    shutil.copytree(study_root, tmp_path / "exam", dirs_exist_ok=True, ignore=shutil.ignore_patterns("room"))
    return tmp_path / "exam"


@pytest.fixture
def study(root):
    return Study.open(root)


@pytest.fixture
def answers(study):
    answers = Answers(study.root, study.digest)
    yield answers
    answers.close()


@pytest.fixture
def app(study, answers):
    return create_room(study, answers, hosts=allowed_hosts("127.0.0.1", 8765, (), False), lead_token=LEAD)


@pytest.fixture
def browser(app):
    return Browser(app)


def test_a_whole_exam_by_plain_forms(browser, study, answers):
    ready = browser.join()
    assert ready.headings == ["How to answer"]
    assert re.search(r"\b[2-9A-Z]{4}-[2-9A-Z]{4}-[2-9A-Z]{4}\b", ready.text)
    browser.practise()
    for number in range(1, 23):
        page = browser.get("/continue")
        assert page.reply.url.path == f"/patch/{number}"
        assert page.headings == [f"Tissue patch {number} of 22"]
        assert page.images[0]["alt"] == f"Tissue patch {number} of 22"
        assert f"Patch {number} of 22" in page.text
        browser.send(page, f"/patch/{number}", verdict="fake", confidence="6", reason=["cell-size", "background"])
    assert browser.get("/continue").headings == ["That was the last one. Thank you."]
    assert browser.send(browser.get("/done"), "/back/23").reply.url.path == "/patch/22"
    (marks,) = human_marks(study, answers)
    assert (marks.answered, len(marks.again)) == (20, 2)
    assert set(marks.verdicts) == {"fake"}
    assert set(marks.reasons.values()) == {("cell-size", "background")}
    table = marks.reader(study).table.to_json()
    assert table == {"real": {"real": 0, "fake": 10, "unsure": 0}, "fake": {"real": 0, "fake": 10, "unsure": 0}}


def test_practice_tells_the_truth_once_it_is_answered_and_does_not_count(browser, study, answers):
    browser.join()
    for number in range(1, 4):
        page = browser.get(f"/practice/{number}")
        assert "it is" not in page.text
        told = browser.send(page, f"/practice/{number}", verdict="real")
        truth = study.practice["truth"][number - 1]
        assert f"it is {truth}" in told.text
        assert not told.forms or all(form["action"] != f"/practice/{number}" for form in told.forms)
    assert browser.get("/continue").reply.url.path == "/patch/1"
    assert human_marks(study, answers)[0].answered == 0


def test_nothing_that_a_reader_is_sent_tells_the_truth(browser, study):
    sent = [browser.get("/").reply, browser.join().reply]
    page = browser.practise()
    secrets = {*study.exam.generators, *study.exam.key["source_id"], "skin"}
    images, shapes = set(), set()
    for number in range(1, 23):
        page = browser.get(f"/patch/{number}")
        showing = page.images[0]["src"].removeprefix("/image/")
        image = browser.client.get(page.images[0]["src"])
        assert image.content == study.images[showing]
        images.add((len(image.content), tuple(sorted(image.headers.items()))))
        shapes.add(re.sub(r"\d+", "#", page.reply.text.replace(showing, "")))
        sent += [page.reply, browser.send(page, f"/patch/{number}", verdict="real").reply]
    sent += [browser.get(path).reply for path in ("/done", "/leave", "/withdraw", "/nothing")]
    assert len(images) == 1  # same length, same headers
    assert len(shapes) == 2  # all pages are alike, but for the first, which has nothing to go back to
    for reply in sent:
        everything = reply.text + json.dumps(dict(reply.headers)) + str(reply.url) + str(dict(reply.cookies))
        assert not [word for word in secrets if word in everything]


def test_an_exam_that_tells_of_its_mix_does_so_on_the_first_page(tmp_path, study):
    from dataclasses import replace

    told = replace(study, settings=replace(study.settings, told="Half of the patches are real."))
    app = create_room(told, Answers(tmp_path, "x"), hosts=frozenset({"127.0.0.1:8765"}), lead_token=LEAD)
    assert "Half of the patches are real." in Browser(app).get("/").text


def test_refreshing_and_resending_neither_lose_nor_double_an_answer(browser, answers):
    browser.join()
    page = browser.practise()
    for _ in range(3):  # a double click, a resent form
        browser.send(page, "/patch/1", verdict="fake")
    assert browser.get("/continue").reply.url.path == "/patch/2"
    assert browser.get("/patch/1").reply.status_code == 200
    assert [(a.revision, a.verdict) for _, a in answers.rows() if not a.practice] == [(0, "fake")]


def test_going_back_is_logged_and_a_changed_answer_stands_beside_the_old_one(browser, answers, study):
    browser.join()
    browser.practise()
    browser.answer("real")
    second = browser.get("/patch/2")
    first = browser.send(second, "/back/2")
    assert first.reply.url.path == "/patch/1"
    assert 'value="real" required checked' in first.reply.text
    browser.send(first, "/patch/1", verdict="real")  # nothing changed: nothing written
    browser.send(browser.get("/patch/1"), "/patch/1", verdict="unsure", note="on second thoughts")
    rows = [(a.place, a.revision, a.verdict, a.note) for _, a in answers.rows() if not a.practice]
    assert rows == [(1, 0, "real", ""), (1, 1, "unsure", "on second thoughts")]
    assert answers.events("back") == {1: 1}
    assert [mark for mark in human_marks(study, answers)[0].verdicts if mark] == ["unsure"]


def test_a_page_that_is_out_of_date_overwrites_nothing(browser, answers):
    browser.join()
    page = browser.practise()
    browser.send(page, "/patch/1", verdict="real")
    browser.send(browser.get("/patch/1"), "/patch/1", verdict="unsure")
    browser.send(page, "/patch/1", verdict="fake")  # the first page again, from another window
    assert [(a.revision, a.verdict) for _, a in answers.rows() if not a.practice] == [(0, "real"), (1, "unsure")]
    early = browser.send(browser.get("/patch/2"), "/patch/2", verdict="real", revision="5")
    assert early.reply.status_code == 400
    assert "load the page again" in early.text


def test_readers_cannot_look_ahead(browser):
    browser.join()
    assert browser.get("/patch/1").reply.url.path == "/practice/1"
    browser.practise()
    assert browser.get("/patch/9").reply.url.path == "/patch/1"
    assert browser.get("/done").reply.url.path == "/patch/1"
    assert browser.get("/patch/23").reply.status_code == 404
    assert browser.get("/patch/0").reply.status_code == 404
    assert browser.get("/patch/x").reply.status_code == 404


def test_every_reader_has_an_own_order_and_own_answers(app, answers):
    readers = [Browser(app) for _ in range(4)]
    firsts = set()
    for reader in readers:
        reader.join()
        firsts.add(tuple(reader.practise().images[0]["src"] for _ in range(1)))
        reader.answer("real")
    assert len({person.seed for person in answers.people()}) == 4
    assert len(firsts) > 1
    assert [person.name for person in answers.people()] == ["R01", "R02", "R03", "R04"]
    assert sum(not a.practice for _, a in answers.rows()) == 4


def test_eight_readers_at_once_lose_and_double_nothing(app, answers):
    def take(number):
        reader = Browser(app)
        reader.join()
        reader.practise()
        for place in range(1, 11):
            page = reader.get("/continue")
            for _ in range(2):  # everything is sent twice
                reader.send(page, f"/patch/{place}", verdict="fake", note=f"{number} {place}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(take, range(8)))
    notes = [answer.note for _, answer in answers.rows() if not answer.practice]
    assert sorted(notes) == sorted(f"{number} {place}" for number in range(8) for place in range(1, 11))
    assert len(answers.people()) == 8


def test_a_return_code_brings_a_reader_back_on_another_machine(app, browser, answers):
    code = re.search(r"[2-9A-Z]{4}-[2-9A-Z]{4}-[2-9A-Z]{4}", browser.join().text)[0]
    browser.practise()
    browser.answer("fake")
    other = Browser(app)
    page = other.send(other.get("/"), "/return", code=code.lower().replace("-", " "))
    assert page.reply.url.path == "/patch/2"
    assert browser.get("/continue").reply.url.path == "/"  # the old session has ended
    wrong = Browser(app)
    refused = wrong.send(wrong.get("/"), "/return", code="2222-2222-2222")
    assert (refused.reply.status_code, "No reader has this return code" in refused.text) == (400, True)
    fresh = re.search(r"[2-9A-Z]{4}-[2-9A-Z]{4}-[2-9A-Z]{4}", other.send(other.get("/leave"), "/code").text)[0]
    third = Browser(app)
    assert third.send(third.get("/"), "/return", code=code).reply.status_code == 400  # replaced
    assert third.send(third.get("/"), "/return", code=fresh).reply.url.path == "/patch/2"
    assert len(answers.people()) == 1


def test_leaving_frees_the_machine_and_keeps_the_answers(browser, answers):
    browser.join()
    browser.practise()
    browser.answer("fake")
    assert browser.send(browser.get("/leave"), "/leave").reply.url.path == "/"
    browser.join(years=3)
    assert [person.years for person in answers.people()] == [7, 3]
    assert browser.get("/continue").reply.url.path == "/practice/1"


def test_withdrawing_deletes_every_trace(browser, answers):
    browser.join(years=41)
    browser.practise()
    browser.answer("fake", note="a sentence that must vanish")
    page = browser.get("/withdraw")
    assert browser.send(page, "/withdraw").reply.status_code == 400  # not ticked
    assert "deleted" in browser.send(page, "/withdraw", sure="yes").text
    assert (answers.people(), answers.rows(), answers.withdrawn) == ([], [], 1)
    on_disk = b"".join(path.read_bytes() for path in answers.path.parent.iterdir())
    assert b"must vanish" not in on_disk
    browser.join()
    assert [person.name for person in answers.people()] == ["R02"]  # the pseudonym is not given again


def test_consent_is_asked_for_and_its_version_kept(browser, answers, study):
    page = browser.get("/")
    for change in ({"agree": ""}, {"agree": "0" * 12}, {"role": "King"}, {"years": "-1"}, {"years": "many"}):
        fields = {"role": "Student", "years": "1", "agree": study.consent_version} | change
        assert browser.send(page, "/join", **fields).reply.status_code == 400
    assert answers.people() == []
    browser.join()
    assert answers.people()[0].consent_version == study.consent_version
    assert study.consent.split(".")[0] in page.text


def test_settings_are_kept(browser, answers):
    browser.join()
    page = browser.practise()
    assert (page.images[0]["width"], page.images[0]["class"]) == ("256", "pixelated")  # 32 px, eight times
    page = browser.send(page, "/settings", zoom="3", smooth="on")
    assert page.reply.url.path == "/patch/1"
    assert (page.images[0]["width"], page.images[0]["class"]) == ("96", "smooth")
    assert 'data-shortcuts="off"' in page.reply.text
    assert browser.send(page, "/settings", zoom="5").reply.status_code == 400


def test_the_scale_bar_grows_with_the_zoom(browser):
    browser.join()
    page = browser.practise()
    width = float(re.search(r'id="bar" height="6" width="([\d.]+)"', page.reply.text)[1])
    assert "5 µm" in page.text  # 32 px of 0.5 um are 16 um, a third of that is 5.3
    assert width == 5 / 0.5 * 8


def test_answers_that_the_form_cannot_give_are_refused(browser, answers):
    browser.join()
    page = browser.practise()
    for fields, sentence in [
        ({}, "choose real, fake or unsure"),
        ({"verdict": "maybe"}, "got 'maybe'"),
        ({"verdict": "real", "confidence": "7"}, "Confidence is from 1 to 6"),
        ({"verdict": "real", "confidence": "x"}, "Confidence is from 1 to 6"),
        ({"verdict": "real", "reason": "../../etc"}, "is not among the reasons"),
        ({"verdict": "real", "note": "x" * 2001}, "at most 2000 characters"),
    ]:
        reply = browser.send(page, "/patch/1", **fields)
        assert (reply.reply.status_code, sentence in reply.text) == (400, True)
    assert not [a for _, a in answers.rows() if not a.practice]
    browser.send(page, "/patch/1", verdict="real", client_ms="inf", zoom="4", viewport="1x1")
    (row,) = [a for _, a in answers.rows() if not a.practice]
    assert row.client_ms is None
    assert json.loads(row.shown_as) == {"zoom": "4", "viewport": "1x1"}
    assert row.server_ms >= 0


def test_the_lead_sees_progress_counts_and_exports_and_nobody_else_does(app, browser, study):
    browser.join()
    browser.practise()
    browser.answer("fake", note="=cmd|' /C calc'!A0", reason=["pleomorphism", "cell-size"], client_ms="120")
    exports = ("answers.csv", "answers.jsonl", "imrmc.csv", "exam.imrmc", "mrmcaov.csv")
    for path in ("/lead", *(f"/lead/{name}" for name in exports), "/lead/enter?token=wrong", "/lead/enter"):
        reply = browser.get(path).reply
        assert reply.status_code == 403
        assert "StyleGAN" not in reply.text
    lead = Browser(app)
    page = lead.get(f"/lead/enter?token={LEAD}")
    assert (page.reply.url.path, page.reply.url.query) == ("/lead", b"")
    assert "1 reader, 0 withdrawn" in page.text
    assert "1 of 22" in page.text
    rows = list(csv.DictReader(io.StringIO(lead.client.get("/lead/answers.csv").text)))
    assert len(rows) == 4
    assert rows[-1]["note"] == "'=cmd|' /C calc'!A0"
    assert (rows[-1]["reasons"], rows[-1]["flag"]) == ("pleomorphism;cell-size", "fast")
    lines = [json.loads(line) for line in lead.client.get("/lead/answers.jsonl").text.splitlines()]
    assert lines[-1]["note"] == "=cmd|' /C calc'!A0"
    assert [line["practice"] for line in lines] == [True, True, True, False]
    truth = study.exam.key.set_index("id")["truth"]
    assert lines[-1]["truth"] == truth[lines[-1]["item"]]
    assert all(f'href="/lead/{name}"' in lead.get("/lead").reply.text for name in exports)
    frame = list(csv.DictReader(io.StringIO(lead.client.get("/lead/imrmc.csv").text)))
    assert [row["readerID"] for row in frame].count("truth") == len(truth)
    assert (frame[-1]["readerID"], frame[-1]["caseID"], frame[-1]["score"]) == ("R01", lines[-1]["item"], "3.5")
    assert "NR: 1\n" in lead.client.get("/lead/exam.imrmc").text
    long = list(csv.DictReader(io.StringIO(lead.client.get("/lead/mrmcaov.csv").text)))
    assert [row["case"] for row in long] == [lines[-1]["item"]]
    assert "attachment" in lead.client.get("/lead/mrmcaov.csv").headers["content-disposition"]


def test_a_rating_rises_with_fakeness():
    ordered = [("real", 6), ("real", None), ("real", 1), ("unsure", 5), ("fake", 1), ("fake", None), ("fake", 6)]
    ratings = [rating(*one) for one in ordered]
    assert (np.diff(ratings) > 0).all()


def test_given_says_whether_it_repeats(answers):
    person = answers.join(role="r", years=1, consent_version="c", session="s", seed=1)
    given = Given(verdict="real", confidence=2, reasons=("a",), note="n")
    assert answers.save(person, "x", given, place=1, practice=False, revision=0)
    assert given.repeats(answers.last(person, "x"))
    assert not Given(verdict="real", confidence=2, reasons=("a", "b"), note="n").repeats(answers.last(person, "x"))

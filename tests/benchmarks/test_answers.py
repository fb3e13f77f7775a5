"""The answers file: many writers, restarts, a killed server, and files that are not ours."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from sqlalchemy import event

from histoforensics.benchmarks.answers import Answers, Given
from histoforensics.benchmarks.room_server import serve_room
from histoforensics.benchmarks.study import Study
from histoforensics.slides import ConfigError, ExamError

READERS, ANSWERS = 8, 10


def _join(answers, session="s"):
    return answers.join(role="r", years=1, consent_version="c", session=session, seed=1)


@pytest.fixture
def answers(tmp_path):
    answers = Answers(tmp_path, "exam")
    yield answers
    answers.close()


def test_many_readers_at_once_lose_and_double_nothing(answers):
    def work(number):
        person = _join(answers, f"session {number}")
        for place in range(ANSWERS):
            given = Given(verdict="fake", note=f"{number} {place}")
            assert answers.save(person, f"item {place}", given, place=place, practice=False, revision=0)
            assert not answers.save(person, f"item {place}", given, place=place, practice=False, revision=0)

    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(work, range(READERS)))
    notes = [answer.note for _, answer in answers.rows()]
    assert sorted(notes) == sorted(f"{number} {place}" for number in range(READERS) for place in range(ANSWERS))
    assert sorted(person.name for person in answers.people()) == [f"R{n:02d}" for n in range(1, READERS + 1)]


def test_a_form_sent_twice_makes_one_reader(answers):
    with ThreadPoolExecutor(6) as pool:
        people = list(pool.map(lambda _: _join(answers), range(6)))
    assert len({person.id for person in people}) == 1


def test_nothing_is_written_for_a_reader_who_has_withdrawn(answers):
    person = _join(answers)
    answers.withdraw(person)
    with pytest.raises(ExamError, match="withdrawn; nothing was saved"):
        answers.save(person, "x", Given(verdict="real"), place=1, practice=False, revision=0)
    answers.log(person, "shown", "x")
    assert (answers.rows(), answers.events("shown")) == ([], {})


def test_secrets_outlive_a_restart_and_are_not_codes_or_sessions_in_the_clear(tmp_path, answers):
    code = answers.new_code(_join(answers, "my-session"))
    again = Answers(tmp_path, "exam")
    assert again.secret == answers.secret
    assert again.return_with(code, "other").name == "R01"
    again.close()
    on_disk = b"".join(path.read_bytes() for path in answers.path.parent.iterdir())
    assert code.replace("-", "").encode() not in on_disk
    assert b"my-session" not in on_disk


def test_answers_to_another_exam_and_files_that_are_no_database_are_refused(tmp_path, answers):
    with pytest.raises(ExamError, match="holds the answers to another exam"):
        Answers(tmp_path, "other")
    (tmp_path / "b" / "room").mkdir(parents=True)
    (tmp_path / "b" / "room" / "answers.sqlite3").write_text("not a database at all, but long enough to be read as one")
    with pytest.raises(ExamError, match="not a database of answers"):
        Answers(tmp_path / "b", "exam")


def _serve(root):
    command = [
        sys.executable,
        "-uc",
        "from histoforensics.cli import app; app()",
        "exam",
        "serve",
        str(root),
        "--port",
        "0",
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _address(process):
    line = process.stdout.readline()
    return re.search(r"http://\S+?:\d+", line)[0]


def _form(page):
    return {
        name: re.search(rf'name="{name}" value="([^"]*)"', page.text)[1]
        for name in ("csrf", "revision", "agree")
        if f'name="{name}" value=' in page.text
    }


def test_a_killed_server_has_every_answer_that_it_acknowledged(tmp_path, study_root):
    root = tmp_path / "exam"
    shutil.copytree(study_root, root, ignore=shutil.ignore_patterns("room"))
    study, cookies, acknowledged = Study.open(root), httpx2.Cookies(), []
    for kills in range(2):
        process = _serve(root)
        try:
            base = _address(process)
            with httpx2.Client(
                base_url=base, headers={"origin": base}, follow_redirects=True, cookies=cookies
            ) as client:
                if kills == 0:
                    data = _form(client.get("/")) | {"role": "Student", "years": "2"}
                    client.post("/join", data=data)
                for turn in range(6):
                    page = client.get("/continue")
                    note = f"kill {kills} turn {turn}"
                    reply = client.post(page.url.path, data=_form(page) | {"verdict": "fake", "note": note})
                    assert reply.status_code == 200
                    acknowledged.append(note)
                cookies = client.cookies
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
    answers = Answers(root, study.digest)
    assert [answer.note for _, answer in answers.rows()] == acknowledged
    assert len(answers.people()) == 1
    answers.close()


def test_a_server_that_cannot_start_says_why(tmp_path, study_root):
    with pytest.raises(ConfigError, match="can be reached from other machines"):
        serve_room(study_root, host="0.0.0.0")
    with pytest.raises(ConfigError, match="port must be from 0 to 65535, got 70000"):
        serve_room(study_root, port=70000)
    with pytest.raises(ExamError, match="make one with `histoforensics exam build`"):
        serve_room(tmp_path)
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ExamError, match=rf"Cannot listen on 127.0.0.1 port {port} .*choose another --port"):
            serve_room(study_root, port=port)


def test_the_last_revision_is_the_answer_that_counts(answers):
    person, other = _join(answers), _join(answers, "other")
    for revision, verdict in enumerate(("real", "fake", "unsure")):
        answers.save(person, "x", Given(verdict=verdict), place=1, practice=False, revision=revision)
    answers.save(person, "y", Given(verdict="real"), place=2, practice=False, revision=0)
    assert answers.answered(person) == {"x", "y"}
    assert answers.answered(other) == frozenset()
    assert (answers.last(person, "x").verdict, answers.last(person, "x").revision) == ("unsure", 2)
    assert answers.last(other, "x") is None


def test_only_answers_wait_for_the_disk(answers):
    synchronous = []  # 2 is FULL, 1 NORMAL: what each write was committed with

    @event.listens_for(answers._engine, "commit")
    def _committed(connection):
        if connection.get_execution_options().get("kind"):
            synchronous.append(connection.exec_driver_sql("PRAGMA synchronous").scalar())

    person = _join(answers)
    answers.log(person, "shown", "x")
    answers.save(person, "x", Given(verdict="real"), place=1, practice=False, revision=0)
    answers.withdraw(person)
    assert synchronous == [2, 1, 2, 2]

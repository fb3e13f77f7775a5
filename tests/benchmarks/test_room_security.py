"""Attacks on the reading room, and what it lets in."""

from __future__ import annotations

import shutil

import pytest
from starlette.testclient import TestClient

from histoforensics.benchmarks.answers import Answers
from histoforensics.benchmarks.exports import harmless
from histoforensics.benchmarks.room import create_room
from histoforensics.benchmarks.room_security import Keys, allowed_hosts, is_loopback
from histoforensics.benchmarks.study import Study
from histoforensics.slides import ConfigError

BASE = "http://127.0.0.1:8765"
LEAD, ACCESS = "lead-token", "access-token"


@pytest.fixture
def study(tmp_path, study_root):
    shutil.copytree(study_root, tmp_path / "exam", ignore=shutil.ignore_patterns("room"))
    return Study.open(tmp_path / "exam")


@pytest.fixture
def answers(study):
    answers = Answers(study.root, study.digest)
    yield answers
    answers.close()


@pytest.fixture
def app(study, answers):
    return create_room(study, answers, hosts=allowed_hosts("127.0.0.1", 8765, (), False), lead_token=LEAD)


@pytest.fixture
def client(app):
    return TestClient(app, base_url=BASE)


def _csrf(client):
    return client.get("/").text.split('name="csrf" value="')[1].split('"')[0]


def _join(client, **headers):
    page = client.get("/").text
    version = page.split('name="agree" value="')[1].split('"')[0]
    data = {"csrf": _csrf(client), "role": "Student", "years": "1", "agree": version}
    return client.post("/join", data=data, headers={"origin": BASE, **headers})


def test_a_rebound_name_is_refused(client):
    for host in ("evil.example", "evil.example:8765", "127.0.0.1", "127.0.0.1:80", "127.0.0.1:8765.evil.example", ""):
        reply = client.get("/", headers={"host": host})
        assert reply.status_code == 421
        assert "set-cookie" not in reply.headers
    for host in ("localhost:8765", "127.0.0.1:8765", "LOCALHOST:8765", "[::1]:8765"):
        assert client.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "null"},
        {"origin": BASE, "sec-fetch-site": "cross-site"},
        {"origin": BASE, "sec-fetch-site": "same-site"},
    ],
)
def test_a_form_from_another_page_is_refused(client, answers, headers):
    assert _join(client, **headers).status_code == 403
    assert answers.people() == []


def test_a_form_without_the_sessions_token_is_refused(app, client, answers):
    other = _csrf(TestClient(app, base_url=BASE))
    _csrf(client)
    for token in ("", "0" * 64, other):
        reply = client.post("/join", data={"csrf": token, "role": "Student"}, headers={"origin": BASE})
        assert reply.status_code == 403
        assert "not from this session" in reply.text
    assert answers.people() == []
    fresh = TestClient(app, base_url=BASE)  # no cookie at all: no token fits
    assert fresh.post("/join", data={"csrf": Keys(answers.secret, LEAD, None).csrf("")}).status_code == 403
    assert _join(client).url.path == "/ready"


def test_a_get_changes_nothing(client, answers):
    _join(client)
    for path in ("/withdraw?sure=yes", "/leave", "/join", "/code", "/settings?zoom=1", "/back/1"):
        client.get(path)
    assert [person.zoom for person in answers.people()] == [None]
    assert client.get("/ready").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/image/../answer_key.parquet",
        "/image/..%2fanswer_key.parquet",
        "/image/%2e%2e/%2e%2e/etc/passwd",
        "/image/%2fetc%2fpasswd",
        "/image/....//study.json",
        "/image/C:%5Cwindows",
        "/static/../study.json",
        "/static/%2e%2e%2fstudy.json",
        "/answer_key.parquet",
        "/study.json",
        "/items/",
        "/practice_key.parquet",
        "/room/answers.sqlite3",
        "/docs",
        "/openapi.json",
    ],
)
def test_no_address_reaches_a_file(client, path):
    _join(client)
    reply = client.get(path)
    assert reply.status_code in {404, 405}
    assert b"PAR1" not in reply.content
    assert b"SQLite" not in reply.content
    assert "repeats" not in reply.text


def test_images_are_shown_to_readers_only_and_only_by_their_names(client, study):
    name = str(study.exam.key["id"][0])
    reply = client.get(f"/image/{name}", follow_redirects=False)
    assert (reply.status_code, reply.headers["location"]) == (303, "/")
    _join(client)
    assert client.get(f"/image/{name}").headers["content-type"] == "image/png"
    assert client.get(f"/image/{name}.png").status_code == 404
    assert client.get(f"/image/{study.exam.key['source_id'][0]}").status_code == 404


def test_what_a_reader_writes_is_never_markup(client, answers):
    _join(client)
    attack = '</textarea><script>alert(1)</script><img src=x onerror="alert(2)">'
    for path in ("/practice/1", "/practice/2", "/practice/3", "/patch/1"):
        data = {"csrf": _csrf_of(client, path), "verdict": "real", "note": attack, "revision": "0"}
        assert client.post(path, data=data, headers={"origin": BASE}).status_code == 200
    page = client.get("/patch/1").text
    assert "alert(1)" in page
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "&lt;/textarea&gt;" in page
    echoed = client.get("/patch/<script>alert(3)</script>").text
    assert "alert(3)" not in echoed
    bad = client.post(
        "/patch/2", data={"csrf": _csrf_of(client, "/patch/2"), "verdict": attack}, headers={"origin": BASE}
    )
    assert bad.status_code == 400
    assert "<script>alert" not in bad.text


def test_every_reply_carries_the_headers_that_lock_it(client):
    _join(client)
    for path in ("/", "/ready", "/continue", "/static/room.css", "/static/room.js", "/nothing", "/lead"):
        reply = client.get(path)
        policy = reply.headers["content-security-policy"]
        assert policy.startswith("default-src 'self'")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "same-origin"
        assert reply.headers["cache-control"] == "no-store"
        assert "server" not in reply.headers
        assert " style=" not in reply.text
        assert "<script>" not in reply.text
        assert " onclick" not in reply.text
    assert client.get("/", headers={"host": "evil"}).headers["content-security-policy"]


def test_cookies_are_out_of_reach_of_scripts_and_other_sites(client, study):
    cookie = client.get("/").headers["set-cookie"].lower()
    assert cookie.startswith(f"room-{study.digest[:8]}-session=")
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "secure" not in cookie  # http on this machine
    _join(client)
    assert (
        "samesite=strict"
        in client.get(f"/lead/enter?token={LEAD}", follow_redirects=False).headers["set-cookie"].lower()
    )


def test_large_and_endless_bodies_are_refused(client):
    assert client.post("/join", content=b"x" * 70_000, headers={"origin": BASE}).status_code == 413
    assert client.post("/join", content=iter([b"x"] * 10), headers={"origin": BASE}).status_code == 411
    many = "&".join(f"a{i}=1" for i in range(300))
    form = {"content-type": "application/x-www-form-urlencoded", "origin": BASE}
    assert client.post("/join", content=many, headers=form).status_code == 400


def test_files_cannot_be_sent(client):
    reply = client.post("/join", files={"csrf": b"x"}, headers={"origin": BASE})
    assert reply.status_code in {400, 403}


def test_a_room_that_is_open_to_other_machines_wants_its_token(study, answers):
    hosts = allowed_hosts("0.0.0.0", 8765, ("study.example",), True)
    app = create_room(study, answers, hosts=hosts, lead_token=LEAD, access_token=ACCESS)
    client = TestClient(app, base_url="http://study.example:8765")
    for path in ("/", "/patch/1", "/image/x", "/ready", "/enter", "/enter?token=nope"):
        assert client.get(path).status_code == 403
    assert client.get(f"/enter?token={ACCESS}").url.path == "/"
    assert client.get("/").status_code == 200
    assert client.get("/lead").status_code == 403
    assert (
        "secure"
        in TestClient(app, base_url="https://study.example")
        .get(f"/enter?token={ACCESS}", follow_redirects=False)
        .headers["set-cookie"]
        .lower()
    )


def test_hosts_that_others_reach_must_be_asked_for():
    for host in ("0.0.0.0", "192.168.1.5", "::", "study.example"):
        with pytest.raises(ConfigError, match="can be reached from other machines; pass --allow-remote"):
            allowed_hosts(host, 8765, (), False)
    with pytest.raises(ConfigError, match="say with --name by which one"):
        allowed_hosts("0.0.0.0", 8765, (), True)
    assert "192.168.1.5:80" in allowed_hosts("192.168.1.5", 80, (), True)
    assert "192.168.1.5" in allowed_hosts("192.168.1.5", 80, (), True)
    assert "0.0.0.0:8765" not in allowed_hosts("0.0.0.0", 8765, ("a.example",), True)
    assert [is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost")] == [True] * 4
    assert not is_loopback("localhost.evil.example")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", " -x"])
def test_formulas_are_defused(text):
    assert harmless(text) == f"'{text}"


def test_plain_text_and_numbers_are_left_alone():
    assert [harmless(value) for value in ("pale = odd", "", -3, None, 2.5)] == ["pale = odd", "", -3, None, 2.5]


def _csrf_of(client, path):
    return client.get(path).text.split('name="csrf" value="')[1].split('"')[0]

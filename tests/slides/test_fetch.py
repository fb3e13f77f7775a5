"""Downloads against a server on the loopback that speaks GDC's protocol and breaks it in every way we know of."""

from __future__ import annotations

import importlib.util
import json
import random
import shutil
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner

from histoforensics.cli import app
from histoforensics.slides import ConfigError, DownloadError
from histoforensics.slides.download import Fetched, RemoteFile, fetch_all, is_safe_name
from histoforensics.slides.fetch import choose_slides, fetch_slides
from histoforensics.slides.gdc import GdcSlide, find_slides, kind_of_name, of_one_kind, read_gdc_manifest
from histoforensics.slides.web import Patience, Web, retry_after_seconds

_SPEC = importlib.util.spec_from_file_location("gdc_stub", Path(__file__).with_name("gdc_stub.py"))
assert _SPEC is not None
gdc_stub = importlib.util.module_from_spec(_SPEC)

QUICK = Patience(tries=3, first_seconds=0.0, most_seconds=2.0)
SIZE = 300_000


@pytest.fixture(scope="module", autouse=True)
def _load_stub() -> None:
    import sys

    sys.modules["gdc_stub"] = gdc_stub  # dataclasses look their module up
    _SPEC.loader.exec_module(gdc_stub)
    del sys.modules["gdc_stub"]


class Server(NamedTuple):
    stub: Any
    web: Web


@pytest.fixture(scope="module")
def running(_load_stub: None) -> Iterator[Server]:
    stub = gdc_stub.Stub()
    server = gdc_stub.serve(stub)
    with Web(stub.endpoint, QUICK, seed=0) as web:  # once: a client loads the certificates, which takes its time
        yield Server(stub, web)
    server.shutdown()
    server.server_close()


@pytest.fixture
def gdc(running: Server) -> Server:
    running.web.stop.clear()
    endpoint = running.stub.endpoint
    running.stub.__init__(endpoint=endpoint)  # as it was at the start
    return running


def bytes_of(seed: int, size: int = SIZE) -> bytes:
    return random.Random(seed).randbytes(size)


def add(gdc: Server, count: int = 1, **other: Any) -> list[str]:
    start = len(gdc.stub.hits)
    return [
        gdc.stub.add(f"TCGA-A6-26{start + i:02d}-01Z-00-DX1.{i}.svs", bytes_of(start + i), **other)
        for i in range(count)
    ]


def fetch(gdc: Server, out: Path, **options: Any) -> list[Fetched]:
    choice = choose_slides(gdc.web, project="TCGA-COAD", count=len(gdc.stub.hits))
    return fetch_slides(gdc.web, choice, out, **options)


def whole(gdc: Server, out: Path) -> bool:
    """Whether each slide stands under its name with its bytes, and nothing else is there."""
    files = {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file() and p.parent != out}
    return files == {f"{h['file_id']}/{h['file_name']}": gdc.stub.content[h["file_id"]] for h in gdc.stub.hits}


def test_slides_arrive_under_their_own_names_with_a_pin_and_a_record(gdc: Server, tmp_path: Path) -> None:
    add(gdc, 3)
    told: list[tuple[int, int]] = []
    fetched = fetch(gdc, tmp_path / "out", progress=lambda done, total, note="": told.append((done, total)))
    assert [one.error for one in fetched] == [None] * 3
    assert whole(gdc, tmp_path / "out")  # the server's Content-Disposition says ../../evil.svs
    assert told[-1] == (3 * SIZE, 3 * SIZE)
    pinned = read_gdc_manifest(tmp_path / "out" / "manifest.tsv")
    assert [slide.file.uuid for slide in pinned] == [hit["file_id"] for hit in gdc.stub.hits]
    record = json.loads((tmp_path / "out" / "fetch.json").read_text())
    assert record["config"] == {"server": "127.0.0.1", "data_release": "Data Release 99.0 - November 01, 2026"}
    assert str(tmp_path) not in json.dumps(record)


def test_a_second_run_fetches_nothing(gdc: Server, tmp_path: Path) -> None:
    add(gdc, 2)
    fetch(gdc, tmp_path)
    gdc.stub.asked.clear()
    assert all(one.kept for one in fetch(gdc, tmp_path))
    assert gdc.stub.asked == []


def test_the_query_names_project_strategy_and_access_and_reads_every_page(
    gdc: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(gdc, 5)
    monkeypatch.setattr("histoforensics.slides.gdc.PAGE", 2)
    found = find_slides(gdc.web, "TCGA-COAD", "diagnostic", 5)
    assert [slide.file.uuid for slide in found] == [hit["file_id"] for hit in gdc.stub.hits]
    assert [(q["from"], q["size"]) for q in gdc.stub.questions] == [(0, 2), (2, 2), (4, 1)]
    wanted = {p["content"]["field"]: p["content"]["value"] for p in gdc.stub.questions[0]["filters"]["content"]}
    assert wanted == {
        "cases.project.project_id": ["TCGA-COAD"],
        "data_type": ["Slide Image"],
        "data_format": ["SVS"],
        "experimental_strategy": ["Diagnostic Slide"],
        "access": ["open"],
    }


@pytest.mark.parametrize(
    "quirks",
    [
        ["drop"], ["drop", "drop"], ["500", "503"], ["429"], ["short"], ["drop", "200"], ["drop", "elsewhere"],
        ["drop", "416"], ["other"],
    ],
)  # fmt: skip
def test_what_passes_is_overcome(quirks: list[str], gdc: Server, tmp_path: Path) -> None:
    (identifier,) = add(gdc)
    gdc.stub.quirks[identifier] = deque(quirks)
    assert [one.error for one in fetch(gdc, tmp_path)] == [None]
    assert whole(gdc, tmp_path)


def test_a_broken_download_goes_on_at_its_last_byte_in_this_run_and_the_next(gdc: Server, tmp_path: Path) -> None:
    (identifier,) = add(gdc)
    gdc.stub.quirks[identifier] = deque(["drop", "drop", "500", "500", "500"])
    (broken,) = fetch(gdc, tmp_path)
    assert broken.error is not None
    assert "Given up after 3 tries without progress." in broken.error
    starts = [SIZE // 2, SIZE * 3 // 4]  # each drop sends half of the rest
    assert [asked for _, asked in gdc.stub.asked][:3] == [None, *(f"bytes={start}-" for start in starts)]
    gdc.stub.quirks.clear()
    gdc.stub.asked.clear()
    assert [one.error for one in fetch(gdc, tmp_path)] == [None]
    assert gdc.stub.asked == [(identifier, f"bytes={starts[1]}-")]
    assert whole(gdc, tmp_path)


def test_a_foreign_part_is_thrown_away(gdc: Server, tmp_path: Path) -> None:
    (identifier,) = add(gdc)
    part = tmp_path / identifier / f"{gdc.stub.hits[0]['file_name']}.part"
    for size in (1000, SIZE, SIZE + 1):
        shutil.rmtree(tmp_path / identifier, ignore_errors=True)
        part.parent.mkdir(parents=True)
        part.write_bytes(bytes(size))
        assert [one.error for one in fetch(gdc, tmp_path)] == [None]
        assert whole(gdc, tmp_path)


def test_a_wrong_md5_is_refused_and_leaves_nothing(gdc: Server, tmp_path: Path) -> None:
    bad, good = add(gdc, 2)
    gdc.stub.quirks[bad] = deque(["other", "other"])
    first, second = fetch(gdc, tmp_path)
    assert first.error is not None
    assert "what came has the md5" in first.error
    assert f"wanted {gdc.stub.hits[0]['md5sum']}" in first.error
    assert second.error is None
    assert list((tmp_path / bad).iterdir()) == []
    assert list((tmp_path / good).iterdir()) != []
    record = json.loads((tmp_path / "fetch.json").read_text())
    assert [failure["id"] for failure in record["failures"]] == [bad]


@pytest.mark.parametrize(
    ("quirk", "message"),
    [
        ("404", "answered 404 Not Found."),
        ("403", "the file is not open to everybody"),
        ("redirect", "redirects are not followed"),
        ("long", "more than its 300,000 bytes come; it is not that file."),
    ],
)
def test_what_does_not_pass_is_told_at_once(quirk: str, message: str, gdc: Server, tmp_path: Path) -> None:
    (identifier,) = add(gdc)
    gdc.stub.quirks[identifier] = deque([quirk])
    (one,) = fetch(gdc, tmp_path)
    assert one.error is not None
    assert message in one.error
    assert len(gdc.stub.asked) == 1
    assert list(tmp_path.rglob("*.svs")) == []


def test_retry_after_is_waited_for_and_too_long_a_wait_is_told(gdc: Server, tmp_path: Path) -> None:
    (identifier,) = add(gdc)
    gdc.stub.quirks[identifier] = deque(["429"])
    gdc.stub.retry_after = "3600"
    (one,) = fetch(gdc, tmp_path)
    assert one.error is not None
    assert "It asks to wait 3600 s; run the same command again then." in one.error
    gdc.stub.quirks["files"] = deque(["429", "500"])
    gdc.stub.retry_after = "0"
    assert len(find_slides(gdc.web, "TCGA-COAD", "diagnostic", 1)) == 1


def test_waits_double_with_jitter_and_never_undercut_the_server() -> None:
    patience, rng = Patience(first_seconds=1.0, most_seconds=60.0), random.Random(0)
    for failures in range(1, 6):
        waits = [patience.wait_seconds(failures, None, rng) for _ in range(200)]
        middle = 2.0 ** (failures - 1)
        assert 0.5 * middle <= min(waits) < 0.6 * middle
        assert 1.4 * middle < max(waits) <= 1.5 * middle
    assert patience.wait_seconds(30, None, rng) == 60.0
    assert patience.wait_seconds(1, 17.0, rng) == 17.0


def test_retry_after_is_a_number_or_a_date() -> None:
    now = datetime(2026, 11, 23, 10, 0, 0, tzinfo=UTC)
    assert retry_after_seconds("Mon, 23 Nov 2026 10:02:00 GMT", now) == 120
    assert retry_after_seconds("Mon, 23 Nov 2026 09:00:00 GMT", now) == 0
    assert (retry_after_seconds(None), retry_after_seconds("soon"), retry_after_seconds("-1")) == (None, None, None)


def test_no_more_files_at_a_time_than_wanted(gdc: Server, tmp_path: Path) -> None:
    add(gdc, 8)
    assert all(one.error is None for one in fetch(gdc, tmp_path, parallel=2))
    assert 1 <= gdc.stub.most_at_once <= 2
    assert whole(gdc, tmp_path)


HOSTILE = (
    "../evil.svs", "/etc/evil.svs", "a/b.svs", "..\\evil.svs", "C:evil.svs", "C:\\evil.svs", "nul.svs", "COM1.x.svs",
    "a\0.svs", "a\n.svs", "\x1b[2J.svs", ".hidden.svs", "~root.svs", "-rf.svs", "", "..", "x" * 300 + ".svs",
    "a\u202esvs.exe.svs", "what?.svs", "a.svs ", "a.svs.",
)  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_refused_before_anything_is_written(name: str, gdc: Server, tmp_path: Path) -> None:
    assert not is_safe_name(name)
    gdc.stub.add(name, b"evil")
    out = tmp_path / "out"
    with pytest.raises(DownloadError, match=r"the file name .* is broken or hostile; nothing is fetched under it"):
        fetch(gdc, out)
    assert not out.exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("file_id", "../../x", "the UUID '../../x' is broken or hostile"),
        ("md5sum", "abc", "the md5 'abc' is broken"),
        ("file_size", -1, "the size '-1' is broken"),
        ("file_size", "1e9", "the size '1e9' is broken"),
        ("file_name", "a.bam", "a.bam: not a slide"),
        ("experimental_strategy", "Tissue Slide", "a diagnostic slide by its name, but a tissue slide by its record"),
    ],
)
def test_broken_records_are_refused(field: str, value: object, message: str, gdc: Server) -> None:
    gdc.stub.add("TCGA-A6-2672-01Z-00-DX1.svs", b"x")
    gdc.stub.hits[0] |= {field: value, "sly": True}
    with pytest.raises(DownloadError, match=message):
        find_slides(gdc.web, "TCGA-COAD", "diagnostic", 1)


def test_a_slide_of_the_other_kind_in_an_answer_is_refused(gdc: Server) -> None:
    gdc.stub.add("TCGA-A6-2672-01A-01-TS1.svs", b"x", strategy="Tissue Slide", sly=True)
    with pytest.raises(DownloadError, match="a tissue slide came where diagnostic slides were asked for"):
        find_slides(gdc.web, "TCGA-COAD", "diagnostic", 1)


def test_kinds_are_never_mixed_silently(gdc: Server, tmp_path: Path) -> None:
    gdc.stub.add("TCGA-A6-2672-01Z-00-DX1.a.svs", b"dx")
    gdc.stub.add("TCGA-A6-2672-01A-01-BS1.b.svs", b"bs", strategy="Tissue Slide")
    manifest = tmp_path / "portal.txt"
    manifest.write_text(gdc.stub.manifest())
    with pytest.raises(ConfigError, match=r"of several kinds \(1 diagnostic, 1 tissue\); choose one with --kind"):
        choose_slides(gdc.web, manifest=manifest)
    choice = choose_slides(gdc.web, manifest=manifest, kind="tissue")
    assert ([slide.kind for slide in choice.slides], choice.left_out) == (["tissue"], 1)
    found = find_slides(gdc.web, "TCGA-COAD", "tissue", 1)
    assert [slide.kind for slide in found] == ["tissue"]
    unknown = GdcSlide.of(gdc_stub.uuid(7), "C3L-00001-21.svs", "0" * 32, 5)
    with pytest.raises(ConfigError, match="none of the slides is known as a tissue slide"):
        of_one_kind([unknown], "tissue")
    assert of_one_kind([unknown], None) == [unknown]


def test_kinds_follow_from_tcga_names() -> None:
    names = ("TCGA-A6-2672-01Z-00-DX1.x.svs", "TCGA-CR-7395-01A-01-TS1.svs", "TCGA-02-0001-01C-01-MS1.svs", "x.svs")
    assert [kind_of_name(name) for name in names] == ["diagnostic", "tissue", "tissue", "unknown"]


def test_a_portal_manifest_works_and_a_broken_one_names_its_line(gdc: Server, tmp_path: Path) -> None:
    add(gdc, 2)
    manifest = tmp_path / "portal.txt"
    manifest.write_text(gdc.stub.manifest(), encoding="utf-8-sig")  # Windows programs put a mark in front
    choice = choose_slides(gdc.web, manifest=manifest)
    assert [one.error for one in fetch_slides(gdc.web, choice, tmp_path / "out")] == [None, None]
    assert whole(gdc, tmp_path / "out")
    lines = gdc.stub.manifest().splitlines()
    for text, message in (
        ("\n".join([*lines, lines[1]]), "line 4: .* is there twice"),
        ("\n".join([lines[0], lines[1].replace("TCGA", "../TCGA")]), "line 2: the file name '../TCGA"),
        ("id\tname\n", "not a GDC manifest, it lacks the column filename, md5, size"),
        (lines[0] + "\n", "the manifest names no file"),
    ):
        manifest.write_text(text)
        with pytest.raises(DownloadError, match=message):
            read_gdc_manifest(manifest)
    with pytest.raises(DownloadError, match="cannot be read"):
        read_gdc_manifest(tmp_path / "gone.tsv")


def test_a_folder_that_pins_other_slides_is_not_mixed_with_new_ones(gdc: Server, tmp_path: Path) -> None:
    add(gdc, 2)
    fetch(gdc, tmp_path)
    choice = choose_slides(gdc.web, project="TCGA-COAD", count=1)
    with pytest.raises(ConfigError, match=r"its manifest\.tsv pins 1 slides that are not chosen now"):
        fetch_slides(gdc.web, choice, tmp_path)
    add(gdc, 1)
    assert [one.kept for one in fetch(gdc, tmp_path)] == [True, True, False]  # more of the same query is no mixture


def test_what_stands_in_a_files_place_is_not_overwritten(gdc: Server, tmp_path: Path) -> None:
    (identifier,) = add(gdc)
    target = tmp_path / identifier / gdc.stub.hits[0]["file_name"]
    target.parent.mkdir()
    target.write_bytes(b"mine")
    (one,) = fetch(gdc, tmp_path)
    assert one.error is not None
    assert "another file stands in its place" in one.error
    assert target.read_bytes() == b"mine"


def test_a_link_out_of_the_folder_is_not_followed(gdc: Server, tmp_path: Path) -> None:
    (identifier,) = add(gdc)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / identifier).symlink_to(tmp_path / "elsewhere")
    (one,) = fetch(gdc, tmp_path / "out")
    assert one.error is not None
    assert "its folder is a link to elsewhere" in one.error
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_small_disk_is_told_before_the_first_byte(
    gdc: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(gdc, 1)
    monkeypatch.setattr("histoforensics.slides.download.free_bytes", lambda out: 50_000_000)
    with pytest.raises(ConfigError, match=r"0\.00 GB are to come, but the disk has 0\.05 GB free"):
        fetch(gdc, tmp_path / "out")
    assert gdc.stub.asked == []


def test_only_https_and_loopback_are_asked() -> None:
    for endpoint in ("http://api.gdc.cancer.gov", "ftp://localhost", "api.gdc.cancer.gov", "file:///etc", "https://"):
        with pytest.raises(ConfigError, match="endpoint must be an https address"):
            Web(endpoint)
    for endpoint in ("https://api.gdc.cancer.gov", "http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1"):
        Web(endpoint).__exit__(None, None, None)


def test_a_server_that_is_not_there_or_is_no_gdc_is_one_sentence(gdc: Server) -> None:
    with Web("http://127.0.0.1:9", QUICK) as web, pytest.raises(DownloadError, match="the connection failed"):
        find_slides(web, "TCGA-COAD", "diagnostic", 1)
    for answer, message in ((b"<html>", "its answer is not JSON"), (b'{"data": 3}', "not the form of a file search")):
        gdc.stub.answer = answer
        with pytest.raises(DownloadError, match=message):
            find_slides(gdc.web, "TCGA-COAD", "diagnostic", 1)


def test_a_stopped_run_keeps_its_parts(gdc: Server, tmp_path: Path) -> None:
    add(gdc, 2)
    files = [slide.file for slide in choose_slides(gdc.web, project="TCGA-COAD", count=2).slides]

    def interrupt(done: int, total: int, note: str = "") -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_all(gdc.web, files, tmp_path, parallel=1, progress=interrupt)
    assert list(tmp_path.rglob("*.svs")) == []
    assert len(list(tmp_path.rglob("*.part"))) == 1  # the second was not begun


def test_bad_settings_are_one_sentence(gdc: Server, tmp_path: Path) -> None:
    add(gdc, 1)
    for options, message in (
        ({"project": "colon"}, "project must be a GDC project such as TCGA-COAD, got 'colon'"),
        ({"project": "TCGA-COAD", "count": 0}, "count must be at least 1, got 0"),
        ({"project": "TCGA-COAD", "count": 9}, "count must be at most 1, the diagnostic slides of TCGA-COAD, got 9"),
        ({"project": "TCGA-COAD", "manifest": tmp_path}, "give one of the two"),
        ({}, "give one of the two"),
    ):
        with pytest.raises(ConfigError, match=message):
            choose_slides(gdc.web, **options)
    with pytest.raises(ConfigError, match="parallel must be from 1 to 16, got 0"):
        fetch(gdc, tmp_path / "out", parallel=0)
    with pytest.raises(DownloadError, match="the UUID"):
        RemoteFile.checked("x", "a.svs", "0" * 32, 1, "x")


def test_the_command_plans_fetches_and_fails_with_one(gdc: Server, tmp_path: Path) -> None:
    bad, _ = add(gdc, 2)
    common = ["slides", "fetch", "--project", "TCGA-COAD", "--count", "2", "--endpoint", gdc.stub.endpoint]
    dry = CliRunner().invoke(app, [*common, "--out", str(tmp_path / "out"), "--dry-run"])
    assert dry.exit_code == 0
    assert "2 slides, 0.001 GB, of which 0.001 GB are to come" in dry.stdout
    assert not (tmp_path / "out").exists()
    gdc.stub.quirks[bad] = deque(["404"])
    first = CliRunner().invoke(app, [*common, "--out", str(tmp_path / "out")])
    assert (first.exit_code, "1 slides fetched, 0 were here already, 1 failed." in first.stdout) == (1, True)
    assert "answered 404" in first.stderr
    second = CliRunner().invoke(app, [*common, "--out", str(tmp_path / "out")])
    assert (second.exit_code, "1 slides fetched, 1 were here already, 0 failed." in second.stdout) == (0, True)
    wrong = CliRunner().invoke(app, [*common, "--out", str(tmp_path / "out"), "--kind", "frozen"])
    assert (wrong.exit_code, "kind must be diagnostic or tissue" in wrong.stderr) == (1, True)

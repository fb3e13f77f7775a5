from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import tifffile

from histoforensics.forensics import Detector
from histoforensics.forensics.cohort import Cohort, merge
from histoforensics.forensics.scan_grid import ScanGrid
from histoforensics.forensics.scanner import Scanner
from histoforensics.forensics.scanstate import claim
from histoforensics.forensics.wht import WHTDetector
from histoforensics.slides import ConfigError, DetectorError
from histoforensics.slides.executor import Limits
from histoforensics.slides.synthetic import GLASS, purple_tissue, write_svs

Planted = tuple[Path, tuple[int, int]]
FILES = {
    "coords.h5", "heatmap.png", "regions.geojson", "report.html", "scores.csv", "scores.ome.tif", "scores.parquet",
    "state.json", "thumbnail.png", "tiles.geojson", "verdict.json",
}  # fmt: skip


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory, forge: Callable[[np.ndarray], np.ndarray]) -> list[Path]:
    """Four small slides: real, wholly fake, glass alone, and one with the first one's name in another folder."""
    folder, rng = tmp_path_factory.mktemp("cohort"), np.random.default_rng(11)
    (folder / "other").mkdir()
    tissue = purple_tissue((480, 640), rng)
    return [
        write_svs(folder / "a.svs", tissue),
        write_svs(folder / "b.svs", forge(purple_tissue((480, 960), rng))),
        write_svs(folder / "glass.svs", np.full((200, 300, 3), GLASS, np.uint8)),
        write_svs(folder / "other" / "a.svs", tissue[::-1].copy()),
    ]


@pytest.fixture(scope="module")
def scanner(detector: Detector) -> Scanner:
    return Scanner([detector])


@pytest.fixture(scope="module")
def whole(scanner: Scanner, cohort: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cohort scanned serially and undisturbed: what every other way has to equal."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert scanner.run(cohort, out, engine="serial").ok
    return out


def contents(out: Path) -> dict[str, bytes]:
    """Every file of a results folder except those that tell of runs."""
    files = (p for p in out.rglob("*") if p.is_file() and not p.name.startswith(("run", "cohort-")))
    return {str(p.relative_to(out)): p.read_bytes() for p in files}


def test_a_slide_gets_its_files_and_they_agree(scanner: Scanner, planted: Planted, tmp_path: Path) -> None:
    path, (x, y) = planted
    report = scanner.run([path], tmp_path / "out", engine="serial")
    assert report.ok
    (row,) = report.cohort.verdicts
    folder = tmp_path / "out" / str(row["slide"])
    assert {p.name for p in folder.iterdir()} == FILES
    table = pd.read_parquet(folder / "scores.parquet")
    best = table.loc[table["wht-lr"].idxmax()]
    assert (best["x_level0"], best["y_level0"], best["width"], best["mpp"]) == (x, y, 64, 0.25)
    verdict = json.loads((folder / "verdict.json").read_text())
    assert (table["status"] == "ok").sum() == verdict["patches"]["ok"]
    assert len(pd.read_csv(folder / "scores.csv")) == verdict["patches"]["ok"]
    with h5py.File(folder / "coords.h5") as file:
        assert len(file["coords"]) == verdict["patches"]["ok"]
    assert tifffile.imread(folder / "scores.ome.tif").squeeze().shape == (28, 37)
    assert verdict["call"] == "nothing found"  # one fake patch in 200 is below what the rule can tell
    assert verdict["detectors"]["wht-lr"]["scope"] == "same resolution"
    assert any("prove that nothing was replaced" in line for line in verdict["does_not_show"])


def test_a_wholly_fake_slide_is_suspicious_a_real_one_is_not_and_glass_is_not_judged(whole: Path) -> None:
    rows = json.loads((whole / "cohort.json").read_text())["slides"]
    calls = {row["slide"].rsplit("-", 1)[0]: row["call"] for row in rows}
    assert calls == {"a": "nothing found", "b": "suspicious", "glass": "not judged"}


def test_a_planted_area_is_the_most_suspicious_region(
    scanner: Scanner, tmp_path: Path, forge: Callable[[np.ndarray], np.ndarray]
) -> None:
    image = purple_tissue((600, 800), np.random.default_rng(5))
    image[192:320, 352:544] = forge(image[192:320, 352:544])
    report = scanner.run([write_svs(tmp_path / "a.svs", image)], tmp_path / "out", engine="serial")
    folder = tmp_path / "out" / str(report.cohort.verdicts[0]["slide"])
    first = json.loads((folder / "regions.geojson").read_text())["features"][0]
    assert first["properties"]["name"] == "suspicious 1 (wht-lr)"
    corners = np.array(first["geometry"]["coordinates"][0])
    assert np.abs(corners.min(0) - (352, 192)).max() <= 32  # to a cell
    assert np.abs(corners.max(0) - (544, 320)).max() <= 32


def test_equal_stems_get_folders_of_their_own(whole: Path) -> None:
    names = sorted(p.name for p in whole.iterdir() if p.is_dir())
    assert len(names) == 4
    assert [name.rsplit("-", 1)[0] for name in names] == ["a", "a", "b", "glass"]


def test_processes_give_the_same_bytes(scanner: Scanner, cohort: list[Path], whole: Path, tmp_path: Path) -> None:
    report = scanner.run(cohort[::-1], tmp_path / "out", engine="process", workers=2)
    assert report.ok
    assert contents(tmp_path / "out") == contents(whole)


def test_shards_and_a_merge_give_the_same_bytes(
    scanner: Scanner, cohort: list[Path], whole: Path, tmp_path: Path
) -> None:
    for together in (False, True):
        outs = [tmp_path / f"{together}" / ("all" if together else str(i)) for i in (0, 1)]
        for index, out in enumerate(outs):
            scanner.run(cohort, out, engine="serial", shard=(index, 2))
        (outs[1] / "cohort-1-of-2.json").rename(tmp_path / "hidden")
        with pytest.raises(ConfigError, match="shard 1/2 is missing"):
            merge(outs[:1], tmp_path / f"{together}" / "merged")
        (tmp_path / "hidden").rename(outs[1] / "cohort-1-of-2.json")
        merged = outs[0] if together else tmp_path / "False" / "merged"
        merge(sorted(set(outs)), merged)
        assert contents(merged) == contents(whole)


def test_a_second_run_keeps_what_is_finished_and_does_what_is_missing(
    scanner: Scanner, cohort: list[Path], whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert scanner.run(cohort[:2], out, engine="serial").kept == 0
    times = {p: p.stat().st_mtime_ns for p in out.rglob("*/*") if p.is_file()}
    next(out.glob("b-*/scores.csv")).unlink()  # a finished slide that lost a file is not finished
    assert scanner.run(cohort, out, engine="serial").kept == 1
    assert contents(out) == contents(whole)
    untouched = [p for p in times if p.parent.name.startswith("a-")]
    assert untouched
    assert all(p.stat().st_mtime_ns == times[p] for p in untouched)


def test_other_parameters_are_told_and_not_mixed(detector: Detector, cohort: list[Path], tmp_path: Path) -> None:
    Scanner([detector]).run(cohort[:1], tmp_path / "out", engine="serial")
    before = contents(tmp_path / "out")
    with pytest.raises(ConfigError, match=r"out: was made with other parameters \(stride_px was 32, is 16\)"):
        Scanner([detector], ScanGrid(stride_px=16)).run(cohort[:1], tmp_path / "out", engine="serial")
    with pytest.raises(ConfigError, match="detectors wht-lr-2 was absent"):
        Scanner([detector, detector]).run(cohort[:1], tmp_path / "out", engine="serial")
    assert contents(tmp_path / "out") == before


def test_a_run_that_finished_no_slide_leaves_the_folder_to_other_parameters(
    detector: Detector, cohort: list[Path], tmp_path: Path
) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    nameless = write_svs(tmp_path / "nompp.svs", purple_tissue((200, 200), np.random.default_rng(0)), mpp=None)
    failed = Scanner([detector]).run([nameless], out, engine="serial")
    assert [row["kind"] for row in failed.cohort.failures] == ["MppError"]
    Scanner([detector]).run([nameless], out, engine="serial", shard=(0, 1))
    (out / "notes.txt").write_text("mine")
    with_mpp = Scanner([detector], ScanGrid(mpp=0.5))
    assert with_mpp.run([nameless], out, engine="serial").ok
    assert (out / "notes.txt").read_text() == "mine"
    (out / "notes.txt").unlink()
    with_mpp.run([nameless], other, engine="serial")
    assert contents(out) == contents(other)  # as if the first runs had never been
    assert {p.name for p in out.iterdir()} == {p.name for p in other.iterdir()}
    with pytest.raises(ConfigError, match=r"other parameters \(mpp was 0\.5, is absent\)"):
        Scanner([detector]).run([nameless], out, engine="serial")


def test_a_run_killed_while_it_takes_a_folder_over_leaves_no_old_report_beside_its_own_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    claim(out, {"mpp": None})
    reports = [out / name for name in ("cohort-0-of-2.json", "run-0-of-2.json")]
    for report in reports:
        report.write_text("{}")
    unlink = Path.unlink

    def die_at_the_second(path: Path, missing_ok: bool = False) -> None:
        if path == reports[1]:
            raise KeyboardInterrupt
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", die_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            claim(out, {"mpp": 0.5})
    claim(out, {"mpp": 0.5})
    assert [path.name for path in out.iterdir()] == ["scan.json"]


def test_shards_that_claim_a_new_folder_in_the_same_moment_both_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_file, looks = Path.is_file, iter([False])

    def too_early(path: Path) -> bool:
        return next(looks, True) and is_file(path)

    claim(tmp_path, {"mpp": 0.5})  # just after the other one has looked
    with monkeypatch.context() as patch:
        patch.setattr(Path, "is_file", too_early)
        claim(tmp_path, {"mpp": 0.5})
    assert [path.name for path in tmp_path.iterdir()] == ["scan.json"]


def test_what_was_taken_over_while_a_scan_ran_is_not_written_to(
    detector: Detector, cohort: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    taken = False

    def take(*_: object) -> None:
        nonlocal taken
        if not taken:
            taken = True
            Scanner([detector], ScanGrid(stride_px=16)).run(cohort[2:3], out, engine="serial")

    with pytest.raises(ConfigError, match="out: a scan with other parameters took it over; nothing more is written"):
        Scanner([detector]).run(cohort[:1], out, engine="serial", progress=take)
    assert json.loads((out / "scan.json").read_text())["stride_px"] == 16
    assert [p.name.partition("-")[0] for p in out.iterdir() if p.is_dir()] == ["glass"]


def test_a_folder_with_other_things_is_refused(scanner: Scanner, cohort: list[Path], tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds something that is not a scan; choose another --out"):
        scanner.run(cohort[:1], tmp_path, engine="serial")


@pytest.fixture
def bad_slides(tmp_path: Path, cohort: list[Path]) -> list[Path]:
    half, text = tmp_path / "half.svs", tmp_path / "=text.svs"
    half.write_bytes(cohort[0].read_bytes()[: cohort[0].stat().st_size // 2])
    text.write_text("not a slide")
    nameless = write_svs(tmp_path / "nompp.svs", purple_tissue((200, 200), np.random.default_rng(0)), mpp=None)
    return [half, tmp_path / "gone.svs", text, nameless]


def test_every_slide_is_attempted_and_failures_have_a_cause(
    scanner: Scanner, cohort: list[Path], bad_slides: list[Path], tmp_path: Path
) -> None:
    report = scanner.run([*bad_slides, cohort[0]], tmp_path / "out", engine="serial")
    assert not report.ok
    assert len(report.cohort.verdicts) == 1
    kinds = {row["slide"].rsplit("-", 1)[0]: row["kind"] for row in report.cohort.failures}
    assert kinds == {
        "half": "SlideUnreadable", "gone": "SlideNotFound", "_text": "SlideUnreadable", "nompp": "MppError",
    }  # fmt: skip
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "cohort.csv").read_text())))
    assert [row["status"] for row in rows] == ["finished", *["failed"] * 4]
    assert not [row for row in rows if row["message"].startswith("=")]
    assert "pass it with --mpp" in next(row["message"] for row in rows if row["slide"].startswith("nompp"))


def test_a_destroyed_tile_is_no_failure_and_stands_in_the_verdict(
    scanner: Scanner, planted: Planted, tmp_path: Path, destroy_tile: Callable[[Path, int], None]
) -> None:
    destroy_tile(planted[0], 3)
    report = scanner.run([planted[0]], tmp_path / "out", engine="serial")
    (row,) = report.cohort.verdicts
    assert report.ok
    assert row["unreadable"] == [[720, 0, 240, 240]]
    assert row["patches"]["corrupt"] > 0
    assert "1 places cannot be decoded" in row["warnings"][0]
    table = pd.read_parquet(tmp_path / "out" / str(row["slide"]) / "scores.parquet")
    corrupt = table[table["status"] == "corrupt"]
    assert len(corrupt) == row["patches"]["corrupt"]
    assert corrupt["wht-lr"].isna().all()


def test_a_slide_that_takes_too_long_costs_itself_alone(scanner: Scanner, cohort: list[Path], tmp_path: Path) -> None:
    big = write_svs(tmp_path / "big.svs", purple_tissue((480, 480), np.random.default_rng(0)), size=(24000, 24000))
    report = scanner.run([big, cohort[0]], tmp_path / "out", engine="process", workers=1, limits=Limits(task_seconds=6))
    assert [row["cause"] for row in report.cohort.failures] == ["timeout"]
    assert len(report.cohort.verdicts) == 1
    assert not list((tmp_path / "out").glob("big-*"))


def test_no_output_holds_a_path_or_what_the_file_tells_of_people(whole: Path, cohort: list[Path]) -> None:
    forbidden = [str(cohort[0].parent).encode(), b"/tmp/", b"/home/", b"aperio", b"Filename"]
    for name, data in contents(whole).items() | {("run", (whole / "run.json").read_bytes())}:
        without_vendor = data.replace(b'"openslide.vendor": "aperio"', b"")
        assert not [word for word in forbidden if word in without_vendor], name


def test_the_same_file_given_twice_is_scanned_once(scanner: Scanner, cohort: list[Path], tmp_path: Path) -> None:
    copy = tmp_path / "a.svs"
    copy.write_bytes(cohort[0].read_bytes())
    report = scanner.run([cohort[0], copy, cohort[3]], tmp_path / "out", engine="serial")
    assert report.duplicates == ("a.svs",)
    assert len(report.cohort.verdicts) == 2


def test_the_process_that_deals_the_slides_out_never_loads_torch(
    detector_folder: Path, cohort: list[Path], tmp_path: Path
) -> None:
    """Only workers judge; without it the parent takes a fifth of a worker's memory."""
    (tmp_path / "scan.py").write_text(
        "import sys\n"
        "from histoforensics.forensics import Scanner\n"
        'if __name__ == "__main__":\n'
        "    report = Scanner([sys.argv[1]]).run([sys.argv[2]], sys.argv[3], workers=1)\n"
        '    print(report.ok, sorted({"torch", "sklearn", "matplotlib"} & set(sys.modules)))\n'
    )
    command = [sys.executable, tmp_path / "scan.py", detector_folder, cohort[2], tmp_path / "out"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True", "[]"], done.stderr


def test_progress_ends_at_the_end(scanner: Scanner, cohort: list[Path], tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    scanner.run(cohort[:2], tmp_path / "out", engine="serial", progress=lambda *t: told.append(t))
    assert told[-1][:2] == (200, 200)
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)


KILLED = """
import sys
from histoforensics.forensics.scanner import Scanner

if __name__ == "__main__":
    Scanner([sys.argv[1]]).run(sys.argv[3:], sys.argv[2], engine=sys.argv[0].rsplit("-", 1)[1][:-3], workers=1)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "kills"), [("serial", 2), ("process", 1)])
def test_killed_at_any_moment_and_run_again_it_gives_the_same(
    engine: str, kills: int, detector_folder: Path, cohort: list[Path], whole: Path, tmp_path: Path
) -> None:
    script, out = tmp_path / f"run-{engine}.py", tmp_path / "out"
    script.write_text(KILLED)
    command = [sys.executable, str(script), str(detector_folder), str(out), *map(str, cohort)]
    for _ in range(kills):
        with subprocess.Popen(command, start_new_session=True) as run:
            deadline = time.monotonic() + 120
            seen = len(list(out.glob("*/state.json")))
            while run.poll() is None and time.monotonic() < deadline:
                if len(list(out.glob("*/state.json"))) > seen or list(out.glob(".*-*")):
                    break
                time.sleep(0.002)
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
    subprocess.run(command, check=True)
    assert contents(out) == contents(whole)


def test_bad_settings_are_one_sentence(detector: Detector, cohort: list[Path], tmp_path: Path) -> None:
    with pytest.raises(DetectorError, match="at least one detector"):
        Scanner([])
    with pytest.raises(DetectorError, match="no such detector folder"):
        Scanner([tmp_path / "none"])
    bare = WHTDetector(64)
    bare.fake_above.fill_(0.5)
    with pytest.raises(DetectorError, match="its false-alarm rate is unknown"):
        Scanner([bare])
    scanner = Scanner([detector])
    with pytest.raises(ConfigError, match="slides must be at least one file, got 0"):
        scanner.run([], tmp_path / "out")
    with pytest.raises(ConfigError, match="threads must be at least 1, got 0"):
        scanner.run(cohort, tmp_path / "out", threads=0)
    with pytest.raises(ConfigError, match="limits must be left out with the serial engine"):
        scanner.run(cohort, tmp_path / "out", engine="serial", limits=Limits(task_seconds=1))
    with pytest.raises(ConfigError, match=r"shard must be \(i, N\) with i from 0 to N - 1, got \(2, 2\)"):
        scanner.run(cohort, tmp_path / "out", engine="serial", shard=(2, 2))


def test_merging_what_is_not_a_scan_or_was_made_otherwise_is_refused(
    detector: Detector, cohort: list[Path], whole: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"not the results of a scan, it has no scan\.json"):
        merge([tmp_path], tmp_path / "out")
    Scanner([detector], ScanGrid(stride_px=64)).run(cohort[:1], tmp_path / "coarse", engine="serial")
    with pytest.raises(ConfigError, match="coarse: was made with other parameters than out"):
        merge([whole, tmp_path / "coarse"], tmp_path / "merged")


def test_a_slide_that_is_finished_anywhere_is_no_failure() -> None:
    parameters = {"detectors": {}}
    finished = {"slide": "a-1"}
    failed = [{"slide": "a-1", "cause": "crash"}, {"slide": "b-2", "cause": "error"}]
    assert [row["slide"] for row in Cohort.of(parameters, [finished], failed).failures] == ["b-2"]

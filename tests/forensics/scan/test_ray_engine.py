"""Ray's processes outlive a test and warn as they like, so all of it runs in one program of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from histoforensics.forensics import Scanner, TrainingSet, train_detector
from histoforensics.slides import ConfigError
from histoforensics.slides.executor import executor
from histoforensics.slides.ray_engine import RayExecutor
from histoforensics.slides.synthetic import purple_tissue, write_svs

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed; pip install 'histoforensics[ray]'"
)

PROGRAM = """
import json, os, sys, time
from histoforensics.forensics import Scanner
from histoforensics.slides import SlideUnreadable
from histoforensics.slides.executor import Limits, executor
from histoforensics.slides.ray_engine import _import_ray, _start

def make():
    def work(task, progress):
        what, value = task
        if what == "raise":
            raise SlideUnreadable(value)
        if what == "exit":
            with open(value, "a") as tries:
                tries.write("x")
            os._exit(3)
        if what == "hang":
            progress(1, 2, "hanging")
            time.sleep(600)
        return {"square": value * value}

    return work

def broken():
    raise SlideUnreadable("the detector is missing.")

def told(outcome):
    failure = outcome.failure
    return [outcome.index, outcome.value, failure and [failure.cause, failure.kind, failure.message]]

if __name__ == "__main__":
    work, detector, slides = sys.argv[1], sys.argv[2], sys.argv[3:]
    ray = _import_ray()
    _start(ray, 2)
    found = {}
    heard = []
    jobs = [("exit", work + "/tries"), *(("square", n) for n in range(4)), ("raise", "a.svs: broken."), ("hang", 0)]
    outcomes = executor("ray", workers=2, limits=Limits(silent_seconds=6)).run(make, jobs, lambda *t: heard.append(t))
    found["outcomes"] = [told(o) for o in outcomes]
    found["heard"] = heard
    try:
        list(executor("ray", workers=1).run(broken, [("square", 1)]))
    except Exception as err:
        found["broken"] = [type(err).__name__, str(err)]
    report = Scanner([detector]).run(slides, work + "/ray", engine="ray", workers=2)
    found["failures"] = report.cohort.failures
    print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (80, 64, 64, 3)).astype(np.uint8)
    soft = noise // 2 + np.roll(noise, 1, axis=1) // 2
    data = TrainingSet(real=noise[:40], fake=soft[:40], calibration_real=noise[40:], calibration_fake=soft[40:])
    return train_detector("wht-lr", data).save(tmp_path_factory.mktemp("detectors") / "wht-lr")


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("slides")
    good = [
        write_svs(folder / f"{seed}.svs", purple_tissue((300, 300 + 40 * seed), np.random.default_rng(seed)))
        for seed in range(3)
    ]
    (folder / "text.svs").write_text("no slide")
    return [*good, folder / "text.svs"]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory, detector: Path, slides: list[Path]) -> tuple[dict[str, Any], Path]:
    """What the program printed, and its folder."""
    folder = tmp_path_factory.mktemp("ray")
    (folder / "program.py").write_text(PROGRAM)
    variables = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    variables |= {"RAY_AUTH_MODE": "disabled", "RAY_raylet_start_wait_time_s": "300"}  # a busy machine takes its time
    command = [sys.executable, str(folder / "program.py"), str(folder), str(detector), *map(str, slides)]
    done = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=600)
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stdout.splitlines() if line.startswith("{")]  # Ray prints of its own accord, and late
    return json.loads(told[-1]), folder


def files_of(folder: Path) -> dict[str, bytes]:
    """Everything but the record of the run."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != "run.json"
    }


@needs_ray
@pytest.mark.slow
def test_a_scan_on_ray_equals_a_serial_one_bit_for_bit(
    said: tuple[dict[str, Any], Path], detector: Path, slides: list[Path], tmp_path: Path
) -> None:
    found, folder = said
    report = Scanner([detector]).run(slides, tmp_path / "serial", engine="serial")
    assert files_of(folder / "ray") == files_of(tmp_path / "serial")
    assert len(report.cohort.verdicts) == 3
    assert [row["kind"] for row in found["failures"]] == ["SlideUnreadable"]
    assert str(folder.parent) not in json.dumps(found["failures"])


@needs_ray
@pytest.mark.slow
def test_failures_on_ray_are_values_and_a_lost_worker_is_replaced(said: tuple[dict[str, Any], Path]) -> None:
    found, folder = said
    outcomes = {index: (value, failure) for index, value, failure in found["outcomes"]}
    assert outcomes[0][1][0] == "crash"
    assert outcomes[0][1][2] == "the worker that had it ended."
    assert (folder / "tries").read_text() == "xx"  # once more than the first time
    assert [outcomes[1 + n][0] for n in range(4)] == [{"square": n * n} for n in range(4)]
    assert outcomes[5] == (None, ["error", "SlideUnreadable", "a.svs: broken."])
    assert outcomes[6][1] == ["timeout", "silent_seconds", "no sign of life for 6 s; stopped."]
    assert found["heard"] == [[6, 1, 2, "hanging"]]
    assert found["broken"] == ["ConfigError", "the detector is missing."]


def test_no_tasks_start_no_ray() -> None:
    assert list(executor("ray").run(dict, [])) == []  # type: ignore[arg-type]


def test_a_machine_without_ray_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"install it with: pip install 'histoforensics\[ray\]'"):
        list(executor("ray").run(dict, [1]))  # type: ignore[arg-type]


def test_bad_settings_are_one_sentence() -> None:
    for options, message in (
        ({"workers": 0}, "workers must be at least 1, got 0"),
        ({"gpus": -1.0}, "gpus must be at least 0, got -1.0"),
        ({"retries": -1}, "retries must be at least 0, got -1"),
    ):
        with pytest.raises(ConfigError, match=message):
            RayExecutor(**options)

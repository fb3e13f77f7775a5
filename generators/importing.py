"""Checkpoints of other projects as ours: sort out what a file holds, check what it was made with, convert, write.

What our networks cannot reproduce is refused (a conditional network, another architecture) or, where it only matters in
part, left out and named in the card (a discriminator that compares other groups, the clamp of half precision).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from histoforensics.slides import CheckpointError, Progress, atomic_folder, file_digest, require

from .checkpoints import save_discriminator, save_generator
from .config import TrainConfig
from .conversion import StyleConfig, converted, network_config
from .families import FAMILIES, Discriminator
from .foreign import read_foreign
from .mapping import StyleGenerator
from .records import Array
from .sorting import DISCRIMINATOR_SETTINGS, Foreign, Stored, mismatches, not_reproduced, sort_out
from .unpickle import Refused

LICENCE = (
    "NVIDIA's published weights, and weights trained on from them or with NVIDIA's code, may be used for "
    "non-commercial purposes only; this tool cannot tell where weights come from, so ask their author."
)
MEAN_OF = 10_000  # latents whose mean w stands in for one that a file lacks


def import_checkpoint(
    path: Path | str, out: Path | str, *, overwrite: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """Write a foreign checkpoint as a folder of ours, and return what was imported: the card's "imported".

    Read are snapshots of stylegan2-ada-pytorch and of StyleGAN3's code (StyleGAN2 networks, .pkl), of rosinality's port
    (.pt, training files and converted ones), and of the TensorFlow StyleGAN and StyleGAN2 (.pkl). The folder holds the
    averaged generator and, where it can be reproduced, the discriminator.

    Raises:
        CheckpointError: The file is none of these, damaged, unsafe, or of a network that this tool does not have.
        ConfigError: ``out`` holds the file itself, or is not empty and ``overwrite`` is false.
    """
    path, out, say = Path(path), Path(out), progress or _silent
    apart = not path.resolve().is_relative_to(out.resolve())  # else --overwrite would sweep the file away
    require(apart, "out", "a folder that does not hold the checkpoint", out.name)
    say(0, 3, "reading")
    value = read_foreign(path)
    try:
        foreign = sort_out(value)
        config = network_config(foreign)
        say(1, 3, f"{foreign.kind}, {config.resolution} px")
        G, D, left_out = _networks(foreign, config)
    except Refused as err:
        raise CheckpointError(f"{path.name} {err}.") from err
    lacks_mean = foreign.kind == "rosinality" and "latent_avg" not in foreign.generator
    if lacks_mean:
        G.w_avg.copy_(_mean_w(G))
    say(2, 3, "writing")
    imported = {
        "kind": foreign.kind, "file": path.name, "sha256": file_digest(path), "has_discriminator": D is not None,
        "not_imported": left_out, "not_reproduced": not_reproduced(foreign.generator_settings),
        "w_avg": f"mean of {MEAN_OF} latents, seed 0" if lacks_mean else "from the file", "licence": LICENCE,
    }  # fmt: skip
    origin = f"unknown: {foreign.kind} {path.name}"
    card = {"images": None, "lod": 0.0, "data": {"origin": origin}, "imported": imported}
    with atomic_folder(out, overwrite=overwrite) as work:
        save_generator(work, G, _train_config(foreign.family, config), card)
        if D is not None:
            save_discriminator(work, D)
    say(3, 3, "done")
    return imported


def _networks(foreign: Foreign, config: StyleConfig) -> tuple[StyleGenerator, Discriminator | None, list[str]]:
    """G, D where it can be reproduced, and what of the file is left out.

    Shapes are compared with networks that have no memory: real ones are built once all numbers are known to be there.
    """
    with torch.device("meta"):
        shapes = [network.state_dict() for network in FAMILIES[foreign.family].build(config)]
    table = foreign.generator_table(config.resolution, config.mapping_layers)
    tensors = converted(shapes[0], table, _with_mean(foreign, config.w_dim))
    table, critic, left_out = foreign.discriminator_table(config.resolution), None, list(foreign.left_out)
    unlike = mismatches(foreign.discriminator_settings, DISCRIMINATOR_SETTINGS)
    if foreign.discriminator is None:
        left_out.append("the discriminator: the file has none")
    elif unlike:
        name, value, wanted = unlike[0]
        left_out.append(f"the discriminator: it was made with {name} {value}, and only {wanted} can be reproduced")
    else:
        critic = converted(shapes[1], table, foreign.discriminator)
    G, D = FAMILIES[foreign.family].build(config, seed=0)
    G.load_state_dict(tensors)
    assert isinstance(G, StyleGenerator)
    if critic is None:
        return G, None, left_out
    D.load_state_dict(critic)
    return G, D, left_out


def _with_mean(foreign: Foreign, w_dim: int) -> dict[str, Stored]:
    """The generator's tensors; rosinality's file may lack a mean of w, then zeros, which `_mean_w` replaces."""
    if foreign.kind != "rosinality":
        return foreign.generator
    return {"latent_avg": Array((w_dim,), bytes(4 * w_dim), torch.float32), **foreign.generator}


def _mean_w(G: StyleGenerator) -> Tensor:
    z = torch.randn(MEAN_OF, G.z_dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        mean: Tensor = G.mapping(z).double().mean(0).float()
    return mean


def _train_config(family: str, network: StyleConfig) -> TrainConfig:
    stated = (("the run", "unknown", "imported weights: only the network's settings here are theirs"),)
    return TrainConfig(family=family, network=network, kimg=1.0, stated=stated)


def _silent(done: int, total: int, note: str = "") -> None:
    pass

"""A StyleGAN2 of ours under stylegan2-ada-pytorch's names, as safetensors: their networks load it without a pickle.

The file holds the state dicts of ``G_ema`` and, where the checkpoint has one, of ``D``; its header says how to make the
networks that they fit.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from histoforensics.slides import CheckpointError, write_atomic

from .checkpoints import load_discriminator, load_generator
from .interchange import Table, discriminator_table, generator_table, resample_filters
from .resample import FIR, outer_kernel
from .stylegan2 import StyleGAN2Config


def export_checkpoint(checkpoint: Path | str, out: Path | str) -> list[str]:
    """Write the networks of a folder of ours to ``out``, a .safetensors file, and return their names.

    In stylegan2-ada-pytorch::

        tensors = safetensors.torch.load_file(out)
        G.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("G_ema.")})

    Raises:
        CheckpointError: ``checkpoint`` is no generator of ours, or not a StyleGAN2.
    """
    loaded, folder = load_generator(checkpoint), Path(checkpoint)
    network = loaded.config.network_at(loaded.lod)
    if not isinstance(network, StyleGAN2Config):
        raise CheckpointError(
            f"{loaded.name} is a {loaded.config.family}; stylegan2-ada-pytorch has names for stylegan2 alone."
        )
    D = load_discriminator(folder if folder.is_dir() else folder.parent, loaded.config, loaded.lod)
    filters_g, filters_d = resample_filters(network.resolution)
    table = generator_table("stylegan2-ada-pytorch", network.resolution, network.mapping_layers)
    tensors = _renamed("G_ema", loaded.module, table, filters_g)
    if D is not None:
        tensors |= _renamed("D", D, discriminator_table("stylegan2-ada-pytorch", network.resolution), filters_d)
    header = {"format": "state dicts of stylegan2-ada-pytorch", "G_ema": json.dumps(made_with(network))}
    write_atomic(out, save(tensors, metadata=header))
    return ["G_ema"] if D is None else ["G_ema", "D"]


def made_with(network: StyleGAN2Config) -> dict[str, object]:
    """The arguments that make this generator in stylegan2-ada-pytorch."""
    synthesis = {"channel_base": 2 * network.fmap_base, "channel_max": network.fmap_max, "num_fp16_res": 0}
    return {
        "z_dim": network.z_dim, "c_dim": 0, "w_dim": network.w_dim, "img_resolution": network.resolution,
        "img_channels": 3, "mapping_kwargs": {"num_layers": network.mapping_layers}, "synthesis_kwargs": synthesis,
    }  # fmt: skip


def _renamed(part: str, network: nn.Module, table: Table, filters: list[str]) -> dict[str, Tensor]:
    tensors = {f"{part}.{table[ours].name}": x.contiguous() for ours, x in network.state_dict().items()}
    kernel = outer_kernel(FIR, like=torch.zeros(()))
    return tensors | {f"{part}.{name}": kernel.clone() for name in filters}

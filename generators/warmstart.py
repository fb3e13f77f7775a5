"""Warm starts: networks of one size that inherit all that fits from trained ones of half the size.

StyleGAN grows by itself, as published. StyleGAN2 and PathologyGAN do not; where a run asks for it they are trained
small first and rebuilt at twice the side. This is no part of the published training; it is what makes a run on a CPU
pay: a step at 32 px costs a tenth of one at 128 px, and the large shapes are learnt there.
"""

from __future__ import annotations

import re

import torch
from torch import nn

from .families import Discriminator, Generator
from .spectral import SpectralWeight
from .stylegan2 import StyleGAN2Generator


@torch.no_grad()
def inherit_generator(large: Generator, small: Generator) -> None:
    """Fill ``large`` from ``small``: G's stages count from the smallest side, so equal names are equal layers.

    StyleGAN2 sums the images of its stages; the new one's starts at zero, so that at first the old image is enlarged.
    """
    _copy(large, {name: name for name in small.state_dict()}, small)
    if isinstance(large, StyleGAN2Generator):
        for name, weight in large.named_parameters():
            if name.endswith("to_rgb.conv.weight") and name not in dict(small.named_parameters()):
                weight.zero_()


@torch.no_grad()
def inherit_discriminator(large: Discriminator, small: Discriminator) -> None:
    """Fill ``large`` from ``small``: D's stages count from the largest side, so theirs move up by the new ones."""
    shift = len(large.blocks) - len(small.blocks)
    names = {
        name: re.sub(r"^blocks\.(\d+)", lambda m: f"blocks.{int(m[1]) + shift}", name) for name in small.state_dict()
    }
    _copy(large, names, small)


@torch.no_grad()
def settle(network: nn.Module, steps: int = 30) -> None:
    """Bring the singular vectors of a network's spectral weights to rest.

    A fresh vector underestimates the norm, so that a new layer comes too strong: after a doubling D's logits reached 45
    and undid what G had learnt. At the beginning of a run, where nothing can be lost, vectors stay fresh as published.
    """
    for module in network.modules():
        if isinstance(module, SpectralWeight):
            for _ in range(steps):
                module()


def _copy(large: nn.Module, names: dict[str, str], small: nn.Module) -> None:
    wanted = large.state_dict()
    for name, tensor in small.state_dict().items():
        target = wanted.get(names[name])
        if target is not None and target.shape == tensor.shape:
            target.copy_(tensor)

"""Sheets: samples, truncation and interpolation as one picture each.

References: Karras et al. 2019, arXiv:1812.04948, appendix B (truncation); White 2016, arXiv:1609.04468 (slerp).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from histoforensics.slides import require

from .checkpoints import LoadedGenerator
from .layers import NoiseMode
from .sampling import check_sampling, latents, sample, sheet, to_pixels
from .stylegan import StyleGANGenerator

PSIS = (0.0, 0.25, 0.5, 0.7, 0.85, 1.0)
ROWS, STEPS = 6, 8

Space = Literal["w", "z"]


def sample_sheet(generator: LoadedGenerator, count: int = 64, *, seed: int = 0) -> NDArray[np.uint8]:
    """The first ``count`` images of a seed in a square, uint8 (h, w, 3)."""
    require(count >= 1, "count", "at least 1", count)
    return sheet(np.concatenate(list(sample(generator, count, seed=seed))))


def can_truncate(generator: LoadedGenerator) -> bool:
    """The generator keeps an average style to truncate towards; PathologyGAN does not."""
    return hasattr(generator.module, "w_avg")


def truncation_sheet(
    generator: LoadedGenerator,
    *,
    rows: int = ROWS,
    psis: Sequence[float] = PSIS,
    seed: int = 0,
    noise: NoiseMode = "const",
) -> NDArray[np.uint8]:
    """A latent a row, a truncation psi a column, uint8 (rows * px, len(psis) * px, 3).

    Raises:
        ConfigError: A psi outside 0 to 1, or a generator that keeps no average style (scaled latents would not be
            truncation).
    """
    require(rows >= 1, "rows", "at least 1", rows)
    require(len(psis) >= 1, "psis", "at least one psi", list(psis))
    for psi in psis:
        check_sampling(generator.module, psi, noise)
    columns = [
        np.concatenate(list(sample(generator, rows, seed=seed, psi=float(psi), noise=noise, batch=rows)))
        for psi in psis
    ]
    return _grid(np.stack(columns, axis=1))


def interpolation_sheet(
    generator: LoadedGenerator, *, rows: int = ROWS, steps: int = STEPS, seed: int = 0, space: Space = "w"
) -> NDArray[np.uint8]:
    """From one latent to another in each row, uint8 (rows * px, steps * px, 3), with stored noise.

    Args:
        generator: From `load_generator`.
        rows: Pairs of latents: numbers 0 and 1 of the seed, 2 and 3, ...
        steps: Pictures in a row, both ends included.
        seed: Fixes the latents.
        space: "w" mixes the two styles linearly, "z" walks the great circle between the two latents.
    """
    require(rows >= 1, "rows", "at least 1", rows)
    require(steps >= 2, "steps", "at least 2", steps)
    require(space in get_args(Space), "space", "w or z", space)
    return _grid(np.stack([_walk(generator, seed, row, steps, space) for row in range(rows)]))


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """The point at share ``t`` (0 to 1) of the great circle from ``a`` to ``b``, both (1, d); lengths go with it.

    >>> slerp(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), 0.5)
    tensor([[0.7071, 0.7071]])
    """
    cosine = torch.cosine_similarity(a, b).clamp(-1.0, 1.0)
    angle = torch.arccos(cosine)
    sine = angle.sin()
    if float(sine) < 1e-6:  # on one line: the great circle is that line, or any
        return torch.lerp(a, b, t)
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / sine


@torch.no_grad()
def _walk(generator: LoadedGenerator, seed: int, row: int, steps: int, space: Space) -> NDArray[np.uint8]:
    G = generator.module
    device = next(iter(G.parameters())).device
    ends = [latents(seed, 2 * row + end, G.z_dim).to(device) for end in (0, 1)]
    shares = np.linspace(0.0, 1.0, steps)
    if space == "w":
        first, last = (G.styles(z) for z in ends)
        styles = [torch.lerp(first, last, float(t)) for t in shares]
    else:
        styles = [G.styles(slerp(ends[0], ends[1], float(t))) for t in shares]
    images = np.concatenate([to_pixels(_synthesis(generator, ws), G.value_range) for ws in styles])
    factor = generator.config.resolution // images.shape[1]  # above 1: the run ended before it was full-grown
    return images.repeat(factor, axis=1).repeat(factor, axis=2)


def _synthesis(generator: LoadedGenerator, ws: Tensor) -> Tensor:
    G = generator.module
    images: Tensor = (
        G.synthesis(ws, noise="const", lod=generator.lod)
        if isinstance(G, StyleGANGenerator)
        else G.synthesis(ws, noise="const")
    )
    return images


def _grid(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pictures (rows, columns, h, w, 3) side by side."""
    rows, columns, h, w, c = images.shape
    return images.swapaxes(1, 2).reshape(rows * h, columns * w, c)

"""Sampling: image i of a seed is the same image whatever the batch, the count or the order.

Images are computed in rows of eight, numbers 0 to 7, 8 to 15 and so on, a whole row even where one image of it is
wanted: the convolutions of a batch of another size may round differently, and an image at a time takes longer.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from histoforensics.slides import PatchSet, PatchSetWriter, Progress, require

from .checkpoints import LoadedGenerator
from .config import Precision
from .families import Generator
from .freed_memory import keep_freed_memory
from .layers import NOISE_MODES, NoiseMode
from .stylegan import StyleGANGenerator

ROW = 8  # images computed together
_LATENT, _NOISE = 0, 1  # streams of random numbers


def sample(
    generator: LoadedGenerator,
    count: int,
    *,
    seed: int = 0,
    psi: float = 1.0,
    noise: NoiseMode = "random",
    batch: int = 16,
    start: int = 0,
    precision: Precision = "fp32",
) -> Iterator[NDArray[np.uint8]]:
    """Images ``start`` to ``start + count`` of ``seed``, in arrays (b, h, w, 3) of at most ``batch``.

    From then on the process keeps the memory that it frees for its next tensors (`keep_freed_memory`).

    Args:
        generator: From `load_generator`.
        count: How many images.
        seed: Fixes every image together with its number.
        psi: Truncation: 1 none, 0 the average image (Karras et al. 2019, section B).
        noise: "random" new noise for each image, "const" one stored noise for all, "none".
        batch: Images in one array; it changes no image.
        start: Number of the first image.
        precision: "bf16" convolves in reduced precision, 1.1 to 1.3 times as quick on a CPU with AMX. Of the shipped
            StyleGANs' values it moves 99 % by at most 2 of 255, of PathologyGAN's by at most 6.
    """
    require(count >= 0, "count", "at least 0", count)
    require(batch >= 1, "batch", "at least 1", batch)
    check_sampling(generator.module, psi, noise, precision)
    keep_freed_memory()
    for first in range(start, start + count, batch):
        numbers = range(first, min(first + batch, start + count))
        images = draw(generator.module, numbers, seed, psi=psi, noise=noise, lod=generator.lod, precision=precision)
        factor = generator.config.resolution // images.shape[1]  # above 1: the run ended before it was full-grown
        yield images.repeat(factor, axis=1).repeat(factor, axis=2)


def sample_patchset(
    generator: LoadedGenerator,
    count: int,
    out: Path | str,
    *,
    seed: int = 0,
    psi: float = 1.0,
    noise: NoiseMode = "random",
    precision: Precision = "fp32",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> PatchSet:
    """Write ``count`` fakes as a PatchSet that records generator, checkpoint, seed, psi and noise mode of each.

    The precision, which all share, stands in its card.
    """
    require(count >= 1, "count", "at least 1", count)
    check_sampling(generator.module, psi, noise, precision)
    family, mpp = generator.config.family, generator.card.get("data", {}).get("mpp")
    card = {
        "kind": "fake", "family": family, "generator": generator.name, "checkpoint_sha256": generator.sha256,
        "count": count, "seed": seed, "psi": psi, "noise_mode": noise, "precision": precision,
        "images_seen": generator.card.get("images"),
    }  # fmt: skip
    with PatchSetWriter(Path(out), card=card, overwrite=overwrite) as writer:
        done = 0
        for pixels in sample(generator, count, seed=seed, psi=psi, noise=noise, precision=precision):
            for one in pixels:
                writer.add(
                    one, label="fake", source_slide=family, generator=family, mpp=mpp,
                    checkpoint_sha256=generator.sha256, seed=seed, psi=psi, noise_mode=noise,
                )  # fmt: skip
                done += 1
            if progress is not None:
                progress(done, count, f"{family} fakes")
    return PatchSet.open(Path(out))


def draw(
    G: Generator,
    numbers: Iterable[int],
    seed: int,
    *,
    psi: float = 1.0,
    noise: NoiseMode = "random",
    lod: float = 0.0,
    precision: Precision = "fp32",
) -> NDArray[np.uint8]:
    """The images with these numbers, uint8 (n, h, w, 3). ``G`` is put into evaluation mode and back."""
    wanted = list(numbers)
    was_training = G.training
    G.eval()
    try:
        needed = {number // ROW: None for number in wanted}
        rows = {row: _row(G, row, seed, psi, noise, lod, precision) for row in needed}
    finally:
        G.train(was_training)
    return np.stack([rows[number // ROW][number % ROW] for number in wanted])


def latents(seed: int, number: int, z_dim: int) -> Tensor:
    """The latent (1, z_dim) of image ``number``."""
    return torch.randn(1, z_dim, generator=torch.Generator().manual_seed(stream(seed, number, _LATENT)))


def stream(*key: int) -> int:
    """A seed from 0 to 2^63 - 1 that depends on all of ``key``, so that no two streams of random numbers overlap."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest()) >> 1


def to_pixels(images: Tensor, value_range: tuple[float, float]) -> NDArray[np.uint8]:
    """Images (n, 3, h, w) of the value range as uint8 (n, h, w, 3), rounded and clipped.

    >>> to_pixels(torch.tensor([-1.0, 0.0, 2.0]).view(1, 3, 1, 1), (-1.0, 1.0)).tolist()
    [[[[0, 128, 255]]]]
    """
    low, high = value_range
    scaled = (images.float() - low).mul_(255 / (high - low)).round_().clamp_(0, 255)
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def sheet(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images (n, h, w, 3) side by side in a square as near as n allows, white where none is left."""
    n, h, w, c = images.shape
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    canvas = np.full((rows * columns, h, w, c), 255, np.uint8)
    canvas[:n] = images
    return canvas.reshape(rows, columns, h, w, c).swapaxes(1, 2).reshape(rows * h, columns * w, c)


def check_sampling(G: Generator, psi: float, noise: str, precision: str = "fp32") -> None:
    """Refuse a truncation or a noise mode that the generator does not have, and an unknown precision."""
    require(0.0 <= psi <= 1.0, "psi", "from 0 to 1", psi)
    require(psi == 1.0 or hasattr(G, "w_avg"), "psi", "1 for a generator that keeps no average style", psi)
    require(noise in NOISE_MODES, "noise", f"one of {', '.join(NOISE_MODES)}", noise)
    require(precision in get_args(Precision), "precision", "fp32 or bf16", precision)


@torch.no_grad()
def _row(
    G: Generator, row: int, seed: int, psi: float, noise: NoiseMode, lod: float, precision: Precision
) -> NDArray[np.uint8]:
    """Images ``row`` * ROW to (``row`` + 1) * ROW, uint8 (ROW, h, w, 3)."""
    device = next(iter(G.parameters())).device
    rng = torch.Generator(device).manual_seed(stream(seed, row, _NOISE))
    z = torch.cat([latents(seed, number, G.z_dim) for number in range(row * ROW, (row + 1) * ROW)]).to(device)
    ws = G.styles(z, psi)  # costs next to nothing, and every pixel hangs on it: always in full precision
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        images: Tensor = (
            G.synthesis(ws, noise=noise, rng=rng, lod=lod)
            if isinstance(G, StyleGANGenerator)
            else G.synthesis(ws, noise=noise, rng=rng)
        )
    return to_pixels(images, G.value_range)

"""Generators: training and sampling of the compact StyleGANs against the same networks written the plain way.

One core, both in turns, images a second of CPU time. A training step is what the compact preset does, with R1 at every
16th; ours in the precision that each line names, the plain one always in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from plain_gans import PlainTraining, plain
from ratio import Ratio, compare

from histoforensics.generators import CropSource, preset
from histoforensics.generators.data import Picture
from histoforensics.generators.run import Run

SIDES = (64, 128, 256)
SAMPLES = 8
TOLERANCE = 1e-4  # of the largest value; StyleGAN divides by standard deviations, which magnifies rounding


def crops(side: int) -> CropSource:
    pixels = np.random.default_rng(0).integers(0, 256, (700, 700, 3), dtype=np.uint8)
    return CropSource([Picture("noise", 700, 700, lambda: pixels)], side, digest="noise")


def new_run(family: str, side: int, precision: str = "fp32") -> Run:
    torch.set_num_threads(1)
    config = replace(preset(family, "compact", resolution=side), growth=None, precision=precision)
    return Run(crops(side), config, torch.device("cpu"))


def assert_equal_networks(run: Run) -> None:
    """The plain networks give what ours give: else a ratio of times says nothing."""
    rng = torch.Generator().manual_seed(0)
    G, D = run.players.G.eval(), run.players.D
    z = torch.randn(4, G.z_dim, generator=rng)
    images = torch.randn(4, 3, G.resolution, G.resolution, generator=rng)
    with torch.no_grad():
        for part in (G.synthesis, D):
            for name, parameter in part.named_parameters():
                if "noise" in name or "bias" in name:  # at the start they are zero, and would hide a difference
                    parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng))
        for ours, other in ((G(z, noise="const"), plain(G)(z, noise="const")), (D(images), plain(D)(images))):
            torch.testing.assert_close(other, ours, rtol=0, atol=TOLERANCE * max(1.0, float(ours.abs().max())))
    G.train()


def our_step(run: Run, with_r1: bool) -> None:
    run.steps = 0 if with_r1 else 1
    run.step()


def training(family: str, side: int, precision: str, turns: int) -> Ratio:
    run = new_run(family, side, precision)
    if precision == "fp32":
        assert_equal_networks(run)
    script, every, n = PlainTraining(run), run.config.r1_every, run.config.batch_size(0.0)
    parts = [
        compare("", lambda r1=r1: script.step(with_r1=r1), lambda r1=r1: our_step(run, r1), wanted=1.0, turns=turns)
        for r1 in (False, True)
    ]
    shares = ((every - 1) / every / n, 1 / every / n)
    plain_seconds, our_seconds = (
        sum(share * getattr(part, which) for share, part in zip(shares, parts, strict=True))
        for which in ("plain_seconds", "our_seconds")
    )
    name = f"{family} {side} px, training an image, {precision}"
    return Ratio(name, plain_seconds, our_seconds, 2.0 if side == 256 else 1.5)


@torch.no_grad()
def sampling(family: str, side: int, turns: int) -> Ratio:
    run = new_run(family, side)
    ours = run.players.G_ema.eval()
    other = plain(ours)
    z = torch.randn(SAMPLES, 1, ours.z_dim, generator=torch.Generator().manual_seed(0))
    name = f"{family} {side} px, sampling {SAMPLES} images"
    return compare(
        name, lambda: [other(one) for one in z], lambda: [ours(one) for one in z],
        wanted=2.0 if side == 256 else 1.5, turns=turns,
    )  # fmt: skip


def measurements() -> Iterator[Ratio]:
    torch.set_flush_denormal(True)
    for family in ("stylegan2", "stylegan"):
        for side in SIDES:
            turns = 3
            for precision in ("fp32", "bf16"):
                yield training(family, side, precision, turns)
            yield sampling(family, side, turns)

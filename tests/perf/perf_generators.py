"""Generators: training and sampling of the compact StyleGANs against the same networks written the plain way.

One core, both in turns, images a second of CPU time. A training step is what the compact preset does, with R1 at every
16th; ours in the precision that each line names, the plain one always in float32.
"""

from __future__ import annotations

import copy
import resource
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from plain_gans import PlainTraining, plain
from ratio import Ratio, compare

from histoforensics.generators import CropSource, preset
from histoforensics.generators.data import Picture
from histoforensics.generators.freed_memory import keep_freed_memory
from histoforensics.generators.run import Run
from histoforensics.generators.sampling import ROW, draw, latents, to_pixels

SIDES = (64, 128, 256)
IMAGES = 4 * ROW  # sampled in a turn
TOLERANCE = 1e-9  # of the largest value


def crops(side: int) -> CropSource:
    pixels = np.random.default_rng(0).integers(0, 256, (700, 700, 3), dtype=np.uint8)
    return CropSource([Picture("noise", 700, 700, lambda: pixels)], side, digest="noise")


def new_run(family: str, side: int, precision: str = "fp32") -> Run:
    torch.set_num_threads(1)
    config = replace(preset(family, "compact", resolution=side), growth=None, precision=precision)
    return Run(crops(side), config, torch.device("cpu"))


def assert_equal_networks(run: Run) -> None:
    """The plain networks give what ours give, in float64: else a ratio of times says nothing."""
    rng = torch.Generator().manual_seed(0)
    G, D = (copy.deepcopy(part).double().eval() for part in (run.players.G, run.players.D))
    z = torch.randn(4, G.z_dim, generator=rng, dtype=torch.float64)
    images = torch.randn(4, 3, G.resolution, G.resolution, generator=rng, dtype=torch.float64)
    with torch.no_grad():
        for part in (G.synthesis, D):
            for name, parameter in part.named_parameters():
                if "noise" in name or "bias" in name:  # at the start they are zero, and would hide a difference
                    parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng))
        for ours, other in ((G(z, noise="const"), plain(G)(z, noise="const")), (D(images), plain(D)(images))):
            assert ours.dtype == other.dtype == torch.float64
            torch.testing.assert_close(other, ours, rtol=0, atol=TOLERANCE * max(1.0, float(ours.abs().max())))


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
def sampling(family: str, side: int, turns: int) -> list[Ratio]:
    """Images of numbers 0 to 31 as uint8: the plain way one after the other, as the published scripts do, and by eight.

    The second line leaves out what the batch alone gives. Four rows a turn, since the first one after another program's
    turn finds nothing of its own in the CPU's caches.
    """
    ours = new_run(family, side).players.G_ema.eval()
    other = plain(ours)

    def one_by_one() -> None:
        for number in range(IMAGES):
            to_pixels(other(latents(0, number, ours.z_dim), noise="random"), ours.value_range)

    def at_once() -> None:
        for first in range(0, IMAGES, ROW):
            z = torch.cat([latents(0, number, ours.z_dim) for number in range(first, first + ROW)])
            to_pixels(other(z, noise="random"), ours.value_range)

    def in_rows() -> None:
        draw(ours, range(IMAGES), 0)

    name, wanted = f"{family} {side} px, sampling {IMAGES} images", 2.0 if side == 256 else 1.5
    return [
        compare(name, one_by_one, in_rows, wanted=wanted, turns=turns),
        compare(f"{name}, plain by {ROW}", at_once, in_rows, wanted=wanted, turns=turns),
    ]


@dataclass(frozen=True)
class Memory:
    """What training adds to the peak memory of a process, megabytes, the plain way and ours."""

    name: str
    plain_mb: float
    our_mb: float

    @property
    def times(self) -> float:
        return self.plain_mb / self.our_mb

    def __str__(self) -> str:
        return f"{self.name:58} plain {self.plain_mb:9.0f} MB  ours {self.our_mb:9.0f} MB  x {self.times:6.2f}"


def peak_mb(family: str, side: int, precision: str, which: str) -> float:
    command = [sys.executable, __file__, family, str(side), precision, which]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def memory(family: str, side: int, precision: str) -> Memory:
    idle, script, ours = (peak_mb(family, side, precision, which) for which in ("idle", "plain", "ours"))
    return Memory(f"{family} {side} px, memory of a training step, {precision}", script - idle, ours - idle)


def child(family: str, side: str, precision: str, which: str) -> None:
    """Print the peak memory of this process after two steps, one of them with R1."""
    run = new_run(family, int(side), precision)
    if which == "ours":
        keep_freed_memory()
        our_step(run, True), our_step(run, False)
    elif which == "plain":
        script = PlainTraining(run)
        script.step(with_r1=True), script.step(with_r1=False)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def input_pipeline() -> Ratio:
    """Seconds an image that training takes, over those that its crop takes: 10 is "never the bottleneck"."""
    run = new_run("stylegan2", 128, "bf16")
    n = run.config.batch
    return compare(
        "stylegan2 128 px, training a batch: its input",
        lambda: our_step(run, False),
        lambda: run.data.draw(0, 0, n, "dihedral"),
        wanted=10.0,
    )


@torch.no_grad()
def denormals() -> Ratio:
    """Images whose features have died away to numbers below 1e-38, kept as they are and taken as zero."""
    G = new_run("stylegan2", 64).players.G_ema.eval()
    G.synthesis.const.value.mul_(1e-40)
    z = torch.randn(ROW, G.z_dim, generator=torch.Generator().manual_seed(0))

    def images(flush: bool) -> None:
        torch.set_flush_denormal(flush)
        G(z, noise="none")
        torch.set_flush_denormal(True)

    name = "stylegan2 64 px, dying features: denormals kept"
    return compare(name, lambda: images(False), lambda: images(True), wanted=0.9)  # to lose nothing is enough


def measurements() -> Iterator[Ratio | Memory]:
    torch.set_flush_denormal(True)
    keep_freed_memory()  # as training does; it serves the plain way too
    yield input_pipeline()
    yield denormals()
    yield memory("stylegan2", 128, "fp32")
    yield memory("stylegan2", 128, "bf16")
    for family in ("stylegan2", "stylegan"):
        for side in SIDES:
            turns = 3
            for precision in ("fp32", "bf16"):
                yield training(family, side, precision, turns)
            yield from sampling(family, side, turns)


if __name__ == "__main__":
    child(*sys.argv[1:])

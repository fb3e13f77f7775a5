"""Tiling: reading and filtering against a bare OpenSlide loop, and replaying codecs batched against one at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openslide
from ratio import Ratio, compare

from histoforensics.slides import MppGrid, replay, sample_slide, tile
from histoforensics.slides.slide import Slide

PX = 256


def bare_loop(path: Path) -> None:
    """Every whole 256-px tile read by OpenSlide and turned into an array, nothing else."""
    with openslide.OpenSlide(path) as slide:
        width, height = slide.dimensions
        for y in range(0, height - PX + 1, PX):
            for x in range(0, width - PX + 1, PX):
                np.asarray(slide.read_region((x, y), 0, (PX, PX)))


def measurements() -> Iterator[Ratio]:
    path = sample_slide()
    with tempfile.TemporaryDirectory() as folder:
        grid = MppGrid(mpp=0.499, patch_px=PX, stride_px=PX)
        yield compare(
            "tiling without writing: a bare OpenSlide loop",
            lambda: bare_loop(path),
            lambda: tile([path], grid, Path(folder) / "out", min_tissue=0.5, dry_run=True),
            wanted=0.9,
        )
    with Slide.open(path) as slide:
        patches = np.stack([slide.read(x, 1120, 112, 112) for x in range(0, 1792, 112)])
        x = np.arange(0, 1792, 112)
        yield compare(
            "two JPEG generations on 16 patches: one patch a call",
            lambda: [replay(slide.codec, patches[i : i + 1], x[i], 1120) for i in range(len(x))],
            lambda: replay(slide.codec, patches, x, 1120),
            wanted=1.0,
        )

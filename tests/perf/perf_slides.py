"""Tiling: reading and filtering against a bare OpenSlide loop, writing against one Deep Zoom tile at a time; replaying
codecs batched against one patch a call."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openslide
from clock import compare_by_clock
from openslide.deepzoom import DeepZoomGenerator
from PIL import Image
from ratio import Ratio, compare

from histoforensics.slides import MppGrid, PaperGrid, PatchSet, replay, sample_slide, tile
from histoforensics.slides.slide import Slide

PX, OVERLAP_PX = 256, 50


def bare_loop(path: Path) -> None:
    """Every whole 256-px tile read by OpenSlide and turned into an array, nothing else."""
    with openslide.OpenSlide(path) as slide:
        width, height = slide.dimensions
        for y in range(0, height - PX + 1, PX):
            for x in range(0, width - PX + 1, PX):
                np.asarray(slide.read_region((x, y), 0, (PX, PX)))


def naive_loop(path: Path, out: Path) -> None:
    """The paper's grid as everybody writes it first: one Deep Zoom tile, one PNG by Pillow, in one process."""
    out.mkdir(parents=True)
    with openslide.OpenSlide(path) as slide:
        zoom = DeepZoomGenerator(slide, tile_size=PX - 2 * OVERLAP_PX, overlap=OVERLAP_PX)
        level = zoom.level_count - 1
        columns, rows = zoom.level_tiles[level]
        for row in range(rows):
            for column in range(columns):
                cut = zoom.get_tile(level, (column, row))
                if cut.size == (PX, PX):
                    x, y = zoom.get_tile_coordinates(level, (column, row))[0]
                    cut.save(out / f"{x}_{y}.png")


def refuse_other_pixels(naive: Path, ours: Path) -> None:
    """Both ways have to write the same patches."""
    patches = PatchSet.open(ours)
    files = sorted(naive.iterdir())
    assert len(patches) == len(files), (len(patches), len(files))
    for pixels, x, y in zip(patches.pixels(), patches.table["x_level0"], patches.table["y_level0"], strict=True):
        with Image.open(naive / f"{x}_{y}.png") as image:
            assert np.array_equal(np.asarray(image), pixels), (x, y)


def measurements() -> Iterator[Ratio]:
    path = sample_slide()
    with tempfile.TemporaryDirectory() as folder:
        grid = MppGrid(mpp=0.499, patch_px=PX, stride_px=PX)
        yield compare(
            "tiling without writing: a bare OpenSlide loop",
            lambda: bare_loop(path),
            lambda: tile([path], grid, Path(folder) / "out", min_tissue=0.5, dry_run=True),
            wanted=0.9,
            turns=15,
        )
        numbers = iter(range(1000))
        naive, ours = Path(folder) / "naive", Path(folder) / "ours"
        naive_loop(path, naive), tile([path], PaperGrid(level="max"), ours)
        refuse_other_pixels(naive, ours)
        yield compare_by_clock(
            "tiling with PNGs, 2 cores: Deep Zoom tile by tile, one PNG each",
            lambda: naive_loop(path, naive / f"{next(numbers)}"),
            lambda: tile([path], PaperGrid(level="max"), ours / f"{next(numbers)}", threads=2),
            wanted=1.8,
            turns=5,
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

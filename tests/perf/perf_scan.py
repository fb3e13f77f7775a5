"""Scanning: one pass over a slide against its parts, decoding and judging, each measured alone and without overlap."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openslide
from numpy.typing import NDArray
from ratio import Ratio, compare

from histoforensics.forensics import Detector, TrainingSet, train_detector
from histoforensics.forensics.scan import SlideScan, scan_slide
from histoforensics.forensics.scan_grid import ScanGrid
from histoforensics.forensics.scoremap import OK
from histoforensics.slides import Slide, sample_slide
from histoforensics.slides.synthetic import GLASS, purple_tissue, write_svs

PX, BLOCK_PX = 112, 2048


def decode(path: Path, block_px: int) -> None:
    """Every pixel of level 0 read once by OpenSlide, in blocks, as RGB arrays, nothing else."""
    with openslide.OpenSlide(path) as slide:
        width, height = slide.dimensions
        for y in range(0, height, block_px):
            for x in range(0, width, block_px):
                size = min(block_px, width - x), min(block_px, height - y)
                np.asarray(slide.read_region((x, y), 0, size).convert("RGB"))


def scan(path: Path, judge: Detector, grid: ScanGrid) -> SlideScan:
    with Slide.open(path, mpp=0.5) as slide:
        return scan_slide(slide, {judge.name: judge}, grid)


def trained(name: str) -> Detector:
    """A detector that was shown next to nothing: speed does not depend on what it learned."""
    rng = np.random.default_rng(0)
    real, fake = (rng.integers(low, 256, (24, PX, PX, 3)).astype(np.uint8) for low in (0, 100))
    data = TrainingSet(real=real[:16], fake=fake[:16], calibration_real=real[16:], calibration_fake=fake[16:])
    options = {"budget_seconds": 2.0} if name == "npr" else {}
    return train_detector(name, data, **options)


def patches_of(path: Path, found: SlideScan) -> NDArray[np.uint8]:
    rows, columns = np.nonzero(found.scores.status == OK)
    step = found.scores.lattice.stride_px
    with Slide.open(path) as slide:
        whole = slide.read(0, 0, *slide.dimensions)
    return np.stack([whole[y : y + PX, x : x + PX] for y, x in zip(rows * step, columns * step, strict=True)])


def measurements() -> Iterator[Ratio]:
    with tempfile.TemporaryDirectory() as folder:
        tissue = purple_tissue((2880, 3840), np.random.default_rng(0))
        tissue[:, 2400:] = GLASS
        synthetic = write_svs(Path(folder) / "synthetic.svs", tissue)
        grid = ScanGrid()
        for name, slides in (
            ("wht-lr", {"sample": sample_slide(), "synthetic": synthetic}),
            ("npr", {"sample": sample_slide()}),
        ):
            judge = trained(name)
            for which, path in slides.items():
                patches = patches_of(path, scan(path, judge, grid))
                yield compare(
                    f"scan of the {which} slide, {name}: decoding + judging apart",
                    lambda path=path, judge=judge, patches=patches: (
                        decode(path, BLOCK_PX), judge.score(patches, grid.batch),
                    ),
                    lambda path=path, judge=judge: scan(path, judge, grid),
                    wanted=1 / 1.1,
                )  # fmt: skip

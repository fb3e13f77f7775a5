"""Scanning: one pass over a slide against its parts, decoding and judging, each measured alone and without overlap; two
processes against one; and the memory of a worker on a small and on a large slide.

The slides of the latter two are mosaics of the sample slide's tissue in pyramids of four levels.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openslide
from numpy.typing import NDArray
from ratio import Ratio, compare
from scan_program import Bound, scan_apart

from histoforensics.forensics import Detector, TrainingSet, train_detector
from histoforensics.forensics.scan import SlideScan, scan_slide
from histoforensics.forensics.scan_grid import ScanGrid
from histoforensics.forensics.scoremap import OK
from histoforensics.slides import Slide, sample_slide
from histoforensics.slides.synthetic import GLASS, purple_tissue, write_svs

PX, BLOCK_PX = 112, 2048
FROM = "wall_seconds_from_first_block"
COHORT = 12  # slides of the two processes
SMALL, LARGE = (4000, 5000), (14_000, 27_000)  # width, height
WHOLE_TILES = (2160, 2880)  # of the sample slide: 9 x 12 tiles, which a mosaic stores once


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


def measurements() -> Iterator[Ratio | Bound]:
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
                    turns=9 if name == "wht-lr" else 3,
                )  # fmt: skip
        work = Path(folder)
        trained("wht-lr").save(work / "detector")
        small, large = (mosaic(work / f"{size[0]}.svs", size) for size in (SMALL, LARGE))
        yield from processes(work, small)
        yield from memory(work, small, large)


def mosaic(path: Path, size: tuple[int, int]) -> Path:
    with Slide.open(sample_slide()) as slide:
        tissue = slide.read(0, 0, *WHOLE_TILES)
    return write_svs(path, tissue, size=size, mpp=0.499, quality=70, levels=4)


def processes(work: Path, slide: Path) -> Iterator[Ratio]:
    """By the clock: from the first block on, and the whole run with the start of interpreters and torch."""
    (work / "cohort").mkdir()
    for number in range(COHORT):
        (work / "cohort" / f"slide-{number}.svs").hardlink_to(slide)
    slides = ("--folder", work / "cohort", COHORT)
    yield machine(slide)
    one, two = (scan_apart(work, f"{n} process{'es' * (n > 1)}", *slides, workers=n) for n in (1, 2))
    told = f"{COHORT} slides by 2 processes: by 1"
    yield Ratio(f"{told}, once started [clock]", one[FROM], two[FROM], 1.8)
    yield Ratio(f"{told}, all of the run [clock]", one["wall_seconds"], two["wall_seconds"], 1.8)


def machine(slide: Path) -> Ratio:
    """What two processes gain where nothing is ours: a bare OpenSlide loop in each, at once and one after the other."""
    loop = (
        "import sys, numpy, openslide\n"
        "slide = openslide.OpenSlide(sys.argv[1])\n"
        "for _ in range(2):\n"
        "    for y in range(0, 4800, 960):\n"
        "        for x in range(0, 3840, 960): numpy.asarray(slide.read_region((x, y), 0, (960, 960)))\n"
    )
    seconds = []
    for at_once in (1, 2):
        began = time.perf_counter()
        for _ in range(2 // at_once):
            started = [subprocess.Popen([sys.executable, "-c", loop, str(slide)]) for _ in range(at_once)]
            assert not any(process.wait() for process in started)
        seconds.append(time.perf_counter() - began)
    return Ratio("the machine itself: 2 bare OpenSlide loops at once [clock]", seconds[0], seconds[1], 1.8)


def memory(work: Path, small: Path, large: Path) -> Iterator[Bound]:
    """Resident, as the system counts it: the files of torch's CUDA build, which processes share, are most of it."""
    peaks = {}
    for (width, height), slide in ((SMALL, small), (LARGE, large)):
        peaks[slide] = scan_apart(work, f"{width} x {height} px", slide, workers=1)["worker_mb"]
        yield Bound(f"peak memory of a worker on {width:,} x {height:,} px", peaks[slide], 1000, "MB")
    yield Bound("the same, 19 times the pixels against 1", peaks[large] / peaks[small], 1.05, "times")

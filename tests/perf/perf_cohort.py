"""A cohort of a thousand small slides, and one large slide: does time grow in a line, does memory stay flat?

Each run is a program of its own with two workers, as `histoforensics scan` starts them. Time is CPU seconds of the
program and its workers, memory each process's own high-water mark. HISTOFORENSICS_COHORT sets another size than 1000.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scan_program import Bound, scan_apart

from histoforensics.forensics import TrainingSet, train_detector
from histoforensics.slides.synthetic import GLASS, purple_tissue, write_svs

COHORT = int(os.environ.get("HISTOFORENSICS_COHORT", "1000"))
FILES = 20  # different slides; the others are links to them under other names
PX = 112


def prepare(work: Path) -> None:
    """A detector that learned next to nothing, and the cohort."""
    rng = np.random.default_rng(0)
    real, fake = (rng.integers(low, 256, (24, PX, PX, 3)).astype(np.uint8) for low in (0, 100))
    data = TrainingSet(real=real[:16], fake=fake[:16], calibration_real=real[16:], calibration_fake=fake[16:])
    train_detector("wht-lr", data).save(work / "detector")
    (work / "cohort").mkdir()
    for number in range(COHORT):
        path = work / "cohort" / f"slide-{number:06d}.svs"
        if number < FILES:
            image = purple_tissue((480, 480), np.random.default_rng(number))
            image[:, 360:] = GLASS
            write_svs(path, image, mpp=0.5, quality=70)
        else:
            path.hardlink_to(work / "cohort" / f"slide-{number % FILES:06d}.svs")


def mosaic(path: Path, width: int, height: int) -> Path:
    """A pyramid of repeated tissue."""
    return write_svs(path, purple_tissue((960, 960), np.random.default_rng(0)), size=(width, height), mpp=0.5, levels=4)


def measurements() -> Iterator[Bound]:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        prepare(work)
        counts = (COHORT // 10, COHORT * 4 // 10, COHORT)
        few, some, all_ = (scan_apart(work, f"{n} slides", "--folder", work / "cohort", n) for n in counts)
        early = (some["cpu_seconds"] - few["cpu_seconds"]) / (counts[1] - counts[0])
        late = (all_["cpu_seconds"] - some["cpu_seconds"]) / (counts[2] - counts[1])
        told = f"{counts[0]} to {counts[1]} to {counts[2]} slides"
        yield Bound(f"{told}: CPU time of a later slide against an earlier one", late / early, 1.15, "times")
        yield Bound("CPU time of a small slide, all files written", late, 1.0, "s")
        ratio = all_["worker_mb"] / few["worker_mb"]
        yield Bound(f"peak memory of a worker, {counts[2]} slides against {counts[0]}", ratio, 1.1, "times")
        ratio = all_["parent_mb"] / few["parent_mb"]
        yield Bound(f"peak memory of the parent, {counts[2]} slides against {counts[0]}", ratio, 1.1, "times")
        small = scan_apart(work, "1,400 x 2,700 px", mosaic(work / "small.svs", 1400, 2700), workers=1)
        large = scan_apart(work, "14,000 x 27,000 px", mosaic(work / "large.svs", 14_000, 27_000), workers=1)
        yield Bound("peak memory of a worker on 14,000 x 27,000 px", large["worker_mb"], 1000, "MB")
        ratio = large["worker_mb"] / small["worker_mb"]
        yield Bound("the same against a hundredth of the pixels", ratio, 1.25, "times")
        costs = (large["cpu_seconds"] - small["cpu_seconds"]) / (14_000 * 27_000 - 1400 * 2700) * 1e9
        yield Bound("CPU time of 10^9 pixels of tissue, wht-lr, stride of half a patch", costs, 1000, "s")

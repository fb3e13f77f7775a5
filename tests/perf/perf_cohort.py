"""A cohort of a thousand small slides, and one large slide: does time grow in a line, does memory stay flat?

Each run is a program of its own with two workers, as `histoforensics scan` starts them. Time is CPU seconds of the
program and its workers, memory each process's own high-water mark. HISTOFORENSICS_COHORT sets another size than 1000.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from histoforensics.forensics import TrainingSet, train_detector
from histoforensics.slides.synthetic import GLASS, purple_tissue, write_svs

COHORT = int(os.environ.get("HISTOFORENSICS_COHORT", "1000"))
FILES = 20  # different slides; the others are links to them under other names
PX = 112

PROGRAM = """
import json, os, sys, time
from pathlib import Path
from histoforensics.forensics import Scanner
from histoforensics.slides.runcard import peak_memory_mb

if __name__ == "__main__":
    detector, out, workers, *slides = sys.argv[1:]
    if slides[0] == "--folder":
        slides = sorted(Path(slides[1]).iterdir())[: int(slides[2])]
    began = time.time()
    report = Scanner([detector]).run(slides, out, engine="process", workers=int(workers))
    assert report.ok, report.cohort.failures[:3]
    costs = json.loads((Path(out) / "run.json").read_text())["slides"].values()
    used = os.times()
    print(json.dumps({
        "slides": len(costs),
        "wall_seconds": time.time() - began,
        "cpu_seconds": used.user + used.system + used.children_user + used.children_system,
        "parent_mb": peak_memory_mb(),
        "worker_mb": max(cost["peak_memory_mb"] for cost in costs),
    }))
"""


@dataclass(frozen=True)
class Bound:
    """A figure, and what it may be at most."""

    name: str
    value: float
    limit: float
    unit: str

    @property
    def times(self) -> float:
        """How often it fits."""
        return self.limit / self.value

    def __str__(self) -> str:
        verdict = "ok" if self.value <= self.limit else "TOO MUCH"
        return f"{self.name:76} {self.value:9.3f} {self.unit:5} at most {self.limit:g}  {verdict}"


def scan(work: Path, name: str, *slides: object, workers: int = 2) -> dict[str, Any]:
    """Scan in a program of its own; what it cost."""
    program = work / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, program, work / "detector", work / f"out-{name}", workers, *slides]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"  {name:24} {json.dumps({key: round(value, 2) for key, value in found.items()})}", flush=True)
    return found


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
        few, some, all_ = (scan(work, f"{n} slides", "--folder", work / "cohort", n) for n in counts)
        early = (some["cpu_seconds"] - few["cpu_seconds"]) / (counts[1] - counts[0])
        late = (all_["cpu_seconds"] - some["cpu_seconds"]) / (counts[2] - counts[1])
        told = f"{counts[0]} to {counts[1]} to {counts[2]} slides"
        yield Bound(f"{told}: CPU time of a later slide against an earlier one", late / early, 1.15, "times")
        yield Bound("CPU time of a small slide, all files written", late, 1.0, "s")
        ratio = all_["worker_mb"] / few["worker_mb"]
        yield Bound(f"peak memory of a worker, {counts[2]} slides against {counts[0]}", ratio, 1.1, "times")
        ratio = all_["parent_mb"] / few["parent_mb"]
        yield Bound(f"peak memory of the parent, {counts[2]} slides against {counts[0]}", ratio, 1.1, "times")
        small = scan(work, "1,400 x 2,700 px", mosaic(work / "small.svs", 1400, 2700), workers=1)
        large = scan(work, "14,000 x 27,000 px", mosaic(work / "large.svs", 14_000, 27_000), workers=1)
        yield Bound("peak memory of a worker on 14,000 x 27,000 px", large["worker_mb"], 1000, "MB")
        ratio = large["worker_mb"] / small["worker_mb"]
        yield Bound("the same against a hundredth of the pixels", ratio, 1.25, "times")
        costs = (large["cpu_seconds"] - small["cpu_seconds"]) / (14_000 * 27_000 - 1400 * 2700) * 1e9
        yield Bound("CPU time of 10^9 pixels of tissue, wht-lr, stride of half a patch", costs, 1000, "s")

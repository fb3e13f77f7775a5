"""Memory of streamed scoring: the peak of a process that scores 1,000 patches, and of one that scores 100,000."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

FEW, MANY, BATCH, PX = 1_000, 100_000, 250, 64
MOST_GROWTH = 1.05  # of the peak

# The peak is read from /proc: what getrusage tells is inherited from the parent.
PROGRAM = """
import sys
import numpy as np
import torch
from pathlib import Path
from histoforensics.forensics.wht import WHTDetector

torch.set_num_threads(1)
count, batch, px = map(int, sys.argv[1:])
rng = np.random.default_rng(0)
small = rng.integers(0, 256, (40, px, px, 3), dtype=np.uint8)
judge = WHTDetector.fit(small, np.arange(40) % 2, seed=0, copies=0)
pool = rng.integers(0, 256, (4 * batch, px, px, 3), dtype=np.uint8)
total = 0.0
for i in range(0, count, batch):
    start = i % (3 * batch)
    total += float(judge.score(pool[start : start + batch].copy()).sum())
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(int(peak.split()[1]) / 1024)
"""


@dataclass(frozen=True)
class Peak:
    """Peak memory of two processes, MB; ``wanted`` is how much larger the second may be."""

    name: str
    few_mb: float
    many_mb: float
    wanted: float

    @property
    def times(self) -> float:
        return self.many_mb / self.few_mb

    def __str__(self) -> str:
        verdict = "ok" if self.times <= self.wanted else "SHORT"
        return (
            f"{self.name:58} {self.few_mb:.0f} MB, then {self.many_mb:.0f} MB  x {self.times:.3f}  "
            f"at most x {self.wanted:.2f}  {verdict}"
        )


def peak_mb(count: int) -> float:
    """Peak resident memory of a process that scores so many patches in batches."""
    words = [sys.executable, "-c", PROGRAM, str(count), str(BATCH), str(PX)]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def measurements() -> Iterator[Peak]:
    yield Peak(f"memory of scoring {FEW:,} and {MANY:,} patches, streamed", peak_mb(FEW), peak_mb(MANY), MOST_GROWTH)

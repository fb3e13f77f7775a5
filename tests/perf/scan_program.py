"""A scan as a program of its own, with worker processes: what it took by the clock, in CPU time and in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    told = []
    report = Scanner([detector]).run(
        slides, out, engine="process", workers=int(workers), progress=lambda *_: told or told.append(time.time())
    )
    ended = time.time()
    assert report.ok, report.cohort.failures[:3]
    costs = json.loads((Path(out) / "run.json").read_text())["slides"].values()
    used = os.times()
    print(json.dumps({
        "slides": len(costs),
        "wall_seconds": ended - began,
        "wall_seconds_from_first_block": ended - told[0],
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


def scan_apart(work: Path, name: str, *slides: object, workers: int = 2) -> dict[str, Any]:
    """Scan with the detector in ``work``/detector, in a program of its own; what it cost."""
    program = work / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, program, work / "detector", work / f"out-{name}", workers, *slides]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"  {name:24} {json.dumps({key: round(value, 2) for key, value in found.items()})}", flush=True)
    return found

"""Speed as a ratio: the plain way and ours, in turns, in one run, on one thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Ratio:
    """How many times quicker ours is than the plain way; CPU seconds of this process, the median of all turns."""

    name: str
    plain_seconds: float
    our_seconds: float
    wanted: float

    @property
    def times(self) -> float:
        return self.plain_seconds / self.our_seconds

    def __str__(self) -> str:
        verdict = "ok" if self.times >= self.wanted else "SHORT"
        return (
            f"{self.name:58} plain {1e3 * self.plain_seconds:9.2f} ms  ours {1e3 * self.our_seconds:9.2f} ms  "
            f"x {self.times:6.2f}  wanted x {self.wanted:.2f}  {verdict}"
        )


def compare(
    name: str, plain: Callable[[], object], ours: Callable[[], object], *, wanted: float, turns: int = 5
) -> Ratio:
    """Time both in turns, after one unmeasured call each; CPU time, since the clock also counts the neighbours."""
    plain(), ours()
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(turns):
        for seconds, call in zip(taken, (plain, ours), strict=True):
            began = time.process_time()
            call()
            seconds.append(time.process_time() - began)
    return Ratio(name, median(taken[0]), median(taken[1]), wanted)

"""Speed by the clock, for what uses several cores; true on a quiet machine only, so each line says [clock]."""

from __future__ import annotations

import time
from collections.abc import Callable

from ratio import Ratio


def compare_by_clock(
    name: str, plain: Callable[[], object], ours: Callable[[], object], *, wanted: float, turns: int = 5
) -> Ratio:
    """Time both in turns; the quickest of each counts, since a neighbour can only slow it down."""
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(turns):
        for seconds, call in zip(taken, (plain, ours), strict=True):
            began = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - began)
    return Ratio(f"{name} [clock]", min(taken[0]), min(taken[1]), wanted)

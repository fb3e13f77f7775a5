"""The draw: which real patches an exam shows, spread over slides and blocks, and without shared tissue where it can be.

Two patches of one place are one question asked twice. So every slide gives before one gives again, every block of a
slide gives one patch before one gives a second, and a patch that overlaps one already drawn comes last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray


class Draw(NamedTuple):
    """``rows`` are positions in the table, in random order; ``overlaps`` are pairs of ids that share tissue."""

    rows: NDArray[np.intp]
    overlaps: tuple[tuple[str, str], ...]


def draw(table: pd.DataFrame, count: int, rng: np.random.Generator, taken: Sequence[int] = ()) -> Draw:
    """Draw ``count`` rows of a manifest, fewer where it has no more.

    A row without a slide or a block counts as a slide or a block of its own; one without a place overlaps nothing.

    Args:
        table: The manifest of a patch set.
        count: How many.
        rng: Of the draw and of the order in which it is returned.
        taken: Rows already in use: not drawn again; their blocks come later and their tissue last.
    """
    places = _places(table)
    turns = [row for row in _turns(table, rng, taken) if row not in set(taken)]
    chosen: list[int] = []
    crowded: list[int] = []
    for row in turns:
        if len(chosen) == count:
            break
        clash = _shared(places, row, [*taken, *chosen]).any()
        (crowded if clash else chosen).append(row)
    chosen += crowded[: count - len(chosen)]
    ids = table["id"].astype(str).to_numpy()
    shared = [
        (row, chosen[i]) for n, row in enumerate(chosen) for i in np.flatnonzero(_shared(places, row, chosen[:n]))
    ]
    rows = rng.permutation(np.array(chosen, dtype=np.intp))
    return Draw(rows, tuple((str(ids[second]), str(ids[first])) for first, second in shared))


def _turns(table: pd.DataFrame, rng: np.random.Generator, taken: Sequence[int]) -> list[int]:
    """All rows in the order in which they may come: shuffled, then by turn in the block, then by turn in the slide."""
    free = np.setdiff1d(np.arange(len(table)), np.array(taken, dtype=np.intp))
    shuffled = np.concatenate([np.array(taken, dtype=np.intp), rng.permutation(free)])
    own = pd.Series([f"row {i}" for i in range(len(table))], dtype=object)
    names = {name: table[name].astype(object).reset_index(drop=True) for name in ("source_slide", "block")}
    frame = pd.DataFrame({name: column.where(column.notna(), own) for name, column in names.items()}).iloc[shuffled]
    frame["turn"] = frame.groupby(["source_slide", "block"], sort=False).cumcount()
    frame = frame.sort_values("turn", kind="stable")
    frame["turn"] = frame.groupby("source_slide", sort=False).cumcount()
    return [int(row) for row in frame.sort_values("turn", kind="stable").index]


class _Places(NamedTuple):
    slide: NDArray[np.str_]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    size: NDArray[np.float64]


def _places(table: pd.DataFrame) -> _Places:
    slide = table["source_slide"].astype(object).where(table["source_slide"].notna(), "").to_numpy(str)
    return _Places(slide, *(_numbers(table[name]) for name in ("x_level0", "y_level0", "width")))


def _shared(places: _Places, row: int, others: Sequence[int]) -> NDArray[np.bool_]:
    """Which of ``others`` share tissue with ``row``; NaN compares as false, so what has no place shares none."""
    slide, x, y, size = (column[np.array(others, dtype=np.intp)] for column in places)
    near = (abs(x - places.x[row]) < size) & (abs(y - places.y[row]) < size)
    return np.asarray(near & (slide == places.slide[row]) & (slide != ""))


def _numbers(column: pd.Series[Any]) -> NDArray[np.float64]:
    return np.asarray(column.astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan), dtype=np.float64)

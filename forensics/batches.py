"""What a training step sees: which patches are set apart, which are drawn, and which crop of each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from .detector import FAKE, REAL, Groups, Labels, Pixels

Rows = npt.NDArray[np.intp]
CROP_GRID = 8  # px: crops keep the phase of the JPEG grid and of a network's strides


def validation_split(labels: Labels, groups: Groups, share: float, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Which patches (n,) are set apart: ``share`` of each class, real tissue in whole groups.

    A group with real patches goes with all it has. A group of fakes alone is a generator: a share of each is set
    apart, since one that is only validated on would never be learned. Reals of one single group are split by patch.
    """
    codes = np.unique(np.asarray([str(g) for g in groups.tolist()]), return_inverse=True)[1]
    held_out = np.zeros(len(labels), dtype=bool)
    tissue = np.unique(codes[labels == REAL])
    wanted = share * (labels == REAL).sum()
    for group in rng.permutation(tissue)[:-1]:  # one group at least is left to learn from
        if (held_out & (labels == REAL)).sum() >= wanted:
            break
        held_out |= codes == group
    loose = (labels == FAKE) & ~np.isin(codes, tissue)
    held_out[_every_so_often(np.flatnonzero(loose), codes, share, rng)] = True
    if len(tissue) == 1:
        held_out[_every_so_often(np.flatnonzero(labels == REAL), codes, share, rng)] = True
    for label in (REAL, FAKE):  # tiny or lopsided sets: each class is in both parts
        mine = np.flatnonzero(labels == label)
        if held_out[mine].all() or not held_out[mine].any():
            held_out[rng.choice(mine)] ^= True
    return held_out


def _every_so_often(rows: Rows, codes: Rows, share: float, rng: np.random.Generator) -> Rows:
    """``share`` of ``rows`` at random, the same share of each group give or take one."""
    order = np.lexsort((rng.random(len(rows)), rng.permutation(codes.max() + 1)[codes[rows]]))
    counted = np.floor(np.arange(len(rows) + 1) * share + rng.random())
    chosen: Rows = rows[order[np.diff(counted) > 0]]
    return chosen


def balanced_batches(labels: Labels, rows: Rows, batch: int, rng: np.random.Generator) -> Iterator[Rows]:
    """Endless batches of ``rows``, half real and half fake, each class in a fresh random order when it runs out."""
    streams = [_endless(rows[labels[rows] == label], rng) for label in (REAL, FAKE)]
    while True:
        yield np.asarray([next(stream) for stream in streams for _ in range(batch // 2)], dtype=np.intp)


def _endless(rows: Rows, rng: np.random.Generator) -> Iterator[np.intp]:
    while True:
        yield from rng.permutation(rows)


def random_crops(pixels: Pixels, rows: Rows, crop_px: int | None, rng: np.random.Generator) -> Pixels:
    """One crop (crop_px, crop_px) of each of ``rows``, at random on the 8-px grid; whole patches where none fits."""
    height, width = pixels.shape[1:3]
    if crop_px is None or crop_px >= min(height, width):
        return np.ascontiguousarray(pixels[rows])
    tops = CROP_GRID * rng.integers(0, (height - crop_px) // CROP_GRID + 1, len(rows))
    lefts = CROP_GRID * rng.integers(0, (width - crop_px) // CROP_GRID + 1, len(rows))
    places = zip(rows, tops, lefts, strict=True)
    return np.stack([pixels[row, top : top + crop_px, left : left + crop_px] for row, top, left in places])

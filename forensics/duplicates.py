"""Patches that are there twice: exactly, or nearly so after compression, blur, noise, another stain or a turn.

Two patches are near duplicates if their luma, averaged over a grid of 16 x 16 cells, correlates at ``SAME`` or more in
one of the square's eight orientations. Patches without structure (glass) resemble each other and are left out. Crops
that overlap but are cut elsewhere are not found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from .luma import luma

CELLS = 16
SAME = 0.95  # of 500 patches of GlaS no two reach 0.89; after JPEG 30, blur of 2 px or noise of 20 all keep 0.97
PLAIN = 3.0  # grey levels: the cells of glass differ by less
CHUNK = 512  # patches compared at once

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Pair:
    """Row of one set, row of the other, and their correlation."""

    row: int
    other: int
    likeness: float


def exact_duplicates(digests: Iterable[str], others: Iterable[str] | None = None) -> int:
    """How many of ``digests`` (sha256) are also among ``others``; without them, how many repeat one before."""
    counts = Counter(digests)
    if others is None:
        return sum(counts.values()) - len(counts)
    known = set(others)
    return sum(count for digest, count in counts.items() if digest in known)


def near_duplicates(pixels: Pixels, others: Pixels | None = None, *, same: float = SAME) -> list[Pair]:
    """Pairs of ``pixels`` (n, h, w, 3) and ``others`` (m, h, w, 3) that look the same, likest first.

    Without ``others``, pairs within ``pixels``, each once and none with itself.
    """
    mine, structured = thumbnails(pixels)
    theirs, also = (mine, structured) if others is None else thumbnails(others)
    if not len(mine) or not len(theirs):
        return []
    found = []
    for start in range(0, len(mine), CHUNK):
        part = mine[start : start + CHUNK]
        likeness = np.max([_unit(turned) @ _unit(theirs).T for turned in _orientations(part)], axis=0)
        likeness[~structured[start : start + CHUNK]] = -1
        likeness[:, ~also] = -1
        for i, j in zip(*np.nonzero(likeness >= same), strict=True):
            if others is not None or start + i < j:
                found.append(Pair(int(start + i), int(j), float(likeness[i, j])))
    return sorted(found, key=lambda pair: -pair.likeness)


def thumbnails(pixels: Pixels) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Luma of 16 x 16 cells (n, 16, 16), and whether there is any structure in it (n,)."""
    edge = min(pixels.shape[1:3]) // CELLS
    grey = luma(torch.from_numpy(np.ascontiguousarray(pixels[:, : CELLS * edge, : CELLS * edge]))).numpy()
    cells = grey.reshape(len(grey), CELLS, edge, CELLS, edge).mean(axis=(2, 4))
    return cells, cells.std(axis=(1, 2)) >= PLAIN


def _orientations(cells: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
    return [np.rot90(side, k, axes=(1, 2)) for side in (cells, cells[:, :, ::-1]) for k in range(4)]


def _unit(cells: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    flat = cells.reshape(len(cells), -1)
    centred = flat - flat.mean(axis=1, keepdims=True)
    scaled: npt.NDArray[np.float32] = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)
    return scaled

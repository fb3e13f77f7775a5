"""The score map of a slide: what each patch got, and what that says of each stride cell.

A cell is a square of ``stride_px``; its score is the mean over the judged patches that cover it, weighted by the area
they share with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from histoforensics.slides import require

from .windows import Lattice

OK, BACKGROUND, CORRUPT = 0, 1, 2
STATUS_NAMES = ("ok", "background", "corrupt")

Grid = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ScoreMap:
    """Scores on a lattice.

    Attributes:
        lattice: Where the patches lie.
        mpp: Micrometres per level-0 pixel.
        status: OK, BACKGROUND or CORRUPT, uint8 (rows, columns).
        scores: Detector -> P(fake), float32 (rows, columns); NaN where the status is not OK.
    """

    lattice: Lattice
    mpp: float
    status: NDArray[np.uint8]
    scores: Mapping[str, Grid]

    def count(self, status: int) -> int:
        """How many patches have this status."""
        return int((self.status == status).sum())

    @property
    def positions(self) -> NDArray[np.int64]:
        """Top left corners (x, y) of all patches, level-0 pixels, int64 (n, 2), raster order."""
        y, x = np.indices(self.status.shape, dtype=np.int64)
        return np.stack([x.ravel(), y.ravel()], axis=1) * self.lattice.stride_px

    def cells(self, label: str) -> Grid:
        """The mean score of each cell, float32 (cell rows, cell columns); NaN where no judged patch covers it."""
        judged = self.status == OK
        total = _spread(np.where(judged, self.scores[label], 0), self._weights)
        weight = _spread(judged, self._weights)
        with np.errstate(invalid="ignore"):
            mean: Grid = (total / np.where(weight > 0, weight, np.nan)).astype(np.float32)
        return mean

    def cell_status(self) -> NDArray[np.uint8]:
        """OK where a judged patch covers the cell, else CORRUPT where an unreadable one does, else BACKGROUND."""
        ok, corrupt = (_spread(self.status == which, self._weights) > 0 for which in (OK, CORRUPT))
        return np.where(ok, OK, np.where(corrupt, CORRUPT, BACKGROUND)).astype(np.uint8)

    def cell_box(self, row: int, column: int) -> tuple[int, int, int, int]:
        """x, y, width, height of a cell, level-0 pixels; the last ones end where the last patch ends."""
        stride, (bottom, right) = self.lattice.stride_px, self.extent
        x, y = column * stride, row * stride
        return x, y, min(stride, right - x), min(stride, bottom - y)

    @property
    def extent(self) -> tuple[int, int]:
        """Height and width of the area that patches cover, level-0 pixels; the rest of the slide's edge is unjudged."""
        rows, columns = self.status.shape
        reach = self.lattice.patch_px - self.lattice.stride_px
        return rows * self.lattice.stride_px + reach, columns * self.lattice.stride_px + reach

    @property
    def _weights(self) -> NDArray[np.float64]:
        return cell_weights(self.lattice.patch_px, self.lattice.stride_px)


def cell_weights(patch_px: int, stride_px: int) -> NDArray[np.float64]:
    """Pixels along one axis that patch i shares with cells i, i + 1, ...: (cells,).

    >>> cell_weights(256, 156).tolist()
    [156.0, 100.0]
    """
    require(0 < stride_px <= patch_px, "stride_px", f"from 1 to the patch's {patch_px} px", stride_px)
    starts = np.arange(0, patch_px, stride_px)
    return np.minimum(stride_px, patch_px - starts).astype(np.float64)


def _spread(values: NDArray[np.generic], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The full convolution of a map (rows, columns) with ``weights`` along both axes."""
    out = values.astype(np.float64)
    for axis in (0, 1):
        if not out.size:
            return np.zeros((0, 0))
        shape = list(out.shape)
        shape[axis] += len(weights) - 1
        wide = np.zeros(shape)
        for shift, weight in enumerate(weights):
            where = [slice(None), slice(None)]
            where[axis] = slice(shift, shift + out.shape[axis])
            wide[tuple(where)] += weight * out
        out = wide
    return out

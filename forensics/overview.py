"""A small picture of a slide, made from its tissue levels and never from the label, macro or thumbnail images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from histoforensics.slides import Slide, tissue_mask

from .detector import Pixels
from .windows import BLOCK_PX, UNKNOWN_TILE_PX, UNREAD_GREY, Rect, read_parts

OVERVIEW_PX = 1024  # of its longer side
SAMPLES = 4  # pixels a side that are averaged into one, at most


class Overview:
    """A canvas onto which regions are averaged as they are read.

    Attributes:
        scale: Level-0 pixels that one pixel of it spans.
    """

    def __init__(self, width: int, height: int, finest: float = 1.0, longest_px: int = OVERVIEW_PX) -> None:
        self.scale = max(finest, max(width, height) / longest_px)
        shape = (int((height - 1) / self.scale) + 1, int((width - 1) / self.scale) + 1)
        self._sum = np.zeros((*shape, 3), np.float32)
        self._count = np.zeros(shape, np.float32)
        self._may_hold_tissue = np.zeros(shape, bool)

    def add(self, x_level0: float, y_level0: float, pixels: Pixels, downsample: float = 1.0) -> None:
        """Average in a region, RGB (h, w, 3), uint8, each of whose pixels spans ``downsample`` level-0 pixels."""
        step = max(1, int(self.scale / downsample / SAMPLES))
        thin = pixels[::step, ::step]
        rows, row_starts = self._bins(y_level0, len(thin), step * downsample, self._sum.shape[0])
        columns, column_starts = self._bins(x_level0, thin.shape[1], step * downsample, self._sum.shape[1])
        place = np.ix_(rows, columns)
        sums = np.add.reduceat(np.add.reduceat(thin, row_starts, 0, np.float32), column_starts, 1)
        heights, widths = np.diff(row_starts, append=len(thin)), np.diff(column_starts, append=thin.shape[1])
        self._sum[place] += sums
        self._count[place] += np.outer(heights, widths)

    def note_tissue(self, x_level0: float, y_level0: float, mask: NDArray[np.bool_], downsample: float) -> None:
        """Remember where a mask (h, w) of pixels that span ``downsample`` is true."""
        y, x = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        if not len(y):
            return
        rows = np.minimum(((y_level0 + (y + 0.5) * downsample) / self.scale).astype(int), self._sum.shape[0] - 1)
        columns = np.minimum(((x_level0 + (x + 0.5) * downsample) / self.scale).astype(int), self._sum.shape[1] - 1)
        np.logical_or.at(self._may_hold_tissue, np.ix_(rows, columns), mask[np.ix_(y, x)])

    def may_hold_tissue(self, area: Rect, margin_px: int) -> bool:
        """Whether tissue was noted in an area, level-0 pixels, or ``margin_px`` and two of its pixels around."""
        x, y, width, height = area
        margin = margin_px + 2 * self.scale
        top, left = (max(0, int((edge - margin) / self.scale)) for edge in (y, x))
        bottom, right = (int((edge + margin) / self.scale) + 1 for edge in (y + height, x + width))
        return bool(self._may_hold_tissue[top:bottom, left:right].any())

    def image(self) -> Pixels:
        """RGB (h, w, 3), uint8; grey where nothing was read."""
        with np.errstate(invalid="ignore"):
            mean = self._sum / np.where(self._count > 0, self._count, np.nan)[..., None]
        picture = np.where(np.isnan(mean), np.float32(UNREAD_GREY), np.rint(mean))
        return np.asarray(picture, np.uint8)

    def _bins(self, start: float, count: int, spacing: float, limit: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Which overview pixels ``count`` samples fall into, and the first sample of each."""
        index = np.minimum(((start + (np.arange(count) + 0.5) * spacing) / self.scale).astype(np.intp), limit - 1)
        starts = np.flatnonzero(np.diff(index, prepend=-1))
        return index[starts], starts


def overview_of_pyramid(slide: Slide) -> tuple[Overview, int]:
    """The overview from the coarsest stored level, with its tissue noted, and how many of its pieces are broken.

    A slide with one level gives an empty overview: the scan fills it as it reads.
    """
    level = slide.level_count - 1
    downsample = slide.level_downsamples[level]
    overview = Overview(*slide.dimensions, finest=downsample)
    if level == 0:
        return overview, 0
    width, height = slide.level_dimensions[level]
    broken = 0
    for y in range(0, height, BLOCK_PX):
        for x in range(0, width, BLOCK_PX):
            area = (x, y, min(BLOCK_PX, width - x), min(BLOCK_PX, height - y))
            pixels, bad = read_parts(slide, area, (UNKNOWN_TILE_PX, UNKNOWN_TILE_PX), level)
            mask = tissue_mask(pixels)
            for part in bad:  # nobody knows what is there: the scan has to look
                mask[part[1] - y : part[1] - y + part[3], part[0] - x : part[0] - x + part[2]] = True
            overview.add(x * downsample, y * downsample, pixels, downsample)
            overview.note_tissue(x * downsample, y * downsample, mask, downsample)
            broken += len(bad)
    return overview, broken

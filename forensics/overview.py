"""A small picture of a slide, made from its tissue levels and never from the label, macro or thumbnail images."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from histoforensics.slides import Slide, tissue_mask

from .detector import Pixels
from .windows import BLOCK_PX, UNKNOWN_TILE_PX, UNREAD_GREY, Rect, read_parts

OVERVIEW_PX = 1024  # of its longer side
SAMPLES = 1.4  # pixels a side that at least go into one of the overview: more cost time that nobody sees


class Overview:
    """A canvas onto which regions are shrunk as they are read.

    Attributes:
        scale: Level-0 pixels that one pixel of it spans.
    """

    def __init__(self, width: int, height: int, finest: float = 1.0, longest_px: int = OVERVIEW_PX) -> None:
        self.scale = max(finest, max(width, height) / longest_px)
        shape = (int((height - 1) / self.scale) + 1, int((width - 1) / self.scale) + 1)
        self._canvas = np.full((*shape, 3), UNREAD_GREY, np.uint8)
        self._may_hold_tissue = np.zeros(shape, bool)

    def add(self, x_level0: float, y_level0: float, pixels: Pixels, downsample: float = 1.0) -> None:
        """Shrink in a region, RGB (h, w, 3), uint8, each of whose pixels spans ``downsample`` level-0 pixels.

        It fills the pixels of the overview whose middle it holds; those that its border cuts see their share of it.
        """
        height, width = pixels.shape[:2]
        top, bottom, *rows = self._span(y_level0, height, downsample, self._canvas.shape[0])
        left, right, *columns = self._span(x_level0, width, downsample, self._canvas.shape[1])
        if bottom <= top or right <= left:
            return
        step = min(height, width, max(1, int(self.scale / downsample / SAMPLES)))
        thin = _thinned(pixels, step)
        box_left, box_right = (
            min(edge / step, thin.width - back) for edge, back in zip(columns, (0.5, 0), strict=True)
        )
        box_top, box_bottom = (min(edge / step, thin.height - back) for edge, back in zip(rows, (0.5, 0), strict=True))
        box = (box_left, box_top, box_right, box_bottom)
        small = thin.resize((right - left, bottom - top), Image.Resampling.BOX, box=box)
        self._canvas[top:bottom, left:right] = np.asarray(small)

    def note_tissue(self, x_level0: float, y_level0: float, mask: NDArray[np.bool_], downsample: float) -> None:
        """Remember where a mask (h, w) of pixels that span ``downsample`` is true."""
        y, x = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        if not len(y):
            return
        rows = np.minimum(((y_level0 + (y + 0.5) * downsample) / self.scale).astype(int), self._canvas.shape[0] - 1)
        columns = np.minimum(((x_level0 + (x + 0.5) * downsample) / self.scale).astype(int), self._canvas.shape[1] - 1)
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
        return self._canvas.copy()

    def _span(self, start: float, count: int, spacing: float, limit: int) -> tuple[int, int, float, float]:
        """First and end overview pixel of ``count`` pixels from level-0 ``start``, and what of these they show."""
        unit = self.scale / spacing  # pixels of the region in one of the overview
        offset = start / spacing
        first = max(0, math.ceil(offset / unit - 0.5))
        end = min(limit, math.ceil((offset + count) / unit - 0.5))
        if start / spacing + count >= limit * unit - unit:  # the last one is rarely whole
            end = limit
        return first, end, max(0.0, first * unit - offset), min(float(count), end * unit - offset)


def _thinned(pixels: Pixels, step: int) -> Image.Image:
    """Every ``step``-th pixel of every ``step``-th row; a channel at a time takes a third of the time."""
    view = pixels[step // 2 :: step, step // 2 :: step]
    height, width = view.shape[:2]
    thin = np.empty((height, width, 3), np.uint8)
    for channel in range(3):
        thin[..., channel] = view[..., channel]
    return Image.frombuffer("RGB", (width, height), thin, "raw", "RGB", 0, 1)


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

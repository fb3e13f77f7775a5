"""Where on a slide is generated tissue: one pass over the slide, every detector on every patch of tissue."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from histoforensics.slides import Slide
from histoforensics.slides.progress import Progress
from histoforensics.slides.tissue import tissue_counts

from .detector import Detector, Pixels
from .history import Panel, slide_panel
from .overview import overview_of_pyramid
from .scan_grid import ScanGrid, common_patch_px
from .scoremap import BACKGROUND, CORRUPT, OK, ScoreMap
from .windows import Block, Cutter, Lattice, Rect, Window, block_count, blocks

KEPT_BYTES = 4 << 20  # of decoded tiles: blocks lie on the tile grid, so that hardly any is asked for again


@dataclass(frozen=True, eq=False)
class SlideScan:
    """What one pass over a slide found.

    Attributes:
        scores: The score map.
        overview: The slide, small, RGB uint8.
        overview_scale: Level-0 pixels that one pixel of it spans.
        broken: Rectangles that could not be decoded: x, y, width, height, level-0 pixels.
        skipped: Blocks that were not read, since a coarser level shows no tissue there.
        broken_overview: Pieces of that coarser level that could not be decoded.
        not_replayed: Why patches were judged as they are although a detector's card asks for more; empty if not so.
    """

    scores: ScoreMap
    overview: Pixels
    overview_scale: float
    broken: tuple[Rect, ...]
    skipped: int
    broken_overview: int
    not_replayed: str = ""


def scan_slide(
    slide: Slide, judges: Mapping[str, Detector], grid: ScanGrid, *, progress: Progress | None = None
) -> SlideScan:
    """Score every patch of tissue on an open slide; each region is read once.

    Args:
        slide: Open it with ``mpp=grid.mpp``.
        judges: Name -> calibrated detector; all of one judged size.
        grid: Where patches lie.
        progress: Told after each block.

    Raises:
        MppError: If nobody says how large a pixel is.
        DetectorError: If the detectors cannot judge the same patches.
    """
    patch_px = common_patch_px(judges.values())
    mpp, lattice = slide.mpp, grid.lattice(slide, patch_px)
    slide.keep_decoded(KEPT_BYTES)
    overview, broken_overview = overview_of_pyramid(slide)
    is_pyramid = slide.level_count > 1
    panel, not_replayed = slide_panel(slide, judges, grid.history)
    pass_over = _Pass(panel, grid, lattice)
    cutter, total = Cutter(lattice), block_count(slide)

    def is_wanted(area: Rect) -> bool:
        return not is_pyramid or grid.min_tissue == 0 or overview.may_hold_tissue(area, patch_px)

    for done, block in enumerate(blocks(slide, is_wanted), start=1):
        if not is_pyramid:
            overview.add(block.x, block.y, block.pixels)
        pass_over.mark(block)
        window = cutter.add(block)
        if window is not None:
            pass_over.judge(window)
        if progress is not None:
            progress(done, total, slide.name)
    pass_over.finish()
    scores = ScoreMap(lattice, mpp, pass_over.status, pass_over.scores)
    picture = overview.image()
    broken, skipped = tuple(pass_over.broken), pass_over.skipped
    return SlideScan(scores, picture, overview.scale, broken, skipped, broken_overview, not_replayed)


def window_tissue(window: Window, patch_px: int, stride_px: int) -> NDArray[np.float64]:
    """The share of tissue of each patch of a window, 0 to 1, (rows, columns); equal to ``tissue_fraction`` of each."""
    unit = math.gcd(patch_px, stride_px)
    counts = tissue_counts(window.pixels, unit)
    sums = np.zeros((counts.shape[0] + 1, counts.shape[1] + 1), np.int64)
    sums[1:, 1:] = counts.cumsum(0).cumsum(1)
    size, step = patch_px // unit, stride_px // unit
    top, left = (np.arange(len(edges)) * step for edges in (window.rows, window.columns))
    at = np.ix_
    inside = (
        sums[at(top + size, left + size)]
        - sums[at(top, left + size)]
        - sums[at(top + size, left)]
        + sums[at(top, left)]
    )
    return np.asarray(inside / patch_px**2)


class _Pass:
    """The growing result of one pass: which patches are broken or background, and the scores of the others."""

    def __init__(self, panel: Panel, grid: ScanGrid, lattice: Lattice) -> None:
        self._panel, self._grid, self._lattice = panel, grid, lattice
        self.status = np.full(lattice.shape, BACKGROUND, np.uint8)
        self.scores = {name: np.full(lattice.shape, np.nan, np.float32) for name in panel.judges}
        self.broken: list[Rect] = []
        self.skipped = 0
        self._unread = np.zeros(lattice.shape, bool)
        self._waiting = np.empty((grid.batch, lattice.patch_px, lattice.patch_px, 3), np.uint8)
        self._places: list[tuple[int, int]] = []

    def mark(self, block: Block) -> None:
        """Take in what of a block was not read; patches that touch it are never judged."""
        for rect in block.broken:
            self.status[self._touching(rect)] = CORRUPT
        self.broken += block.broken
        if block.is_skipped:
            height, width = block.pixels.shape[:2]
            self._unread[self._touching((block.x, block.y, width, height))] = True
            self.skipped += 1

    def judge(self, window: Window) -> None:
        """Score the patches of a window that are whole, readable and tissue; the last ones wait for a full batch."""
        place = slice(window.rows.start, window.rows.stop), slice(window.columns.start, window.columns.stop)
        lattice = self._lattice
        has_tissue = window_tissue(window, lattice.patch_px, lattice.stride_px) >= self._grid.min_tissue
        wanted = has_tissue & (self.status[place] != CORRUPT) & ~self._unread[place]
        for row, column in np.argwhere(wanted).tolist():
            self._waiting[len(self._places)] = window.patches[row, column]
            self._places.append((row + window.rows.start, column + window.columns.start))
            if len(self._places) == len(self._waiting):
                self.finish()

    def finish(self) -> None:
        """Score the patches that still wait."""
        if not self._places:
            return
        rows, columns = np.array(self._places, np.int64).T
        patches, stride = self._waiting[: len(rows)], self._lattice.stride_px
        for name, scores in self._panel.score(patches, columns * stride, rows * stride, self._grid.batch).items():
            self.scores[name][rows, columns] = scores
        self.status[rows, columns] = OK
        self._places.clear()

    def _touching(self, rect: Rect) -> tuple[slice, slice]:
        x, y, width, height = rect
        rows, columns = self._lattice.shape
        return self._lattice.touching(y, height, rows), self._lattice.touching(x, width, columns)

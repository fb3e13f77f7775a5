"""Every pixel of a slide is read once, in blocks on the slide's own tile grid; overlapping patches are cut from them.

Blocks go in raster order. What patches still need of the block to the left and of the row of blocks above is carried
over, so memory is one block and a strip of the slide's width, whatever its height.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from histoforensics.slides import Slide, SlideUnreadable, require

if TYPE_CHECKING:
    from .detector import Pixels

BLOCK_PX = 1024  # of a block at most, unless one tile is larger, up to twice that
UNREAD_GREY = 128  # fills what could not be decoded, or was not read: grey is not tissue
UNKNOWN_TILE_PX = 256  # pieces in which a failed block is read again where the file does not tell of its tiles

Rect = tuple[int, int, int, int]  # x, y, width, height


@dataclass(frozen=True)
class Lattice:
    """Overlapping patches on a slide: patch (row, column) has its top left corner at (column, row) * stride_px.

    Attributes:
        width: Of the slide, level-0 pixels.
        height: Of the slide.
        patch_px: Edge of a patch.
        stride_px: From one patch to the next, at most a patch.
    """

    width: int
    height: int
    patch_px: int
    stride_px: int

    def __post_init__(self) -> None:
        wanted = f"from 1 to the patch's {self.patch_px} px"
        require(1 <= self.stride_px <= self.patch_px, "stride_px", wanted, self.stride_px)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of patches that lie wholly on the slide."""
        return self.below(self.height), self.below(self.width)

    def below(self, edge: int) -> int:
        """How many patches of a row or column end at ``edge`` or before."""
        return max(0, (edge - self.patch_px) // self.stride_px + 1)

    def touching(self, start: int, size: int, count: int) -> slice:
        """Which of the ``count`` patches along an axis share a pixel with [start, start + size)."""
        first = max(0, (start - self.patch_px) // self.stride_px + 1)
        return slice(first, min(count, -(-(start + size) // self.stride_px)))


@dataclass(frozen=True)
class Window:
    """Pixels in which some patches have just become whole.

    Attributes:
        rows: Rows of the lattice that are whole now, in these columns.
        columns: Columns of the lattice.
        patches: A view (rows, columns, patch_px, patch_px, 3), uint8; overlapping, so not to be written to.
        pixels: RGB (h, w, 3), uint8, from the top left corner of the first patch.
    """

    rows: range
    columns: range
    pixels: Pixels
    patches: Pixels


@dataclass(frozen=True)
class Block:
    """A part of the slide as it was read: where, its pixels, and the rectangles in it that cannot be decoded."""

    x: int
    y: int
    pixels: Pixels
    broken: tuple[Rect, ...]
    is_skipped: bool


def blocks(slide: Slide, is_wanted: Callable[[Rect], bool] | None = None) -> Iterator[Block]:
    """The slide's level 0 in raster order, on its tile grid; unwanted blocks are not read and come grey."""
    tile = tile_size(slide)
    step_x, step_y = (_multiple(edge) for edge in tile)
    width, height = slide.dimensions
    for y in range(0, height, step_y):
        for x in range(0, width, step_x):
            area = (x, y, min(step_x, width - x), min(step_y, height - y))
            if is_wanted is None or is_wanted(area):
                pixels, broken = read_parts(slide, area, tile)
                yield Block(x, y, pixels, tuple(broken), False)
            else:
                yield Block(x, y, _grey(area), (), True)


def block_count(slide: Slide) -> int:
    """How many blocks :func:`blocks` yields."""
    steps = (_multiple(edge) for edge in tile_size(slide))
    counts = [-(-extent // step) for extent, step in zip(slide.dimensions, steps, strict=True)]
    return counts[0] * counts[1]


class Cutter:
    """Takes blocks in raster order and gives the windows whose patches they complete."""

    def __init__(self, lattice: Lattice) -> None:
        self._lattice = lattice
        self._carry: Pixels = np.zeros((0, lattice.width, 3), np.uint8)  # rows above this row of blocks still needed
        self._next_carry = self._carry
        self._left: Pixels = np.zeros((0, 0, 3), np.uint8)  # columns of this row of blocks still needed
        self._row = self._column = 0  # first patch that is not whole yet

    def add(self, block: Block) -> Window | None:
        """The window that became whole with this block, if one did."""
        lattice, stride = self._lattice, self._lattice.stride_px
        height, width = block.pixels.shape[:2]
        row_end, column_end = lattice.below(block.y + height), lattice.below(block.x + width)
        if block.x == 0:
            self._start_row(block.y, block.y + height)
        above, left = len(self._carry), self._left.shape[1]
        window = np.empty((above + height, left + width, 3), np.uint8)
        window[:, :left] = self._left
        window[:above, left:] = self._carry[:, block.x : block.x + width]
        window[above:, left:] = block.pixels
        keep = max(0, row_end * stride - (block.y - above))
        self._next_carry[:, block.x : block.x + width] = window[keep:, left:]
        first_row, first_column = self._row, self._column
        self._left = window[:, max(0, (column_end - first_column) * stride) :].copy()
        self._column = max(column_end, first_column)
        if block.x + width >= lattice.width:
            self._end_row(row_end)
        if row_end <= first_row or column_end <= first_column:
            return None
        size = lattice.patch_px
        view = np.lib.stride_tricks.sliding_window_view(window, (size, size), axis=(0, 1))[::stride, ::stride]
        patches = view[: row_end - first_row, : column_end - first_column].transpose(0, 1, 3, 4, 2)
        return Window(range(first_row, row_end), range(first_column, column_end), window, patches)

    def _start_row(self, top: int, bottom: int) -> None:
        self._column = 0
        self._left = np.zeros((len(self._carry) + bottom - top, 0, 3), np.uint8)
        kept = bottom - max(self._row, self._lattice.below(bottom)) * self._lattice.stride_px
        self._next_carry = np.zeros((kept, self._lattice.width, 3), np.uint8)

    def _end_row(self, row_end: int) -> None:
        self._carry, self._row = self._next_carry, max(self._row, row_end)


def read_parts(slide: Slide, area: Rect, piece: tuple[int, int], level: int = 0) -> tuple[Pixels, list[Rect]]:
    """A region, and what of it cannot be decoded: halved along the tile grid until only broken pieces are left out.

    Args:
        slide: The slide; a failed read reopens its file.
        area: x, y, width and height, pixels of ``level``.
        piece: Width and height of the smallest part that is read alone, pixels.
        level: Which stored level.

    Returns:
        RGB (height, width, 3), uint8, grey where broken; and the broken rectangles, pixels of ``level``.
    """
    x, y, width, height = area
    factor = slide.level_downsamples[level]
    try:
        return slide.read(round(x * factor), round(y * factor), width, height, level), []
    except SlideUnreadable:  # not swallowed: every broken rectangle is returned, marked and counted
        halves = _halves(area, piece)
        if not halves:
            return _grey(area), [area]
    pixels, broken = np.empty((height, width, 3), np.uint8), []
    for part in halves:
        left, top = part[0] - x, part[1] - y
        pixels[top : top + part[3], left : left + part[2]], bad = read_parts(slide, part, piece, level)
        broken += bad
    return pixels, broken


def tile_size(slide: Slide) -> tuple[int, int]:
    """Width and height of the stored tiles, or of the pieces in their place where the file does not tell."""
    return slide.tile_size or (UNKNOWN_TILE_PX, UNKNOWN_TILE_PX)


def _grey(area: Rect) -> Pixels:
    return np.full((area[3], area[2], 3), UNREAD_GREY, np.uint8)


def _multiple(tile: int) -> int:
    return max(1, BLOCK_PX // tile) * tile if tile <= 2 * BLOCK_PX else BLOCK_PX


def _halves(area: Rect, piece: tuple[int, int]) -> list[Rect]:
    """Two parts of an area, cut at a multiple of the piece from the slide's corner; none if it lies in one piece."""
    x, y, width, height = area
    left, top = x // piece[0], y // piece[1]
    across, down = -(-(x + width) // piece[0]) - left, -(-(y + height) // piece[1]) - top
    if across * down <= 1:
        return []
    if across >= down:
        first = (left + across // 2) * piece[0] - x
        return [(x, y, first, height), (x + first, y, width - first, height)]
    first = (top + down // 2) * piece[1] - y
    return [(x, y, width, first), (x, y + first, width, height - first)]

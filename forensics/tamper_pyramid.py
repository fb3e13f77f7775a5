"""The coarser levels of a pyramid, made while level 0 streams by: a row of tiles a level is all that is in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Self

import numpy as np
from numpy.typing import NDArray

from histoforensics.slides import require

Pixels = NDArray[np.uint8]
Encode = Callable[[Pixels], bytes]

STEP = 4  # from one level to the next
SMALLEST_PX = 1024  # no level is made from one that is as small


class Level:
    """One level: takes the tiles of the level below in raster order, keeps its own as streams in a temporary file.

    Args:
        width: Of the level, pixels.
        height: Of the level.
        tile_px: Edge of its tiles.
        encode: Makes the stream of a whole tile (tile_px, tile_px, 3).
        coarser: The next level, which is fed with this one's tiles.
        files: Closes the temporary file.
    """

    def __init__(
        self, width: int, height: int, tile_px: int, encode: Encode, coarser: Level | None, files: ExitStack
    ) -> None:
        self.width, self.height, self.coarser = width, height, coarser
        self._tile_px, self._encode = tile_px, encode
        self._row: Pixels = np.zeros((min(tile_px, height), width, 3), np.uint8)
        self._top = 0
        self._spool = files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
        self._sizes: list[int] = []

    def add(self, x: int, y: int, pixels: Pixels) -> None:
        """Take in a part of the level below, its corner and size multiples of ``STEP`` save at the far edges."""
        small = shrink(pixels)
        left, top = x // STEP, y // STEP
        small = small[: max(0, self.height - top), : max(0, self.width - left)]
        if not small.size:  # the level ended with the tile before
            return
        row = top - self._top
        self._row[row : row + small.shape[0], left : left + small.shape[1]] = small
        is_last = left + small.shape[1] >= self.width
        if is_last and top + small.shape[0] >= self._top + len(self._row):
            self._flush()

    def streams(self) -> Iterator[bytes]:
        """The level's tiles in raster order, after everything was added."""
        self._spool.seek(0)
        for size in self._sizes:
            yield self._spool.read(size)

    def _flush(self) -> None:
        """Code the row of tiles that has become whole."""
        if not len(self._row):
            return
        edge = self._tile_px
        for left in range(0, self.width, edge):
            part = self._row[:, left : left + edge]
            overhang = ((0, edge - part.shape[0]), (0, edge - part.shape[1]), (0, 0))
            stream = self._encode(np.pad(part, overhang, mode="edge"))
            self._spool.write(stream)
            self._sizes.append(len(stream))
            if self.coarser is not None:
                self.coarser.add(left, self._top, part)
        self._top += len(self._row)
        self._row = np.zeros((min(edge, self.height - self._top), self.width, 3), np.uint8)


class Pyramid:
    """All levels above level 0; use it in a ``with`` block.

    Args:
        width: Of level 0, pixels.
        height: Of level 0.
        tile_px: Edge of the tiles, a multiple of ``STEP``.
        encode: Makes the stream of a whole tile.
    """

    def __init__(self, width: int, height: int, tile_px: int, encode: Encode) -> None:
        require(tile_px % STEP == 0, "tile_px", f"a multiple of {STEP}", tile_px)
        self._files = ExitStack()
        self.levels: list[Level] = []
        coarser: Level | None = None
        for size in reversed(level_sizes(width, height)):
            coarser = Level(*size, tile_px, encode, coarser, self._files)
            self.levels.insert(0, coarser)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def add(self, x: int, y: int, pixels: Pixels) -> None:
        """Take in a tile of level 0; tiles come in raster order."""
        if self.levels:
            self.levels[0].add(x, y, pixels)


def level_sizes(width: int, height: int) -> list[tuple[int, int]]:
    """Width and height of each level above level 0.

    >>> level_sizes(2220, 2967)
    [(555, 741)]
    """
    sizes = []
    while max(width, height) > SMALLEST_PX and min(width, height) >= STEP:
        width, height = width // STEP, height // STEP
        sizes.append((width, height))
    return sizes


def shrink(pixels: Pixels) -> Pixels:
    """Means of ``STEP`` x ``STEP`` pixels, (h // STEP, w // STEP, 3), uint8; what fills no square is left out."""
    height, width = pixels.shape[0] // STEP, pixels.shape[1] // STEP
    squares = pixels[: height * STEP, : width * STEP].reshape(height, STEP, width, STEP, 3)
    return np.asarray((squares.sum((1, 3), dtype=np.uint32) + STEP**2 // 2) // STEP**2, np.uint8)

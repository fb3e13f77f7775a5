"""Where patches lie on a slide: the published grid and the physical one.

``PaperGrid`` repeats py-wsi (ysbecca/py-wsi, 2020): "256 px with overlap 50" is a Deep Zoom tile of 156 px with 50 px
more on each inner side, so the stride is 156 px, and the first and last row and column, which lack a side, are dropped.
``MppGrid`` is laid out in micrometres, so that slides of different scanners show the same field.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .errors import LevelError, MppError, require
from .slide import Slide

Shrink = Literal["none", "thumbnail", "box"]

PAPER_LEVEL = 17  # full resolution of slides 65,537 to 131,072 px wide, and of no others
RUN_PX = 1024  # of overlapping patches that are read at once, at most
MPP_TOLERANCE = 0.02  # within 2 % pixels stay as they are: resampling by a hair erases traces and gains nothing


@dataclass(frozen=True, eq=False)
class Layout:
    """A grid laid on one slide.

    Attributes:
        positions: Top left corners (x, y), level-0 pixels, int64 (n, 2), raster order.
        reads: Width and height to read at each, pixels of ``level``, int64 (n, 2).
        level: The stored level that is read.
        patch_px: Edge of the finished patches, pixels.
        factor: Level-0 pixels that one pixel of a patch spans; 1 is full resolution.
        shrink: How a larger region becomes a patch: not at all, as Pillow's thumbnail (Lanczos), or from an exact box.
        box_px: Edge of that box, pixels of ``level``.
        border: Cells of the grid that the slide's border cut, and which are left out.
    """

    positions: NDArray[np.int64]
    reads: NDArray[np.int64]
    level: int
    patch_px: int
    factor: float
    shrink: Shrink
    box_px: float
    border: int

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def kernel(self) -> str:
        """Name of the resampling kernel, as the manifest records it."""
        return "none" if self.shrink == "none" else "lanczos"

    def read(self, slide: Slide, index: int) -> NDArray[np.uint8] | None:
        """The patch at ``index``, RGB (patch_px, patch_px, 3), uint8; ``None`` if shrinking leaves a pixel missing.

        Raises:
            SlideUnreadable: If the region cannot be decoded.
        """
        return self.read_run(slide, range(index, index + 1))[0]

    def runs(self, slide: Slide) -> Iterator[range]:
        """All patches in order, those together that overlap in a row, which :meth:`read_run` reads at once."""
        x, y = self.positions.T
        ends = x + self.reads[:, 0]
        overlaps = (
            (y[1:] == y[:-1]) & (self.reads[1:, 1] == self.reads[:-1, 1]) & (x[:-1] < x[1:]) & (x[1:] < ends[:-1])
        )
        if slide.level_downsamples[self.level] != 1:  # there OpenSlide shifts each region by fractions of a pixel
            overlaps[:] = False
        start = 0
        for index in range(1, len(self) + 1):
            if index == len(self) or not overlaps[index - 1] or ends[index] - x[start] > RUN_PX:
                yield range(start, index)
                start = index

    def read_run(self, slide: Slide, run: range) -> list[NDArray[np.uint8] | None]:
        """The patches of one of :meth:`runs`, each as :meth:`read` gives it, from one region.

        Raises:
            SlideUnreadable: If a part of the region cannot be decoded.
        """
        x, y = self.positions[run.start].tolist()
        lefts, widths = self.positions[run.start : run.stop, 0] - x, self.reads[run.start : run.stop, 0]
        width, height = int(lefts[-1] + widths[-1]), int(self.reads[run.start, 1])
        region = slide.read(x, y, width, height, self.level)
        if len(run) == 1:
            return [self._finished(region)]
        return [
            self._finished(region[:, left : left + across].copy())
            for left, across in zip(lefts.tolist(), widths.tolist(), strict=True)
        ]

    def _finished(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
        """What was read as a patch."""
        if self.shrink != "none":
            pixels = self._shrunk(Image.fromarray(pixels))
        return pixels if pixels.shape[:2] == (self.patch_px, self.patch_px) else None

    def _shrunk(self, image: Image.Image) -> NDArray[np.uint8]:
        size = (self.patch_px, self.patch_px)
        if self.shrink == "thumbnail":
            image.thumbnail(size, Image.Resampling.LANCZOS)
            return np.array(image)
        return np.array(image.resize(size, Image.Resampling.LANCZOS, box=(0, 0, self.box_px, self.box_px)))


class Grid(Protocol):
    """Lays patches on a slide."""

    def layout(self, slide: Slide) -> Layout:
        """Where the patches of this grid lie on ``slide``."""

    def positions(self, slide: Slide) -> NDArray[np.int64]:
        """Their top left corners (x, y), level-0 pixels, int64 (n, 2), raster order."""


@dataclass(frozen=True, kw_only=True)
class PaperGrid:
    """The grid of Alrasheed et al. 2020, by py-wsi's rules.

    Attributes:
        patch_px: Edge of a finished patch; the tile between overlaps is ``patch_px - 2 * overlap_px``, the stride too.
        overlap_px: Added on each inner side of a tile.
        level: Deep Zoom level, 0 is one pixel; "max" is the slide's full resolution.
    """

    patch_px: int = 256
    overlap_px: int = 50
    level: int | Literal["max"] = PAPER_LEVEL

    def __post_init__(self) -> None:
        require(self.overlap_px >= 0, "overlap_px", "at least 0", self.overlap_px)
        require(self.stride_px > 0, "patch_px", f"more than twice the overlap of {self.overlap_px}", self.patch_px)

    @property
    def stride_px(self) -> int:
        """From one patch to the next, pixels of the Deep Zoom level."""
        return self.patch_px - 2 * self.overlap_px

    def positions(self, slide: Slide) -> NDArray[np.int64]:
        """Top left corners (x, y), level-0 pixels, int64 (n, 2), raster order."""
        return self.layout(slide).positions

    def layout(self, slide: Slide) -> Layout:
        """The patches that are whole.

        Raises:
            LevelError: If the slide has no such Deep Zoom level; the message names the level of full resolution.
        """
        zoom = slide.deep_zoom(self.stride_px, self.overlap_px)
        level = self._level(slide, zoom.level_count)
        columns, rows = zoom.level_tiles[level]
        width, height = zoom.level_dimensions[level]
        keep_x, keep_y = self._whole(columns, width), self._whole(rows, height)
        cells = [zoom.get_tile_coordinates(level, (column, row)) for row in keep_y for column in keep_x]
        corners = np.array([place for place, _, _ in cells], np.int64).reshape(-1, 2)
        reads = np.array([size for _, _, size in cells], np.int64).reshape(-1, 2)
        stored = cells[0][1] if cells else 0
        shrink: Shrink = "none" if not len(reads) or (reads == self.patch_px).all() else "thumbnail"
        factor = float(2 ** (zoom.level_count - 1 - level))
        border = columns * rows - len(cells)
        return Layout(corners, reads, int(stored), self.patch_px, factor, shrink, float(self.patch_px), border)

    def _level(self, slide: Slide, count: int) -> int:
        level = count - 1 if self.level == "max" else self.level
        if not 0 <= level < count:
            width, height = slide.dimensions
            raise LevelError(
                f"{slide.path.name}: has no Deep Zoom level {level}, only 0 to {count - 1}; its full resolution "
                f"({width} x {height} px) is level {count - 1}: pass --level {count - 1} or --level max."
            )
        return level

    def _whole(self, tiles: int, extent: int) -> list[int]:
        """Tile indices with an overlap on both sides whose patch ends inside the level: OpenSlide cuts all others."""
        return [t for t in range(1, tiles - 1) if t * self.stride_px - self.overlap_px + self.patch_px <= extent]


@dataclass(frozen=True, kw_only=True)
class MppGrid:
    """A grid in physical size, from the slide's top left corner; cells that the border cuts are left out.

    Attributes:
        mpp: Micrometres that a pixel of a finished patch spans.
        patch_px: Edge of a finished patch; ``mpp * patch_px`` is its field in micrometres.
        stride_px: From one patch to the next, pixels of finished patches; default ``patch_px``.
    """

    mpp: float
    patch_px: int = 256
    stride_px: int | None = None

    def __post_init__(self) -> None:
        require(math.isfinite(self.mpp) and self.mpp > 0, "mpp", "above 0", self.mpp)
        require(self.patch_px > 0, "patch_px", "at least 1", self.patch_px)
        require(self.stride_px is None or self.stride_px > 0, "stride_px", "at least 1", self.stride_px)

    def positions(self, slide: Slide) -> NDArray[np.int64]:
        """Top left corners (x, y), level-0 pixels, int64 (n, 2), raster order."""
        return self.layout(slide).positions

    def layout(self, slide: Slide) -> Layout:
        """The patches that lie wholly on the slide.

        Raises:
            MppError: If the slide says no mpp, or was scanned more coarsely than is asked for.
        """
        factor = self.mpp / slide.mpp
        if factor < 1 - MPP_TOLERANCE:
            raise MppError(
                f"{slide.path.name}: was scanned at {slide.mpp:g} um per pixel; {self.mpp:g} would invent detail, "
                f"ask for {slide.mpp:g} or more."
            )
        is_native = abs(factor - 1) <= MPP_TOLERANCE
        factor = 1.0 if is_native else factor
        level = _best_level(slide, factor)
        box = self.patch_px * factor / slide.level_downsamples[level]
        stride = (self.stride_px or self.patch_px) * factor
        xs, ys = (_starts(extent, self.patch_px * factor, stride) for extent in slide.dimensions)
        y, x = np.meshgrid(ys, xs, indexing="ij")
        corners = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.int64)
        reads = np.full_like(corners, math.ceil(box - 1e-9))
        cells = math.prod(math.ceil(extent / stride) for extent in slide.dimensions)
        shrink: Shrink = "none" if is_native else "box"
        return Layout(
            corners,
            reads,
            level,
            self.patch_px,
            factor,
            shrink,
            min(box, float(reads.max(initial=1))),
            cells - len(corners),
        )


def _best_level(slide: Slide, factor: float) -> int:
    """The coarsest stored level that is still as fine as wanted."""
    fine = [i for i, downsample in enumerate(slide.level_downsamples) if downsample <= factor * (1 + 1e-3)]
    return max(fine, default=0)


def _starts(extent: int, span: float, stride: float) -> NDArray[np.int64]:
    """Rounded multiples of ``stride`` from 0 whose ``span`` ends inside ``extent``."""
    count = max(0, math.floor((extent - span) / stride + 1e-9) + 1)
    starts = np.round(np.arange(count) * stride).astype(np.int64)
    return np.asarray(starts[starts + span <= extent + 0.5], np.int64)  # half a pixel: what rounding may add

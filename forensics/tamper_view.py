"""A slide with some of its tissue replaced, as the tampered file would hold it: tiles recoded by the slide's own codec.

The file and whoever works in memory use the same streams, so what is read here is what is read from the file.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from histoforensics.slides import CodecError, JpegGeneration, Slide
from histoforensics.slides.replay import encode_jpeg

from .tamper_regions import Region
from .windows import read_parts

Pixels = NDArray[np.uint8]
Tile = tuple[int, int]  # column, row


@dataclass(frozen=True, eq=False)
class Splice:
    """A finished splice.

    Attributes:
        region: What is replaced.
        pixels: The pixels of the region's box after blending, RGB (h, w, 3), uint8.
        facts: What was done, for the log.
    """

    region: Region
    pixels: Pixels
    facts: dict[str, Any]


class TamperedView:
    """Reads a slide with splices in it. Only tiles that a splice touches are coded anew.

    Args:
        slide: An open JPEG slide; it stays open as long as the view is used.
        splices: Disjoint ones.

    Raises:
        CodecError: If level 0 is not tiled JPEG.
    """

    def __init__(self, slide: Slide, splices: Sequence[Splice]) -> None:
        self.slide = slide
        self.generation, (self.tile_width, self.tile_height) = jpeg_tiles(slide)
        self._touching: dict[Tile, list[Splice]] = defaultdict(list)
        for one in splices:
            x, y, width, height = one.region.box
            for row in range(y // self.tile_height, (y + height - 1) // self.tile_height + 1):
                for column in range(x // self.tile_width, (x + width - 1) // self.tile_width + 1):
                    if _covers(one.region, self.tile_box((column, row))):
                        self._touching[column, row].append(one)
        self._decoded: dict[Tile, Pixels] = {}

    @property
    def touched(self) -> frozenset[Tile]:
        """The tiles that are coded anew."""
        return frozenset(self._touching)

    def tile_box(self, tile: Tile) -> tuple[int, int, int, int]:
        """x, y, width, height of a tile's part of the slide, level-0 pixels."""
        width, height = self.slide.dimensions
        x, y = tile[0] * self.tile_width, tile[1] * self.tile_height
        return x, y, min(self.tile_width, width - x), min(self.tile_height, height - y)

    def stream(self, tile: Tile) -> bytes:
        """The JPEG stream of a touched tile."""
        pixels = self._composed(tile)
        height, width = pixels.shape[:2]
        overhang = ((0, self.tile_height - height), (0, self.tile_width - width), (0, 0))
        return encode_jpeg(self.generation, np.pad(pixels, overhang, mode="edge"))

    def tile(self, tile: Tile) -> Pixels:
        """The decoded pixels of a tile's part of the slide, RGB (h, w, 3), uint8; grey where it is broken."""
        x, y, width, height = self.tile_box(tile)
        if tile not in self._touching:
            return read_parts(self.slide, (x, y, width, height), (self.tile_width, self.tile_height))[0]
        if tile not in self._decoded:
            with Image.open(io.BytesIO(self.stream(tile))) as decoded:
                self._decoded[tile] = np.array(decoded)[:height, :width]
        return self._decoded[tile]

    def read(self, x_level0: int, y_level0: int, width: int, height: int) -> Pixels:
        """A region of level 0 as RGB (height, width, 3), uint8, as ``Slide.read`` of the tampered file gives it."""
        out = self.slide.read(x_level0, y_level0, width, height)
        for tile in self._touching:
            x, y, tile_width, tile_height = self.tile_box(tile)
            left, right = max(x, x_level0), min(x + tile_width, x_level0 + width)
            top, bottom = max(y, y_level0), min(y + tile_height, y_level0 + height)
            if left < right and top < bottom:
                part = self.tile(tile)[top - y : bottom - y, left - x : right - x]
                out[top - y_level0 : bottom - y_level0, left - x_level0 : right - x_level0] = part
        return out

    def _composed(self, tile: Tile) -> Pixels:
        x, y, width, height = self.tile_box(tile)
        pixels = read_parts(self.slide, (x, y, width, height), (self.tile_width, self.tile_height))[0]
        for one in self._touching[tile]:
            left, top, box_width, box_height = one.region.box
            x0, x1 = max(x, left), min(x + width, left + box_width)
            y0, y1 = max(y, top), min(y + height, top + box_height)
            inside = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
            mask = one.region.mask[inside]
            pixels[y0 - y : y1 - y, x0 - x : x1 - x][mask] = one.pixels[inside][mask]
        return pixels


def jpeg_tiles(slide: Slide) -> tuple[JpegGeneration, tuple[int, int]]:
    """The present JPEG compression of a slide, and width and height of its tiles.

    Raises:
        CodecError: If level 0 is not JPEG, or not in square tiles.
    """
    codec = slide.codec
    if codec.kind != "jpeg":
        raise CodecError(f"{slide.path.name}: is {codec.kind}; only slides of JPEG tiles can be coded as they were.")
    width, height = codec.tile_width, codec.tile_height
    if width != height or width % 16:
        told = f"{width} x {height} px"
        raise CodecError(f"{slide.path.name}: its tiles are {told}; square ones of a multiple of 16 px are wanted.")
    return codec.last, (width, height)


def _covers(region: Region, box: tuple[int, int, int, int]) -> bool:
    """Whether a pixel of the region lies in the box."""
    x, y, width, height = box
    part = region.mask[max(0, y - region.y) : y + height - region.y, max(0, x - region.x) : x + width - region.x]
    return bool(part.any())

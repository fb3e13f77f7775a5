"""The tampered slide as a file: a tiled pyramid that OpenSlide and QuPath open, made as the tiles stream by.

Untouched tiles of level 0 are copied byte for byte; touched ones are coded with the slide's own tables, sampling and
colour transform on its own tile grid. The coarser levels are made anew. Label and macro images are never copied, and of
the old description only the records of compressions, which name nobody.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from histoforensics.slides import Progress
from histoforensics.slides.codec import compression_records
from histoforensics.slides.jpegstream import Sampling
from histoforensics.slides.replay import encode_jpeg
from histoforensics.slides.runcard import package_version
from histoforensics.slides.tiffwriter import Page, write_tiff

from .tamper_pyramid import Pyramid
from .tamper_view import TamperedView

MARK = "SYNTHETIC"  # the description begins with it


def write_tampered(view: TamperedView, path: Path, *, progress: Progress | None = None) -> Path:
    """Write what ``view`` shows as a slide file.

    Args:
        view: The slide with its splices.
        path: The file, ending .tif.
        progress: Told after each row of tiles.

    Raises:
        ConfigError: If the file would exceed the 4 GB of a classic TIFF.
    """
    generation, (width, height) = view.generation, view.slide.dimensions

    def encode(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
        return encode_jpeg(generation, pixels)

    common: dict[str, Any] = {
        "tile_px": view.tile_width,
        "photometric": generation.transform,
        "subsampling": _tag_530(generation.sampling),
    }
    mpp = view.slide.mpp_or_none
    with tifffile.TiffFile(view.slide.path) as source, Pyramid(width, height, view.tile_width, encode) as pyramid:
        page: Any = source.pages[0]
        tables = page.tags.get(347)
        pages = [
            Page(
                width, height, _level0(view, page, source.filehandle, pyramid, progress), **common, mpp=mpp,
                description=description(str(page.description)),
                jpeg_tables=b"" if tables is None else bytes(tables.value),
            )
        ]  # fmt: skip
        for level in pyramid.levels:
            scale = width / level.width
            pages.append(
                Page(
                    level.width, level.height, level.streams(), **common, mpp=None if mpp is None else mpp * scale,
                    description=MARK, is_reduced=True,
                )
            )  # fmt: skip
        return write_tiff(path, pages)


def description(original: str) -> str:
    """The ImageDescription of a tampered slide: that it is synthetic, and the compressions that the slide had.

    The records stay so that a scan can replay the slide's history.
    """
    told = f"{MARK}: tissue was replaced by generated or foreign patches (histoforensics {package_version()} tamper)."
    records = compression_records(original)
    return ";".join([told, *records])


def _level0(view: TamperedView, page: Any, file: Any, pyramid: Pyramid, progress: Progress | None) -> Iterator[bytes]:
    """The streams of level 0 in raster order; each tile's pixels go to the pyramid on the way."""
    width, height = view.slide.dimensions
    columns, rows = -(-width // view.tile_width), -(-height // view.tile_height)
    for row in range(rows):
        for column in range(columns):
            tile, index = (column, row), row * columns + column
            x, y, _, _ = view.tile_box(tile)
            pixels = view.tile(tile)
            pyramid.add(x, y, pixels)
            size = int(page.databytecounts[index])
            if tile in view.touched:
                yield view.stream(tile)
            elif size:
                file.seek(int(page.dataoffsets[index]))
                yield file.read(size)
            else:  # Aperio leaves tiles of bare glass out, other readers do not know that
                blank = np.full((view.tile_height, view.tile_width, 3), 255, np.uint8)
                blank[: pixels.shape[0], : pixels.shape[1]] = pixels
                yield encode_jpeg(view.generation, blank)
        if progress is not None:
            progress(row + 1, rows, view.slide.name)


def _tag_530(sampling: Sampling) -> tuple[int, int]:
    return {"4:4:4": (1, 1), "4:2:2": (2, 1), "4:2:0": (2, 2)}[sampling]

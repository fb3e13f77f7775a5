"""Synthetic slides: purple texture in a file that OpenSlide takes for an Aperio SVS; no download needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .codec import JpegGeneration, standard_table
from .errors import require
from .jpegstream import Sampling, Transform
from .replay import encode_jpeg
from .tiffwriter import UNCOMPRESSED, Page, write_tiff

GLASS = (243, 242, 244)  # nearly white, and grey enough not to count as tissue

_EOSIN, _HAEMATOXYLIN = np.array([222.0, 158.0, 196.0]), np.array([92.0, 60.0, 140.0])
_LEVEL_STEP = 4
_THUMBNAIL_PX = 256


def purple_tissue(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Something like stained tissue: pink ground with dark nuclei and noise, RGB (h, w, 3), uint8.

    >>> purple_tissue((32, 48), np.random.default_rng(0)).shape
    (32, 48, 3)
    """
    ground = _smooth_noise(shape, 48, rng)[..., None]
    nuclei = 1 / (1 + np.exp(-6 * (_smooth_noise(shape, 7, rng) - 1.0)))[..., None]
    colour = (1 - nuclei) * (_EOSIN + 14 * ground) + nuclei * _HAEMATOXYLIN
    noisy = colour + rng.normal(0, 5, (*shape, 1)) + rng.normal(0, 2, (*shape, 3))
    return np.asarray(np.clip(noisy, 0, 255).round(), np.uint8)


def write_svs(
    path: Path | str,
    image: NDArray[np.uint8],
    *,
    size: tuple[int, int] | None = None,
    mpp: float | None = 0.25,
    objective: int = 40,
    tile_px: int = 240,
    levels: int = 1,
    quality: int = 75,
    sampling: Sampling = "4:4:4",
    transform: Transform = "rgb",
    notes: Mapping[str, str] | None = None,
    label: NDArray[np.uint8] | None = None,
) -> Path:
    """Write ``image`` as an SVS with JPEG tiles and a thumbnail.

    Args:
        path: The file, by custom with the ending .svs.
        image: RGB (h, w, 3), uint8.
        size: Width and height of level 0; ``image`` is repeated to fill them. If it measures whole tiles they are
            compressed and stored once, so that a slide of any width is written in a moment.
        mpp: Micrometres per pixel that the description states; ``None`` leaves it out.
        objective: Magnification that goes with it.
        tile_px: Edge of the tiles, a multiple of 16.
        levels: Stored levels, each a quarter of the one before.
        quality: libjpeg's, for the tables.
        sampling: Of the second and third component.
        transform: Whether the JPEG components are RGB or YCbCr.
        notes: More of the description, as scanners add their user, date and serial number.
        label: The scanner's picture of the glass slide's label, RGB (h, w, 3), uint8.

    Raises:
        ConfigError: If a setting is out of range.
    """
    require(tile_px > 0 and tile_px % 16 == 0, "tile_px", "a multiple of 16", tile_px)
    require(1 <= quality <= 100, "quality", "from 1 to 100", quality)
    require(levels >= 1, "levels", "at least 1", levels)
    width, height = size or (image.shape[1], image.shape[0])
    codec = JpegGeneration((standard_table(quality),) * 3, sampling, transform)
    resolution = "" if mpp is None else f"|AppMag = {objective}|MPP = {mpp}"
    told = "".join(f"|{key} = {value}" for key, value in ({"Filename": "synthetic"} | dict(notes or {})).items())
    header = f"Aperio Image Library v11.2.1 \r\n{width}x{height} "
    coding = "JPEG/RGB" if transform == "rgb" else "JPEG/YCC"
    pages = []
    for level in range(levels):
        step = _LEVEL_STEP**level
        area = (max(1, width // step), max(1, height // step))
        note = f"[0,0 {width}x{height}] ({tile_px}x{tile_px}) {coding} Q={quality}{resolution}{told}"
        tiles = _tiles(np.ascontiguousarray(image[::step, ::step]), area, tile_px, codec)
        pages.append(
            Page(
                *area, tiles, tile_px, photometric=transform, description=header + note, subsampling=_tag_530(sampling)
            )
        )
        if level == 0:
            pages.append(_thumbnail(image, (width, height), header))  # Aperio keeps it as the second page
    if label is not None:
        pages.append(_stripped(label, f"{header.partition(chr(13))[0]}\nlabel ", is_reduced=True))
    return write_tiff(path, pages)


def _tiles(image: NDArray[np.uint8], area: tuple[int, int], tile_px: int, codec: JpegGeneration) -> Iterator[bytes]:
    """JPEG streams of the tiles of a canvas that ``image`` fills by repetition; the last ones hang over its edge."""
    height, width = image.shape[:2]

    @cache
    def stream(top: int, left: int) -> bytes:
        rows, columns = (top + np.arange(tile_px)) % height, (left + np.arange(tile_px)) % width
        return encode_jpeg(codec, image[np.ix_(rows, columns)])

    for top in range(0, area[1], tile_px):
        for left in range(0, area[0], tile_px):
            yield stream(top % height, left % width)


def _thumbnail(image: NDArray[np.uint8], size: tuple[int, int], header: str) -> Page:
    scale = max(1.0, max(size) / _THUMBNAIL_PX)
    small = (max(1, round(size[0] / scale)), max(1, round(size[1] / scale)))
    return _stripped(np.array(Image.fromarray(image).resize(small)), f"{header}-> ")


def _stripped(pixels: NDArray[np.uint8], header: str, *, is_reduced: bool = False) -> Page:
    height, width = pixels.shape[:2]
    strips = [pixels[top : top + 16].tobytes() for top in range(0, height, 16)]
    return Page(
        width,
        height,
        strips,
        compression=UNCOMPRESSED,
        description=f"{header}{width}x{height} - ",
        is_reduced=is_reduced,
    )


def _tag_530(sampling: Sampling) -> tuple[int, int]:
    return {"4:4:4": (1, 1), "4:2:2": (2, 1), "4:2:0": (2, 2)}[sampling]


def _smooth_noise(shape: tuple[int, int], period_px: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Noise of unit variance that varies over about ``period_px`` pixels, (h, w)."""
    coarse = rng.normal(size=(shape[0] // period_px + 2, shape[1] // period_px + 2)).astype(np.float32)
    fine = Image.fromarray(coarse).resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    noise = np.asarray(fine, np.float64)
    return np.asarray((noise - noise.mean()) / (noise.std() + 1e-9))

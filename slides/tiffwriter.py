"""A small TIFF writer for tiles that are compressed already: its callers choose every byte of the codec.

References: TIFF 6.0 (Adobe, 1992), sections 2 and 15; TIFF Technical Note 2 for JPEG.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

from .atomic import atomic_file
from .errors import ConfigError

UNCOMPRESSED, JPEG = 1, 7
PHOTOMETRIC = {"rgb": 2, "ycbcr": 6}

_ASCII, _SHORT, _LONG, _RATIONAL, _UNDEFINED = 2, 3, 4, 5, 7
_FORMATS = {_SHORT: "H", _LONG: "I", _RATIONAL: "I"}
_CENTIMETRE = 3
_UM_PER_CM = 10_000


@dataclass(frozen=True)
class Page:
    """One image of the file, 8-bit with three channels.

    Attributes:
        width: Pixels.
        height: Pixels.
        segments: Compressed tiles in raster order, or strips from top to bottom. They are written as they come; equal
            ones are stored once.
        tile_px: Edge of the tiles, a multiple of 16; ``None`` for strips.
        rows_per_strip: Of a stripped page.
        compression: TIFF's number: 1 none, 7 JPEG.
        photometric: "rgb" or "ycbcr".
        description: ImageDescription, ASCII.
        subsampling: Chroma sampling that tag 530 states for YCbCr.
        mpp: Micrometres per pixel, which the resolution tags state; ``None`` leaves them out.
        jpeg_tables: The tables-only stream that abbreviated JPEG segments share; empty if each has its own.
        is_reduced: Whether the page is the first one again, smaller: a level of a pyramid.
    """

    width: int
    height: int
    segments: Iterable[bytes]
    tile_px: int | None = None
    rows_per_strip: int = 16
    compression: int = JPEG
    photometric: str = "rgb"
    description: str = ""
    subsampling: tuple[int, int] = (1, 1)
    mpp: float | None = None
    jpeg_tables: bytes = b""
    is_reduced: bool = False


def write_tiff(path: Path | str, pages: Sequence[Page]) -> Path:
    """Write ``pages`` as one little-endian TIFF of at most 4 GB; the file appears whole or not at all.

    Raises:
        ConfigError: If the file would be larger than a classic TIFF may be.
    """
    path = Path(path)
    with atomic_file(path) as work, work.open("wb") as file:
        file.write(b"II*\0\0\0\0\0")
        link = 4  # where the next directory's offset belongs
        for page in pages:
            link = _write_page(file, page, link)
    return path


def _write_page(file: BinaryIO, page: Page, link: int) -> int:
    offsets, sizes = _write_segments(file, page.segments)
    entries = sorted(_tags(page, offsets, sizes), key=lambda entry: entry[0])
    values = [_place(file, kind, content) for _, kind, content in entries]
    start = _align(file)
    file.write(struct.pack("<H", len(entries)))
    file.writelines(
        struct.pack("<HHI", tag, kind, len(content) // (2 if kind == _RATIONAL else 1)) + value
        for (tag, kind, content), value in zip(entries, values, strict=True)
    )
    end = file.tell()
    file.write(b"\0\0\0\0")
    file.seek(link)
    file.write(struct.pack("<I", start))
    file.seek(0, 2)
    return end


def _write_segments(file: BinaryIO, segments: Iterable[bytes]) -> tuple[list[int], list[int]]:
    known: dict[bytes, int] = {}
    offsets, sizes = [], []
    for segment in segments:
        digest = hashlib.blake2b(segment, digest_size=20).digest()  # not the segment: a file may not fit into memory
        if digest not in known:
            known[digest] = _align(file)
            file.write(segment)
        offsets.append(known[digest])
        sizes.append(len(segment))
    return offsets, sizes


def _tags(page: Page, offsets: Sequence[int], sizes: Sequence[int]) -> list[tuple[int, int, Sequence[int] | bytes]]:
    tags: list[tuple[int, int, Sequence[int] | bytes]] = [
        (254, _LONG, [int(page.is_reduced)]), (256, _LONG, [page.width]), (257, _LONG, [page.height]),
        (258, _SHORT, [8, 8, 8]), (259, _SHORT, [page.compression]), (262, _SHORT, [PHOTOMETRIC[page.photometric]]),
        (277, _SHORT, [3]), (284, _SHORT, [1]),
    ]  # fmt: skip
    if page.description:
        tags.append((270, _ASCII, page.description.encode("ascii", "replace") + b"\0"))
    if page.photometric == "ycbcr":
        tags.append((530, _SHORT, page.subsampling))
    if page.mpp is not None:
        resolution = Fraction(_UM_PER_CM / page.mpp).limit_denominator(max(1, int(2**32 * page.mpp / _UM_PER_CM) - 1))
        ratio = [resolution.numerator, resolution.denominator]
        tags += [(282, _RATIONAL, ratio), (283, _RATIONAL, ratio), (296, _SHORT, [_CENTIMETRE])]
    if page.jpeg_tables:
        tags.append((347, _UNDEFINED, page.jpeg_tables))
    if page.tile_px is None:
        return [*tags, (273, _LONG, offsets), (278, _LONG, [page.rows_per_strip]), (279, _LONG, sizes)]
    return [
        *tags,
        (322, _LONG, [page.tile_px]),
        (323, _LONG, [page.tile_px]),
        (324, _LONG, offsets),
        (325, _LONG, sizes),
    ]


def _place(file: BinaryIO, kind: int, content: Sequence[int] | bytes) -> bytes:
    """The four value bytes of a directory entry: the content itself if it fits, else where it was just written."""
    raw = content if isinstance(content, bytes) else struct.pack(f"<{len(content)}{_FORMATS[kind]}", *content)
    if len(raw) <= 4:
        return raw.ljust(4, b"\0")
    at = _align(file)
    file.write(raw)
    return struct.pack("<I", at)


def _align(file: BinaryIO) -> int:
    """The next even offset: TIFF wants words."""
    if file.tell() % 2:
        file.write(b"\0")
    if file.tell() >= 1 << 32:
        raise ConfigError("the slide would be larger than the 4 GB that a classic TIFF can hold; write a smaller one.")
    return file.tell()

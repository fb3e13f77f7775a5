"""What an image file says about itself apart from its pixels: format, tables, chunks, size in bytes."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image, JpegImagePlugin

from histoforensics.slides import PatchError, PatchSet

LOSSY = ("JPEG", "MPO", "JPEG2000", "WEBP")  # a lossless WebP is counted in: its file does not say so plainly
SUBSAMPLING = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}

_PNG = b"\x89PNG\r\n\x1a\n"


def file_facts(patches: PatchSet, rows: Sequence[int]) -> pd.DataFrame:
    """One row a file at ``rows``: file_format, file_bytes, file_lossy, file_jpeg_tables, file_png_chunks, ..."""
    return pd.DataFrame([read_facts(patches.root / str(patches.table["file"].iloc[row])) for row in rows])


def read_facts(path: Path) -> dict[str, Any]:
    """The facts of one file; None where a format has none.

    Raises:
        PatchError: If the file is missing or no image.
    """
    try:
        size = path.stat().st_size
        with Image.open(path) as image:
            jpeg = image if isinstance(image, JpegImagePlugin.JpegImageFile) else None
            return {
                "file_ending": path.suffix.lower(),
                "file_format": image.format,
                "file_bytes": size,
                "file_mode": image.mode,
                "file_lossy": image.format in LOSSY,
                "file_jpeg_tables": None if jpeg is None else _tables_digest(jpeg),
                "file_jpeg_subsampling": SUBSAMPLING.get(JpegImagePlugin.get_sampling(image), "other")
                if jpeg
                else None,
                "file_png_chunks": " ".join(png_chunks(path)) if image.format == "PNG" else None,
                "file_icc": "icc_profile" in image.info,
                "file_exif": "exif" in image.info,
            }
    except OSError as err:
        raise PatchError(f"{path.name}: not an image file that can be read ({type(err).__name__}).") from err


def png_chunks(path: Path) -> list[str]:
    """The kinds of a PNG's chunks in their order, each once: IHDR, tEXt, IDAT, IEND.

    Raises:
        PatchError: If the file is no PNG or breaks off.
    """
    return list(dict.fromkeys(_chunks(path)))


def _chunks(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        if file.read(8) != _PNG:
            raise PatchError(f"{path.name}: not a PNG.")
        while True:
            head = file.read(8)
            if len(head) < 8:
                raise PatchError(f"{path.name}: the PNG breaks off.")
            (length,) = struct.unpack(">I", head[:4])
            kind = head[4:].decode("latin-1")
            yield kind
            if kind == "IEND":
                return
            file.seek(length + 4, 1)


def _subsampling(image: JpegImagePlugin.JpegImageFile) -> str:
    return SUBSAMPLING.get(JpegImagePlugin.get_sampling(image), "other")


def _tables_digest(image: JpegImagePlugin.JpegImageFile) -> str:
    tables = sorted((number, tuple(table)) for number, table in image.quantization.items())
    return hashlib.sha256(repr(tables).encode()).hexdigest()[:12]

"""Image files in and out, exactly: eight-bit RGB or one clear error, never a silent conversion."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import PatchError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"})
SYNTHETIC_KEY = "Synthetic"  # keyword of the PNG text chunk that marks a generated patch

_HEADER_END = 8 + 25  # signature and IHDR: a text chunk may stand right after them


def read_image(file: Path | BinaryIO, name: str | None = None) -> NDArray[np.uint8]:
    """The pixels of one image as RGB (h, w, 3), uint8.

    Grey, palette and fully opaque RGBA images convert exactly, and an EXIF rotation is applied (it moves whole pixels).

    Raises:
        PatchError: If the file is no image, is truncated, has several frames, more than 8 bits a channel, transparency,
            or a colour model other than RGB and grey.
    """
    name = name or (file.name if isinstance(file, Path) else "image")
    try:
        with Image.open(file) as image:
            _refuse_lossy(image, name)
            return _to_rgb(ImageOps.exif_transpose(image), name)
    except UnidentifiedImageError as err:
        raise PatchError(f"{name}: not an image that Pillow can read.") from err
    except Image.DecompressionBombError as err:
        raise PatchError(f"{name}: too large for a patch ({err}).") from err
    except (OSError, SyntaxError, ValueError) as err:
        if isinstance(err, PatchError):
            raise
        raise PatchError(f"{name}: the image is broken or truncated ({err}).") from err


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """``pixels`` (h, w, 3), uint8, as PNG at Pillow's default compression level (6)."""
    buffer = io.BytesIO()
    Image.fromarray(check_rgb(pixels)).save(buffer, "PNG")
    return buffer.getvalue()


def mark_synthetic(png: bytes, note: str) -> bytes:
    """The same PNG with a text chunk that says it is synthetic, put right after the header."""
    body = b"tEXt" + SYNTHETIC_KEY.encode("latin-1") + b"\0" + note.encode("latin-1", "replace")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return png[:_HEADER_END] + chunk + png[_HEADER_END:]


def pixel_digest(pixels: NDArray[np.uint8]) -> str:
    """The sha256 of the size and the RGB bytes: one patch keeps its digest in every lossless file format."""
    height, width = pixels.shape[:2]
    digest = hashlib.sha256(f"{width}x{height}\n".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def check_rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``pixels`` unchanged if they are (h, w, 3), uint8.

    Raises:
        PatchError: If they are not.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise PatchError(f"a patch must be uint8 of shape (h, w, 3), got {pixels.dtype} of shape {pixels.shape}.")
    return pixels


def _refuse_lossy(image: Image.Image, name: str) -> None:
    if getattr(image, "n_frames", 1) > 1:
        raise PatchError(f"{name}: has {getattr(image, 'n_frames', 1)} frames; one image a file is wanted.")
    # Pillow opens 16-bit RGB as 8-bit without a word; only the decoder's raw mode still tells.
    raw_modes = {
        str(part)
        for tile in getattr(image, "tile", [])
        for part in (tile[3] if isinstance(tile[3], tuple) else (tile[3],))
    }
    if image.mode.startswith(("I", "F")) or any("16" in mode.split(";")[-1] for mode in raw_modes if ";" in mode):
        raise PatchError(f"{name}: has more than 8 bits a channel; convert it to 8-bit RGB first.")


def _to_rgb(image: Image.Image, name: str) -> NDArray[np.uint8]:
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        rgba = np.asarray(image.convert("RGBA"))
        if (rgba[..., 3] != 255).any():
            raise PatchError(f"{name}: has transparent pixels, and what lies behind them is unknown; flatten it first.")
        return np.ascontiguousarray(rgba[..., :3])
    if image.mode not in {"RGB", "L", "P", "1"}:
        raise PatchError(f"{name}: its colour model is {image.mode}; convert it to 8-bit RGB first.")
    return np.array(image.convert("RGB"))

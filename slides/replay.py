"""Put pixels through a slide's own compression, generation by generation, on the slide's own grid.

Real patches cut from a slide carry its JPEG traces and generated ones carry none; a detector learns that first. After
both classes went through here, what is left to learn is tissue.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from .codec import Codec, JpegGeneration
from .errors import CodecError, PatchError, require
from .jpeg2000 import replay_jpeg2000, why_not_replayed

# After as many rounds of the sample slide's two generations, block statistics on both grids no longer tell how many a
# patch had before (AUC 0.51; 0.98 after two, 0.79 after three), and spectra tell it no more after three (0.50).
SETTLING_ROUNDS = 5

_MAX_ROWS = 60_000  # a JPEG holds 65,535: patches are stacked and coded together
_SUBSAMPLING = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}


def replay(
    codec: Codec,
    pixels: NDArray[np.uint8],
    x_level0: ArrayLike = 0,
    y_level0: ArrayLike = 0,
    *,
    rounds: int = 1,
) -> NDArray[np.uint8]:
    """Patches after every known compression of a slide, oldest first, as if they had been cut at (x, y) of its level 0.

    Where a grid cuts the patch's border, the patch is mirrored outwards: what really lay there is unknown.

    Args:
        codec: Of the slide; a lossless one changes nothing.
        pixels: Patches, RGB (n, h, w, 3), uint8.
        x_level0: Left edges on the slide, one or n.
        y_level0: Top edges on the slide, one or n.
        rounds: How many times the whole history is repeated. Two grids are two lattices that a patch is rounded to in
            turn, and every round moves it about a third as far as the one before: ``SETTLING_ROUNDS`` leave no trace of
            whether it had been through them before, so that real patches (which had) and generated ones (which had
            not) come out alike. With a single generation one round does that: JPEG repeats itself exactly.

    Returns:
        Patches of the same shape; the input is left alone.

    Raises:
        CodecError: If the slide is JPEG 2000 of a kind that cannot be repeated.
        PatchError: If ``pixels`` are not such patches.
    """
    require(rounds >= 1, "rounds", "at least 1", rounds)
    result = _checked(codec, pixels)
    x, y = _places(len(result), x_level0, y_level0)
    for _ in range(rounds):
        for generation in codec.generations[:-1]:
            result = _through(generation, result, x, y)
        result = _last(codec, result, x, y)
    return result


def transcode(
    codec: Codec, pixels: NDArray[np.uint8], x_level0: ArrayLike = 0, y_level0: ArrayLike = 0
) -> NDArray[np.uint8]:
    """As :func:`replay`, through the last generation only."""
    return _last(codec, _checked(codec, pixels), *_places(len(pixels), x_level0, y_level0))


def matched_codec(codec: Codec) -> Codec:
    """The codec itself, if both classes can be put through it.

    Raises:
        CodecError: If it cannot be replayed, with the reason.
    """
    reason = "" if codec.jpeg2000 is None else why_not_replayed(codec.jpeg2000)
    if reason:
        raise CodecError(f"the slide is JPEG 2000 and cannot be matched: {reason}; use a JPEG or a lossless slide.")
    return codec


def _checked(codec: Codec, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    matched_codec(codec)
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
        raise PatchError(f"patches must be uint8 of shape (n, h, w, 3), got {pixels.dtype} of shape {pixels.shape}.")
    return pixels.copy()


def _last(codec: Codec, pixels: NDArray[np.uint8], x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.uint8]:
    if codec.jpeg2000 is not None:
        return replay_jpeg2000(codec.jpeg2000, (codec.tile_width, codec.tile_height), pixels, x, y)
    return _through(codec.last, pixels, x, y) if codec.generations else pixels


def _places(count: int, x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.broadcast_to(np.asarray(x, np.int64), count), np.broadcast_to(np.asarray(y, np.int64), count)


def _through(
    generation: JpegGeneration, pixels: NDArray[np.uint8], x: NDArray[np.int64], y: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """One generation. Patches that lie equally on the grid are coded as one image: a call costs more than a patch."""
    if not pixels.size:
        return pixels
    unit_x, unit_y = generation.unit_px
    left, top = (x - generation.phase[0]) % unit_x, (y - generation.phase[1]) % unit_y
    result = np.empty_like(pixels)
    for key in np.unique(np.stack([left, top], axis=1), axis=0):
        rows = np.flatnonzero((left == key[0]) & (top == key[1]))
        pads = _padding(generation, pixels.shape[1:3], int(key[0]), int(key[1]))
        height = pixels.shape[1] + sum(pads[1])
        step = max(1, _MAX_ROWS // height)
        for start in range(0, len(rows), step):
            some = rows[start : start + step]
            result[some] = _round_trip(generation, pixels[some], pads)
    return result


def _padding(generation: JpegGeneration, shape: tuple[int, ...], left: int, top: int) -> tuple[tuple[int, int], ...]:
    """np.pad's widths that bring a patch onto the grid.

    Subsampled colours are interpolated over block borders when decoded: one more unit all round keeps stacked
    neighbours out.
    """
    unit_x, unit_y = generation.unit_px
    extra_x, extra_y = (0, 0) if generation.sampling == "4:4:4" else (unit_x, unit_y)
    right, bottom = -(left + shape[1]) % unit_x, -(top + shape[0]) % unit_y
    return ((0, 0), (top + extra_y, bottom + extra_y), (left + extra_x, right + extra_x), (0, 0))


def _round_trip(
    generation: JpegGeneration, patches: NDArray[np.uint8], pads: tuple[tuple[int, int], ...]
) -> NDArray[np.uint8]:
    count, height, width, _ = patches.shape
    padded = np.pad(patches, pads, mode="reflect")
    coded = jpeg_round_trip(generation, padded.reshape(-1, padded.shape[2], 3))
    (top, _), (left, _) = pads[1], pads[2]
    return coded.reshape(padded.shape)[:, top : top + height, left : left + width].reshape(count, height, width, 3)


def jpeg_round_trip(generation: JpegGeneration, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An RGB image (h, w, 3), uint8, coded and decoded with the grid at its corner, whatever the phase."""
    with Image.open(io.BytesIO(encode_jpeg(generation, image))) as decoded:
        return np.array(decoded)


def encode_jpeg(generation: JpegGeneration, image: NDArray[np.uint8]) -> bytes:
    """The JPEG stream of an RGB image (h, w, 3), uint8."""
    buffer = io.BytesIO()
    options: dict[str, Any] = {"qtables": _pillow_tables(generation), "subsampling": _SUBSAMPLING[generation.sampling]}
    Image.fromarray(image).save(buffer, "JPEG", keep_rgb=generation.transform == "rgb", **options)
    return buffer.getvalue()


def _pillow_tables(generation: JpegGeneration) -> list[list[int]]:
    """One table for all components if they share it, else one for each: Pillow deals them out in order."""
    tables = generation.tables
    return [list(tables[0])] if len(set(tables)) == 1 else [list(table) for table in tables]

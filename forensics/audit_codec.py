"""One codec for both classes, for the audit's codec-swap matrix: the reals' own where it is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from histoforensics.slides import SETTLING_ROUNDS, Codec, JpegGeneration, PatchSet, replay
from histoforensics.slides.codec import image_codec, standard_table

from .detector import Pixels

GUESS_QUALITY = 70  # where nothing is known of any codec


@dataclass(frozen=True, kw_only=True)
class Matched:
    """Both classes after one codec."""

    real: Pixels
    fake: Pixels
    policy: str  # which codec, in words
    known: bool  # whether it is one that the patches are known to have had


def prepare(
    real: PatchSet,
    fake: PatchSet,
    real_rows: npt.NDArray[np.intp],
    pixels: tuple[Pixels, Pixels],
    codec: Codec | None,
    rng: np.random.Generator,
) -> Matched:
    """Reals and fakes after one codec: the one given, else that of the JPEG files among them, else JPEG 70.

    A slide's codec is replayed on its own grid: reals where they were cut, fakes where reals were drawn from.

    Args:
        real: For the places and files of the reals.
        fake: For the fakes' files.
        real_rows: Rows of ``real`` that ``pixels`` show.
        pixels: Reals (n, h, w, 3) and fakes (m, h, w, 3).
        codec: Of the reals' source.
        rng: Draws the fakes' places.
    """
    known = codec is not None
    policy = "the codec that was given, every known generation on its own grid"
    if codec is None:
        codec = _of_files(real) or _of_files(fake)
        known = codec is not None
        policy = "the quantisation tables of the JPEG files among the patches"
    if codec is None:
        codec = Codec("jpeg", (JpegGeneration((standard_table(GUESS_QUALITY),) * 3, "4:4:4", "ycbcr"),), 0, 0)
        policy = f"JPEG {GUESS_QUALITY}, a guess: no codec was given and no file is JPEG"
    x, y = _places(real, real_rows)
    drawn = rng.integers(0, len(x), len(pixels[1]))
    rounds = SETTLING_ROUNDS if len(codec.generations) > 1 else 1
    return Matched(
        real=replay(codec, pixels[0], x, y, rounds=rounds),
        fake=replay(codec, pixels[1], x[drawn], y[drawn], rounds=rounds),
        policy=policy,
        known=known,
    )


def _of_files(patches: PatchSet) -> Codec | None:
    """The codec of the first JPEG file of a set."""
    jpegs = [file for file in patches.table["file"] if str(file).lower().endswith((".jpg", ".jpeg"))]
    return image_codec(patches.root / str(jpegs[0])) if jpegs else None


def _places(real: PatchSet, rows: npt.NDArray[np.intp]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Level-0 corners of the reals, px; 0 where the manifest does not tell."""
    told: Any = real.table[["x_level0", "y_level0"]].iloc[rows].fillna(0).astype("int64")
    return told["x_level0"].to_numpy(), told["y_level0"].to_numpy()

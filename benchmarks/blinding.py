"""What an exam's files tell of the class: nothing by metadata or length, and what the pixels tell is stated.

A reader, or a script beside the reader, must not be able to sort the items without looking at them. Trivial pixel
cues are another matter: a generator whose tissue is too pale *is* detectable. They are reported, so that nobody takes
for skill in morphology what the mean colour shows, and they are never a reason to refuse an exam.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from histoforensics.forensics.metrics import auc
from histoforensics.slides import ExamError

PLAIN_CHUNKS = {b"IHDR", b"IDAT", b"IEND"}


def check_plain(files: Sequence[bytes]) -> None:
    """Refuse encoded items that could be told apart without decoding them.

    Raises:
        ExamError: If a file holds more than plain pixels, or two differ in length.
    """
    extra = sorted({chunk.decode("ascii", "replace") for png in files for chunk in set(png_chunks(png)) - PLAIN_CHUNKS})
    if extra:
        raise ExamError(f"An item to be served carries metadata ({', '.join(extra)}), which could tell its class.")
    lengths = sorted({len(png) for png in files})
    if len(lengths) > 1:
        raise ExamError(
            f"The items to be served are {lengths[0]} to {lengths[-1]} bytes long; "
            "a length could tell the class, so all must be equal."
        )


def file_controls(files: Sequence[bytes], is_fake: Sequence[bool]) -> dict[str, float]:
    """AUC with which the length and the metadata of encoded items tell fakes: 0.5 is nothing."""
    labels = np.asarray(is_fake, dtype=int)
    chunks = np.array([len(png_chunks(png)) for png in files], dtype=float)
    return {"bytes": _auc(labels, np.array([len(png) for png in files], float)), "metadata": _auc(labels, chunks)}


def pixel_controls(pixels: NDArray[np.uint8], is_fake: Sequence[bool]) -> dict[str, float]:
    """AUC with which trivial pixel cues tell fakes (above 0.5: fakes have more of it), pixels (n, h, w, 3), uint8."""
    values = pixels.astype(np.float64)
    cues = {
        "brightness": values.mean(axis=(1, 2, 3)),
        "saturation": (values.max(axis=3) - values.min(axis=3)).mean(axis=(1, 2)),
        "contrast": values.mean(axis=3).std(axis=(1, 2)),
        "compressed bytes": np.array([len(_compressed(patch)) for patch in pixels], dtype=float),
    }
    labels = np.asarray(is_fake, dtype=int)
    return {name: _auc(labels, cue) for name, cue in cues.items()}


def png_chunks(png: bytes) -> list[bytes]:
    """The names of a PNG's chunks, in order."""
    names, at = [], 8
    while at + 8 <= len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        names.append(png[at + 4 : at + 8])
        at += 12 + length
    return names


def strongest(controls: Mapping[str, float]) -> tuple[str, float]:
    """The cue that is farthest from telling nothing, and its AUC."""
    name = max(controls, key=lambda cue: abs(controls[cue] - 0.5))
    return name, controls[name]


def _auc(labels: NDArray[np.int_], cue: NDArray[np.float64]) -> float:
    return round(float(auc(labels, cue)), 4)


def _compressed(patch: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(patch).save(buffer, "PNG")
    return buffer.getvalue()

"""Leaks: a patch that stands in two splits, found by the sha256 of its pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from histoforensics.slides import PatchError, pixel_digest


def sha256_of_patches(pixels: npt.NDArray[np.uint8]) -> tuple[str, ...]:
    """The sha256 of each patch's size and RGB bytes, as in a patch set's manifest, for uint8 (n, h, w, 3)."""
    return tuple(pixel_digest(patch) for patch in pixels)


def split_digest(digests: Iterable[str]) -> str:
    """One sha256 for a whole split: of its sorted patch digests, so that order does not matter but repeats do."""
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()


def refuse_overlap(name: str, digests: Iterable[str], other: str, other_digests: Iterable[str]) -> None:
    """Raise if two sets, splits or classes, share a patch, byte for byte.

    Raises:
        PatchError: The sentence counts the shared patches and shows the first.
    """
    shared = sorted(set(digests) & set(other_digests))
    if shared:
        many = "1 patch is" if len(shared) == 1 else f"{len(shared)} patches are"
        raise PatchError(
            f"{many} in both the {name} and the {other} patches (sha256 {shared[0][:12]}); "
            "each patch may stand on one side only."
        )


def as_groups(groups: npt.NDArray[Any] | None, n: int) -> npt.NDArray[Any]:
    """``groups``, or one group a patch where nothing is known."""
    return np.arange(n) if groups is None else np.asarray(groups)

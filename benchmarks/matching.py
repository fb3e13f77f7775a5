"""Matching: which fakes look most like which real patches, one to one.

A reader who tells dark from pale patches has not told fake from real. So each fake of an exam stands against a real
patch of much the same colour and texture.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from histoforensics.slides import ExamError

Features = Callable[[NDArray[np.uint8]], NDArray[np.floating[Any]]]  # (n, h, w, 3) -> (n, d)

OCTAVES = 4
QUANTILES = (0.1, 0.5, 0.9)


class Matches(NamedTuple):
    """``rows[i]`` is the candidate that stands against target ``i``, ``distances[i]`` how far they are apart."""

    rows: NDArray[np.intp]
    distances: NDArray[np.float64]


def colour_and_texture(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Colour and texture of uint8 patches (n, h, w, 3) as (n, 19) numbers.

    Fifteen are the mean, the spread and three quantiles of the optical density, channel by channel: where stains add
    up. Four are the energy of its mean channel in bands an octave wide, from the finest on: how rough the tissue is.
    """
    density = -np.log10((pixels.astype(np.float64) + 1) / 256)
    flat = density.reshape(len(pixels), -1, 3)
    colour = [flat.mean(axis=1), flat.std(axis=1), *np.quantile(flat, QUANTILES, axis=1)]
    return np.concatenate([*colour, _octave_energies(density.mean(axis=3))], axis=1)


def match(targets: NDArray[Any], candidates: NDArray[Any]) -> Matches:
    """One candidate for each target, none twice, with the least sum of Euclidean distances.

    Args:
        targets: Features (n, d).
        candidates: Features (m, d), m at least n and better many more.

    Raises:
        ExamError: If there are fewer candidates than targets, the features differ in number, or one is not finite.
    """
    for features in (targets, candidates):
        if features.ndim != 2 or features.shape[1] != targets.shape[-1]:
            raise ExamError(f"Features to match must be (n, {targets.shape[-1]}), got {features.shape}.")
        if not np.isfinite(features).all():
            raise ExamError(f"{int((~np.isfinite(features)).sum())} features to match are not finite numbers.")
    if len(candidates) < len(targets):
        raise ExamError(f"{len(targets)} patches want one match each, but there are only {len(candidates)} candidates.")
    distances = cdist(targets, candidates)
    order, rows = linear_sum_assignment(distances)
    assert (order == np.arange(len(targets))).all()
    return Matches(rows, distances[order, rows])


def standardise(features: NDArray[Any], reference: NDArray[Any]) -> NDArray[np.float64]:
    """Features (n, d) in units of the spread of ``reference`` (m, d); a column that never varies stays as it is."""
    spread = reference.std(axis=0)
    scaled: NDArray[np.float64] = (features - reference.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return scaled


def _octave_energies(density: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log root-mean-square of what each halving of (n, h, w) takes away, (n, OCTAVES)."""
    energies = []
    for _ in range(OCTAVES):
        height, width = (size // 2 * 2 for size in density.shape[1:])
        blocks = density[:, :height, :width].reshape(len(density), height // 2, 2, width // 2, 2)
        smaller = blocks.mean(axis=(2, 4))
        detail = blocks - smaller[:, :, None, :, None]
        energies.append(np.log10(np.sqrt((detail**2).mean(axis=(1, 2, 3, 4))) + 1e-6))
        density = smaller
    return np.stack(energies, axis=1)

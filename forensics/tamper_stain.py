"""Stain matching: give a donor the mean and the spread of optical density that the tissue around it has.

References: Reinhard et al. 2001 (colour transfer by mean and spread), applied to optical density (Beer and Lambert),
in which stains add up.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from histoforensics.slides import tissue_mask

Pixels = NDArray[np.uint8]

GAIN_RANGE = (0.5, 2.0)  # beyond it texture would be flattened or noise blown up
LEAST_TISSUE = 0.05  # share of stained pixels below which there is no stain to match


def match_stain(donor: Pixels, like: Pixels) -> Pixels:
    """``donor`` (..., 3), uint8, with the stain of ``like``: mean and spread of each channel's optical density.

    Measured on stained pixels alone, so that glass does not count. Where either has hardly any, nothing is changed.
    """
    ours, theirs = tissue_mask(donor), tissue_mask(like)
    if min(ours.mean(), theirs.mean()) < LEAST_TISSUE:
        return donor.copy()
    density, wanted = optical_density(donor), optical_density(like[theirs])
    mean, spread = density[ours].mean(0), density[ours].std(0)
    gain = np.clip(wanted.std(0) / np.maximum(spread, 1e-6), *GAIN_RANGE)
    return from_density((density - mean) * gain + wanted.mean(0))


def optical_density(pixels: Pixels) -> NDArray[np.float64]:
    """-ln of transmitted light, from 0 (white) to 5.55 (black).

    >>> optical_density(np.array([255, 0], np.uint8)).round(3).tolist()
    [0.0, 5.545]
    """
    return np.asarray(-np.log((pixels.astype(np.float64) + 1) / 256) + 0.0)


def from_density(density: NDArray[np.float64]) -> Pixels:
    """Back to uint8; what would be brighter than white is white."""
    return np.clip(np.rint(256 * np.exp(-density) - 1), 0, 255).astype(np.uint8)

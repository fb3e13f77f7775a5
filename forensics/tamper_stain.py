"""Stain matching: give a donor the mean optical density that the tissue in its place has.

Stains absorb in proportion to their amount (Beer and Lambert), so each channel's optical density is scaled: glass stays
white, and no colour appears that the donor does not have. Matching the spread as well (Reinhard et al. 2001) was tried
and tinted the glass between cells.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from histoforensics.slides import tissue_mask

Pixels = NDArray[np.uint8]

GAIN_RANGE = (0.5, 2.0)  # beyond it texture would be flattened or noise blown up
LEAST_TISSUE = 0.05  # share of stained pixels below which there is no stain to match


def match_stain(donor: Pixels, like: Pixels) -> Pixels:
    """``donor`` (..., 3), uint8, with the mean optical density of ``like`` in each channel.

    Measured on stained pixels alone, so that glass does not count. Where either has hardly any, nothing is changed.
    """
    ours, theirs = tissue_mask(donor), tissue_mask(like)
    if min(ours.mean(), theirs.mean()) < LEAST_TISSUE:
        return donor.copy()
    density = optical_density(donor)
    wanted = optical_density(like[theirs]).mean(0)
    gain = np.clip(wanted / np.maximum(density[ours].mean(0), 1e-6), *GAIN_RANGE)
    return from_density(density * gain)


def optical_density(pixels: Pixels) -> NDArray[np.float64]:
    """-ln of transmitted light, from 0 (white) to 5.55 (black).

    >>> optical_density(np.array([255, 0], np.uint8)).round(3).tolist()
    [0.0, 5.545]
    """
    return np.asarray(-np.log((pixels.astype(np.float64) + 1) / 256) + 0.0)


def from_density(density: NDArray[np.float64]) -> Pixels:
    """Back to uint8."""
    return np.asarray(np.clip(np.rint(256 * np.exp(-density) - 1), 0, 255), np.uint8)

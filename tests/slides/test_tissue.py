from __future__ import annotations

import numpy as np

from histoforensics.slides import tissue_fraction, tissue_mask


def test_a_spread_of_twenty_is_glass_and_of_twenty_one_is_tissue() -> None:
    pixels = np.array([[[100, 120, 110], [100, 121, 110], [0, 0, 0], [255, 0, 0]]], np.uint8)
    assert tissue_mask(pixels).tolist() == [[False, True, False, True]]
    assert tissue_fraction(pixels) == 0.5


def test_leading_axes_are_kept() -> None:
    assert tissue_fraction(np.zeros((2, 5, 4, 4, 3), np.uint8)).shape == (2, 5)

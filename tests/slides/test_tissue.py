from __future__ import annotations

import numpy as np
import pytest

from histoforensics.slides import tissue_fraction, tissue_mask
from histoforensics.slides.tissue import has_tissue


def test_a_spread_of_twenty_is_glass_and_of_twenty_one_is_tissue() -> None:
    pixels = np.array([[[100, 120, 110], [100, 121, 110], [0, 0, 0], [255, 0, 0]]], np.uint8)
    assert tissue_mask(pixels).tolist() == [[False, True, False, True]]
    assert tissue_fraction(pixels) == 0.5


def test_leading_axes_are_kept() -> None:
    assert tissue_fraction(np.zeros((2, 5, 4, 4, 3), np.uint8)).shape == (2, 5)


@pytest.mark.parametrize("shape", [(1, 1), (64, 7), (100, 90), (129, 256)])
def test_enough_tissue_is_what_the_share_of_tissue_says(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for stained in (0.0, 0.3, 0.5, 1.0):
        pixels = np.full((*shape, 3), 240, np.uint8)
        pixels[rng.random(shape) < stained] = 200, 120, 180
        pixels[: shape[0] // 3] = 240
        share = float(tissue_fraction(pixels))
        assert has_tissue(pixels, share)
        assert not has_tissue(pixels, share + 1e-9)
        assert has_tissue(pixels, 0)

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from histoforensics.forensics.overview import Overview, overview_of_pyramid
from histoforensics.slides import Slide
from histoforensics.slides.synthetic import GLASS, purple_tissue, write_svs


def test_at_a_whole_scale_it_is_the_box_mean_however_the_slide_was_cut() -> None:
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3)).astype(np.uint8)
    expected = np.rint(image.reshape(24, 4, 32, 4, 3).mean((1, 3)))
    for step in (96, 40, 13):
        overview = Overview(128, 96, longest_px=32)
        for y in range(0, 96, step):
            for x in range(0, 128, step):
                overview.add(x, y, image[y : y + step, x : x + step])
        assert overview.scale == 4
        assert np.abs(overview.image().astype(int) - expected).max() <= 1  # halves round by float32


def test_what_was_never_read_is_grey() -> None:
    assert (Overview(10, 10).image() == 128).all()


def test_a_pyramid_gives_the_picture_and_where_tissue_may_be(tmp_path: Path) -> None:
    image = np.full((800, 1600, 3), GLASS, np.uint8)
    image[100:200, 1000:1200] = purple_tissue((100, 200), np.random.default_rng(0))
    with Slide.open(write_svs(tmp_path / "a.svs", image, levels=2)) as slide:
        overview, broken = overview_of_pyramid(slide)
    assert broken == 0
    assert overview.scale == 4
    assert overview.image().shape == (200, 400, 3)
    assert overview.image()[:, :200].mean() == pytest.approx(243, abs=1)
    assert overview.may_hold_tissue((1100, 150, 10, 10), 0)
    assert overview.may_hold_tissue((900, 100, 64, 64), 64)
    assert not overview.may_hold_tissue((0, 0, 800, 800), 64)
    assert not overview.may_hold_tissue((1000, 400, 600, 400), 64)


def test_a_slide_of_one_level_leaves_the_overview_to_the_scan(tmp_path: Path) -> None:
    image = purple_tissue((300, 400), np.random.default_rng(0))
    with Slide.open(write_svs(tmp_path / "a.svs", image)) as slide:
        overview, _ = overview_of_pyramid(slide)
    assert (overview.image() == 128).all()

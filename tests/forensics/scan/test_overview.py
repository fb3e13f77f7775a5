from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from histoforensics.forensics.overview import Overview, overview_of_pyramid
from histoforensics.slides import Slide
from histoforensics.slides.synthetic import GLASS, purple_tissue, write_svs


def drawn(image: np.ndarray, step: int, longest_px: int) -> Overview:
    height, width = image.shape[:2]
    overview = Overview(width, height, longest_px=longest_px)
    for y in range(0, height, step):
        for x in range(0, width, step):
            overview.add(x, y, image[y : y + step, x : x + step])
    return overview


@pytest.mark.parametrize("step", [96, 40, 8])
def test_at_a_whole_scale_it_is_the_box_mean_however_the_slide_was_cut(step: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3)).astype(np.uint8)
    expected = np.rint(image.reshape(48, 2, 64, 2, 3).mean((1, 3)))
    overview = drawn(image, step, 64)
    assert overview.scale == 2
    assert np.abs(overview.image().astype(int) - expected).max() <= 1


@pytest.mark.parametrize(("width", "height", "step"), [(501, 333, 500), (501, 333, 96), (997, 60, 64), (130, 129, 33)])
def test_at_any_scale_places_stay_where_they_are_to_a_pixel(width: int, height: int, step: int) -> None:
    y, x = np.mgrid[:height, :width]
    ramp = np.stack([250 * x / width, 250 * y / height, 0 * x], -1).round().astype(np.uint8)
    overview = drawn(ramp, step, 100)
    picture = overview.image().astype(float)
    rows, columns = np.indices(picture.shape[:2])
    one = 250 * overview.scale / np.array([width, height])  # what the ramps rise in one pixel of the overview
    middle = [250 * (columns + 0.5) * overview.scale / width, 250 * (rows + 0.5) * overview.scale / height]
    assert np.abs(picture[..., 0] - middle[0]).max() <= one[0] + 1
    assert np.abs(picture[..., 1] - middle[1]).max() <= one[1] + 1


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

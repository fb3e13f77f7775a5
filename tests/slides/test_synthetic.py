from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile

from histoforensics.slides import ConfigError, Slide, tissue_fraction
from histoforensics.slides.synthetic import GLASS, purple_tissue, write_svs
from histoforensics.slides.tiffwriter import Page, write_tiff


def test_openslide_takes_the_file_for_an_aperio_slide(tmp_path: Path, texture: np.ndarray) -> None:
    with openslide.OpenSlide(write_svs(tmp_path / "a.svs", texture, levels=3)) as handle:
        assert handle.properties["openslide.vendor"] == "aperio"
        assert handle.properties["openslide.objective-power"] == "40"
        assert handle.level_dimensions == ((960, 960), (240, 240), (60, 60))
        assert "thumbnail" in handle.associated_images


def test_the_pixels_survive_up_to_jpeg_loss_and_repetition_fills_the_canvas(
    tmp_path: Path, texture: np.ndarray
) -> None:
    with Slide.open(write_svs(tmp_path / "a.svs", texture, size=(2000, 1000), quality=95)) as slide:
        assert np.abs(slide.read(0, 0, 960, 960).astype(int) - texture).mean() < 2
        np.testing.assert_array_equal(slide.read(960, 0, 960, 960), slide.read(0, 0, 960, 960))


def test_equal_tiles_are_stored_once(tmp_path: Path, texture: np.ndarray) -> None:
    small = write_svs(tmp_path / "a.svs", texture).stat().st_size
    assert write_svs(tmp_path / "b.svs", texture, size=(70_000, 960)).stat().st_size < small + 200_000


def test_texture_is_tissue_and_glass_is_not(texture: np.ndarray) -> None:
    assert tissue_fraction(texture) > 0.99
    assert tissue_fraction(np.full((4, 4, 3), GLASS, np.uint8)) == 0
    np.testing.assert_array_equal(
        purple_tissue((20, 30), np.random.default_rng(3)), purple_tissue((20, 30), np.random.default_rng(3))
    )


def test_tifffile_reads_the_raw_page_back(tmp_path: Path, texture: np.ndarray) -> None:
    strips = [texture[top : top + 16].tobytes() for top in range(0, 960, 16)]
    path = write_tiff(tmp_path / "a.tif", [Page(960, 960, strips, compression=1, description="odd")])
    np.testing.assert_array_equal(tifffile.imread(path), texture)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.pages[0].description == "odd"


def test_settings_out_of_range_are_refused(tmp_path: Path, texture: np.ndarray) -> None:
    for options, message in (
        ({"tile_px": 250}, "tile_px must be a multiple of 16, got 250"),
        ({"quality": 0}, "quality must be from 1 to 100, got 0"),
        ({"levels": 0}, "levels must be at least 1, got 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            write_svs(tmp_path / "a.svs", texture, **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []

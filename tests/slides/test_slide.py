from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from numpy.typing import NDArray

from histoforensics.slides import (
    ConfigError,
    LevelError,
    MppError,
    Slide,
    SlideNotFound,
    SlideUnreadable,
    file_digest,
)
from histoforensics.slides.synthetic import write_svs


def test_a_slide_says_its_size_and_resolution_and_keeps_the_rest_to_itself(small_slide: Path) -> None:
    with Slide.open(small_slide) as slide:
        assert (slide.name, slide.dimensions, slide.mpp) == ("small", (960, 960), 0.25)
        assert slide.digest == file_digest(small_slide)
        assert set(slide.properties) == {
            "openslide.vendor", "openslide.mpp-x", "openslide.mpp-y", "openslide.objective-power"
        }  # fmt: skip


def test_private_properties_of_the_sample_reach_no_description(sample: Path) -> None:
    with Slide.open(sample) as slide:
        text = str(slide.describe())
    for private in ("12/29/09", "b414003d", "CPAPERIOCS", "1004486", str(sample.parent)):
        assert private not in text


def test_what_lies_outside_is_white(small_slide: Path) -> None:
    with Slide.open(small_slide) as slide:
        region = slide.read(-4, -4, 8, 8)
    assert (region[:4] == 255).all()
    assert (region[4:, 4:] != 255).any()


def test_opaque_pixels_come_as_openslide_decodes_them_and_may_be_written_to(small_slide: Path) -> None:
    with Slide.open(small_slide) as slide, openslide.OpenSlide(small_slide) as plain:
        for x, y, width, height in ((0, 0, 1, 1), (3, 5, 241, 77), (700, 800, 260, 160)):
            pixels = slide.read(x, y, width, height)
            expected = np.asarray(plain.read_region((x, y), 0, (width, height)).convert("RGB"))
            assert np.array_equal(pixels, expected)
            assert pixels.flags.c_contiguous
            pixels[:] = 0


def test_a_pillow_that_cannot_lend_its_pixels_gives_the_same(
    small_slide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Slide.open(small_slide) as slide:
        lent = slide.read(-4, 5, 241, 77), slide.read(3, 5, 241, 77)
        monkeypatch.setattr("histoforensics.slides.slide._LENDS_PIXELS", False)
        copied = slide.read(-4, 5, 241, 77), slide.read(3, 5, 241, 77)
    assert all(np.array_equal(a, b) for a, b in zip(lent, copied, strict=True))


def test_a_missing_file_a_folder_a_text_and_a_truncated_slide_are_told_apart(tmp_path: Path, small_slide: Path) -> None:
    with pytest.raises(SlideNotFound, match=r"^gone\.svs: no such file\.$"):
        Slide.open(tmp_path / "gone.svs")
    with pytest.raises(SlideUnreadable, match="is a folder"):
        Slide.open(tmp_path)
    (tmp_path / "text.svs").write_text("no slide")
    with pytest.raises(SlideUnreadable, match=r"text\.svs: not a whole-slide image, or a truncated one \(8 bytes"):
        Slide.open(tmp_path / "text.svs")
    (tmp_path / "half.svs").write_bytes(small_slide.read_bytes()[: small_slide.stat().st_size // 2])
    with pytest.raises(SlideUnreadable, match=r"half\.svs: not a whole-slide image, or a truncated one"):
        Slide.open(tmp_path / "half.svs")


def test_one_destroyed_tile_costs_that_tile_alone(small_slide: Path) -> None:
    with tifffile.TiffFile(small_slide) as tiff:
        offset, size = tiff.pages[0].dataoffsets[5], tiff.pages[0].databytecounts[5]
    data = bytearray(small_slide.read_bytes())
    data[offset : offset + size] = bytes(size)
    broken = small_slide.with_name("broken.svs")
    broken.write_bytes(data)
    with Slide.open(broken) as slide, Slide.open(small_slide) as whole:
        with pytest.raises(
            SlideUnreadable, match=r"broken\.svs: 240 x 240 px at \(240, 240\), level 0 cannot be decoded"
        ):
            slide.read(240, 240, 240, 240)
        np.testing.assert_array_equal(slide.read(0, 0, 240, 240), whole.read(0, 0, 240, 240))


def test_a_slide_without_mpp_asks_for_it_and_takes_it(tmp_path: Path, texture: np.ndarray) -> None:
    path = write_svs(tmp_path / "bare.svs", texture, mpp=None)
    with Slide.open(path) as slide:
        assert slide.mpp_or_none is None
        with pytest.raises(
            MppError, match=r"bare\.svs: does not say how many micrometres a pixel is; pass it with --mpp"
        ):
            _ = slide.mpp
    with Slide.open(path, mpp=0.5) as slide:
        assert slide.mpp == 0.5
    with pytest.raises(ConfigError, match=r"mpp must be from 0\.01 to 1000 um per pixel, got 0"):
        Slide.open(path, mpp=0)


def test_an_implausible_mpp_in_the_file_counts_as_missing(tmp_path: Path, texture: np.ndarray) -> None:
    with Slide.open(write_svs(tmp_path / "zero.svs", texture, mpp=0.0)) as slide:
        assert slide.mpp_or_none is None


def test_levels_are_numbered_from_the_finest_and_others_refused(tmp_path: Path, texture: np.ndarray) -> None:
    with Slide.open(write_svs(tmp_path / "two.svs", texture, levels=2)) as slide:
        assert slide.level_dimensions == ((960, 960), (240, 240))
        assert slide.read(0, 0, 10, 10, level=1).shape == (10, 10, 3)
        with pytest.raises(LevelError, match="has no stored level 2; its levels are 0 to 1"):
            slide.read(0, 0, 10, 10, level=2)


@pytest.mark.parametrize(
    ("page", "tag", "value", "message"),
    [
        (0, 322, 2**31 - 1, "the tiles of level 0 measure 2147483647 x 240 px"),
        (2, 323, 2**31 - 1, "the tiles of level 1 measure 240 x 2147483647 px"),
        (2, 257, 2**24, "level 1 of 240 x 16777216 px is no smaller copy of 960 x 960 px"),
    ],
)
def test_tags_that_would_crash_or_stall_a_reader_are_refused(
    page: int, tag: int, value: int, message: str, tmp_path: Path, texture: NDArray[np.uint8]
) -> None:
    path = write_svs(tmp_path / "hostile.svs", texture, levels=2)
    with tifffile.TiffFile(path) as tiff:
        place = tiff.pages[page].tags[tag].offset
    with path.open("r+b") as file:
        file.seek(place)
        file.write(struct.pack("<HHII", tag, 4, 1, value))
    with pytest.raises(SlideUnreadable, match=f"hostile.svs: its tags make no sense: {message}"):
        Slide.open(path)

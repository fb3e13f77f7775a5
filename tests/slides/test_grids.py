from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openslide import OpenSlide
from openslide.deepzoom import DeepZoomGenerator

from histoforensics.slides import ConfigError, Layout, LevelError, MppError, MppGrid, PaperGrid, Slide
from histoforensics.slides.synthetic import write_svs


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory, texture: np.ndarray) -> dict[int, Path]:
    """Strips of 1,500 px height: 70,000 px wide, 60,000, and 135,000 with a stored quarter level."""
    folder = tmp_path_factory.mktemp("wide")
    return {
        width: write_svs(folder / f"w{width}.svs", texture, size=(width, 1500), levels=2)
        for width in (70_000, 60_000, 135_000)
    }


def _py_wsi(path: Path, level: int, patch_px: int, overlap: int) -> list[tuple[tuple[int, int], np.ndarray]]:
    """What py-wsi keeps: Deep Zoom tiles, y outer and x inner, whose shape is exactly the patch's."""
    kept = []
    with OpenSlide(path) as handle:
        zoom = DeepZoomGenerator(handle, tile_size=patch_px - 2 * overlap, overlap=overlap, limit_bounds=True)
        columns, rows = zoom.level_tiles[level]
        for row in range(rows):
            for column in range(columns):
                tile = np.asarray(zoom.get_tile(level, (column, row)))
                if tile.shape == (patch_px, patch_px, 3):
                    kept.append((zoom.get_tile_coordinates(level, (column, row))[0], tile))
    return kept


def test_level_17_is_full_resolution_at_70000_px(wide: dict[int, Path]) -> None:
    with Slide.open(wide[70_000]) as slide:
        layout = PaperGrid().layout(slide)
        assert (layout.factor, layout.level, layout.kernel) == (1.0, 0, "none")
        # columns t >= 1 with 156 t + 206 <= 70,000 are t = 1 ... 447; rows likewise with 1,500 px: t = 1 ... 8
        assert len(layout) == 447 * 8
        assert layout.border == math.ceil(70_000 / 156) * math.ceil(1500 / 156) - 447 * 8
        assert layout.positions[[0, 1, 447]].tolist() == [[106, 106], [262, 106], [106, 262]]
        np.testing.assert_array_equal(layout.read(slide, 448), slide.read(262, 262, 256, 256))


def test_level_17_is_refused_by_name_at_60000_px(wide: dict[int, Path]) -> None:
    message = (
        r"w60000\.svs: has no Deep Zoom level 17, only 0 to 16; its full resolution \(60000 x 1500 px\) is level 16: "
        r"pass --level 16 or --level max\."
    )
    with Slide.open(wide[60_000]) as slide:
        with pytest.raises(LevelError, match=message):
            PaperGrid().layout(slide)
        assert PaperGrid(level="max").layout(slide).factor == 1.0
        np.testing.assert_array_equal(PaperGrid(level=16).positions(slide), PaperGrid(level="max").positions(slide))


def test_level_17_is_half_resolution_at_135000_px(wide: dict[int, Path]) -> None:
    with Slide.open(wide[135_000]) as slide:
        layout = PaperGrid().layout(slide)
        assert (layout.factor, layout.kernel) == (2.0, "lanczos")
        assert layout.positions[0].tolist() == [212, 212]
        assert layout.reads[0].tolist() == [512, 512]
        patch = layout.read(slide, 0)
        assert patch is not None
        assert patch.shape == (256, 256, 3)


@pytest.mark.parametrize(
    ("size", "level"), [((2220, 700), "max"), ((2219, 701), "max"), ((1900, 1333), 10), ((2001, 1999), 9)]
)
def test_patches_are_those_of_py_wsi_pixel_for_pixel(
    tmp_path: Path, texture: np.ndarray, size: tuple[int, int], level: str
) -> None:
    path = write_svs(tmp_path / "a.svs", texture, size=size, levels=2)
    with Slide.open(path) as slide:
        grid = PaperGrid(level=level)  # type: ignore[arg-type]
        layout = grid.layout(slide)
        count = math.ceil(math.log2(max(size))) + 1
        wanted = _py_wsi(path, count - 1 if level == "max" else int(level), 256, 50)
        read = [(tuple(layout.positions[i].tolist()), layout.read(slide, i)) for i in range(len(layout))]
        got = [(place, patch) for place, patch in read if patch is not None]
    assert [place for place, _ in got] == [place for place, _ in wanted]
    for (_, ours), (_, theirs) in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(ours, theirs)


class _Geometry(Slide):
    """A slide of which only the size is known: enough to lay a grid."""

    def __init__(self, width: int, height: int, mpp: float = 0.5) -> None:
        self.path, self.name, self._size, self._stated = Path("fake.svs"), "fake", (width, height), mpp

    @property
    def dimensions(self) -> tuple[int, int]:
        return self._size

    @property
    def level_downsamples(self) -> tuple[float, ...]:
        return (1.0,)

    @property
    def mpp_or_none(self) -> float | None:
        return self._stated


@settings(max_examples=200, deadline=None)
@given(
    width=st.integers(1, 3000),
    height=st.integers(1, 3000),
    patch=st.integers(1, 300),
    stride=st.integers(1, 300),
    target=st.floats(0.5, 4.0),
)
def test_the_physical_grid_stays_inside_and_leaves_no_room(
    width: int, height: int, patch: int, stride: int, target: float
) -> None:
    layout: Layout = MppGrid(mpp=target, patch_px=patch, stride_px=stride).layout(_Geometry(width, height))
    span, step = patch * layout.factor, stride * layout.factor
    last = layout.positions.max(axis=0, initial=-1)
    for axis, extent in enumerate((width, height)):
        if len(layout):
            assert last[axis] + span <= extent + 0.5
            assert last[axis] + span + step > extent - 1.5  # one more would not have fitted
        else:
            assert span > min(width, height) - 1.5
            break
    assert layout.border >= 0
    assert len(np.unique(layout.positions, axis=0)) == len(layout) or step < 1


def test_a_slide_smaller_than_a_patch_an_exact_fit_and_a_remainder() -> None:
    grid = MppGrid(mpp=0.5, patch_px=256)
    assert len(grid.positions(_Geometry(255, 600))) == 0
    assert grid.positions(_Geometry(512, 256)).tolist() == [[0, 0], [256, 0]]
    layout = grid.layout(_Geometry(511, 256))
    assert (layout.positions.tolist(), layout.border) == ([[0, 0]], 1)


def test_the_field_is_physical_and_pixels_near_the_wanted_size_stay_untouched(
    tmp_path: Path, texture: np.ndarray
) -> None:
    path = write_svs(tmp_path / "a.svs", texture, mpp=0.25, levels=2)
    with Slide.open(path) as slide:
        coarse = MppGrid(mpp=1.0, patch_px=100).layout(slide)
        assert (coarse.level, coarse.factor) == (1, 4.0)  # the stored quarter level is exactly that
        assert coarse.positions[1].tolist() == [400, 0]
        half = MppGrid(mpp=0.5, patch_px=100)
        layout = half.layout(slide)
        assert (layout.level, layout.reads[0].tolist(), layout.kernel) == (0, [200, 200], "lanczos")
        patch = layout.read(slide, 0)
        assert patch is not None
        area = slide.read(0, 0, 200, 200).reshape(100, 2, 100, 2, 3).mean(axis=(1, 3))
        assert abs(patch.astype(float) - area).mean() < 6  # Lanczos is not a box mean, but near it
        native = MppGrid(mpp=0.251, patch_px=100).layout(slide)
        assert (native.factor, native.kernel) == (1.0, "none")
        with pytest.raises(MppError, match=r"a\.svs: was scanned at 0\.25 um per pixel; 0\.1 would invent detail"):
            MppGrid(mpp=0.1).layout(slide)


def test_settings_out_of_range_are_refused(small_slide: Path) -> None:
    with pytest.raises(ConfigError, match="patch_px must be more than twice the overlap of 128, got 256"):
        PaperGrid(overlap_px=128)
    with pytest.raises(ConfigError, match="overlap_px must be at least 0, got -1"):
        PaperGrid(overlap_px=-1)
    with pytest.raises(ConfigError, match="mpp must be above 0, got nan"):
        MppGrid(mpp=math.nan)
    with pytest.raises(ConfigError, match="stride_px must be at least 1, got 0"):
        MppGrid(mpp=1, stride_px=0)
    with Slide.open(small_slide) as slide, pytest.raises(LevelError, match="has no Deep Zoom level -1, only 0 to 10"):
        PaperGrid(level=-1).layout(slide)

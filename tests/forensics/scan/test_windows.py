from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histoforensics.forensics import windows
from histoforensics.forensics.windows import Block, Cutter, Lattice, blocks, read_parts
from histoforensics.slides import ConfigError, Slide
from histoforensics.slides.synthetic import purple_tissue, write_svs


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 90), st.integers(1, 90), st.integers(4, 24), st.data(), st.integers(3, 40), st.integers(3, 40)
)  # fmt: skip
def test_every_patch_of_the_lattice_is_cut_once_and_holds_its_own_pixels(
    width: int, height: int, patch: int, data: st.DataObject, step_x: int, step_y: int
) -> None:
    stride = data.draw(st.integers(1, patch))
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    lattice = Lattice(width, height, patch, stride)
    cutter, seen = Cutter(lattice), np.zeros(lattice.shape, int)
    for y in range(0, height, step_y):
        for x in range(0, width, step_x):
            window = cutter.add(Block(x, y, image[y : y + step_y, x : x + step_x], (), False))
            if window is None:
                continue
            for i, row in enumerate(window.rows):
                for j, column in enumerate(window.columns):
                    top, left = row * stride, column * stride
                    assert (window.patches[i, j] == image[top : top + patch, left : left + patch]).all()
                    seen[row, column] += 1
    expected = (max(0, (height - patch) // stride + 1), max(0, (width - patch) // stride + 1))
    assert lattice.shape == expected
    assert (seen == 1).all()


@given(st.integers(0, 300), st.integers(1, 80), st.integers(4, 40), st.data())
def test_touching_is_what_comparing_each_patch_with_the_stretch_gives(
    start: int, size: int, patch: int, data: st.DataObject
) -> None:
    lattice = Lattice(300, 300, patch, data.draw(st.integers(1, patch)))
    count = lattice.shape[1]
    found = list(range(count))[lattice.touching(start, size, count)]
    corners = [(i, i * lattice.stride_px) for i in range(count)]
    assert found == [i for i, x in corners if x < start + size and x + patch > start]


def test_blocks_lie_on_the_tile_grid_and_cover_each_pixel_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "BLOCK_PX", 500)
    path = write_svs(tmp_path / "a.svs", purple_tissue((700, 1100), np.random.default_rng(0)), tile_px=240)
    with Slide.open(path) as slide:
        found = list(blocks(slide))
        whole = slide.read(0, 0, *slide.dimensions)
    assert [(block.x, block.y) for block in found] == [(0, 0), (480, 0), (960, 0), (0, 480), (480, 480), (960, 480)]
    canvas = np.zeros_like(whole)
    for block in found:
        height, width = block.pixels.shape[:2]
        canvas[block.y : block.y + height, block.x : block.x + width] = block.pixels
    assert (canvas == whole).all()


def test_blocks_that_are_not_wanted_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "BLOCK_PX", 240)
    path = write_svs(tmp_path / "a.svs", purple_tissue((240, 480), np.random.default_rng(0)), tile_px=240)
    with Slide.open(path) as slide:
        left, right = blocks(slide, lambda area: area[0] > 0)
    assert left.is_skipped
    assert (left.pixels == windows.UNREAD_GREY).all()
    assert not right.is_skipped
    assert left.pixels.shape == (240, 240, 3)


def test_a_destroyed_tile_is_the_only_thing_that_is_lost(
    tmp_path: Path, destroy_tile: Callable[[Path, int], None]
) -> None:
    path = write_svs(tmp_path / "a.svs", purple_tissue((960, 1200), np.random.default_rng(0)), tile_px=240)
    with Slide.open(path) as slide:
        before = slide.read(0, 0, 1200, 960)
    destroy_tile(path, 5 * 1 + 2)  # second row, third column of 5 x 4 tiles
    with Slide.open(path) as slide:
        after, broken = read_parts(slide, (0, 0, 1200, 960), (240, 240))
    assert broken == [(480, 240, 240, 240)]
    assert (after[240:480, 480:720] == windows.UNREAD_GREY).all()
    after[240:480, 480:720] = before[240:480, 480:720]
    assert (after == before).all()


def test_a_destroyed_tile_costs_no_neighbour_where_tiles_are_larger_than_blocks(
    tmp_path: Path, destroy_tile: Callable[[Path, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_svs(tmp_path / "a.svs", purple_tissue((1296, 2592), np.random.default_rng(0)), tile_px=1296)
    with Slide.open(path) as slide:
        assert [block.pixels.shape for block in blocks(slide)] == [(1296, 1296, 3)] * 2  # each tile is decoded once
    monkeypatch.setattr(windows, "BLOCK_PX", 512)  # as for a tile of more than 2048
    destroy_tile(path, 0)
    with Slide.open(path) as slide:
        broken = [rect for block in blocks(slide) for rect in block.broken]
    assert sum(width * height for *_, width, height in broken) == 1296 * 1296
    assert all(x + width <= 1296 for x, _, width, _ in broken)


def test_where_no_tile_size_is_known_small_pieces_stand_in(
    tmp_path: Path, destroy_tile: Callable[[Path, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_svs(tmp_path / "a.svs", purple_tissue((480, 480), np.random.default_rng(0)), tile_px=240)
    with Slide.open(path) as slide:
        assert windows.tile_size(slide) == (240, 240)
        monkeypatch.setattr(Slide, "tile_size", None)
        assert windows.tile_size(slide) == (256, 256)
    destroy_tile(path, 0)
    with Slide.open(path) as slide:
        (block,) = blocks(slide)
    assert block.broken == ((0, 0, 256, 256),)


def test_a_stride_outside_the_patch_is_refused() -> None:
    with pytest.raises(ConfigError, match="stride_px must be from 1 to the patch's 64 px, got 65"):
        Lattice(100, 100, 64, 65)

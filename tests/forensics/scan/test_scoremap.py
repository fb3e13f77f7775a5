from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histoforensics.forensics.scoremap import BACKGROUND, CORRUPT, OK, ScoreMap, cell_weights
from histoforensics.forensics.windows import Lattice
from histoforensics.slides import ConfigError


def draw(patch: int, stride: int, shape: tuple[int, int], seed: int) -> ScoreMap:
    rng = np.random.default_rng(seed)
    width, height = ((count - 1) * stride + patch for count in shape[::-1])
    status = rng.choice([OK, BACKGROUND, CORRUPT], shape).astype(np.uint8)
    scores = np.where(status == OK, rng.random(shape), np.nan).astype(np.float32)
    return ScoreMap(Lattice(width, height, patch, stride), 0.5, status, {"a": scores})


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 20), st.data(), st.integers(1, 5), st.integers(1, 5), st.integers(0, 99))
def test_a_cell_is_the_mean_over_its_pixels_of_the_patches_there(
    patch: int, data: st.DataObject, rows: int, columns: int, seed: int
) -> None:
    stride = data.draw(st.integers(1, patch))
    scan = draw(patch, stride, (rows, columns), seed)
    total, count, corrupt = (np.zeros(scan.extent) for _ in range(3))
    for (row, column), status in np.ndenumerate(scan.status):
        area = np.s_[row * stride : row * stride + patch, column * stride : column * stride + patch]
        if status == OK:
            total[area] += scan.scores["a"][row, column]
            count[area] += 1
        corrupt[area] += status == CORRUPT
    cells, statuses = scan.cells("a"), scan.cell_status()
    for (row, column), value in np.ndenumerate(cells):
        x, y, width, height = scan.cell_box(row, column)
        area = np.s_[y : y + height, x : x + width]
        assert width >= 1
        assert height >= 1
        if count[area].sum():
            assert value == pytest.approx(total[area].sum() / count[area].sum(), rel=1e-5)
            assert statuses[row, column] == OK
        else:
            assert np.isnan(value)
            assert statuses[row, column] == (CORRUPT if corrupt[area].any() else BACKGROUND)
    last = scan.cell_box(cells.shape[0] - 1, cells.shape[1] - 1)
    assert (last[1] + last[3], last[0] + last[2]) == scan.extent


def test_the_published_grid_spreads_a_patch_over_two_cells() -> None:
    assert cell_weights(256, 156).tolist() == [156, 100]
    assert cell_weights(112, 56).tolist() == [56, 56]
    assert cell_weights(112, 112).tolist() == [112]


def test_positions_are_level_0_corners_in_raster_order() -> None:
    scan = draw(8, 4, (2, 3), 0)
    assert scan.positions.tolist() == [[0, 0], [4, 0], [8, 0], [0, 4], [4, 4], [8, 4]]


def test_a_slide_smaller_than_a_patch_has_an_empty_map() -> None:
    empty = ScoreMap(Lattice(10, 10, 16, 8), 0.5, np.zeros((0, 0), np.uint8), {"a": np.zeros((0, 0), np.float32)})
    assert empty.cells("a").shape == (0, 0)
    assert empty.cell_status().shape == (0, 0)
    assert empty.positions.shape == (0, 2)


def test_a_stride_beyond_the_patch_is_refused() -> None:
    with pytest.raises(ConfigError, match="stride_px must be from 1 to the patch's 8 px, got 9"):
        cell_weights(8, 9)

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline
from scipy import ndimage

from histoforensics.forensics.outlines import Ring, outline, regions


def area(ring: Ring) -> float:
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairwise(ring)) / 2


@pytest.mark.parametrize(
    ("drawing", "expected"),
    [
        (["#"], [[(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)]]),
        (["##", "##"], [[(0, 0), (2, 0), (2, 2), (0, 2), (0, 0)]]),
        (["#.", "##"], [[(0, 0), (1, 0), (1, 1), (2, 1), (2, 2), (0, 2), (0, 0)]]),
    ],
)
def test_small_shapes_have_the_corners_drawn_by_hand(drawing: list[str], expected: list[Ring]) -> None:
    mask = np.array([[cell == "#" for cell in row] for row in drawing])
    assert outline(mask) == expected


def test_a_hole_is_a_ring_of_its_own_that_runs_the_other_way() -> None:
    mask = np.ones((3, 3), bool)
    mask[1, 1] = False
    outer, hole = outline(mask)
    assert area(outer) == 9
    assert area(hole) == -1
    assert sorted(set(hole)) == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_a_hole_that_opens_at_a_corner_touches_the_outline_in_one_point() -> None:
    mask = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]], bool)
    outer, hole = outline(mask)
    assert (area(outer), area(hole)) == (8, -1)
    assert set(outer) & set(hole) == {(2, 2)}


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 10_000), st.floats(0.2, 0.9))
def test_rings_enclose_exactly_the_cells_and_never_touch_themselves(
    rows: int, columns: int, seed: int, density: float
) -> None:
    mask = np.random.default_rng(seed).random((rows, columns)) < density
    found = list(regions(mask))
    assert len(found) == ndimage.label(mask)[1]
    centres = np.stack(np.meshgrid(np.arange(columns) + 0.5, np.arange(rows) + 0.5), -1).reshape(-1, 2)
    covered = np.zeros((rows, columns), int)
    for region in found:
        outer, *holes = region.rings
        assert sum(map(area, region.rings)) == len(region.rows)
        assert area(outer) > 0
        assert all(area(hole) < 0 for hole in holes)
        for ring in region.rings:
            assert ring[0] == ring[-1]
            assert len(set(ring[:-1])) == len(ring) - 1
            turns = zip(ring[-2:-1] + ring, ring, ring[1:], strict=False)
            assert all(not (a[0] == b[0] == c[0] or a[1] == b[1] == c[1]) for a, b, c in turns)
        inside = Outline(outer).contains_points(centres)
        for hole in holes:
            inside &= ~Outline(hole).contains_points(centres)
        assert set(zip(region.rows.tolist(), region.columns.tolist(), strict=True)) == {
            (int(y), int(x)) for x, y in centres[inside]
        }
        covered[region.rows, region.columns] += 1
    assert (covered == mask).all()


def test_an_empty_mask_has_no_regions() -> None:
    assert list(regions(np.zeros((4, 4), bool))) == []
    assert list(regions(np.zeros((0, 0), bool))) == []

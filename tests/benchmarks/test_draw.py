"""The draw on tables made here, where it is plain which patches share a block or tissue."""

from __future__ import annotations

import numpy as np

from histoforensics.benchmarks.draw import draw
from histoforensics.slides.manifest import build_manifest


def _table(rows):
    return build_manifest([{"id": f"p{i}", "width": 10, "height": 10, **row} for i, row in enumerate(rows)])


def _rng(seed=0):
    return np.random.default_rng(seed)


def test_every_block_gives_one_patch_before_one_gives_a_second():
    table = _table([{"source_slide": "s", "block": f"{i // 9}"} for i in range(45)])  # 5 blocks of 9
    for seed in range(20):
        blocks = table["block"].iloc[draw(table, 5, _rng(seed)).rows]
        assert blocks.nunique() == 5
        assert table["block"].iloc[draw(table, 8, _rng(seed)).rows].value_counts().max() == 2


def test_slides_give_in_turn_however_unequal_they_are():
    table = _table([{"source_slide": "large" if i < 90 else "small", "block": f"{i}"} for i in range(100)])
    counts = table["source_slide"].iloc[draw(table, 12, _rng()).rows].value_counts()
    assert counts.to_dict() == {"large": 6, "small": 6}


def test_overlap_is_avoided_where_the_tissue_suffices_and_named_where_not():
    table = _table([{"source_slide": "s", "x_level0": 5 * i, "y_level0": 0} for i in range(12)])  # each covers half
    for seed in range(20):
        spread = draw(table, 4, _rng(seed))
        assert spread.overlaps == ()
        assert (np.diff(np.sort(table["x_level0"].iloc[spread.rows].to_numpy(int))) >= 10).all()
    crowded = draw(table, 12, _rng())
    assert sorted(crowded.rows) == list(range(12))
    assert {frozenset(pair) for pair in crowded.overlaps} == {frozenset((f"p{i}", f"p{i + 1}")) for i in range(11)}


def test_other_slides_and_patches_without_a_place_never_overlap():
    table = _table([{"source_slide": s, "x_level0": 0, "y_level0": 0} for s in "abc"] + [{"source_slide": "a"}] * 3)
    assert draw(table, 6, _rng()).overlaps == ()


def test_what_is_taken_is_not_drawn_again_and_its_blocks_come_later():
    table = _table([{"source_slide": "s", "block": f"{i // 2}"} for i in range(8)])
    for seed in range(20):
        rows = draw(table, 2, _rng(seed), taken=[0, 3]).rows
        assert not set(rows) & {0, 1, 2, 3}
        assert len(draw(table, 99, _rng(seed), taken=[0, 3]).rows) == 6


def test_every_row_is_as_likely_as_another_and_the_order_is_random():
    table = _table([{}] * 6)
    firsts = [int(draw(table, 3, _rng(seed)).rows[0]) for seed in range(600)]
    assert (abs(np.bincount(firsts, minlength=6) - 100) < 45).all()  # five standard deviations of 600 / 6

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histoforensics.slides import BlockSplit, ConfigError, Slide, block_split, tissue_fraction
from histoforensics.slides.blocks import assign_roles
from histoforensics.slides.synthetic import write_svs


@pytest.fixture(scope="module")
def sample_split(sample: Path) -> BlockSplit:
    with Slide.open(sample) as slide:
        return block_split(slide)


def test_the_sample_slide_splits_as_published(sample_split: BlockSplit) -> None:
    disjoint = {role: len(sample_split.positions(role, 112, 112)) for role in ("train", "calibration", "exam")}
    assert disjoint == {"train": 49, "calibration": 17, "exam": 35}
    assert len(sample_split.positions("train", 112, 8)) == 5027


def test_positions_hold_the_tissue_they_promise_and_stay_in_their_blocks(
    sample: Path, sample_split: BlockSplit
) -> None:
    with Slide.open(sample) as slide:
        for role in ("train", "exam"):
            for x, y in sample_split.positions(role, 112, 112):
                assert tissue_fraction(slide.read(x, y, 112, 112)) >= 0.5
                block = sample_split.block_of(x, y)
                assert block is not None
                assert block == sample_split.block_of(x + 111, y + 111)
                assert sample_split.roles[block] == role


def test_no_two_roles_come_nearer_than_a_patch(sample_split: BlockSplit) -> None:
    train, exam = sample_split.positions("train", 112, 8), sample_split.positions("exam", 112, 8)
    apart = np.abs(train[:, None] - exam[None]).max(axis=2)  # Chebyshev distance of corners
    assert apart.min() >= 2 * 112


def test_the_split_depends_on_the_slide_alone(sample: Path, sample_split: BlockSplit) -> None:
    with Slide.open(sample) as slide:
        again = block_split(slide)
    assert again.digest == sample_split.digest
    assert again.to_json() == sample_split.to_json()


def test_roles_follow_the_checkerboard_and_every_third_odd_block_with_tissue_calibrates() -> None:
    tissue = {(0, 1), (0, 3), (1, 0), (1, 2), (2, 1)}
    roles = assign_roles(3, 4, tissue)
    assert [block for block, role in roles.items() if role == "calibration"] == [(0, 1), (1, 2)]  # the 1st and the 4th
    assert all(role == "train" for (row, column), role in roles.items() if (row + column) % 2 == 0)


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 9), columns=st.integers(1, 9), data=st.data())
def test_every_block_has_one_role_whatever_the_tissue(rows: int, columns: int, data: st.DataObject) -> None:
    cells = st.tuples(st.integers(0, rows - 1), st.integers(0, columns - 1))
    tissue = data.draw(st.sets(cells))
    roles = assign_roles(rows, columns, tissue)
    odd = sum(sum(block) % 2 for block in tissue)
    assert len(roles) == rows * columns
    assert Counter(roles.values())["calibration"] == -(-odd // 3)


def test_gaps_and_the_outside_belong_to_no_block(sample_split: BlockSplit) -> None:
    assert sample_split.block_of(335, 335) == (0, 0)
    assert sample_split.block_of(336, 0) is None
    assert sample_split.block_of(448, 0) == (0, 1)
    assert sample_split.block_of(-1, 0) is None
    assert sample_split.block_of(2220, 0) is None
    assert sample_split.block_names(np.array([[448, 0], [0, 900]])) == ["0-1", "2-0"]
    with pytest.raises(ConfigError, match=r"position \(336, 0\) lies in no block"):
        sample_split.block_names(np.array([[336, 0]]))


def test_settings_out_of_range_are_refused(tmp_path: Path, texture: np.ndarray) -> None:
    with Slide.open(write_svs(tmp_path / "s.svs", texture)) as slide:
        split = block_split(slide, patch_px=100)
        with pytest.raises(ConfigError, match="patch_px must be from 1 to the slide's 960 px, got 961"):
            block_split(slide, patch_px=961)
    for bad, message in (
        (("test", 10, 10), "role must be one of train, calibration, exam, got 'test'"),
        (("train", 301, 10), "patch_px must be from 1 to the block's 300, got 301"),
        (("train", 10, 0), "stride_px must be at least 1, got 0"),
        (("train", 10, 10, 1.5), "min_tissue must be from 0 to 1, got 1.5"),
    ):
        with pytest.raises(ConfigError, match=message):
            split.positions(*bad)  # type: ignore[arg-type]


def test_glass_gives_no_position_and_a_whole_slide_of_tissue_all_of_them(tmp_path: Path, texture: np.ndarray) -> None:
    glass = np.full_like(texture, 250)
    with Slide.open(write_svs(tmp_path / "g.svs", glass)) as slide:
        assert len(block_split(slide).positions("train", 112, 8)) == 0
    with Slide.open(write_svs(tmp_path / "t.svs", texture)) as slide:
        split = block_split(slide)
        assert (
            len(split.positions("train", 112, 112)) == 2 * 9
        )  # blocks (0, 0) and (1, 1); the third row is cut too thin
        assert set(split.roles.values()) == {"train", "calibration", "exam"}

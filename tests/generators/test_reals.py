"""Real patches to measure against: other blocks of a slide, two halves of a folder, never the same tissue twice."""

import re

import numpy as np
import pytest
from PIL import Image

from histoforensics.generators.reals import RAW_FILES, RAW_SLIDE, open_reals
from histoforensics.slides import PatchError
from histoforensics.slides.synthetic import purple_tissue, write_svs


def corners(source):
    return [tuple(map(int, re.search(r"at \((\d+), (\d+)\)", p.name).groups())) for p in source.pictures]


@pytest.fixture
def slide(tmp_path):
    """A slide of three blocks by two, all tissue."""
    return write_svs(tmp_path / "slide.svs", purple_tissue((800, 1300), np.random.default_rng(0)))


@pytest.fixture
def folder(tmp_path):
    """Five pictures, each of a colour of its own."""
    (out := tmp_path / "pictures").mkdir()
    for n in range(5):
        Image.new("RGB", (20, 20), (50 * n, 0, 0)).save(out / f"{n}.png")
    return out


def test_the_other_blocks_of_a_slide_are_odd_and_lie_apart_from_the_training_blocks(slide):
    reals = open_reals([slide], 64, 0)
    assert sorted((x // 448 + y // 448) % 2 for x, y in corners(reals.training)) == [0, 0, 0]
    assert sorted((x // 448 + y // 448) % 2 for x, y in corners(reals.other)) == [1, 1, 1]  # calibration and exam
    assert reals.codec_note == RAW_SLIDE
    assert reals.folds == [(reals.training, reals.other)]


def test_two_slides_count_together(slide, tmp_path):
    second = write_svs(tmp_path / "second.svs", purple_tissue((800, 1300), np.random.default_rng(1)))
    reals = open_reals([slide, second], 64, 0)
    assert len(reals.training) == len(reals.other) == 6
    assert {p.name.split()[0] for p in reals.other.pictures} == {"slide", "second"}


def test_a_slide_of_one_block_has_no_other(tmp_path):
    small = write_svs(tmp_path / "small.svs", purple_tissue((336, 336), np.random.default_rng(0)))
    reals = open_reals([small], 64, 0)
    assert reals.other is None
    assert reals.halves is None
    assert reals.folds == []


def test_the_halves_of_a_folder_share_no_picture_and_together_are_all(folder):
    reals = open_reals([folder], 20, 0)
    first, second = ({p.name for p in half.pictures} for half in reals.halves)
    assert not first & second
    assert first | second == {p.name for p in reals.training.pictures}
    assert (len(first), len(second)) == (2, 3)
    assert reals.other is None
    assert reals.codec_note == RAW_FILES
    assert reals.folds == [reals.halves, reals.halves[::-1]]


def test_the_seed_chooses_the_halves(folder):
    halves = [tuple(p.name for p in open_reals([folder], 20, seed).halves[0].pictures) for seed in range(8)]
    assert halves[0] == tuple(p.name for p in open_reals([folder], 20, 0).halves[0].pictures)
    assert len(set(halves)) > 1


def test_slides_and_folders_together_are_refused(slide, folder):
    with pytest.raises(PatchError, match="must come from slides or from folders of images, got both; give one kind"):
        open_reals([slide, folder], 20, 0)

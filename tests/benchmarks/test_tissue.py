"""Real tissue: splits that never share a group, crops on the 16-px grid, one codec history for both classes."""

import numpy as np
import pytest
from PIL import Image

from histoforensics.benchmarks.splits import ROLES, split_groups
from histoforensics.benchmarks.tissue import (
    FolderTissue,
    SlideTissue,
    grid_crops,
    judged_size,
    random_grid_crops,
)
from histoforensics.slides import MppError, PatchError, PatchSet, Slide
from histoforensics.slides.codec import image_codec
from histoforensics.slides.synthetic import purple_tissue, write_svs


@pytest.fixture
def slide(tmp_path):
    path = write_svs(tmp_path / "s.svs", purple_tissue((960, 1440), np.random.default_rng(1)), mpp=0.5)
    with Slide.open(path) as opened:
        yield opened


def folder_of_images(folder, count, ending="png", size=(80, 96)):
    folder.mkdir()
    for i in range(count):
        tissue = purple_tissue(size, np.random.default_rng(i))
        Image.fromarray(tissue).save(folder / f"case.{i:02d}.part.{ending}", quality=60 + i)
    return PatchSet.open(folder, label="real")


def test_roles_of_a_slide_share_no_block_and_its_patches_are_what_the_slide_holds(slide):
    tissue = SlideTissue([slide], 64)
    cuts = {role: tissue.cut(role, disjoint=False, limit=30, rng=np.random.default_rng(0)) for role in ROLES}
    groups = [set(cut.groups) for cut in cuts.values()]
    assert sum(map(len, groups)) == len(set.union(*groups))
    train = cuts["train"]
    assert len(train) == 30
    assert (train.x % 16 == 0).all()
    assert (train.pixels[3] == slide.read(int(train.x[3]), int(train.y[3]), 64, 64)).all()


def test_disjoint_patches_of_the_exam_share_no_pixel(slide):
    cut = SlideTissue([slide], 64).cut("exam", disjoint=True, limit=1000, rng=np.random.default_rng(0))
    near = (abs(cut.x[:, None] - cut.x) < 64) & (abs(cut.y[:, None] - cut.y) < 64)
    assert (near == np.eye(len(cut), dtype=bool)).all()


def test_with_one_jpeg_generation_reals_hardly_change_and_fakes_take_its_trace(slide):
    tissue = SlideTissue([slide], 64)
    cut = tissue.cut("train", disjoint=True, limit=20, rng=np.random.default_rng(0))
    assert (tissue.replay(cut) != cut.pixels).mean() < 0.02
    noise = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), np.uint8)
    assert (tissue.like_real(noise, np.random.default_rng(0)) != noise).mean() > 0.5


def test_slides_of_different_resolution_are_refused(tmp_path):
    image = purple_tissue((480, 480), np.random.default_rng(0))
    paths = [write_svs(tmp_path / f"{mpp}.svs", image, mpp=mpp) for mpp in (0.25, 0.5)]
    slides = [Slide.open(path) for path in paths]
    with pytest.raises(MppError, match=r"slides of one resolution are wanted, got 0.25 0.250, 0.5 0.500 um/px"):
        SlideTissue(slides, 64)


def test_images_are_split_by_file_and_every_role_gets_some(tmp_path):
    patches = folder_of_images(tmp_path / "real", 7)
    tissue = FolderTissue([patches], 64, [None] * 7)
    files = {r: set(tissue.cut(r, disjoint=False, limit=99, rng=np.random.default_rng(0)).sources) for r in ROLES}
    assert set.union(*files.values()) == set(patches.table["file"])
    assert sum(map(len, files.values())) == 7
    source = tissue.crop_source(64)
    assert {picture.name for picture in source.pictures} == files["train"]


def test_fakes_take_the_codec_of_the_real_files_and_reals_keep_theirs(tmp_path):
    patches = folder_of_images(tmp_path / "real", 6, "jpg")
    codecs = [image_codec(patches.root / file) for file in patches.table["file"]]
    tissue = FolderTissue([patches], 64, codecs)
    assert len({codec.last.tables for codec in codecs}) == 6
    fakes = purple_tissue((64, 64), np.random.default_rng(9))[None].repeat(8, axis=0)
    assert len({patch.tobytes() for patch in tissue.like_real(fakes, np.random.default_rng(0))}) > 1


def test_too_few_groups_are_refused():
    with pytest.raises(PatchError, match=r"2 patients, slides or files of real tissue cannot be split"):
        split_groups(["a", "b"])


def test_half_of_many_groups_train():
    roles = list(split_groups([str(i) for i in range(60)]).values())
    assert [roles.count(role) for role in ROLES] == [30, 10, 20]


def test_crops_lie_on_the_grid_and_disjoint_ones_touch_at_most():
    image = np.arange(100 * 120 * 3, dtype=np.uint32).reshape(100, 120, 3).astype(np.uint8)
    places = [(x, y) for x, y, _ in grid_crops(image, 48, 48)]
    assert places == [(0, 0), (48, 0), (0, 48), (48, 48)]
    assert len(grid_crops(image, 48, 16)) == 5 * 4
    assert (grid_crops(image, 48, 16)[1][2] == image[:48, 16:64]).all()


def test_random_crops_of_fakes_lie_on_the_grid_too_and_small_fakes_are_refused():
    image = np.arange(80 * 80, dtype=np.int64).reshape(1, 80, 80, 1).repeat(3, axis=3)
    crops = random_grid_crops(image.repeat(50, axis=0), 48, np.random.default_rng(0))
    corners = {divmod(int(crop[0, 0, 0]), 80) for crop in crops}
    assert corners == {(y, x) for y in (0, 16, 32) for x in (0, 16, 32)}
    with pytest.raises(PatchError, match=r"the fakes are 80 x 80 px, smaller than the judged 96 px"):
        random_grid_crops(image, 96, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("sizes", "judged"), [([128, 128, 112], 112), ([256, 256], 224), ([775, 522], 224), ([100], 96)]
)
def test_the_judged_size_is_the_largest_multiple_of_16_that_all_images_have(sizes, judged):
    assert judged_size(sizes) == judged

"""Crops at random positions, a pure function of seed and number."""

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from histoforensics.generators.data import CropSource, Picture, block_rectangles, open_source, slide_source
from histoforensics.slides import ConfigError, PatchError, PatchSetWriter, block_split


def picture(height, width, name="one", value=None):
    """Each pixel holds its own position: (row, column, value)."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    pixels = np.stack([rows, columns, np.full_like(rows, 0 if value is None else value)], axis=-1)
    return Picture(name, width, height, lambda: pixels)


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_crop_number_n_is_the_same_however_the_series_is_cut():
    source = CropSource([picture(40, 50), picture(30, 30)], 16, digest="x")
    whole = source.draw(3, 0, 12, "dihedral")
    parts = [source.draw(3, start, count, "dihedral") for start, count in ((0, 5), (5, 1), (6, 6))]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    assert whole.shape == (12, 16, 16, 3)
    assert whole.dtype == np.uint8


def test_another_seed_gives_other_crops():
    source = CropSource([picture(200, 200)], 8, digest="x")
    assert not np.array_equal(source.draw(0, 0, 4), source.draw(1, 0, 4))


def test_every_position_of_every_picture_is_drawn_about_equally_often():
    source = CropSource([picture(9, 9, value=0), picture(8, 10, value=1)], 8, digest="x")  # 4 and 3 positions
    crops = source.draw(0, 0, 7000)
    places = {}
    for crop in crops:
        key = (int(crop[0, 0, 2]), int(crop[0, 0, 0]), int(crop[0, 0, 1]))
        places[key] = places.get(key, 0) + 1
    assert len(places) == 7
    assert all(abs(count - 1000) < 5 * np.sqrt(1000) for count in places.values())


def test_patches_of_exactly_the_size_come_once_an_epoch_each_time_in_another_order():
    source = CropSource([picture(8, 8, value=v) for v in range(10)], 8, digest="x")
    assert source.order == "epochs"
    values = source.draw(0, 0, 30)[:, 0, 0, 2].reshape(3, 10)
    assert all(sorted(epoch) == list(range(10)) for epoch in values)
    assert len({tuple(epoch) for epoch in values}) == 3


def test_file_order_is_never_shuffled():
    source = CropSource([picture(8, 8, value=v) for v in range(5)], 8, digest="x", order="file")
    assert source.draw(9, 0, 12)[:, 0, 0, 2].tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]


def test_crops_without_enough_tissue_are_drawn_again():
    half = np.full((64, 64, 3), 240, np.uint8)
    half[:, 32:] = (180, 60, 140)
    source = CropSource([Picture("half", 64, 64, lambda: half)], 16, digest="x", min_tissue=0.9)
    crops = source.draw(0, 0, 50)
    stained = (crops.max(-1).astype(int) - crops.min(-1) > 20).mean((1, 2))
    assert (stained >= 0.9).all()


def test_a_picture_without_any_tissue_still_gives_crops():
    source = CropSource(
        [Picture("glass", 32, 32, lambda: np.full((32, 32, 3), 240, np.uint8))], 8, digest="x", min_tissue=0.5
    )
    assert source.draw(0, 0, 2).shape == (2, 8, 8, 3)


def test_a_picture_smaller_than_the_crop_is_refused_by_name():
    with pytest.raises(PatchError, match=r"small\.png is 20 x 10 px, but the network needs crops of 16 px"):
        CropSource([picture(10, 20, "small.png")], 16, digest="x")


def test_a_source_without_pictures_is_refused():
    with pytest.raises(PatchError, match="holds no picture"):
        CropSource([], 16, digest="x", origin="train")


def test_a_folder_of_images_of_any_size_is_read_and_its_digest_follows_the_pixels(tmp_path):
    rng = np.random.default_rng(0)
    for name, shape in (("a.png", (40, 30, 3)), ("sub/b.png", (33, 64, 3))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(png(rng.integers(0, 256, shape).astype(np.uint8)))
    first = open_source([tmp_path], 16)
    assert len(first) == 2
    assert first.draw(0, 0, 3).shape == (3, 16, 16, 3)
    (tmp_path / "a.png").write_bytes(png(np.zeros((40, 30, 3), np.uint8)))
    assert open_source([tmp_path], 16).digest != first.digest


def test_a_stylegan_zip_gives_its_images(tmp_path):
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(3):
            archive.writestr(f"00000/img{number:08d}.png", png(np.full((16, 16, 3), number, np.uint8)))
        archive.writestr("dataset.json", json.dumps({"labels": None}))
    source = open_source([path], 16)
    assert sorted(source.draw(0, 0, 3)[:, 0, 0, 0].tolist()) == [0, 1, 2]


def test_a_broken_zip_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "broken.zip").write_bytes(b"PK nothing")
    with pytest.raises(PatchError, match=r"broken\.zip is not a readable zip"):
        open_source([tmp_path / "broken.zip"], 16)


def test_a_patch_set_gives_its_patches_and_its_scale(tmp_path):
    with PatchSetWriter(tmp_path / "set") as writer:
        for number in range(4):
            writer.add(np.full((16, 16, 3), number, np.uint8), label="real", source_slide="s", mpp=0.5)
    source = open_source([tmp_path / "set"], 16)
    assert source.mpp == 0.5
    assert sorted(source.draw(0, 0, 4)[:, 0, 0, 0].tolist()) == [0, 1, 2, 3]


def test_no_data_at_all_is_refused():
    with pytest.raises(ConfigError, match="data must be at least one slide, folder, PatchSet or zip"):
        open_source([], 16)


def test_what_a_run_records_of_its_data_has_no_path(tmp_path):
    (tmp_path / "a.png").write_bytes(png(np.zeros((16, 16, 3), np.uint8)))
    assert str(tmp_path.parent) not in json.dumps(open_source([tmp_path], 16).to_json())


class GridSlide:
    """Stands in for a slide: glass in the left half, tissue in the right one; reads are remembered."""

    name, digest, mpp_or_none = "grid", "d" * 64, 0.5

    def __init__(self, width, height):
        self.dimensions, self.reads = (width, height), []

    def read(self, x, y, width, height, level=0):
        self.reads.append((x, y, width, height))
        columns = np.arange(x, x + width)
        row = np.where(columns[:, None] < self.dimensions[0] // 2, 240, np.array([180, 60, 140]))
        return np.broadcast_to(row, (height, width, 3)).astype(np.uint8)


def test_only_training_blocks_with_tissue_are_read_for_training():
    slide = GridSlide(1800, 900)
    split = block_split(slide, 112)
    rectangles = block_rectangles(split, "train", 112)
    assert rectangles
    for x, y, width, height in rectangles:
        assert split.roles[(y // 448, x // 448)] == "train"
        assert x + width > 900
        assert (width, height) == (min(336, 1800 - x), min(336, 900 - y))
    slide.reads.clear()
    source = slide_source(slide, 112, rectangles)
    source.draw(0, 0, 50)
    assert set(slide.reads) <= set(rectangles)


def test_a_missing_slide_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(Exception, match=r"nothing\.svs") as caught:
        open_source([tmp_path / "nothing.svs"], 16)
    assert "\n" not in str(caught.value)

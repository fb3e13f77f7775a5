from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from histoforensics.slides import PatchError, PatchSet, PatchSetWriter


@pytest.fixture
def both(tmp_path: Path) -> PatchSet:
    rng = np.random.default_rng(0)
    with PatchSetWriter(tmp_path / "set") as writer:
        for label in ("real", "fake", "real"):
            writer.add(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8), label=label)
    return PatchSet.open(tmp_path / "set")


def test_the_stylegan_zip_is_what_its_loader_expects(tmp_path: Path, both: PatchSet) -> None:
    with zipfile.ZipFile(both.to_stylegan_zip(tmp_path / "a.zip")) as archive:
        names = [n for n in archive.namelist() if n.endswith(".png")]
        assert names == [f"00000/img{i:08d}.png" for i in range(3)]
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
        assert json.loads(archive.read("dataset.json")) == {
            "labels": [[n, c] for n, c in zip(names, (0, 1, 0), strict=True)]
        }


def test_one_class_has_null_labels_and_equal_sets_give_equal_zips(tmp_path: Path, both: PatchSet) -> None:
    reals = both.where(both.labels == 0)
    first, second = (reals.to_stylegan_zip(tmp_path / name).read_bytes() for name in ("a.zip", "b.zip"))
    assert first == second
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert json.loads(archive.read("dataset.json")) == {"labels": None}


def test_a_zip_comes_back_with_its_pixels(tmp_path: Path, both: PatchSet) -> None:
    back = PatchSet.from_stylegan_zip(both.to_stylegan_zip(tmp_path / "a.zip"), tmp_path / "b", label="fake")
    np.testing.assert_array_equal(back.pixels(), both.pixels())
    assert back.labels.tolist() == [1, 1, 1]


def test_bad_zips_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "no.zip").write_text("no zip")
    with pytest.raises(PatchError, match=r"no\.zip: not a readable zip"):
        PatchSet.from_stylegan_zip(tmp_path / "no.zip", tmp_path / "b")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("a.txt", "x")
    with pytest.raises(PatchError, match=r"empty\.zip: no images"):
        PatchSet.from_stylegan_zip(tmp_path / "empty.zip", tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_torchvision_reads_the_image_folder(tmp_path: Path, both: PatchSet) -> None:
    folder = ImageFolder(str(both.to_imagefolder(tmp_path / "tree")))
    assert folder.classes == ["fake", "real"]
    assert sorted(label for _, label in folder.samples) == [0, 1, 1]
    np.testing.assert_array_equal(np.asarray(folder[0][0]), both.pixels([1])[0])


def test_plain_grey_images_become_rgb_in_the_zip(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    Image.fromarray(np.full((8, 8), 77, np.uint8)).save(tmp_path / "plain" / "a.png")
    path = PatchSet.open(tmp_path / "plain").to_stylegan_zip(tmp_path / "a.zip")
    with zipfile.ZipFile(path) as archive, archive.open("00000/img00000000.png") as file, Image.open(file) as image:
        assert image.mode == "RGB"
        assert np.unique(image).tolist() == [77]

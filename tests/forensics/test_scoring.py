"""Image files in, a table out: crops on the 16-px grid, the mean over them, refusals in one sentence."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from histoforensics.forensics.freezing import freeze
from histoforensics.forensics.radial import RadialDetector
from histoforensics.forensics.scoring import check_ending, grid_crops, score_images, write_scores
from histoforensics.slides import ConfigError, DetectorError, PatchError, PatchSet, PatchSetWriter


@pytest.fixture(scope="module")
def detector(blurred_noise):
    detector = RadialDetector.fit(*blurred_noise(20, 32), seed=0)
    detector.real_below.fill_(0.4)
    detector.fake_above.fill_(0.6)
    return detector


@pytest.fixture
def folder(tmp_path):
    """Images of 32, 70 x 64 and 33 px in a folder with a subfolder."""
    rng = np.random.default_rng(0)
    for name, shape in (("b.png", (32, 32, 3)), ("a.png", (64, 70, 3)), ("sub/TCGA-AA.01.x.png", (33, 33, 3))):
        (tmp_path / "tissue" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, shape).astype(np.uint8)).save(tmp_path / "tissue" / name)
    return tmp_path / "tissue"


def test_crops_are_whole_disjoint_and_on_the_16_px_grid():
    y, x = np.mgrid[:130, :250]
    crops = grid_crops(np.stack([y, x, 0 * x], -1).astype(np.uint8), 56)
    assert crops.shape == (2 * 4, 56, 56, 3)
    assert crops[:, 0, 0, :2].tolist() == [[r, c] for r in (0, 64) for c in (0, 64, 128, 192)]


def test_image_of_the_judged_size_is_one_crop_and_larger_by_a_pixel_still_one():
    assert len(grid_crops(np.zeros((112, 112, 3), np.uint8), 112)) == 1
    assert len(grid_crops(np.zeros((113, 223, 3), np.uint8), 112)) == 1
    assert len(grid_crops(np.zeros((224, 224, 3), np.uint8), 112)) == 4


def test_smaller_image_is_refused_by_name():
    with pytest.raises(PatchError, match=r"x\.png: 111 x 300 px is smaller than the 112 x 112 px that are judged"):
        grid_crops(np.zeros((300, 111, 3), np.uint8), 112, "x.png")


def test_rows_are_images_in_order_with_the_mean_score_of_their_crops(detector, folder):
    scores = score_images([folder], detector)
    assert list(scores.columns) == ["file", "detector", "score", "verdict", "reason"]
    assert scores["file"].tolist() == ["tissue/a.png", "tissue/b.png", "tissue/sub/TCGA-AA.01.x.png"]
    crops = grid_crops(np.asarray(Image.open(folder / "a.png")), 32)
    assert len(crops) == 4
    assert scores["score"][0] == pytest.approx(detector.score(crops).mean(), abs=1e-6)
    assert scores["verdict"].tolist() == detector.verdicts(scores["score"].to_numpy()).tolist()


def test_two_detectors_give_two_rows_an_image_and_are_told_apart(detector, folder):
    scores = score_images([folder / "b.png", folder / "a.png"], [detector, detector])
    assert scores["file"].tolist() == ["b.png", "b.png", "a.png", "a.png"]
    assert scores["detector"].tolist() == ["radial-lr 1", "radial-lr 2"] * 2


def test_more_images_than_a_chunk_are_scored_in_order(detector, tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (70, 32, 32, 3)).astype(np.uint8)
    for i, patch in enumerate(pixels):
        Image.fromarray(patch).save(tmp_path / f"{i:03d}.png")
    told = []
    scores = score_images([tmp_path], detector, progress=lambda done, total, note="": told.append((done, total)))
    np.testing.assert_allclose(scores["score"], detector.score(pixels), atol=1e-6)
    assert told == [(32, 70), (64, 70), (70, 70)]


def test_patch_set_is_scored_by_its_manifest(detector, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    with PatchSetWriter(tmp_path / "set") as writer:
        for i, patch in enumerate(pixels):
            writer.add(patch, label="real", source_slide="a", x_level0=32 * i, y_level0=0)
    scores = score_images([tmp_path / "set"], detector)
    files = PatchSet.open(tmp_path / "set").table["file"]
    assert scores["file"].tolist() == [f"set/{file}" for file in files]


@pytest.mark.parametrize("name", ["scores.csv", "scores.parquet"])
def test_table_is_written_by_the_files_ending(detector, folder, tmp_path, name):
    scores = score_images([folder], detector)
    path = write_scores(scores, tmp_path / "deep" / name)
    back = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    assert list(back.columns) == ["file", "detector", "score", "verdict", "reason"]
    assert back["file"].tolist() == scores["file"].tolist()
    np.testing.assert_allclose(back["score"], scores["score"], rtol=1e-6)
    assert [p.name for p in path.parent.iterdir()] == [name]


def test_other_endings_and_missing_things_are_refused(detector, tmp_path, folder):
    with pytest.raises(ConfigError, match=r"scores.txt: scores are written to a file that ends in .csv or .parquet"):
        check_ending("a/scores.txt")
    with pytest.raises(ConfigError, match="detectors must be at least one, got 0"):
        score_images([folder], [])
    with pytest.raises(PatchError, match="nothing: no such file or folder"):
        score_images([tmp_path / "nothing"], detector)
    with pytest.raises(PatchError, match="no images to score"):
        score_images([], detector)
    with pytest.raises(DetectorError, match="radial-lr: no thresholds yet"):
        score_images([folder], RadialDetector(32))


def test_doubted_images_are_unsure_with_a_reason_and_others_have_none(blurred_noise, tmp_path):
    pixels, labels = blurred_noise(30, 32, seed=1)
    judge = RadialDetector.fit(pixels, labels, seed=0)
    more, _ = blurred_noise(30, 32, seed=2)
    freeze(judge, more[:30], more[30:])
    with PatchSetWriter(tmp_path / "set") as writer:
        writer.add(more[0], label="real", source_slide="a")
        writer.add(np.full((64, 64, 3), 180, np.uint8), label="real", source_slide="b")
        half = np.full((32, 64, 3), 180, np.uint8)
        writer.add(np.concatenate([half[:, :32], more[1]], axis=1), label="real", source_slide="c")
    scores = score_images([tmp_path / "set"], judge)
    assert pd.isna(scores["reason"][0])
    assert scores["verdict"][0] == judge.verdicts(scores["score"].to_numpy())[0]
    assert scores["verdict"][1] == scores["verdict"][2] == "unsure"
    assert scores["reason"][1].startswith("blurrier than anything calibrated on")
    assert scores["reason"][2] == scores["reason"][1]
    back = pd.read_csv(write_scores(scores, tmp_path / "scores.csv"))
    assert pd.isna(back["reason"][0])

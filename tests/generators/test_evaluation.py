"""An evaluation's figures on data whose answer is known, what it draws, and what it writes."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from histoforensics.generators import FAMILIES, LoadedGenerator, evaluate, evaluate_into, evaluation
from histoforensics.generators.reals import RAW_FILES, RAW_SLIDE, open_reals
from histoforensics.slides import ConfigError, PatchError, PatchSetWriter
from histoforensics.slides.synthetic import purple_tissue, write_svs


class Means:
    """Features that can be reckoned by hand: the mean colour of each quarter of a patch, 12 numbers."""

    name, dimensions, resize = "means", 12, "none"

    def features(self, pixels, batch=64):
        n, h, w, _ = pixels.shape
        quarters = pixels.reshape(n, 2, h // 2, 2, w // 2, 3).mean((2, 4))
        return (quarters.reshape(n, 12) / 255).astype(np.float32)


def pictures(folder, count, px, colour, seed=0):
    """A folder of pictures of noise about a colour."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    for n in range(count):
        pixels = np.clip(rng.normal(colour, 30, (px, px, 3)) + rng.normal(0, 20, 3), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{n:03d}.png")
    return folder


@pytest.fixture
def generator(tiny_config):
    """A tiny generator as it is before training: noise about grey."""

    def make(family="stylegan2", digest=None):
        config = tiny_config(family)
        G, _ = FAMILIES[family].build(config.network, seed=1)
        card = {"images": 2000, "data": {"mpp": None, "digest": digest}}
        return LoadedGenerator(G.eval().requires_grad_(False), config, "0" * 64, family, card, 0.0)

    return make


@pytest.fixture
def copying(monkeypatch):
    """Let the generator draw what it is given."""

    def give(images):
        monkeypatch.setattr(evaluation, "sample", lambda generator, count, seed: iter([images[:count]]))

    return give


def test_fakes_that_are_reals_measure_as_reals(generator, copying, tmp_path):
    data = pictures(tmp_path / "data", 120, 16, 120)
    other = open_reals([pictures(tmp_path / "more", 120, 16, 120, seed=1)], 16, 0).training
    copying(other.draw(0, 0, 100))
    found = evaluate(generator(), [data], count=100, features=Means()).results
    assert abs(found["kid"]["fake_to_training"]["mean"]) < 4 * found["kid"]["fake_to_training"]["std"]
    assert found["precision_recall"]["fake"]["precision"] > 0.8
    assert found["precision_recall"]["fake"]["recall"] > 0.8
    assert found["memorisation"]["share_below"] < 0.2
    assert found["frechet"]["why_not"] is None
    assert found["frechet"]["fake_to_training"] < 0.05


def test_copies_and_another_colour_are_found_out(generator, copying, tmp_path):
    data = pictures(tmp_path / "data", 60, 16, 120)
    source = open_reals([data], 16, 0).training
    copying(source.draw(0, 0, 60, "dihedral"))
    found = evaluate(generator(digest=source.digest), [data], count=60, features=Means())
    # each half of the folder holds the originals of half the copies
    assert found.results["memorisation"]["share_below"] > 0.4
    assert found.results["memorisation"]["is_of_training_data"]
    np.testing.assert_array_equal(found.pairs[0].fake, found.pairs[0].real)  # turned as the copy is
    assert found.pairs[0].distance == pytest.approx(0, abs=1e-3)
    copying(np.full((60, 16, 16, 3), 250, np.uint8))
    far = evaluate(generator(), [data], count=60, features=Means()).results
    assert far["kid"]["fake_to_training"]["mean"] > 10 * abs(found.results["kid"]["fake_to_training"]["mean"])
    assert far["precision_recall"]["fake"]["precision"] == 0
    assert not far["data"]["is_training_data"]


def test_of_a_slide_the_ruler_is_the_other_blocks(generator, tmp_path):
    tissue = purple_tissue((1000, 1400), np.random.default_rng(0))
    slide = write_svs(tmp_path / "slide.svs", tissue)
    found = evaluate(generator(), [slide], count=20, features=Means()).results
    assert found["kid"]["ratio_to"] == "training_to_other"
    assert found["kid"]["training_to_other"]["subset_size"] == 10
    assert found["data"]["codec"] == RAW_SLIDE
    assert len(found["memorisation"]["folds"]) == 1


def test_the_same_seed_gives_the_same_figures_and_reports_every_patch(generator, tmp_path):
    data, steps = pictures(tmp_path / "data", 4, 40, 120), []
    first = evaluate(generator(), [data], count=20, features=Means(), progress=lambda *step: steps.append(step))
    again = evaluate(generator(), [data], count=20, features=Means())
    other = evaluate(generator(), [data], count=20, seed=1, features=Means())
    assert first.results == again.results
    assert first.results["kid"] != other.results["kid"]
    assert steps[-1][0] == steps[-1][1] == 20 + 20 + 20 + 2 * 8 * 20
    assert [done for done, _, _ in steps] == sorted(done for done, _, _ in steps)


def test_one_picture_has_no_ruler_and_says_so(generator, tmp_path):
    found = evaluate(generator(), [pictures(tmp_path / "data", 1, 60, 120)], count=20, features=Means())
    assert found.results["kid"]["ratio"] is None
    assert found.results["kid"]["ratio_note"] == "the data are one picture: no other real tissue"
    assert found.results["memorisation"]["why_not"] == "the data are one picture, so no real patch is held out"
    assert found.checks == found.pairs == []


def test_a_ratio_needs_reals_that_differ(generator, tmp_path):
    (folder := tmp_path / "same").mkdir()
    for n in range(40):
        Image.new("RGB", (16, 16), (120, 90, 110)).save(folder / f"{n}.png")
    found = evaluate(generator(), [folder], count=20, features=Means()).results
    assert found["kid"]["ratio"] is None
    assert found["kid"]["ratio_note"] == "the reals' own KID is not above 0"


def test_too_few_features_or_patches_leave_the_frechet_distance_out(generator, tmp_path):
    class Many(Means):
        dimensions = 24

        def features(self, pixels, batch=64):
            return np.tile(super().features(pixels), 2)

    found = evaluate(generator(), [pictures(tmp_path / "data", 30, 16, 120)], count=20, features=Many()).results
    assert found["frechet"]["fake_to_training"] is None
    assert "20 patches do not outnumber the 24 features" in found["frechet"]["why_not"]


def test_another_scale_is_noted(generator, tmp_path):
    with PatchSetWriter(tmp_path / "set", card={}) as writer:
        for n in range(20):
            pixels = np.random.default_rng(n).integers(0, 256, (16, 16, 3)).astype(np.uint8)
            writer.add(pixels, label="real", source_slide="s", mpp=0.25)
    loaded = generator()
    loaded = replace(loaded, card=loaded.card | {"data": {"mpp": 0.5}})
    found = evaluate(loaded, [tmp_path / "set"], count=20, features=Means()).results
    assert found["data"]["scale_note"] == "the generator draws 0.5 um/px, the data have 0.25"
    assert found["data"]["codec"] == RAW_FILES


def test_what_cannot_be_measured_is_refused(generator, tmp_path):
    data = pictures(tmp_path / "data", 4, 40, 120)
    with pytest.raises(ConfigError, match="count must be at least 20, got 19"):
        evaluate(generator(), [data], count=19, features=Means())
    with pytest.raises(ConfigError, match="features must be one of efficientnet-lite0-128"):
        evaluate(generator(), [data], count=20, features="fid")
    (tmp_path / "slide.tif").write_bytes(b"")
    with pytest.raises(PatchError, match="must come from slides or from folders of images, got both"):
        evaluate(generator(), [data, tmp_path / "slide.tif"], count=20, features=Means())


@pytest.mark.parametrize("family", ["stylegan2", "pathologygan"])
def test_an_evaluation_is_written_whole(family, generator, tmp_path):
    data = pictures(tmp_path / "data", 4, 40, 120)
    results = evaluate_into(generator(family), [data], tmp_path / "out", count=20, features=Means())
    files = {path.name for path in (tmp_path / "out").iterdir()}
    sheets = {"samples.png", "reals.png", "interpolation.png", "neighbours.png", "distances.png"}
    if family == "stylegan2":
        assert files == sheets | {"results.json", "truncation.png"}
    else:
        assert files == sheets | {"results.json"}
        assert "would not be truncation" in results["files"]["truncation.png"]
    written = json.loads((tmp_path / "out/results.json").read_text())
    assert written == json.loads(json.dumps(results))
    assert written["features"] == {"name": "means", "dimensions": 12, "resize": "none"}
    assert str(tmp_path) not in json.dumps(written)
    for name in sheets:
        with Image.open(tmp_path / "out" / name) as image:
            assert ("Synthetic" in image.text) == (name not in {"reals.png", "distances.png"})


def test_a_folder_that_is_not_empty_is_kept(generator, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="the folder is not empty"):
        evaluate_into(generator(), [tmp_path], tmp_path / "out", count=20, features=Means())
    assert (tmp_path / "out/mine.txt").read_text() == "mine"

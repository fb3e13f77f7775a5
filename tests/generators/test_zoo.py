"""The zoo: generators by name, and what is said where their files are missing or damaged."""

import json
import shutil

import numpy as np
import pytest

from histoforensics.generators import (
    ZOO,
    TrainConfig,
    fit,
    load_generator,
    pack,
    sample,
    shipped,
    zoo,
    zoo_card,
    zoo_folder,
)
from histoforensics.generators.families import FAMILIES
from histoforensics.generators.packing import MAX_BYTES
from histoforensics.slides import CheckpointError


@pytest.fixture
def tiny_zoo(tiny_config, pictures, tmp_path, monkeypatch):
    """A zoo of one tiny StyleGAN2."""
    config = tiny_config("stylegan2")
    fit(pictures(config.resolution), config, tmp_path / "run")
    pack(tmp_path / "run", tmp_path / "zoo/stylegan2")
    monkeypatch.setattr(zoo, "ZOO_ROOT", tmp_path / "zoo")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "zoo"


def test_the_zoo_is_one_generator_a_family():
    assert set(ZOO) == set(FAMILIES)


def test_a_shipped_generator_is_loaded_by_its_name(tiny_zoo):
    generator = load_generator("stylegan2")
    assert generator.name == "stylegan2"
    assert generator.config.resolution == 16
    assert zoo_card("stylegan2")["sha256"] == generator.sha256
    assert shipped() == ("stylegan2",)


def test_an_existing_path_goes_before_a_name(tiny_zoo, tiny_config, pictures, tmp_path):
    config = tiny_config("pathologygan")
    fit(pictures(config.resolution), config, tmp_path / "stylegan2")
    assert load_generator("stylegan2").config.family == "pathologygan"


def test_a_family_that_is_not_there_is_missed_in_one_sentence(tiny_zoo):
    with pytest.raises(
        CheckpointError, match=r"^the shipped stylegan is missing from this installation; .+ --preset zoo"
    ):
        load_generator("stylegan")


def test_an_unknown_name_is_answered_with_the_known_ones(tiny_zoo):
    with pytest.raises(CheckpointError, match=r"dcgan holds no generator: .+ stylegan, stylegan2, pathologygan"):
        load_generator("dcgan")
    with pytest.raises(
        CheckpointError, match=r"dcgan is not a shipped generator; these are: stylegan, stylegan2, path"
    ):
        zoo_folder("dcgan")


def test_a_name_is_no_path_elsewhere(tiny_zoo, tmp_path):
    with pytest.raises(CheckpointError, match="stylegan2 holds no generator: there is no such file or folder"):
        load_generator(tmp_path / "nowhere/stylegan2")


def test_a_damaged_card_is_named(tiny_zoo):
    (tiny_zoo / "stylegan2/card.json").write_text("{")
    with pytest.raises(CheckpointError, match="the card of the shipped stylegan2 is damaged"):
        zoo_card("stylegan2")


def test_a_copied_folder_of_the_zoo_is_a_generator(tiny_zoo, tmp_path):
    shutil.copytree(tiny_zoo / "stylegan2", tmp_path / "copy")
    one, other = (np.concatenate(list(sample(load_generator(name), 2))) for name in ("copy", "stylegan2"))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", shipped())
def test_what_is_shipped_is_small_and_complete_and_draws_tissue_colours(name):
    folder, card = zoo_folder(name), zoo_card(name)
    assert {path.name for path in folder.iterdir()} == {
        "generator.safetensors", "config.json", "card.json", "samples.png",
    }  # fmt: skip
    assert (folder / "generator.safetensors").stat().st_size <= MAX_BYTES
    generator = load_generator(name)
    assert generator.sha256 == card["sha256"]
    assert generator.config.family == card["family"] == name
    # settings that came later stand in neither the file for people nor the weights' header: both take the default
    assert TrainConfig.from_json(json.loads((folder / "config.json").read_text())["config"]) == generator.config
    images = np.concatenate(list(sample(generator, 8)))
    assert images.shape == (8, card["px"], card["px"], 3)
    assert images.reshape(-1, 3).std() > 10
    assert len({image.tobytes() for image in images}) == 8

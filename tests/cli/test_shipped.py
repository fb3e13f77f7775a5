"""`histoforensics detectors info` and `ship`: cards in plain lines, and one sentence for every mistake."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from histoforensics.cli import app
from histoforensics.forensics import TrainingSet, train_detector
from histoforensics.forensics.stock import in_stock


def run(*words):
    return CliRunner().invoke(app, ["detectors", *map(str, words)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A trained detector that nobody measured."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3)).astype(np.uint8)
    pixels[30:] = pixels[30:] // 2 + np.roll(pixels[30:], 1, 1) // 2
    data = TrainingSet(
        real=pixels[:20], fake=pixels[30:50], calibration_real=pixels[20:30], calibration_fake=pixels[50:],
        provenance={"mpp": 0.5, "codec_policy": "both lossless", "limits": ["It was trained in a test."]},
    )  # fmt: skip
    return train_detector("radial-lr", data).save(tmp_path_factory.mktemp("cards") / "mine")


def test_info_tells_a_folders_card_without_figures_that_were_never_measured(folder):
    done = run("info", folder)
    assert done.exit_code == 0, done.output
    assert "radial-lr: 32 px at 0.5 um/px, trained on 20 real and 20 fake patches." in done.output
    assert "Codec: both lossless" in done.output
    assert "- It was trained in a test." in done.output
    assert "AUC" not in done.output


def test_info_as_json_is_the_card(folder):
    done = run("info", folder, "--json")
    assert json.loads(done.output) == json.loads((folder / "card.json").read_text())


@pytest.mark.parametrize("name", in_stock())
def test_info_tells_what_a_shipped_detector_holds_on_and_how_to_make_it_again(name):
    done = run("info", name)
    assert done.exit_code == 0, done.output
    assert "generator left out, clean: mean AUC" in done.output
    assert "generator left out, jpeg_70: mean AUC" in done.output
    assert "best control, generator left out" in done.output
    assert "Made by: histoforensics detectors ship" in done.output


def test_mistakes_are_one_sentence(tmp_path):
    for words, message in (
        (("info", "magic"), "magic is not a shipped detector; these are: fusion"),
        (("ship", "--only", "resnet", "--out", tmp_path / "out"), "only must be one of fusion"),
    ):
        done = run(*words)
        assert done.exit_code == 1
        assert message in done.output
    assert not (tmp_path / "out").exists()

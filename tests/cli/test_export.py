"""`histoforensics detectors export`: one file that agrees, and one sentence where there is none."""

import json

import numpy as np
import onnxruntime
import pytest
from typer.testing import CliRunner

from histoforensics.cli import app
from histoforensics.forensics import TrainingSet, train_detector


def run(*words):
    return CliRunner().invoke(app, ["detectors", "export", *map(str, words)])


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    noise = np.random.default_rng(0).integers(0, 256, (80, 48, 48, 3)).astype(np.uint8)
    soft = noise // 2 + np.roll(noise, 1, axis=1) // 2
    data = TrainingSet(
        real=noise[:40],
        fake=soft[:40],
        calibration_real=noise[40:],
        calibration_fake=soft[40:],
        provenance={"licence": "CC0-1.0"},
    )
    return train_detector("wht-lr", data, options={"copies": 0}).save(tmp_path_factory.mktemp("trained") / "wht-lr")


def test_onnx_stands_beside_its_card_and_the_licence_is_named(detector, tmp_path):
    for _ in range(2):  # safe to run again
        done = run(detector, "--format", "onnx", "--out", tmp_path / "out")
        assert done.exit_code == 0, done.output
    assert "wht-lr.onnx, wht-lr.card.json: wht-lr, 48 px" in done.output
    assert "Licence: CC0-1.0." in done.output
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["wht-lr.card.json", "wht-lr.onnx"]
    assert json.loads((tmp_path / "out/wht-lr.card.json").read_text()) == json.loads(
        (detector / "card.json").read_text()
    )
    session = onnxruntime.InferenceSession(str(tmp_path / "out/wht-lr.onnx"), providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["licence"] == "CC0-1.0"


def test_torchscript_has_its_config_beside_it(detector, tmp_path):
    done = run(detector, "--format", "torchscript", "--mpp", 0.5, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["wht-lr.card.json", "wht-lr.config.json", "wht-lr.pt"]
    assert json.loads((tmp_path / "wht-lr.config.json").read_text())["licence"] == "CC0-1.0"


def test_mistakes_get_one_sentence(detector, tmp_path):
    for words, message in [
        ((detector, "--format", "tflite"), "format must be one of onnx, torchscript, got 'tflite'"),
        ((detector, "--format", "torchscript"), "its card tells no resolution"),
        ((tmp_path / "none",), "no such detector folder"),
    ]:
        done = run(*words, "--out", tmp_path / "out")
        assert done.exit_code == 1
        assert message in " ".join(done.output.split())
    assert not (tmp_path / "out").exists()


def test_help_has_an_example():
    assert "Example: histoforensics detectors export" in " ".join(run("--help").output.split())

"""docs/pipelines.md does what it says: its blocks run as they stand, on a synthetic slide, and agree."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from histoforensics.cli import app
from histoforensics.forensics import TrainingSet, train_detector
from histoforensics.slides.synthetic import purple_tissue, write_svs

PAGE = Path(__file__).parents[2] / "docs" / "pipelines.md"
BLOCK = re.compile(r"(<!-- not run: [^\n]+ -->\n)?```(\w+)\n(.*?)```", re.DOTALL)
PX = 64


def blocks():
    """(language, code) of the blocks that are to be run, in order."""
    return [(language, code) for mark, language, code in BLOCK.findall(PAGE.read_text()) if not mark]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The folder where the page was run from top to bottom, and the names that it left."""
    folder = tmp_path_factory.mktemp("page")
    rng = np.random.default_rng(0)
    real = np.stack([purple_tissue((PX, PX), rng) for _ in range(48)])
    fake = real[:, ::2, ::2].repeat(2, axis=1).repeat(2, axis=2)
    data = TrainingSet(real=real[:24], fake=fake[:24], calibration_real=real[24:], calibration_fake=fake[24:])
    train_detector("wht-lr", data, options={"copies": 0}).save(folder / "detectors" / "wht-lr")
    write_svs(folder / "slide.svs", purple_tissue((200, 260), rng), quality=95)
    names = {
        "patches": np.concatenate([real[:8], fake[:8]]),
        "labels": np.repeat([0, 1], 8),
        "slides": np.arange(16) % 4,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for language, code in blocks():
            if language == "python":
                exec(compile(code, PAGE.name, "exec"), names)
            else:
                assert language == "bash"
                for line in code.strip().splitlines():
                    program, *words = shlex.split(line)
                    assert program == "histoforensics"
                    done = CliRunner().invoke(app, words)
                    assert done.exit_code == 0, done.output
    return folder, names


def test_only_what_needs_another_program_is_not_run():
    skipped = [(mark, language, code) for mark, language, code in BLOCK.findall(PAGE.read_text()) if mark]
    assert [re.search("QuPath|TIAToolbox", mark).group() for mark, _, _ in skipped] == ["QuPath", "TIAToolbox"]
    for _, language, code in skipped:
        assert language == "groovy" or compile(code, PAGE.name, "exec")
    assert [language for language, _ in blocks()].count("python") >= 5


def test_the_scanner_says_of_each_patch_what_the_loop_says(ran):
    folder, names = ran
    (table,) = (folder / "results" / "scan").glob("*/scores.parquet")
    scanned = pd.read_parquet(table).set_index(["x_level0", "y_level0"])["wht-lr"]
    shared = [(place, score) for place, score in zip(names["places"], names["scores"], strict=True) if place in scanned]
    assert len(shared) >= 9
    for place, score in shared:
        assert scanned[place] == pytest.approx(score, abs=1e-5)


def test_onnxruntime_says_of_the_last_row_what_the_loop_says(ran):
    _, names = ran
    np.testing.assert_allclose(names["p_fake"], names["scores"][-len(names["p_fake"]) :], atol=1e-4)
    assert names["told"]["patch_px"] == str(PX)
    assert names["suspicious"].dtype == bool


def test_the_geojson_has_one_closed_square_a_patch(ran):
    folder, names = ran
    features = json.loads((folder / "tiles.geojson").read_text())["features"]
    assert len(features) == len(names["places"]) == (200 // PX) * (260 // PX)
    for feature, (x, y) in zip(features, names["places"], strict=True):
        (ring,) = feature["geometry"]["coordinates"]
        assert ring[0] == ring[-1] == [x, y]
        assert {tuple(corner) for corner in ring} == {(x + a, y + b) for a in (0, PX) for b in (0, PX)}
        assert feature["properties"]["classification"]["name"] in ("real", "fake", "unsure")


def test_cross_validation_finds_enlarged_patches(ran):
    assert ran[1]["aucs"].tolist() == [1.0, 1.0]

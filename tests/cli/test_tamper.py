"""The command line of `tamper`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from histoforensics.cli import app
from histoforensics.forensics import TrainingSet, train_detector
from histoforensics.slides import PatchSetWriter
from histoforensics.slides.synthetic import purple_tissue, write_svs


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with slide.svs, fakes and a trained detector."""
    folder, rng = tmp_path_factory.mktemp("inputs"), np.random.default_rng(0)
    write_svs(folder / "slide.svs", purple_tissue((800, 800), rng))
    with PatchSetWriter(folder / "fakes", card={}) as writer:
        for _ in range(4):
            writer.add(purple_tissue((64, 64), rng), label="fake", generator="gan")
    patches = purple_tissue((64 * 160, 64), rng).reshape(-1, 64, 64, 3)
    smooth = patches // 2 + np.roll(patches, 1, axis=1) // 2
    data = TrainingSet(
        real=patches[:40], fake=smooth[40:80], calibration_real=patches[80:120], calibration_fake=smooth[120:]
    )
    train_detector("blockiness", data).save(folder / "detector")
    return folder


def test_a_slide_is_tampered_with_and_scanned(inputs: Path, tmp_path: Path) -> None:
    command = ["tamper", str(inputs / "slide.svs"), "--fake", str(inputs / "fakes"), "--out", str(tmp_path / "out")]
    options = ["--regions", "2", "--size", "60", "--size", "150", "--blend", "none", "--no-match-stain", "--seed", "5"]
    done = CliRunner().invoke(app, [*command, *options, "--detector", str(inputs / "detector")])
    assert done.exit_code == 0, done.output
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "slide-tampered.tif", "mask.png", "regions.geojson", "tamper.json", "localisation.json", "scan",
    }  # fmt: skip
    assert "2 regions replaced" in done.output
    assert "blockiness: region AUC " in done.output
    found = json.loads((tmp_path / "out" / "localisation.json").read_text())["blockiness"]
    assert [row["size_px"] for row in found["hits_by_size"]] == [60, 150]
    assert 0 <= found["region_auc"] <= 1
    again = CliRunner().invoke(app, [*command, *options])
    assert (again.exit_code, "the folder is not empty" in again.output) == (1, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--blend", "glue"], "blend must be feather, poisson or none, got 'glue'"),
        (["--shape", "star"], "shape must be irregular or rectangle, got 'star'"),
        (["--size", "5"], "size_px must be at least 16, got 5"),
        (["--regions", "0"], "regions must be at least 1, got 0"),
    ],
)
def test_mistakes_are_told_in_one_sentence(inputs: Path, tmp_path: Path, options: list[str], message: str) -> None:
    command = ["tamper", str(inputs / "slide.svs"), "--fake", str(inputs / "fakes"), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*command, *options])
    assert done.exit_code == 1
    assert message in " ".join(done.output.split())
    assert not (tmp_path / "out").exists()


def test_a_source_that_is_not_there_is_told(inputs: Path, tmp_path: Path) -> None:
    command = ["tamper", str(inputs / "slide.svs"), "--fake", str(tmp_path / "none"), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, command)
    assert (done.exit_code, "none: no such file or folder" in done.output) == (1, True)

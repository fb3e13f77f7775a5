"""What can be tampered with in a run of the main job; the run itself is in test_pipeline.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from histoforensics.benchmarks.tampering import tampered_slide
from histoforensics.benchmarks.tissue import SlideTissue
from histoforensics.cli import app
from histoforensics.slides import ConfigError, Slide
from histoforensics.slides.synthetic import purple_tissue, write_svs

PX = 48


def test_only_a_single_slide_can_be_tampered_with(tmp_path: Path) -> None:
    paths = [
        write_svs(tmp_path / f"{i}.svs", purple_tissue((400, 400), np.random.default_rng(i)), mpp=0.5) for i in (1, 2)
    ]
    slides = [Slide.open(path) for path in paths]
    with pytest.raises(ConfigError, match="the tissue to tamper with must be one slide, got '2 slides'"):
        tampered_slide(SlideTissue(slides, PX))
    found, split = tampered_slide(SlideTissue(slides[:1], PX))
    assert (found is slides[0], split.patch_px) == (True, PX)
    for slide in slides:
        slide.close()


def test_the_option_is_there_and_images_are_refused_before_any_work(tmp_path: Path) -> None:
    for name in ("real", "fake"):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.fromarray(purple_tissue((64, 64), np.random.default_rng(i))).save(tmp_path / name / f"{i}.png")
    options = ["--real", str(tmp_path / "real"), "--fake", f"A={tmp_path / 'fake'}", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, ["benchmark", *options, "--tamper"])
    assert done.exit_code == 1
    assert "the tissue to tamper with must be one slide, got '0 slides'" in " ".join(done.output.split())
    assert not (tmp_path / "out").exists()

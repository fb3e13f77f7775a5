from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from histoforensics.cli import app
from histoforensics.slides import PatchSet
from histoforensics.slides.synthetic import GLASS, purple_tissue, write_svs

DATA = Path(os.environ.get("HISTOFORENSICS_DATA", Path(__file__).parents[2] / "../shared/data"))


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = purple_tissue((960, 960), np.random.default_rng(0))
    image[:, 480:] = GLASS
    return write_svs(tmp_path_factory.mktemp("slides") / "small.svs", image, quality=60)


@pytest.mark.parametrize("command", ["sample", "info", "tile"])
def test_help_has_an_example(command: str) -> None:
    code, out, _ = run("slides", command, "--help")
    assert code == 0
    assert "Example: histoforensics slides" in " ".join(out.split())


def test_info_says_what_the_slide_is(slide: Path) -> None:
    code, out, _ = run("slides", "info", slide)
    assert code == 0
    assert "960 x 960 px" in out
    assert "0.25 um per pixel" in out
    assert "rgb 4:4:4, quality 60, grid phase (0, 0), known from the JPEG streams" in out


def test_info_as_json_holds_no_path(slide: Path) -> None:
    code, out, _ = run("slides", "info", slide, "--json", "--mpp", 0.5)
    facts = json.loads(out)
    assert code == 0
    assert (facts["name"], facts["width"], facts["mpp"], facts["codec"]["kind"]) == ("small", 960, 0.5, "jpeg")
    assert str(slide.parent) not in out


def test_info_of_a_slide_without_mpp_says_so() -> None:
    path = DATA / "wsi" / "TCGA-CR-7395-01A-01-TS1.svs"
    if not path.is_file():
        pytest.skip("the TCGA slide is not here; set HISTOFORENSICS_DATA to the folder that holds wsi/")
    _, out, _ = run("slides", "info", path)
    assert "unknown, pass it with --mpp" in out
    assert "jpeg2000" in out
    code, _, err = run("slides", "tile", path, "--preset", "mpp", "--dry-run")
    assert code == 1
    assert "pass it with --mpp" in err


def test_tile_writes_a_patch_set_and_prints_the_audit(tmp_path: Path, slide: Path) -> None:
    code, out, _ = run("slides", "tile", slide, "--preset", "mpp", "--patch-px", 240, "--out", tmp_path / "out")
    assert code == 0
    assert "8 patches" in out
    assert "tissue" in out
    assert len(PatchSet.open(tmp_path / "out")) == 8
    code, _, err = run("slides", "tile", slide, "--preset", "mpp", "--out", tmp_path / "out")
    assert code == 1
    assert "the folder is not empty" in err


def test_the_paper_preset_names_the_right_level_and_max_works(tmp_path: Path, slide: Path) -> None:
    code, _, err = run("slides", "tile", slide, "--out", tmp_path / "out")
    assert code == 1
    assert "has no Deep Zoom level 17, only 0 to 10" in err
    assert "--level max" in err
    assert not (tmp_path / "out").exists()
    code, out, _ = run("slides", "tile", slide, "--level", "max", "--dry-run", "--min-png-bytes", 0)
    assert code == 0
    assert "16 patches; dry run: nothing written" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("info", "gone.svs"), "gone.svs: no such file."),
        (("tile", "gone.svs", "--dry-run"), "gone.svs: no such file."),
        (("tile", "gone.svs"), "--out is missing"),
        (("tile", "gone.svs", "--dry-run", "--preset", "best"), "preset must be paper or mpp, got 'best'."),
        (("tile", "gone.svs", "--dry-run", "--level", "top"), "level must be a number or max, got 'top'."),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_one(arguments: tuple[str, ...], message: str) -> None:
    code, out, err = run("slides", *arguments)
    assert code == 1
    assert message in err
    assert err.strip().count("\n") == 0
    assert "Traceback" not in out + err

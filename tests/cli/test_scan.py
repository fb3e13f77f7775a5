from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from histoforensics.cli import app
from histoforensics.forensics import TrainingSet, train_detector
from histoforensics.slides.synthetic import purple_tissue, write_svs

DATA = Path(os.environ.get("HISTOFORENSICS_DATA", Path(__file__).parents[2] / "../shared/data"))


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_svs(tmp_path_factory.mktemp("slides") / "a.svs", purple_tissue((400, 500), np.random.default_rng(0)))


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (80, 64, 64, 3)).astype(np.uint8)
    soft = noise // 2 + np.roll(noise, 1, axis=1) // 2
    data = TrainingSet(real=noise[:40], fake=soft[:40], calibration_real=noise[40:], calibration_fake=soft[40:])
    return train_detector("wht-lr", data).save(tmp_path_factory.mktemp("detectors") / "wht-lr")


def test_help_has_examples() -> None:
    for command in (("scan",), ("slides", "merge")):
        code, out, _ = run(*command, "--help")
        assert code == 0
        assert f"Example: histoforensics {' '.join(command)}" in " ".join(out.split())


def test_scan_writes_the_results_and_prints_the_verdict(slide: Path, detector: Path, tmp_path: Path) -> None:
    arguments = ("scan", slide, "--detector", detector, "--out", tmp_path / "out", "--engine", "serial")
    code, out, _ = run(*arguments)
    assert code == 0
    assert "disjoint patches called fake" in out
    assert "expected on real tissue, p = " in out
    assert "The detector does not tell at which resolution it was trained" in out
    assert "1 slides finished, 0 failed." in out
    (folder,) = (p for p in (tmp_path / "out").iterdir() if p.is_dir())
    assert folder.name.startswith("a-")
    assert str(tmp_path) not in out
    code, out, _ = run(*arguments)
    assert code == 0
    assert "1 slides were finished already" in out
    code, _, err = run(*arguments, "--stride-px", 16)
    assert code == 1
    assert "was made with other parameters (stride_px was 32, is 16)" in err


def test_a_failed_slide_is_told_with_its_cause_and_exit_code_one(slide: Path, detector: Path, tmp_path: Path) -> None:
    code, out, err = run(
        "scan", slide, tmp_path / "gone.svs", "--detector", detector, "--out", tmp_path / "out", "--engine", "process",
        "--workers", 1,
    )  # fmt: skip
    assert code == 1
    assert "gone-missing: error: gone.svs: no such file." in err
    assert "1 slides finished, 1 failed." in out
    data = json.loads((tmp_path / "out" / "cohort.json").read_text())
    assert (data["finished"], data["failed"]) == (1, 1)


def test_shards_are_scanned_apart_and_merged(slide: Path, detector: Path, tmp_path: Path) -> None:
    other = write_svs(tmp_path / "b.svs", purple_tissue((300, 300), np.random.default_rng(1)))
    for shard in ("0/2", "1/2"):
        code, out, _ = run(
            "scan", slide, other, "--detector", detector, "--out", tmp_path / "out", "--shard", shard,
            "--engine", "serial",
        )  # fmt: skip
        assert code == 0
        assert "1 slides finished, 0 failed." in out
    code, out, _ = run("slides", "merge", tmp_path / "out", "--out", tmp_path / "out")
    assert code == 0
    assert "2 slides finished, 0 failed." in out
    assert json.loads((tmp_path / "out" / "cohort.json").read_text())["finished"] == 2


def test_slides_may_stand_in_a_list(slide: Path, detector: Path, tmp_path: Path) -> None:
    other = write_svs(tmp_path / "b.svs", purple_tissue((200, 200), np.random.default_rng(1)))
    (tmp_path / "cohort.txt").write_text(f"{slide}\n\n  {other}  \n")
    common = ("--detector", detector, "--out", tmp_path / "out", "--engine", "serial")
    code, out, _ = run("scan", f"@{tmp_path / 'cohort.txt'}", *common)
    assert code == 0
    assert "2 slides finished, 0 failed." in out
    code, _, err = run("scan", f"@{tmp_path / 'gone.txt'}", *common)
    assert code == 1
    assert "gone.txt: the list of slides cannot be read (FileNotFoundError)." in " ".join(err.split())


def test_a_slide_without_mpp_needs_the_option(detector: Path, tmp_path: Path) -> None:
    path = DATA / "wsi" / "TCGA-CR-7395-01A-01-TS1.svs"
    if not path.is_file():
        pytest.skip("the TCGA slide is not here; set HISTOFORENSICS_DATA to the folder that holds wsi/")
    arguments = ("scan", path, "--detector", detector, "--engine", "serial", "--stride-px", 64)
    code, _, err = run(*arguments, "--out", tmp_path / "out")
    assert code == 1
    assert "pass it with --mpp" in err
    code, out, _ = run(*arguments, "--out", tmp_path / "out", "--mpp", 0.5)  # into the same folder
    assert code == 0
    assert "1 slides finished, 0 failed." in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--engine", "spark"), "engine must be serial, process or ray, got 'spark'."),
        (("--shard", "2/2"), "shard must be i/N with i from 0 to N - 1, got '2/2'."),
        (("--shard", "first"), "shard must be i/N, such as 0/2 and 1/2, got 'first'."),
        (("--engine", "serial", "--slide-seconds", "5"), "limits must be left out with the serial engine"),
        (("--min-tissue", "2"), "min_tissue must be from 0 to 1, got 2.0."),
        (("--device", "abacus"), "device 'abacus' cannot be used here"),
    ],
)
def test_bad_options_are_one_sentence_and_exit_code_one(
    options: tuple[str, ...], message: str, slide: Path, detector: Path, tmp_path: Path
) -> None:
    code, out, err = run("scan", slide, "--detector", detector, "--out", tmp_path / "out", *options)
    assert code == 1
    assert message in " ".join(err.split())
    assert "Traceback" not in out + err
    assert not (tmp_path / "out").exists()


def test_an_untrained_detector_is_told(slide: Path, tmp_path: Path) -> None:
    code, _, err = run("scan", slide, "--detector", "resnet", "--out", tmp_path / "out")
    assert code == 1
    assert "resnet is not trained yet" in err

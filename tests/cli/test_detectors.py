"""`histoforensics detectors`: train, score and list on folders of images, and one sentence for every mistake."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from histoforensics.cli import app
from histoforensics.slides.synthetic import write_svs


def run(*words):
    return CliRunner().invoke(app, ["detectors", *map(str, words)])


def draw(folder, count, px, seed, blurred=False):
    rng = np.random.default_rng(seed)
    folder.mkdir()
    for i in range(count):
        pixels = rng.integers(0, 256, (px, px, 3)).astype(np.uint8)
        Image.fromarray(pixels // 2 + np.roll(pixels, 1, 1) // 2 if blurred else pixels).save(folder / f"{i:02d}.png")
    return folder


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """Real and fake folders, and a detector trained on them."""
    base = tmp_path_factory.mktemp("detectors")
    draw(base / "real", 20, 32, 0)
    draw(base / "gan", 20, 32, 1, blurred=True)
    done = run("train", "radial-lr", "--real", base / "real", "--fake", base / "gan", "--out", base / "trained")
    assert done.exit_code == 0, done.output
    assert "15 real and 15 fake patches of 32 px" in done.output
    assert "5 calibration reals from 5 independent groups" in done.output
    return base


def test_scores_are_written_with_the_four_columns_of_old_first_and_the_reason_last(here, tmp_path):
    done = run("score", here / "real", here / "gan", "--detector", here / "trained", "--out", tmp_path / "scores.csv")
    assert done.exit_code == 0, done.output
    table = pd.read_csv(tmp_path / "scores.csv")
    assert list(table.columns) == ["file", "detector", "score", "verdict", "reason"]
    assert len(table) == 40
    assert set(table["verdict"]) <= {"real", "fake", "unsure"}
    assert table["score"][:20].max() < table["score"][20:].min()
    assert str(here) not in (tmp_path / "scores.csv").read_text()


def test_parquet_holds_the_same_table(here, tmp_path):
    for name in ("scores.csv", "scores.parquet"):
        assert run("score", here / "gan", "--detector", here / "trained", "--out", tmp_path / name).exit_code == 0
    csv, parquet = pd.read_csv(tmp_path / "scores.csv"), pd.read_parquet(tmp_path / "scores.parquet")
    assert csv["file"].tolist() == parquet["file"].tolist()
    np.testing.assert_allclose(csv["score"], parquet["score"], rtol=1e-6)


def test_list_names_every_detector_and_the_trained_one(here):
    done = run("list", here)
    assert done.exit_code == 0
    for word in ("radial-lr", "dct-ridge", "wht-lr", "npr", "resnet", "rgb", "blockiness", "slope", "trained:"):
        assert word in done.output


@pytest.mark.parametrize("command", [[], ["train"], ["score"], ["audit"], ["list"]])
def test_help_has_an_example(command):
    done = run(*command, "--help")
    assert done.exit_code == 0
    assert not command or "Example" in done.output


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda d: (d / "bad.png").write_bytes(b"no image"), "bad.png: not an image"),
        (lambda d: (d / "cut.png").write_bytes((d / "00.png").read_bytes()[:200]), "cut.png: the image is broken"),
        (lambda d: Image.new("RGB", (16, 40)).save(d / "tiny.png"), "tiny.png: 16 x 40 px is smaller than the 32 x 32"),
    ],
)
def test_one_bad_file_is_one_sentence_and_nothing_is_written(here, tmp_path, harm, message):
    harm(draw(tmp_path / "images", 3, 32, 0))
    done = run("score", tmp_path / "images", "--detector", here / "trained", "--out", tmp_path / "scores.csv")
    assert done.exit_code == 1
    assert message in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("error:")]) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["images"]


def test_mistakes_when_scoring_are_told_before_any_work(here, tmp_path):
    out = tmp_path / "scores.csv"
    for words, message in (
        ([here / "real", "--detector", tmp_path / "none", "--out", out], "none: no such detector folder"),
        ([here / "real", "--detector", "resnet", "--out", out], "resnet is not trained yet"),
        ([here / "real", "--detector", here / "trained", "--out", tmp_path / "s.xlsx"], "ends in .csv or .parquet"),
        ([tmp_path / "none", "--detector", here / "trained", "--out", out], "none: no such file or folder"),
        ([here / "trained", "--detector", here / "trained", "--out", out], "trained: no images in the folder"),
        ([here / "real", "--detector", here / "trained", "--out", out, "--device", "abacus"], "device 'abacus'"),
    ):
        done = run("score", *words)
        assert done.exit_code == 1, message
        assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_mistakes_when_training_are_told_and_leave_nothing(here, tmp_path):
    draw(tmp_path / "wide", 4, 48, 3)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    real, gan, out = here / "real", here / "gan", tmp_path / "out"
    for words, message in (
        (["fft", "--real", real, "--fake", gan, "--out", out], "unknown detector 'fft'; detectors are radial-lr"),
        (["slope", "--real", real, "--fake", real, "--out", out], "in both the real and the fake patches"),
        (["slope", "--real", real, "--fake", tmp_path / "none", "--out", out], "none: no such file or folder"),
        (["slope", "--real", real, "--fake", gan, "--out", out, "--patch-px", 40], "smaller than the 40 x 40 px"),
        (["slope", "--real", real, "--fake", gan, "--out", tmp_path / "mine"], "mine: the folder holds other files"),
        (["slope", "--real", real, "--fake", gan, "--out", out, "--device", "abacus"], "device 'abacus'"),
    ):
        done = run("train", *words)
        assert done.exit_code == 1, message
        assert message in done.stderr
    assert not out.exists()
    assert run("train", "slope", "--out", out).exit_code == 2


def test_audit_prints_its_verdict_first_and_writes_what_it_found(here, tmp_path):
    done = run("audit", here / "real", here / "gan", "--other-source", "--json", tmp_path / "audit.json",
               "--out", tmp_path / "told")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(
        "This comparison is not fair, because the fakes were made from tissue of another source"
    )
    for word in ("Trivial cues", "Codec swap, radial-lr", "judged on matched", "Note: the manifest names no slides"):
        assert word in done.stdout
    told = json.loads((tmp_path / "audit.json").read_text())
    assert (told["verdict"], told["reasons"][0]["code"]) == ("not fair", "tissue")
    assert (tmp_path / "told" / "audit.json").read_text() == (tmp_path / "audit.json").read_text()
    assert str(tmp_path) not in done.stdout


def test_mistakes_when_auditing_are_told(here, tmp_path):
    for words, message in (
        ([here / "real", tmp_path / "none"], "none: no such file or folder"),
        ([here / "real", here / "gan", "--detector", "fft"], "unknown detector 'fft'"),
        ([here / "real", here / "gan", "--slide", tmp_path / "no.svs"], "no.svs"),
    ):
        done = run("audit", *words)
        assert done.exit_code == 1, message
        assert message in done.stderr


@pytest.mark.parametrize("name", ["patch-xception", "encoder-linear", "cooccurrence", "fusion", "cascade"])
def test_every_new_name_trains_and_scores(here, tmp_path, name):
    done = run("train", name, "--real", here / "real", "--fake", here / "gan", "--out", tmp_path / name,
               "--budget-seconds", "1")  # fmt: skip
    assert done.exit_code == 0, done.output
    done = run("score", here / "gan", "--detector", tmp_path / name, "--out", tmp_path / "scores.csv")
    assert done.exit_code == 0, done.output


def test_a_full_training_adds_stand_ins_through_the_codec_of_the_named_slide_for_each_seed(here, tmp_path):
    slide = write_svs(tmp_path / "slide.svs", np.full((240, 240, 3), 200, np.uint8))
    words = ("train", "radial-lr", "--real", here / "real", "--fake", here / "gan", "--full")
    done = run(*words, "--codec", slide, "--seeds", "2", "--out", tmp_path / "who")
    assert done.exit_code == 0, done.output
    assert "15 real and 21 fake patches of 32 px" in done.output  # three tenths of the fakes are stand-ins
    for seed in (0, 1):
        card = json.loads((tmp_path / "who" / f"seed-{seed}" / "card.json").read_text())
        assert card["seed"] == seed
        assert card["codec_policy"] == "both classes through the history of slide.svs"
        assert card["trained_on"]["stand_ins"]["through_codec"]
        assert not any("codecs" in limit for limit in card["limits"])


def test_stand_ins_without_a_known_codec_and_recipes_of_controls_are_refused(here, tmp_path):
    words = ("--real", here / "real", "--fake", here / "gan", "--full", "--out", tmp_path / "out")
    done = run("train", "radial-lr", *words)
    assert done.exit_code == 1
    assert "stand-in fakes need the codec history of the real patches" in done.stderr
    done = run("train", "rgb", *words)
    assert done.exit_code == 1
    assert "no recipe for 'rgb'" in done.stderr
    assert not (tmp_path / "out").exists()
    done = run("train", "radial-lr", *words, "--codec", "lossless")
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "out" / "card.json").read_text())["codec_policy"] == "both classes alike: lossless"

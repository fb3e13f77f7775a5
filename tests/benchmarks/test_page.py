"""The page of a study: every number from the results, drawings of numbers, and not one patch."""

import re
from itertools import pairwise

import pytest
from typer.testing import CliRunner

from histoforensics.benchmarks.page import write_page
from histoforensics.cli import app
from histoforensics.slides import ConfigError

GANS = ("StyleGAN", "StyleGAN2", "PathologyGAN")
SPLITS = {
    "name": "colon", "mpp": 0.62, "patch_px": 32, "split": {"by": "patient", "sha256": "ab"},
    "groups": {"train": 2, "calibration": 2, "exam": 4},
    "patches": {
        "real": {"train": 30, "calibration": 12, "exam": 35},
        "fake": {name: {"train": 30, "calibration": 12, "exam": 20} for name in GANS},
    },
}  # fmt: skip
SPREAD = {"auc": [0.9, 0.8], "mean": 0.85, "sd": 0.0707, "low": 0.8, "high": 0.9}


@pytest.fixture
def results(run):
    found = run.results(splits=SPLITS)
    found["run"]["host"]["platform"] = "Linux"
    found["run"]["config"] |= {"title": "Colon", "terms": "research use only"}
    found["seeds"] = {
        "npr": {"seeds": [0, 1], "in_domain": SPREAD, "generalization": {"StyleGAN": SPREAD}, "mean_left_out": SPREAD}
    }
    cell = {"auc": 0.75, "ci95": [0.7, 0.8], "n_real": 9, "n_fake": 9}
    part = {
        "audit": found["audit"],
        "auc": {"npr": {"StyleGAN": cell}},
        "called": {"npr": {name: {"real": 0.5, "fake": 0.25, "unsure": 0.25} for name in ("real", "StyleGAN")}},
    }
    found["beside"] = {"tissue": "skin.svs", "mpp": 0.499, "generators": {}, "foreign": part, "own": part}
    return found


def test_the_page_tells_the_matrix_seeds_curves_and_who_is_beside(results, tmp_path):
    page = write_page(results, tmp_path / "colon.md", "histoforensics benchmark colon")
    text = page.read_text()
    assert text.startswith("# Colon\n")
    assert results["answer"]["headline"] in text
    assert "| npr | 0.97 (0.91 to 1.00) | 0.93 (0.87 to 0.99) | 0.89 (0.83 to 0.95) |" in text  # never saw it
    assert "| rgb, a control | 0.55 (0.49 to 0.61)" in text
    assert "| npr | all learned | 0.900 | 0.800 | 0.850 | 0.071 |" in text
    assert "### Not fair: against colon" in text
    assert "| npr | 0.75 (0.70 to 0.80) |" in text
    assert "| npr | 50 / 25 / 25 % | 50 / 25 / 25 % |" in text
    assert "| Terms | research use only |" in text
    assert "by patient: 2 train, 2 calibrate, 4 are for the exam" in text
    assert "resample whole patients" in text


def test_its_pictures_are_drawings_without_pixels_and_have_texts(results, tmp_path):
    text = write_page(results, tmp_path / "colon.md", "c").read_text()
    shown = re.findall(r"!\[([^]]+)\]\(([^)]+)\)", text)
    assert {name for _, name in shown} == {
        f"colon/{name}.svg"
        for name in ("generalization", "robustness_auc", "robustness_fpr", "reliability", "accuracy")
    }
    assert all(len(alt) > 20 for alt, _ in shown)
    for name in (tmp_path / "colon").iterdir():
        assert name.suffix in (".svg", ".json")
        assert b"<image" not in name.read_bytes()
        assert b"base64" not in name.read_bytes()


def test_every_table_has_rows_of_one_width(results, tmp_path):
    lines = write_page(results, tmp_path / "colon.md", "c").read_text().splitlines()
    for before, line in pairwise(lines):
        if before.startswith("|") and line.startswith("|"):
            assert before.count("|") == line.count("|"), line


def test_a_second_page_replaces_the_first_and_leaves_out_what_was_not_measured(results, tmp_path):
    write_page(results, tmp_path / "colon.md", "c")
    results["robustness"] = {"rows": [], "summary": []}
    text = write_page(results, tmp_path / "colon.md", "c").read_text()
    assert "robustness_auc.svg" not in text
    assert not (tmp_path / "colon" / "robustness_auc.svg").exists()


def test_a_page_is_markdown(results, tmp_path):
    with pytest.raises(ConfigError, match=r"a page is a Markdown file that ends in \.md, got 'colon\.html'"):
        write_page(results, tmp_path / "colon.html", "c")
    told = CliRunner().invoke(app, ["benchmark", "--page", str(tmp_path / "colon.html"), "--out", str(tmp_path / "o")])
    assert told.exit_code == 1
    assert "ends in .md" in " ".join(told.stderr.split())
    assert not (tmp_path / "o").exists()

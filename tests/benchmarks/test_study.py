"""Studies: what is frozen, the orders readers meet, texts, the paper form, and what is refused."""

from __future__ import annotations

import csv
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from typer.testing import CliRunner

from histoforensics.benchmarks.pages import first_zoom, paragraphs, scale_bar
from histoforensics.benchmarks.statistics import power
from histoforensics.benchmarks.study import Study, read_consent, read_reasons, reader_order
from histoforensics.benchmarks.study_build import HALF_REAL, build_study
from histoforensics.cli import app
from histoforensics.slides import ConfigError, ExamError, PatchSet


@pytest.fixture
def study(study_root):
    return Study.open(study_root)


@pytest.fixture
def sets(study_root):
    root = study_root.parent
    return PatchSet.open(root / "real"), {name: PatchSet.open(root / name) for name in ("StyleGAN", "StyleGAN2")}


def test_repeats_are_a_tenth_and_of_both_classes(study):
    assert (len(study.exam), len(study.settings.repeats), study.showings) == (20, 2, 22)
    truth = study.exam.key.set_index("id")["truth"]
    assert sorted(truth[list(study.settings.repeats.values())]) == ["fake", "real"]


def test_a_repeat_has_another_name_and_the_same_bytes(study):
    for again, first in study.settings.repeats.items():
        assert again != first
        assert study.item(again) == study.item(first) == first
        assert study.images[again] == study.images[first]


def test_practice_is_not_in_the_exam_and_has_both_classes(study):
    assert len(study.practice) == 3
    assert set(study.practice["truth"]) == {"real", "fake"}
    assert not set(study.practice["id"]) & set(study.exam.key["id"])
    served = {study.images[name] for name in study.practice["id"]}
    assert len(served) == 3
    assert not served & {study.images[name] for name in study.exam.key["id"]}


def test_all_that_is_served_has_one_length_and_opaque_names(study):
    assert len({len(png) for png in study.images.values()}) == 1
    assert all(re.fullmatch("[0-9a-f]{16}", name) for name in study.images)
    assert study.settings.file_controls == {"bytes": 0.5, "metadata": 0.5}
    assert set(study.settings.pixel_controls) == {"brightness", "saturation", "contrast", "compressed bytes"}


def test_each_reader_has_an_own_order_that_never_changes(study):
    orders = [study.order(seed) for seed in range(30)]
    assert orders[7] == study.order(7)
    assert len({tuple(order) for order in orders}) == 30
    assert all(sorted(order) == sorted([*study.exam.key["id"], *study.settings.repeats]) for order in orders)


@pytest.mark.parametrize(("items", "repeats", "least"), [(60, 6, 13), (200, 20, 44), (20, 2, 5), (4, 2, 1), (1, 0, 0)])
def test_a_repeat_stands_well_apart_from_its_item(items, repeats, least):
    names = [f"i{n}" for n in range(items)]
    again = {f"r{n}": f"i{n}" for n in range(repeats)}
    for seed in range(40):
        order = reader_order(names, again, seed)
        assert sorted(order) == sorted([*names, *again])
        assert all(abs(order.index(one) - order.index(two)) >= least for one, two in again.items())


def test_the_order_does_not_tell_which_items_are_repeated():
    names, again = [f"i{n}" for n in range(60)], {f"r{n}": f"i{n}" for n in range(6)}
    places = np.array([[reader_order(names, again, seed).index("i30")] for seed in range(300)])
    assert abs(places.mean() - 32.5) < 5.5  # uniform over 66: five standard errors


def test_the_paper_exam_is_plain_and_says_that_half_are_real(tmp_path, sets):
    real, fakes = sets
    study = build_study(
        real, fakes, tmp_path / "e", n_real=10, n_per_generator=5, preset="paper", repeats=0.0, practice=0
    )
    assert (study.showings, len(study.practice), study.settings.told) == (20, 0, HALF_REAL)
    with pytest.raises(ExamError, match="told that half are real, but 9 real and 4 x 2 fake"):
        build_study(real, fakes, tmp_path / "f", n_real=9, n_per_generator=4, preset="paper", repeats=0.0, practice=0)
    assert not (tmp_path / "f").exists()


def test_the_seed_decides_everything(tmp_path, sets):
    real, fakes = sets
    sizes = {"n_real": 6, "n_per_generator": 3, "practice": 2}
    one, same = (build_study(real, fakes, tmp_path / name, seed=5, **sizes) for name in "ab")
    other = build_study(real, fakes, tmp_path / "c", seed=6, **sizes)
    assert one.digest == same.digest != other.digest
    assert one.settings == same.settings
    assert one.practice.equals(same.practice)


def test_too_little_for_practice_is_said_and_leaves_nothing(tmp_path, sets):
    with pytest.raises(ExamError, match="9 practice items were asked for, but beside the exam's own patches there are"):
        build_study(*sets, tmp_path / "e", n_real=24, n_per_generator=12, practice=9)
    with pytest.raises(ConfigError, match=r"repeats must be a share from 0 to 0.5, got 0.6"):
        build_study(*sets, tmp_path / "e", repeats=0.6)
    assert not (tmp_path / "e").exists()


def test_broken_studies_are_refused_in_a_sentence(tmp_path, study_root):
    root = tmp_path / "copy"
    shutil.copytree(study_root, root)
    (root / "study.json").write_text("{}")
    with pytest.raises(ExamError, match=r"copy/study.json: not readable"):
        Study.open(root)
    (root / "study.json").unlink()
    with pytest.raises(ExamError, match=r"no study.json in the folder; make one with"):
        Study.open(root)


def test_reasons_and_consent_are_checked(tmp_path):
    path = tmp_path / "reasons.yaml"
    path.write_text("shape: Odd shape\nother: Anything else\n")
    assert read_reasons(path) == {"shape": "Odd shape", "other": "Anything else"}
    for text, message in [
        ("- a\n- b\n", "must be lines of"),
        ("a: [1", "not a readable YAML"),
        ("'<b>': x\n", "the id '<b>' must be letters"),
        ("!!python/object/apply:os.getcwd []: x\n", "not a readable YAML"),
    ]:
        path.write_text(text)
        with pytest.raises(ExamError, match=message):
            read_reasons(path)
    path.write_text("  \n")
    with pytest.raises(ExamError, match="the consent text is empty"):
        read_consent(path)


def test_the_shipped_reasons_are_the_pathologists_ten(study):
    assert list(study.reasons.values()) == [
        "Size variation of cells", "Unusual nuclear lobulation", "Unusual nuclear shape",
        "Naked nuclei within extracellular mucin", "Unusual red-blood-cell shape",
        "Irregular or poorly delineated extracellular space", "Ill-defined separation between nuclei",
        "Missing morphological features", "Abrupt background change", "Pleomorphism",
    ]  # fmt: skip


def test_the_paper_form_shows_every_item_once_and_tells_nothing(study):
    page = (study.root / "paper_form.html").read_text("utf-8")

    alts: list[str] = []

    class Images(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag == "img":
                alts.append(dict(attrs)["alt"])
                assert dict(attrs)["src"].startswith("data:image/png;base64,")

    Images().feed(page)
    assert alts == [f"Tissue patch {n} of 20" for n in range(1, 21)]
    words = re.sub(r"base64,[^\"]*", "", page)
    assert not any(name in words for name in ("StyleGAN", *study.exam.key["source_id"].unique()))
    with (study.root / "marks_template.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["patch"] for row in rows] == [str(n) for n in range(1, 21)]


@pytest.mark.parametrize(
    ("patch_px", "mpp", "um"), [(112, 0.499, 10), (224, 0.25, 10), (256, 0.5, 20), (100, 6.0, 200)]
)
def test_the_scale_bar_is_round_and_at_most_a_third(patch_px, mpp, um):
    bar = scale_bar(patch_px, mpp)
    assert bar.um == um
    assert patch_px / 9 < bar.px <= patch_px / 3
    assert bar.px * mpp == pytest.approx(um)


def test_small_page_facts():
    assert scale_bar(112, None) is None
    assert [first_zoom(size) for size in (112, 224, 256, 600)] == [4, 2, 1, 1]
    assert paragraphs("a\nb\r\n\r\nc\n\n\n") == ["a b", "c"]


@pytest.mark.parametrize(("total", "low", "high"), [(60, 0.56, 0.84), (100, 0.83, 0.98), (200, 0.99, 1.0)])
def test_power_is_that_of_the_published_table(total, low, high):
    assert (round(power(total, 0.65), 2), round(power(total, 0.70), 2)) == (low, high)
    assert power(5, 0.9) == 0.0  # five answers cannot beat guessing


def test_the_command_builds_an_exam_and_says_what_it_can_show(tmp_path, study_root):
    root = study_root.parent
    fakes = [f"--fake={name}={root / name}" for name in ("StyleGAN", "StyleGAN2")]
    asked = ["exam", "build", "--real", str(root / "real"), *fakes, "--out", str(tmp_path / "e"), "--n-real", "10"]
    done = CliRunner().invoke(app, [*asked, "--n-per-generator", "5", "--preset", "paper"])
    assert done.exit_code == 0, done.output
    assert "20 patches of 32 px: 10 real, 5 by StyleGAN, 5 by StyleGAN2." in done.output
    assert "15 right (75%) beat guessing" in done.output  # binomial: 15 of 20, p = 0.041
    assert json.loads((tmp_path / "e" / "study.json").read_text())["preset"] == "paper"
    again = CliRunner().invoke(app, [*asked, "--n-per-generator", "5"])
    assert again.exit_code == 1
    assert "the folder is not empty" in again.output
    wrong = CliRunner().invoke(app, ["exam", "build", "--real", str(root / "real"), "--fake", "x", "--out", "y"])
    assert wrong.exit_code == 1
    assert "--fake must be NAME=FOLDER, got 'x'" in wrong.output

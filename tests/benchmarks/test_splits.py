"""The split that a study may order: shares, names, a table of patients, and what it refuses."""

import numpy as np
import pytest
from PIL import Image

from histoforensics.benchmarks.config import BenchmarkConfig
from histoforensics.benchmarks.sources import open_tissue
from histoforensics.benchmarks.splits import ROLES, SplitRule, split_groups
from histoforensics.slides import ConfigError, PatchError
from histoforensics.slides.synthetic import purple_tissue, write_svs

GROUPS = [f"g{i}" for i in range(8)]


@pytest.fixture
def images(tmp_path):
    """Eight images of four patients, and the table that says whose they are."""
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(8):
        Image.fromarray(purple_tissue((96, 96), np.random.default_rng(i))).save(folder / f"{i}.png")
    table = tmp_path / "patients.csv"
    table.write_text("file,patient\n" + "".join(f"{i}.png,P{i % 4}\n" for i in range(8)))
    return folder, table


def test_without_an_order_the_split_is_that_of_the_protocol():
    assert SplitRule().deal(GROUPS) == split_groups(GROUPS)


@pytest.mark.parametrize(
    ("shares", "counts"),
    [((0.5, 0.25, 0.25), [4, 2, 2]), ((0.4, 0.1, 0.5), [3, 1, 4]), ((0.98, 0.01, 0.01), [6, 1, 1])],
)
def test_shares_are_of_the_groups_and_every_role_has_one(shares, counts):
    roles = list(SplitRule(**dict(zip(ROLES, shares, strict=True))).deal(GROUPS).values())
    assert [roles.count(role) for role in ROLES] == counts


def test_shares_do_not_depend_on_the_order_of_the_groups():
    rule = SplitRule(train=0.5, calibration=0.25, exam=0.25)
    assert rule.deal(GROUPS) == rule.deal(GROUPS[::-1])


def test_names_have_the_role_that_was_said():
    rule = SplitRule(by="patient", train=("a",), calibration=("b",), exam=("c", "d"))
    assert rule.deal(list("abcd")) == {"a": "train", "b": "calibration", "c": "exam", "d": "exam"}


def test_a_table_says_whose_images_are_and_no_patient_has_two_roles(images):
    folder, table = images
    rule = SplitRule(by="patient", table=table, train=("P0", "P3"), calibration=("P1",), exam=("P2",))
    tissue = open_tissue(BenchmarkConfig(real=(folder,), splits=rule, mpp=0.62, patch_px=32), {})
    files = {
        role: set(tissue.cut(role, disjoint=True, limit=99, rng=np.random.default_rng(0)).sources) for role in ROLES
    }
    assert files == {
        "train": {"0.png", "4.png", "3.png", "7.png"}, "calibration": {"1.png", "5.png"}, "exam": {"2.png", "6.png"}
    }  # fmt: skip
    assert (tissue.facts()["split"]["by"], tissue.facts()["groups"]) == (
        "patient", {"train": 2, "calibration": 1, "exam": 1}
    )  # fmt: skip
    assert tissue.mpp == 0.62


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"by": "hospital"}, r"splits\.by must be one of block, patient, slide, file, got 'hospital'"),
        ({"train": 0.5}, r"splits must be three shares or three lists of names .*, got 'train 0.5, calibration not gi"),
        ({"train": 0.5, "calibration": ("a",), "exam": 0.5}, r"splits must be three shares or three lists of names"),
        ({"train": 0.5, "calibration": 0.3, "exam": 0.3}, r"splits must be three shares that add up to 1, got"),
        ({"train": 1.0, "calibration": 0.0, "exam": 0.0}, r"splits\.train must be a share between 0 and 1, got 1\.0"),
        ({"train": ("a",), "calibration": (), "exam": ("b",)}, r"splits must be one name or more for each of train, "),
        ({"train": ("a",), "calibration": ("a",), "exam": ("b",)}, r"splits must be names with one role each, got"),
        ({"by": "block", "train": 0.5, "calibration": 0.3, "exam": 0.2}, r"blocks have one fixed layout"),
        ({"table": "t.csv"}, r"splits\.by must be patient or slide where there is a table, got None"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused_in_a_sentence(keys, told):
    with pytest.raises(ConfigError, match=told):
        SplitRule(**keys)


def test_a_name_without_tissue_and_tissue_without_a_name_are_told():
    rule = SplitRule(by="patient", train=("a",), calibration=("b",), exam=("x",))
    with pytest.raises(PatchError, match=r"splits\.exam names the patient 'x', but the tissue has only a, b, c\."):
        rule.deal(["a", "b", "c"])
    rule = SplitRule(by="patient", train=("a",), calibration=("b",), exam=("c",))
    with pytest.raises(PatchError, match=r"the patient 'd' has no role; name it under train, calibration or exam"):
        rule.deal(["a", "b", "c", "d"])
    with pytest.raises(PatchError, match=r"2 patients, slides or files .* at least 3 are wanted"):
        SplitRule(train=0.5, calibration=0.25, exam=0.25).deal(["a", "b"])


def test_a_table_that_does_not_say_is_refused(images, tmp_path):
    folder, table = images
    with pytest.raises(ConfigError, match=r"nowhere\.csv: not a readable table \(FileNotFoundError\)"):
        SplitRule(by="patient", table=tmp_path / "nowhere.csv").read_table()
    with pytest.raises(ConfigError, match=r"a table for splits has the columns file and slide, got file, patient"):
        SplitRule(by="slide", table=table).read_table()
    table.write_text("file,patient\n0.png,P0\n")
    with pytest.raises(PatchError, match=r"images/1\.png: not in the table patients\.csv of the split"):
        open_tissue(BenchmarkConfig(real=(folder,), splits=SplitRule(by="patient", table=table)), {})
    with pytest.raises(PatchError, match=r"images/0\.png: nothing says its patient"):
        open_tissue(BenchmarkConfig(real=(folder,), splits=SplitRule(by="patient")), {})


def test_slides_are_split_by_blocks_and_images_are_not(images, tmp_path):
    slide = write_svs(tmp_path / "s.svs", purple_tissue((480, 480), np.random.default_rng(0)), mpp=0.5)
    rule = SplitRule(train=0.5, calibration=0.25, exam=0.25)
    with pytest.raises(ConfigError, match="splits must be by block, without shares or names, where the tissue comes"):
        open_tissue(BenchmarkConfig(real=(slide,), splits=rule), {})
    with pytest.raises(ConfigError, match=r"splits\.by must be patient, slide or file for folders of images, got 'bl"):
        open_tissue(BenchmarkConfig(real=(images[0],), splits=SplitRule(by="block")), {})

"""Exams built from patches drawn here: balance, matching, blinding, freezing, and what is refused."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from histoforensics.benchmarks.exam import ITEMS, KEY, Exam, exam_size
from histoforensics.benchmarks.examiner import build_exam
from histoforensics.benchmarks.readers import ReaderKind
from histoforensics.slides import ConfigError, ExamError, PatchSet, PatchSetWriter

SIZE = 32
GANS = ("StyleGAN", "StyleGAN2", "PathologyGAN")


def _patches(count: int, seed: int, size: int = SIZE) -> np.ndarray:
    """Noise around a mean colour that is drawn for each patch."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(60, 200, (count, 1, 1, 3))
    return np.clip(colours + rng.normal(0, 12, (count, size, size, 3)), 0, 255).astype(np.uint8)


def _set(path: Path, label: str, pixels: np.ndarray, stride: int = SIZE) -> PatchSet:
    with PatchSetWriter(path, card={}) as writer:
        for i, patch in enumerate(pixels):
            fields = {"generator": path.name} if label == "fake" else {"source_slide": "skin", "block": f"{i // 9}-0"}
            place = {} if label == "fake" else {"x_level0": stride * (i % 9), "y_level0": stride * (i // 9)}
            writer.add(patch, label=label, **fields, **place)
    return PatchSet.open(path)


@pytest.fixture
def real(tmp_path):
    return _set(tmp_path / "real", "real", _patches(35, 0))


@pytest.fixture
def fakes(tmp_path):
    return {name: _set(tmp_path / name, "fake", _patches(60, 10 + i)) for i, name in enumerate(GANS)}


@pytest.fixture
def exam(tmp_path, real, fakes):
    return build_exam(real, fakes, tmp_path / "exam", seed=4)


class _Oracle:
    """Knows the truth of every patch, or claims the opposite."""

    def __init__(self, exam: Exam, wrong: bool = False) -> None:
        self.truth = (exam.key["truth"] == "fake").to_numpy(np.float32)
        self.wrong = wrong

    def score(self, pixels, batch=64):
        assert pixels.shape == (len(self.truth), SIZE, SIZE, 3)
        return 1 - self.truth if self.wrong else self.truth

    def verdicts(self, scores):
        return np.where(scores > 0.5, "fake", "real")


def test_the_default_exam_has_thirty_of_each_class_and_ten_of_each_gan(exam):
    assert exam.key["truth"].value_counts().to_dict() == {"real": 30, "fake": 30}
    assert exam.key["generator"].value_counts().to_dict() == dict.fromkeys(GANS, 10)
    assert exam.pixels().shape == (60, SIZE, SIZE, 3)


def test_every_fake_stands_against_a_real_of_its_own(exam):
    key = exam.key.set_index("id")
    pairs = key[key["truth"] == "fake"]["matched_id"]
    assert set(pairs) == set(key[key["truth"] == "real"].index)
    assert (key.loc[pairs, "matched_id"].to_numpy() == pairs.index).all()


def test_a_fake_that_is_a_near_copy_of_a_real_is_the_one_chosen(tmp_path, real):
    near = np.concatenate([real.pixels() ^ 1, _patches(100, 99)])
    exam = build_exam(real, {"copier": _set(tmp_path / "copier", "fake", near)}, tmp_path / "exam", n_real=10)
    pixels = dict(zip(exam.key["id"], exam.pixels(), strict=True))
    for _, row in exam.key[exam.key["truth"] == "fake"].iterrows():
        assert np.abs(pixels[row["id"]].astype(int) - pixels[row["matched_id"]]).max() == 1


def test_items_are_the_patches_they_were_bit_for_bit(exam, real, fakes):
    pixels = exam.pixels()
    for i, row in exam.key.iterrows():
        source = real if row["truth"] == "real" else fakes[row["generator"]]
        at = source.table.index[source.table["id"] == row["source_id"]][0]
        assert (source.pixels([at])[0] == pixels[i]).all()


def test_nothing_that_is_served_tells_the_class(exam):
    served = sorted((exam.root / ITEMS).iterdir())
    assert len({path.stat().st_size for path in served}) == 1
    assert all(path.read_bytes().count(b"tEXt") == 0 for path in served)
    assert not {path.stem for path in served} & set(exam.key["source_id"])
    told = (exam.root / "exam.json").read_text()
    assert not any(word in told for word in ("real", "fake", *GANS))
    assert sorted(path.name for path in exam.root.iterdir()) == ["answer_key.parquet", "exam.json", "items"]


def test_neither_times_nor_the_order_of_writing_tell_the_class(exam):
    files = [exam.root / ITEMS / file for file in exam.key["file"]]
    assert len({path.stat().st_mtime_ns for path in files}) == 1
    written = sorted(files, key=lambda path: path.stat().st_ino)  # new files get rising numbers, as a rule
    truth = exam.key.set_index("file")["truth"]
    changes = sum(truth[a.name] != truth[b.name] for a, b in pairwise(written))
    assert 15 <= changes <= 45  # written class by class it would be 1


def test_over_many_seeds_an_item_s_place_tells_nothing(tmp_path, real, fakes):
    aucs = []
    for seed in range(6):
        colour = {"features": lambda pixels: pixels.mean(axis=(1, 2)), "matched_on": "colour"}  # quick
        key = build_exam(real, fakes, tmp_path / str(seed), seed=seed, **colour).key
        aucs.append(roc_auc_score(key["truth"] == "fake", key["order"]))
    assert np.mean(aucs) == pytest.approx(0.5, abs=3 * 0.075 / 6**0.5)  # 0.075: of one exam of 30 and 30


def test_the_order_does_not_tell_the_class_either(exam):
    order = exam.key["truth"].to_list()
    assert json.loads((exam.root / "exam.json").read_text())["items"] == exam.key["file"].to_list()
    changes = sum(a != b for a, b in pairwise(order))
    assert 15 <= changes <= 45  # 60 in random order: 30 expected, spread 4; sorted by class it would be 1


def test_the_seed_decides_everything_and_another_seed_is_another_exam(tmp_path, real, fakes, exam):
    again = build_exam(real, fakes, tmp_path / "again", seed=4)
    other = build_exam(real, fakes, tmp_path / "other", seed=5)
    pd.testing.assert_frame_equal(again.key, exam.key)
    assert set(other.key["id"]).isdisjoint(exam.key["id"])


def test_an_exam_opens_as_it_was_built(exam):
    opened = Exam.open(exam.root)
    pd.testing.assert_frame_equal(opened.key, exam.key, check_dtype=False)
    assert opened.facts() == exam.facts()
    assert opened.facts()["fake"] == dict.fromkeys(sorted(GANS), 10)


def test_a_perfect_and_a_worst_reader_are_graded_as_such(exam):
    perfect = exam.mark(_Oracle(exam), "perfect")
    worst = exam.mark(_Oracle(exam, wrong=True), "worst", ReaderKind.CONTROL)
    assert perfect.reader.table.accuracy() == 1.0
    assert perfect.reader.by_generator["PathologyGAN"].to_json() == {"real": 0, "fake": 10, "unsure": 0}
    assert worst.reader.table.accuracy() == 0.0
    items = exam.items({"perfect": perfect, "worst": worst})
    assert all(item["verdicts"]["perfect"] == item["truth"] != item["verdicts"]["worst"] for item in items)
    assert json.loads(json.dumps(items, allow_nan=False)) == items


def test_other_sizes_and_mixes(tmp_path, real, fakes):
    exam = build_exam(real, {"one": fakes["StyleGAN"]}, tmp_path / "exam", n_real=7, n_per_generator=2)
    assert exam.key["truth"].value_counts().to_dict() == {"real": 7, "fake": 2}
    assert exam.key["matched_id"].isna().sum() == 5


@pytest.mark.parametrize(
    ("generators", "reals", "size"), [(3, 35, (30, 10)), (1, 100, (30, 30)), (4, 35, (28, 7)), (3, 5, (3, 1))]
)
def test_a_balanced_exam_is_as_large_as_the_reals_allow(generators, reals, size):
    assert exam_size(generators, reals) == size


def test_no_exam_fits_two_reals_and_three_generators():
    with pytest.raises(ExamError, match="2 real patches are too few for an exam with 3 generators"):
        exam_size(3, 2)


def test_too_few_patches_are_refused(tmp_path, real, fakes):
    with pytest.raises(ExamError, match="40 real patches was asked for, but there are only 35"):
        build_exam(real, fakes, tmp_path / "exam", n_real=40)
    with pytest.raises(
        ExamError, match="are 33, but each wants a real patch of its own to stand against and there are 30"
    ):
        build_exam(real, fakes, tmp_path / "exam", n_per_generator=11)
    many = _set(tmp_path / "many", "real", _patches(70, 3))
    with pytest.raises(ExamError, match="StyleGAN: 61 fakes were asked for, but there are only 60"):
        build_exam(many, {"StyleGAN": fakes["StyleGAN"]}, tmp_path / "exam", n_real=70, n_per_generator=61)
    with pytest.raises(ExamError, match="needs fakes of at least one generator"):
        build_exam(real, {}, tmp_path / "exam")
    with pytest.raises(ConfigError, match="n_per_generator must be at least 1, got 0"):
        build_exam(real, fakes, tmp_path / "exam", n_per_generator=0)
    assert not (tmp_path / "exam").exists()


def test_overlapping_or_repeated_reals_are_refused(tmp_path, fakes):
    crowded = _set(tmp_path / "crowded", "real", _patches(35, 0), stride=SIZE - 1)
    with pytest.raises(
        ExamError, match="overlap and there are too few others; tile with a stride of at least the patch size"
    ):
        build_exam(crowded, fakes, tmp_path / "exam")
    twice = np.repeat(_patches(18, 0), 2, axis=0)
    with pytest.raises(ExamError, match="18 of the 66 patches drawn come twice; keep one"):
        build_exam(_set(tmp_path / "twice", "real", twice), fakes, tmp_path / "exam", n_real=36)


def test_unequal_sizes_and_wrong_labels_are_refused(tmp_path, real, fakes):
    larger = _set(tmp_path / "larger", "fake", _patches(12, 1, size=40))
    with pytest.raises(ExamError, match="larger: the patches are 40 px wide, but the real ones are 32 px"):
        build_exam(real, {"larger": larger}, tmp_path / "exam")
    with pytest.raises(ExamError, match="real: some of these patches are labelled fake"):
        build_exam(fakes["StyleGAN"], fakes, tmp_path / "exam")
    with pytest.raises(ExamError, match="odd: some of these patches are labelled real"):
        build_exam(real, {"odd": real}, tmp_path / "exam")


def test_an_exam_that_stands_there_is_not_overwritten_unasked(tmp_path, real, fakes, exam):
    with pytest.raises(ConfigError, match="not empty"):
        build_exam(real, fakes, exam.root)
    assert len(build_exam(real, fakes, exam.root, seed=9, overwrite=True)) == 60


def test_a_changed_missing_or_keyless_exam_is_refused(tmp_path, exam):
    item = exam.root / ITEMS / exam.key["file"][3]
    frozen = item.read_bytes()
    Image.fromarray(exam.pixels()[3, ::-1]).save(item)
    with pytest.raises(ExamError, match="is not the one that was frozen"):
        Exam.open(exam.root)
    item.unlink()
    with pytest.raises(ExamError, match="is in the answer key but not in items"):
        Exam.open(exam.root)
    item.write_bytes(frozen)
    exam.key.drop(columns="truth").to_parquet(exam.root / KEY)
    with pytest.raises(ExamError, match="lacks the columns truth"):
        Exam.open(exam.root)
    (exam.root / KEY).write_bytes(b"PAR1")
    with pytest.raises(ExamError, match="not a readable Parquet file"):
        Exam.open(exam.root)
    with pytest.raises(ExamError, match=r"no answer_key\.parquet in the folder"):
        Exam.open(tmp_path)


def test_answers_that_are_too_few_are_refused(exam):
    with pytest.raises(ExamError, match="anna: the exam has 60 patches, but there are 2 answers"):
        exam.grade(["real", "fake"], "anna", ReaderKind.HUMAN)

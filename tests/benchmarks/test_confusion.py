"""Three-way tables against the published one, scikit-learn and hand-made marks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from histoforensics.benchmarks.confusion import VERDICTS, ConfusionTable, Counts
from histoforensics.slides import ConfigError, ExamError

PATHOLOGIST = ConfusionTable(real=Counts(real=17, fake=13), fake=Counts(real=10, fake=17, unsure=3))


def test_the_published_table_has_34_of_60_right_and_three_open():
    assert (PATHOLOGIST.right, PATHOLOGIST.total, PATHOLOGIST.unsure) == (34, 60, 3)


@pytest.mark.parametrize(("rule", "accuracy"), [("wrong", 34 / 60), ("drop", 34 / 57), ("half", 35.5 / 60)])
def test_unsure_counts_as_wrong_unless_asked_otherwise(rule, accuracy):
    assert PATHOLOGIST.accuracy(rule) == pytest.approx(accuracy)


def test_marks_are_counted_as_scikit_learn_counts_them():
    rng = np.random.default_rng(3)
    truths, verdicts = rng.choice(["real", "fake"], 200), rng.choice(VERDICTS, 200)
    table = ConfusionTable.of_marks(truths, verdicts)
    expected = confusion_matrix(truths, verdicts, labels=list(VERDICTS))
    assert [[table[t][v] for v in VERDICTS] for t in ("real", "fake")] == expected[:2].tolist()


def test_perfect_worst_and_wholly_unsure_readers():
    truths = ["real", "fake"] * 5
    assert ConfusionTable.of_marks(truths, truths).accuracy() == 1.0
    assert ConfusionTable.of_marks(truths, ["fake", "real"] * 5).accuracy() == 0.0
    unsure = ConfusionTable.of_marks(truths, ["unsure"] * 10)
    assert (unsure.accuracy(), unsure.accuracy("half")) == (0.0, 0.5)
    assert math.isnan(unsure.accuracy("drop"))


def test_one_class_one_patch_and_none_at_all():
    assert ConfusionTable.of_marks(["fake"], ["fake"]).accuracy() == 1.0
    assert ConfusionTable.of_marks(["fake"], ["fake"]).real.total == 0
    assert math.isnan(ConfusionTable.of_marks([], []).accuracy())


def test_rows_add_up_over_generators():
    rows = [Counts(real=4, fake=6), Counts(real=6, fake=3, unsure=1), Counts(fake=8, unsure=2)]
    assert rows[0] + rows[1] + rows[2] == PATHOLOGIST.fake


def test_json_comes_back_as_the_same_table():
    assert ConfusionTable.from_json(PATHOLOGIST.to_json()) == PATHOLOGIST


def test_bad_marks_are_refused_by_name():
    with pytest.raises(ExamError, match="'maybe' is no verdict; an answer is one of real, fake, unsure"):
        ConfusionTable.of_marks(["real"], ["maybe"])
    with pytest.raises(ExamError, match="'0' is no truth"):
        ConfusionTable.of_marks([0], ["real"])
    with pytest.raises(ExamError, match="has 2 patches, but the reader gave 1 answers"):
        ConfusionTable.of_marks(["real", "fake"], ["real"])
    with pytest.raises(ConfigError, match="the count of fake must be a whole number, 0 or more, got -1"):
        Counts(fake=-1)
    with pytest.raises(ConfigError, match="a truth must be one of real, fake, got 'unsure'"):
        PATHOLOGIST["unsure"]

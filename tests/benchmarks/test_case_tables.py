"""What iMRMC and MRMCaov are given, and the flat tables of a grading."""

from __future__ import annotations

import csv
import io

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from histoforensics.benchmarks.case_tables import imrmc, imrmc_csv, mrmcaov_csv
from histoforensics.benchmarks.grade_tables import grade_tables
from histoforensics.benchmarks.readers import ReaderKind
from histoforensics.benchmarks.sheet import Sheet
from histoforensics.slides import ExamError

KEY = pd.DataFrame({"id": ["aa", "bb", "cc", "dd"], "truth": ["real", "fake", "fake", "real"]})


def _sheet(name, kind, ratings):
    verdicts = tuple(None if np.isnan(one) else "fake" if one > 0 else "real" for one in ratings)
    return Sheet(name, kind, verdicts, np.array(ratings, dtype=float), True)


SHEETS = [
    _sheet("R01", ReaderKind.HUMAN, [-6, 4, 0, 1]),
    _sheet("R02", ReaderKind.HUMAN, [-1, np.nan, 3, -2]),
    _sheet("radial, lr", ReaderKind.DETECTOR, [0.125, 0.75, 0.5, 0.25]),
]


def test_the_frame_of_imrmc_has_a_truth_row_a_case_and_a_row_a_rating():
    rows = list(csv.reader(io.StringIO(imrmc_csv(SHEETS, KEY))))
    assert rows[0] == ["readerID", "caseID", "modalityID", "score"]
    assert rows[1:5] == [["truth", case, "truth", label] for case, label in zip(KEY["id"], "0110", strict=True)]
    assert rows[5] == ["R01", "aa", "people", "-6.0"]
    assert len(rows) == 1 + 4 + 4 + 3 + 4  # R02 did not answer bb
    assert rows[-1] == ["radial_lr", "dd", "radial_lr", "0.25"]


def test_the_java_programs_file_counts_what_follows():
    head, data = imrmc(SHEETS, KEY, "Real, or\ngenerated?").split("BEGIN DATA:\n")
    assert head.splitlines() == ["Exam: Real or generated", "NR: 3", "N0: 2", "N1: 2", "NM: 2"]
    rows = [line.split(",") for line in data.splitlines()]
    assert {len(row) for row in rows} == {4}
    assert [row for row in rows if row[0] == "-1"] == [
        ["-1", "aa", "0", "0"],
        ["-1", "bb", "0", "1"],
        ["-1", "cc", "0", "1"],
        ["-1", "dd", "0", "0"],
    ]


def test_from_the_frame_of_mrmcaov_everybodys_auc_can_be_had():
    frame = pd.read_csv(io.StringIO(mrmcaov_csv(SHEETS, KEY)))
    assert list(frame.columns) == ["reader", "test", "case", "truth", "rating"]
    found = {name: roc_auc_score(part["truth"], part["rating"]) for name, part in frame.groupby("reader")}
    assert found == {"R01": 0.75, "R02": 1.0, "radial_lr": 1.0}
    assert set(frame["test"]) == {"people", "radial_lr"}


def test_names_that_become_one_are_refused():
    twins = [_sheet("a b", ReaderKind.DETECTOR, [0, 1, 1, 0]), _sheet("a,b", ReaderKind.DETECTOR, [0, 1, 1, 0])]
    with pytest.raises(ExamError, match="names of their own in plain letters, other than people, got a_b, a_b"):
        imrmc(twins, KEY)
    with pytest.raises(ExamError, match="got people"):
        imrmc_csv([_sheet("people", ReaderKind.DETECTOR, [0, 1, 1, 0])], KEY)


def test_a_spreadsheet_runs_nothing_and_intervals_become_two_columns():
    results = {
        "readers": [], "paired": [], "average": None,
        "agreement": {"cohen": [], "fleiss": None, "intra_reader": []},
        "mistakes": [{"readers": ["=cmd()", "R01"], "patches": 4, "phi": -0.5}],
        "reasons": [{"id": "a", "text": "+1", "ticked": 2}],
    }  # fmt: skip
    tables = grade_tables(results)
    assert set(tables) == {"mistakes", "reasons"}
    (row,) = csv.DictReader(io.StringIO(tables["mistakes"]))
    assert row == {"readers": "'=cmd() and R01", "patches": "4", "phi": "-0.5"}
    assert "'+1" in tables["reasons"]

"""The contract of results.json, the long tables, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from histoforensics.benchmarks.generalization import Cell
from histoforensics.benchmarks.results import confusion_table, exam_scores, plain, read_results, write_results
from histoforensics.slides import ExamError


def test_results_hold_every_promised_key_and_are_plain_json(run):
    results = run.results()
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    promised = {"format", "answer", "readers", "versus", "generalization", "same_generator", "in_domain", "margin"}
    promised |= {"failed", "placebo", "audit", "exam", "generators", "splits", "codec", "limits", "run"}
    promised |= {"exam_distribution", "calibration", "margins", "generalization_summary", "robustness"}
    promised |= {"reasons", "published_groups", "seeds", "beside"}
    assert set(results) == promised


def test_the_published_pathologist_comes_first_then_who_marked_this_exam(run):
    readers = run.results()["readers"]
    assert [(reader["name"], reader["kind"]) for reader in readers] == [
        ("Pathologist, 2020", "human"),
        ("radial-lr", "detector"),
        ("npr", "detector"),
        ("resnet", "detector"),
        ("rgb", "control"),
    ]
    assert readers[0]["table"]["fake"] == {"real": 10, "fake": 17, "unsure": 3}
    for reader in readers[1:]:
        assert reader["total"] == 60
        rows = reader["by_generator"].values()
        assert sum(row["fake"] for row in rows) == reader["table"]["fake"]["fake"]
        assert reader["accuracy"] == pytest.approx(reader["right"] / 60)
        assert reader["wilson95"][0] < reader["accuracy"] < reader["wilson95"][1]


def test_auc_tables_hold_detectors_only_and_controls_stand_in_the_audit(run):
    results = run.results()
    for table in ("generalization", "same_generator"):
        assert set(results[table]) == {"radial-lr", "npr", "resnet"}
        assert set(results[table]["npr"]) == {"StyleGAN", "StyleGAN2", "PathologyGAN"}
        assert {"auc", "ci95"} <= set(results[table]["npr"]["StyleGAN"])
    assert results["placebo"]["npr"]["holds_half"]
    assert results["audit"]["best_control"] == "rgb"
    assert set(results["audit"]["controls_generalization"]) == {"rgb"}
    assert results["audit"]["raw_placebo"]["npr"]["reaches_095"]
    assert not results["audit"]["comparison_is_easy"]
    assert results["margin"]["npr"] == pytest.approx(0.99 - 0.58)


def test_a_detector_below_nine_tenths_in_domain_is_failed(run):
    assert list(run.results()["failed"]) == ["resnet"]
    assert "0.62" in run.results()["failed"]["resnet"]


def test_a_control_above_85_makes_the_comparison_easy(run):
    easy = run.parts["in_domain"] | {"rgb": Cell(0.86, (0.8, 0.9), 35, 200)}
    assert run.results(in_domain=easy)["audit"]["comparison_is_easy"]


def test_versus_holds_detectors_only_and_says_other_patches(run):
    versus = run.results()["versus"]
    assert set(versus) == {"radial-lr", "npr", "resnet"}
    assert all("other patches" in row["caption"] for row in versus.values())
    assert all(row["fisher_p"] <= row["fisher_p_holm"] for row in versus.values())


def test_a_placebo_without_an_interval_neither_holds_nor_fails(run):
    cell = Cell(0.7, None, 4, 4, "one block")
    assert run.results(placebo={"npr": cell})["placebo"]["npr"] == {"auc": 0.7, "ci95": None, "holds_half": None}


def test_an_audit_that_finds_the_comparison_unfair_withholds_the_verdict(run):
    sentence = "This comparison is not fair, because one class was compressed."
    results = run.results(inspection=run.parts["inspection"] | {"verdict": "not fair", "sentence": sentence})
    assert results["audit"]["fair"] is False
    assert results["audit"]["not_fair"] == sentence
    assert results["answer"]["verdict"] == "withheld"
    assert results["answer"]["lines"][0] == sentence


def test_without_an_audit_the_results_say_so(run):
    audit = run.results(inspection=None, measured=None)["audit"]
    assert audit["verdict"] == "not audited"
    assert audit["fair"]


def test_files_are_written_and_read_back(run, tmp_path):
    results = run.results()
    write_results(tmp_path, results, [run.scores(), exam_scores(run.exam, run.marks)])
    assert read_results(tmp_path) == results
    scores = pd.read_parquet(tmp_path / "scores.parquet")
    assert {"id", "label", "generator", "block", "detector", "score", "verdict"} <= set(scores.columns)
    assert len(scores) == 8 + 4 * 60
    counts = pd.read_csv(tmp_path / "confusion.csv")
    assert list(counts.columns) == ["reader", "kind", "truth", "generator", "verdict", "count"]
    assert (counts.groupby("reader")["count"].sum() == 60).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["confusion.csv", "results.json", "scores.parquet"]


def test_the_long_table_repeats_the_pathologist_s_published_counts(run):
    table = confusion_table(run.results()["readers"])
    hers = table[table["reader"] == "Pathologist, 2020"]
    fakes = hers[hers["truth"] == "fake"].pivot_table(index="generator", columns="verdict", values="count")
    assert fakes.loc["StyleGAN2"].to_dict() == {"fake": 3, "real": 6, "unsure": 1}
    assert hers[hers["truth"] == "real"].set_index("verdict")["count"].to_dict() == {
        "real": 17,
        "fake": 13,
        "unsure": 0,
    }


def test_numbers_that_are_none_become_null_with_a_reason():
    told = plain({"a": np.float32("nan"), "b": np.int64(3), "c": (np.True_, [float("inf")]), "d": np.arange(2)})
    assert told["a"] is None
    assert "nothing to count" in told["a_reason"]
    assert (told["b"], told["c"], told["d"]) == (3, [True, [None]], [0, 1])
    with pytest.raises(TypeError, match="results hold plain values, got object"):
        plain({"x": object()})


def test_two_readers_of_one_name_or_none_published_are_refused(run):
    marks = dict(run.marks)
    marks["Pathologist, 2020"] = marks.pop("rgb")
    with pytest.raises(ExamError, match="Readers need names of their own"):
        run.results(marks=marks)
    with pytest.raises(ExamError, match="at least one published reader"):
        run.results(published=())


def test_missing_broken_or_foreign_results_are_refused(tmp_path):
    with pytest.raises(ExamError, match=r"no results\.json in the folder"):
        read_results(tmp_path)
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(ExamError, match="not readable JSON"):
        read_results(tmp_path)
    (tmp_path / "results.json").write_text('{"format": 99}')
    with pytest.raises(ExamError, match="wanted results of format 2"):
        read_results(tmp_path)

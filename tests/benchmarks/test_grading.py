"""Grading of invented readers whose answers are known."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from histoforensics.benchmarks.answers import Answers, Given
from histoforensics.benchmarks.grading import grade, write_grading
from histoforensics.benchmarks.human_marks import human_marks
from histoforensics.benchmarks.readers import ReaderKind
from histoforensics.benchmarks.statistics import equivalence_p, wilson
from histoforensics.benchmarks.study import Study
from histoforensics.cli import app


@pytest.fixture
def study(tmp_path, study_root):
    shutil.copytree(study_root, tmp_path / "exam", ignore=shutil.ignore_patterns("room"))
    return Study.open(tmp_path / "exam")


@pytest.fixture
def answers(study):
    answers = Answers(study.root, study.digest)
    yield answers
    answers.close()


def _take(study, answers, decide, reasons=(), count=None, again=None, confidence=None):
    """Join and answer every showing by ``decide(truth)``, a repeat by ``again`` where it is given."""
    seed = len(answers.people())
    truth = study.exam.key.set_index("id")["truth"]
    seen, given = set(), []
    for place, showing in enumerate(study.order(seed)[:count], 1):
        item = study.item(showing)
        verdict = again if again and item in seen else decide(truth[item])
        seen.add(item)
        sure = None if confidence is None else confidence(place)
        ticked = tuple(reasons) if truth[item] == "fake" else ()
        given.append((place, showing, Given(verdict=verdict, confidence=sure, reasons=ticked)))
    # all in one transaction: what is tested is the grading
    return answers.join(role="Pathologist", years=5, consent_version="c", session=None, seed=seed, given=given).name


def _results(study, answers, machines=None):
    results = grade(study, human_marks(study, answers), machines or {})
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    return results


def test_a_perfect_and_a_wrong_reader(study, answers):
    _take(study, answers, lambda truth: truth, reasons=["background"])
    _take(study, answers, lambda truth: "fake" if truth == "real" else "real", reasons=["background"])
    results = _results(study, answers)
    perfect, wrong, pooled = results["readers"]
    assert (perfect["right"], wrong["right"], pooled["right"], pooled["total"]) == (20, 0, 20, 40)
    assert perfect["by_generator"]["StyleGAN"]["fake"] == 5
    assert {verdict: pooled["by_generator"]["StyleGAN2"][verdict] for verdict in ("real", "fake", "unsure")} == {
        "real": 5, "fake": 5, "unsure": 0,
    }  # fmt: skip
    assert "too narrow" in results["pooled_note"]
    assert perfect["sensitivity"]["rate"] == perfect["specificity"]["rate"] == 1.0
    assert perfect["d_prime"] == pytest.approx(-wrong["d_prime"])
    assert results["agreement"]["cohen"][0]["kappa"] == -1.0
    assert results["agreement"]["fleiss"] is None
    first = results["reasons"][0]
    assert [first[name] for name in ("id", "ticked", "on_fake", "right", "wrong")] == ["background", 20, 20, 10, 10]


def test_unsure_counts_in_three_ways_and_the_repeat_does_not_count(study, answers):
    _take(study, answers, lambda truth: "fake" if truth == "fake" else "unsure", again="real")
    (reader,) = _results(study, answers)["readers"]
    assert (reader["accuracy"], reader["accuracy_unsure_dropped"], reader["accuracy_unsure_half"]) == (0.5, 1.0, 0.75)
    assert reader["total"] == 20
    (own,) = _results(study, answers)["agreement"]["intra_reader"]
    assert (own["patches"], own["same"]) == (2, 0)


def test_a_reader_who_repeats_himself_has_a_kappa_of_one(study, answers):
    _take(study, answers, lambda truth: truth)
    (own,) = _results(study, answers)["agreement"]["intra_reader"]
    assert own == {"reader": "R01", "patches": 2, "same": 2, "kappa": 1.0, "ac1": 1.0}


def test_three_readers_have_fleiss_kappa_and_kappa_of_one_verdict_is_null(study, answers):
    for _ in range(3):
        _take(study, answers, lambda truth: "real")
    agreement = _results(study, answers)["agreement"]
    assert agreement["fleiss"] == {"patches": 20, "kappa": None, "ac1": 1.0}
    assert agreement["prevalence"] == {"real": 1.0, "fake": 0.0, "unsure": 0.0}
    assert {pair["kappa"] for pair in agreement["cohen"]} == {None}


def test_people_and_machines_are_compared_on_the_patches_that_the_person_answered(study, answers):
    _take(study, answers, lambda truth: truth, count=12)
    truth = list(study.exam.key["truth"])
    opposite = ["fake" if one == "real" else "real" for one in truth]
    machines = {
        "oracle": study.exam.grade(truth, "oracle", ReaderKind.DETECTOR),
        "liar": study.exam.grade(opposite, "liar", ReaderKind.DETECTOR),
    }
    results = _results(study, answers, machines)
    answered = results["answered"]["R01"]
    oracle, liar = results["paired"]
    assert (oracle["patches"], oracle["exact_p"], oracle["exact_p_holm"]) == (answered, 1.0, 1.0)
    assert (liar["only_person_right"], liar["only_machine_right"]) == (answered, 0)
    assert liar["exact_p"] == pytest.approx(2 * 0.5**answered)
    assert liar["exact_p_holm"] == pytest.approx(2 * liar["exact_p"])
    assert [one["kind"] for one in results["readers"]] == ["human", "detector", "detector"]
    assert results["published"]["oracle"]["reference"] == "Pathologist, 2020"


def _machine(study, seed, skill=0.8):
    rng = np.random.default_rng(seed)
    truth = study.exam.key["truth"].to_numpy(str)
    scores = np.clip(0.5 + (truth == "fake") * (skill - 0.5) + rng.normal(0, 0.3, len(truth)), 0, 1).astype(np.float32)
    verdicts = ["fake" if score > 0.5 + skill / 4 else "real" for score in scores]
    return study.exam.grade(verdicts, f"machine {seed}", ReaderKind.DETECTOR, scores)


def test_confidence_ranks_people_as_scores_rank_machines(study, answers):
    _take(study, answers, lambda truth: truth, confidence=lambda place: 1 + place % 6)
    _take(study, answers, lambda truth: "fake", confidence=lambda place: 3)
    _take(study, answers, lambda truth: truth)
    marks = _machine(study, 1)
    results = _results(study, answers, {"machine 1": marks})
    sure, flat, silent, pooled, machine = results["readers"]
    assert (sure["auc"]["auc"], flat["auc"]["auc"], silent["auc"]["auc"]) == (1.0, 0.5, 1.0)
    assert (sure["auc"]["graded"], flat["auc"]["graded"], silent["auc"]["graded"]) == (True, True, False)
    assert pooled["auc"] is None
    assert pooled["cluster95"][0] < pooled["accuracy"] < pooled["cluster95"][1]
    labels = (study.exam.key["truth"] == "fake").to_numpy(int)
    assert machine["auc"]["auc"] == pytest.approx(roc_auc_score(labels, marks.scores))
    pair = results["paired"][1]["auc"]
    assert pair["difference"] == pytest.approx(0.5 - machine["auc"]["auc"])
    assert pair["p"] <= pair["p_holm"] <= 1.0
    assert results["paired"][0]["mid_p"] <= results["paired"][0]["mid_p_holm"]


def test_three_who_finished_have_an_average_with_the_machines_beside_it(study, answers):
    rng = np.random.default_rng(6)
    for _ in range(3):
        _take(study, answers, lambda truth: truth if rng.random() < 0.7 else "unsure")
    _take(study, answers, lambda truth: truth, count=7)
    machines = {name: _machine(study, at) for at, name in ((1, "machine 1"), (2, "machine 2"))}
    results = _results(study, answers, machines)
    average = results["average"]
    assert (average["readers"], average["patches"]) == (["R01", "R02", "R03"], 20)
    shares = [one["accuracy"] for one in results["readers"][:3]]
    assert average["accuracy"]["mean"] == pytest.approx(np.mean(shares))
    assert average["accuracy_unsure_half"]["mean"] == pytest.approx((1 + np.mean(shares)) / 2)
    low, high = average["accuracy"]["ci95"]
    assert low < average["accuracy"]["mean"] < high
    for name, marks in machines.items():
        beside = average["accuracy"]["machines"][name]
        assert beside["value"] == pytest.approx(marks.reader.table.accuracy())
        assert beside["difference"]["mean"] == pytest.approx(np.mean(shares) - beside["value"])
        assert beside["difference"]["p"] <= beside["difference"]["p_holm"]
    assert results["average_note"] is None
    assert len(results["mistakes"]) == 15  # of four people and two machines


def test_two_who_finished_are_no_average_and_it_says_so(study, answers):
    for _ in range(2):
        _take(study, answers, lambda truth: truth)
    results = _results(study, answers)
    assert results["average"] is None
    assert "needs 3 people who answered every patch" in results["average_note"]


def test_the_same_patches_are_missed_by_twins_and_not_by_opposites(study, answers):
    ids = list(study.exam.key["truth"])
    wrong = {"real": "fake", "fake": "real"}
    missed = [wrong[truth] if at % 4 == 0 else truth for at, truth in enumerate(ids)]
    other = [wrong[truth] if at % 4 == 1 else truth for at, truth in enumerate(ids)]
    machines = {
        name: study.exam.grade(verdicts, name, ReaderKind.DETECTOR)
        for name, verdicts in (("one", missed), ("twin", missed), ("other", other))
    }
    twins, apart, _ = _results(study, answers, machines)["mistakes"]
    assert (twins["readers"], twins["both_wrong"], twins["phi"]) == (["one", "twin"], 5, pytest.approx(1.0))
    assert (apart["both_wrong"], apart["expected"]) == (0, 1.25)
    assert apart["phi"] == pytest.approx(np.corrcoef(np.arange(20) % 4 == 0, np.arange(20) % 4 == 1)[0, 1])
    assert _results(study, answers, machines)["readers"][0]["auc"] is None  # verdicts without scores


def test_reasons_are_told_by_truth_and_by_being_right_at_once(study, answers):
    _take(study, answers, lambda truth: "fake", reasons=["background"])
    _take(study, answers, lambda truth: "real", reasons=["background"])
    first = _results(study, answers)["reasons"][0]
    assert [first[f"on_{cell}"] for cell in ("real_right", "real_wrong", "fake_right", "fake_wrong")] == [0, 0, 10, 10]


def test_published_groups_come_with_their_unit_and_no_interval_of_ours(study, answers):
    naive, experts, polyps = _results(study, answers, {"machine 1": _machine(study, 1)})["published_groups"]
    assert polyps["printed95"] == pytest.approx(wilson(470, 768), abs=6e-4)  # theirs is Wilson's of all decisions
    assert (naive["readers"] + experts["readers"], naive["images"]) == (816, 16)
    assert (naive["accuracy"], experts["accuracy"]) == (0.545, 0.693)
    assert experts["accuracy"] == pytest.approx((experts["sensitivity"] + experts["specificity"]) / 2, abs=5e-4)
    assert "not independent" in naive["unit"]
    assert naive["printed95"] is None
    assert not naive["same_exam"]


def test_those_without_an_answer_are_left_out(study, answers):
    answers.join(role="Student", years=0, consent_version="c", session=None, seed=1)
    assert _results(study, answers)["readers"] == []


def test_equivalence_needs_more_than_a_large_p():
    # 30 of 60 is as near to guessing as can be, and still does not show an accuracy from 0.4 to 0.6.
    assert equivalence_p(30, 60, 0.1) > 0.05 > equivalence_p(150, 300, 0.1)
    assert equivalence_p(0, 0, 0.1) == 1.0
    rng = np.random.default_rng(1)
    at_the_margin = [equivalence_p(int(right), 200, 0.1) < 0.05 for right in rng.binomial(200, 0.6, 1000)]
    assert np.mean(at_the_margin) < 0.07  # 0.05 and three standard errors: the test keeps its level


def test_the_command_prints_tables_and_writes_results(study, answers):
    runner = CliRunner()
    nobody = runner.invoke(app, ["exam", "grade", str(study.root)])
    assert nobody.exit_code == 1
    assert "nobody has marked this exam yet" in nobody.output
    _take(study, answers, lambda truth: truth)
    done = runner.invoke(app, ["exam", "grade", str(study.root)], env={"COLUMNS": "140"})
    assert done.exit_code == 0, done.output
    assert "20 of 20" in done.output
    assert "526 experts, 2024 69.3%" in done.output
    assert json.loads((study.root / "grade.json").read_text())["readers"][0]["right"] == 20
    names = {path.name for path in study.root.glob("grade*")}
    wanted = {"grade.json", "grade.html", "grade_readers.csv", "grade_imrmc.csv", "grade.imrmc", "grade_mrmcaov.csv"}
    assert wanted <= names


def test_the_page_of_a_grading_stands_alone_and_sets_reasons_beside_features(study, answers, tmp_path):
    _take(study, answers, lambda truth: truth, reasons=["background"])
    people = human_marks(study, answers)
    page = write_grading(tmp_path / "out.json", grade(study, people, {}), study, people, {})[1].read_text()
    row = re.search(r"<tr><th [^>]*>Abrupt background change</th>(.*?)</tr>", page)[1]
    assert re.findall(r"<td[^>]*>(.*?)</td>", row)[:3] == ["0", "10", "background step"]
    assert not re.search(r"https?://|<script|<img|src=", page)


def test_everything_that_is_graded_is_written_as_tables_too(study, answers, tmp_path):
    for _ in range(3):
        _take(study, answers, lambda truth: truth, reasons=["background"])
    people, machines = human_marks(study, answers), {"machine 1": _machine(study, 1)}
    results = grade(study, people, machines)
    written = write_grading(tmp_path / "out.json", results, study, people, machines)
    tables = {path.name: pd.read_csv(path) for path in written if path.suffix == ".csv"}
    readers = tables["out_readers.csv"].set_index("name")
    assert list(readers.index) == ["R01", "R02", "R03", "all people", "machine 1"]
    assert readers.loc["R01", "fake_called_fake"] == 10
    assert readers.loc["machine 1", "ranking_delong95_low"] == results["readers"][-1]["auc"]["delong95"][0]
    assert len(tables["out_generators.csv"]) == 5 * 2
    assert list(tables["out_average.csv"]["of"].unique()) == ["people", "people minus machine 1"]
    assert tables["out_pairs.csv"].loc[0, "mistakes_both_wrong"] == 0
    assert len(tables["out_imrmc.csv"]) == 20 * 5

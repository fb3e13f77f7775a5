"""Grading of invented readers whose answers are known."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from histoforensics.benchmarks.answers import Answers, Given
from histoforensics.benchmarks.grading import grade
from histoforensics.benchmarks.human_marks import human_marks
from histoforensics.benchmarks.readers import ReaderKind
from histoforensics.benchmarks.statistics import equivalence_p
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


def _take(study, answers, decide, reasons=(), count=None, again=None):
    """Join and answer every showing by ``decide(truth)``, a repeat by ``again`` where it is given."""
    person = answers.join(role="Pathologist", years=5, consent_version="c", session=None, seed=len(answers.people()))
    truth = study.exam.key.set_index("id")["truth"]
    seen = set()
    for place, showing in enumerate(study.order(person.seed)[:count], 1):
        item = study.item(showing)
        verdict = again if again and item in seen else decide(truth[item])
        seen.add(item)
        given = Given(verdict=verdict, reasons=tuple(reasons) if truth[item] == "fake" else ())
        answers.save(person, showing, given, place=place, practice=False, revision=0)
    return person.name


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
    assert own == {"reader": "R01", "patches": 2, "same": 2, "kappa": 1.0}


def test_three_readers_have_fleiss_kappa_and_kappa_of_one_verdict_is_null(study, answers):
    for _ in range(3):
        _take(study, answers, lambda truth: "real")
    agreement = _results(study, answers)["agreement"]
    assert agreement["fleiss"] == {"patches": 20, "kappa": None}
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
    assert json.loads((study.root / "grade.json").read_text())["readers"][0]["right"] == 20

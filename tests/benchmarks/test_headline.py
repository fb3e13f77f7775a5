"""What may be claimed: each rule of the answer with a run that breaks or keeps it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from histoforensics.benchmarks.generalization import Cell
from histoforensics.benchmarks.readers import ReaderKind


def _told(run, **changes):
    return run.results(**changes)["answer"]


def _graded(run, name, wrong):
    """Marks with the first ``wrong`` answers false."""
    truth = list(run.exam.key["truth"])
    flipped = ["real" if one == "fake" else "fake" for one in truth[:wrong]]
    return run.exam.grade(flipped + truth[wrong:], name, ReaderKind.DETECTOR)


def test_machines_that_beat_her_are_told_as_a_range_and_not_as_the_best_one(run):
    told = _told(run)
    assert told["verdict"] == "machines"
    rights = sorted(run.marks[name].reader.table.right for name in ("radial-lr", "npr"))
    start = f"Two detectors marked {rights[0]} to {rights[1]} of 60 patches right"
    assert told["headline"] == f"{start}; the pathologist marked 34 of 60 other ones."
    assert any(line.startswith("2 of 2 detectors did better than she did beyond chance") for line in told["lines"])
    assert any("She marked other patches" in line for line in told["lines"])


def test_failed_detectors_do_not_count_and_are_named(run):
    assert any(line == "Not counted: resnet failed to learn the task." for line in _told(run)["lines"])


def test_a_detector_whose_placebo_fails_does_not_count(run):
    broken = run.parts["placebo"] | {"npr": Cell(0.8, (0.7, 0.9), 35, 35)}
    told = _told(run, placebo=broken)
    assert told["headline"].startswith("One detector marked")
    assert any("npr told real patches from real patches that went through the fakes' path" in x for x in told["lines"])


def test_without_a_sound_detector_there_is_no_verdict(run):
    weak = {name: Cell(0.7, (0.6, 0.8), 35, 200) for name in run.parts["in_domain"]}
    told = _told(run, in_domain=weak)
    assert told["verdict"] == "no detector"
    assert told["headline"].startswith("No verdict")


def test_an_easy_comparison_is_called_easy_before_anything_else(run):
    easy = run.parts["in_domain"] | {"rgb": Cell(0.93, (0.9, 0.95), 35, 200)}
    told = _told(run, in_domain=easy)
    assert told["verdict"] == "easy"
    assert told["headline"] == (
        "An easy comparison: the mean colour alone tells these fakes from real tissue, at AUC 0.93."
    )


def test_an_unfair_comparison_is_withheld_even_when_it_is_easy(run):
    easy = run.parts["in_domain"] | {"rgb": Cell(0.93, (0.9, 0.95), 35, 200)}
    told = _told(run, in_domain=easy, not_fair="the fakes were trained on another tissue")
    assert told["verdict"] == "withheld"
    assert told["headline"] == "No verdict: the comparison is not fair."
    assert told["lines"][0] == "The fakes were trained on another tissue."
    assert not any("did better than she did" in line for line in told["lines"])


@pytest.mark.parametrize(("wrong", "verdict"), [(26, "not shown"), (24, "not shown"), (5, "machines"), (50, "human")])
def test_who_did_better_follows_from_the_counts(run, wrong, verdict):
    told = _told(run, marks={"npr": _graded(run, "npr", wrong)})
    assert told["verdict"] == verdict
    assert f"marked {60 - wrong} of 60 patches right" in told["headline"]


def test_her_own_result_is_never_called_better_than_guessing(run):
    assert any(
        line == "Her 34 of 60 are not different from guessing (p = 0.37); "
        "on 60 patches it takes 39 right answers to beat chance."
        for line in _told(run)["lines"]
    )


def test_the_unseen_generator_is_told_by_its_worst_and_best(run):
    line = next(line for line in _told(run)["lines"] if line.startswith("On a generator left out"))
    assert "0.82 (radial-lr, PathologyGAN left out)" in line
    assert "0.97 (npr, StyleGAN left out)" in line


def test_a_single_generator_says_that_nothing_was_left_out(run):
    told = _told(run, generalization={})
    assert any("could not be measured: it takes two generators" in line for line in told["lines"])


def test_brief_training_is_said_with_its_seconds_and_images(run):
    line = next(line for line in _told(run)["lines"] if "trained only briefly" in line)
    assert "StyleGAN for 110 seconds on 2.4 thousand images (its authors: 25,000 thousand)" in line


def test_a_long_training_or_an_unknown_one_is_not_called_brief(run):
    facts = run.parts["generators"]["StyleGAN"]
    known = {"long": replace(facts, kimg=20000.0), "unknown": replace(facts, kimg=None)}
    assert not any("briefly" in line for line in _told(run, generators=known)["lines"])

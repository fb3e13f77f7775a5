"""Exam distributions against the hypergeometric's closed form, explicit draws, and pools that cannot give an exam."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pandas as pd
import pytest
from scipy.stats import hypergeom

from histoforensics.benchmarks.distribution import distributions, exam_distribution
from histoforensics.benchmarks.distribution_figure import distribution_figure
from histoforensics.slides import ConfigError, ExamError

GANS = ("StyleGAN", "StyleGAN2", "PathologyGAN")


def _pool(real=(80, 60), fakes=((40, 30), (40, 20), (40, 40))):
    """Labels, generators and verdicts of a pool; each pair is patches, and how many of them the machine gets right."""
    labels, generators, verdicts = [], [], []
    for source, (size, right) in zip((None, *GANS), (real, *fakes), strict=False):
        truth, wrong = ("fake", "real") if source else ("real", "unsure")
        labels += [truth] * size
        generators += [source] * size
        verdicts += [truth] * right + [wrong] * (size - right)
    return labels, generators, verdicts


def test_mean_and_variance_are_the_hypergeometrics():
    found = exam_distribution("npr", *_pool(fakes=((40, 30), (40, 20), (40, 36))), exams=20_000, seed=1)
    parts = [hypergeom(80, 60, 30), hypergeom(40, 30, 10), hypergeom(40, 20, 10), hypergeom(40, 36, 10)]
    mean, variance = sum(part.mean() for part in parts), sum(part.var() for part in parts)
    assert found.total == 60
    assert found.mean == pytest.approx(mean, abs=4 * math.sqrt(variance / 20_000))
    assert found.right.var() == pytest.approx(variance, rel=0.05)


def test_drawing_counts_is_the_same_as_drawing_patches():
    labels, generators, verdicts = (np.array(part, dtype=object) for part in _pool())
    rng = np.random.default_rng(2)
    sources = np.where(labels == "real", "real", generators)
    counts = []
    for _ in range(3000):
        rows = np.concatenate(
            [
                rng.choice(np.flatnonzero(sources == one), 30 if one == "real" else 10, replace=False)
                for one in ("real", *GANS)
            ]
        )
        counts.append(int((verdicts[rows] == labels[rows]).sum()))
    found = exam_distribution("npr", *_pool(), exams=20_000)
    assert np.mean(counts) == pytest.approx(found.mean, abs=0.2)
    assert np.quantile(counts, [0.025, 0.975]) == pytest.approx(found.band95, abs=1.01)


def test_a_pool_of_exactly_one_exam_leaves_nothing_to_chance():
    found = exam_distribution("rgb", *_pool((30, 17), ((10, 6), (10, 3), (10, 8))))
    assert set(found.right.tolist()) == {34}
    assert found.band95 == (34.0, 34.0)
    assert found.against(34, 60) == {"above": 0.0, "equal": 1.0, "below": 0.0}
    assert found.against(17, 31)["above"] == 1.0  # 54.8 % is less than 56.7 %


def test_a_perfect_and_a_wrong_machine_against_the_pathologist():
    perfect = exam_distribution("a", *_pool((80, 80), ((40, 40),) * 3)).to_json()
    wrong = exam_distribution("b", *_pool((80, 0), ((40, 0),) * 3)).to_json()
    assert (perfect["mean"], perfect["above"], perfect["counts"]) == (60.0, 1.0, {"60": 1000})
    assert (wrong["mean"], wrong["below"], wrong["band95"]) == (0.0, 1.0, [0.0, 0.0])
    assert perfect["reference"] == {"name": "Pathologist, 2020", "right": 34, "total": 60}
    assert perfect["pool"]["real"] == {"patches": 80, "right": 80}
    assert json.loads(json.dumps(perfect)) == perfect


def test_the_same_seed_gives_the_same_exams():
    one, two = (exam_distribution("npr", *_pool(), seed=3).right for _ in range(2))
    assert (one == two).all()
    assert (one != exam_distribution("npr", *_pool(), seed=4).right).any()


def _scores(detectors=("npr", "rgb"), **pool):
    labels, generators, verdicts = _pool(**pool)
    parts = [
        pd.DataFrame(
            {"label": labels, "generator": generators, "detector": name, "trained_without": None, "verdict": verdicts}
        )
        for name in detectors
    ]
    left_out = parts[0].assign(trained_without="StyleGAN", verdict="unsure")
    return pd.concat([*parts, left_out], ignore_index=True)


def test_every_detector_and_control_of_a_table_of_scores_sits_exams():
    npr, rgb = distributions(_scores(), exams=200)
    assert (npr.name, rgb.name, npr.total) == ("npr", "rgb", 60)
    assert (npr.right == rgb.right).all()  # same verdicts, same draws; those trained without a generator do not count
    assert npr.mean > 40


def test_a_small_pool_gives_smaller_exams():
    (npr,) = distributions(_scores(("npr",), real=(20, 20), fakes=((40, 40), (7, 7))), exams=10)
    assert npr.total == 28  # 14 real, 7 of each of two


def test_pools_that_cannot_give_an_exam_are_refused():
    labels, generators, verdicts = _pool((20, 20))
    with pytest.raises(ExamError, match="npr: an exam takes 30 patches of real, but the pool has only 20"):
        exam_distribution("npr", labels, generators, verdicts)
    with pytest.raises(ExamError, match="takes 30 patches of real, but the pool has only 0"):
        exam_distribution("npr", ["fake"] * 10, ["A"] * 10, ["fake"] * 10)
    with pytest.raises(ExamError, match="a patch of the pool is 'fake' by None"):
        exam_distribution("npr", ["fake"], [None], ["fake"])
    with pytest.raises(ExamError, match="2 labels, 1 generators, 2 verdicts"):
        exam_distribution("npr", ["real", "real"], [None], ["real", "real"])
    with pytest.raises(ExamError, match="no fakes to draw an exam from"):
        distributions(_scores(("npr",), fakes=()))
    with pytest.raises(ConfigError, match="exams must be at least 1, got 0"):
        exam_distribution("npr", *_pool(), exams=0)


def test_the_figure_names_every_machine_and_the_pathologist():
    rows = [one.to_json() for one in distributions(_scores(), exams=200)]
    svg = distribution_figure(rows).decode()
    assert re.search(r"Pathologist, 2020: 34 of 60", svg)
    assert all(f">{name}<" in svg for name in ("npr", "rgb"))
    assert distribution_figure(rows) == distribution_figure(rows)
    assert distribution_figure([]).startswith(b"<?xml")

"""DeLong's covariance against the data of his own paper, brute force, scikit-learn and simulation."""

from __future__ import annotations

import io

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from histoforensics.benchmarks.delong import auc_interval, compare, delong
from histoforensics.slides import ConfigError, ExamError

# DeLong et al. 1988, 49 patients, as printed in the manual of SAS/STAT (PROC LOGISTIC, comparing ROC curves):
# albumin, total protein, Krebs-Goplerud score, outcome.
OVARIAN = np.loadtxt(
    io.StringIO(
        """
3.0 5.8 10 0 3.2 6.3 5 1 3.9 6.8 3 1 2.8 4.8 6 0 3.2 5.8 3 1 0.9 4.0 5 0 2.5 5.7 8 0 1.6 5.6 5 1
3.8 5.7 5 1 3.7 6.7 6 1 3.2 5.4 4 1 3.8 6.6 6 1 4.1 6.6 5 1 3.6 5.7 5 1 4.3 7.0 4 1 3.6 6.7 4 0
2.3 4.4 6 1 4.2 7.6 4 0 4.0 6.6 6 0 3.5 5.8 6 1 3.8 6.8 7 1 3.0 4.7 8 0 4.5 7.4 5 1 3.7 7.4 5 1
3.1 6.6 6 1 4.1 8.2 6 1 4.3 7.0 5 1 4.3 6.5 4 1 3.2 5.1 5 1 2.6 4.7 6 1 3.3 6.8 6 0 1.7 4.0 7 0
3.7 6.1 5 1 3.3 6.3 7 1 4.2 7.7 6 1 3.5 6.2 5 1 2.9 5.7 9 0 2.1 4.8 7 1 2.8 6.2 8 0 4.0 7.0 7 1
3.3 5.7 6 1 3.7 6.9 5 1 3.6 6.6 5 1
""".strip().replace("\n", " ")
    ),
    ndmin=2,
).reshape(-1, 4)
TESTS = np.stack([OVARIAN[:, 0], OVARIAN[:, 1], 10 - OVARIAN[:, 2]])


def _printed(found):
    return [round(float(one), 4) for one in found]


def test_areas_errors_and_a_contrast_of_delongs_own_data():
    found = delong(OVARIAN[:, 3], TESTS)
    assert _printed(found.auc) == [0.7366, 0.6478, 0.7258]
    assert _printed(np.sqrt(np.diag(found.covariance))) == [0.0927, 0.1000, 0.1028]
    contrast = np.array([0.0, 1.0, -1.0])  # protein against the score, by the definition of a contrast's variance
    error = np.sqrt(contrast @ found.covariance @ contrast)
    protein = compare(found, 1, 2)
    assert protein.difference == pytest.approx(-0.0780, abs=5e-5)
    assert (protein.low, protein.high) == pytest.approx(
        (-0.07796 - 1.95996 * error, -0.07796 + 1.95996 * error), abs=1e-4
    )
    assert protein.p == pytest.approx(2 * norm.sf(0.07796 / error), abs=1e-4)


def _pairwise(labels, ratings):
    """AUC and covariance by the definition: a kernel over all pairs, its row and column means."""
    fakes, reals = ratings[:, labels == 1], ratings[:, labels == 0]
    kernel = (fakes[:, :, None] > reals[:, None, :]) + 0.5 * (fakes[:, :, None] == reals[:, None, :])
    rows, columns = kernel.mean(axis=2), kernel.mean(axis=1)
    return kernel.mean(axis=(1, 2)), np.cov(rows) / fakes.shape[1] + np.cov(columns) / reals.shape[1]


def test_midranks_give_what_the_definition_gives_also_with_ties():
    rng = np.random.default_rng(3)
    labels = rng.permutation([0] * 17 + [1] * 23)
    ratings = rng.integers(-6, 7, (4, 40)) + 2 * labels
    found = delong(labels, ratings)
    auc, covariance = _pairwise(labels, ratings)
    assert found.auc == pytest.approx(auc)
    assert found.covariance == pytest.approx(covariance)
    assert found.auc == pytest.approx([roc_auc_score(labels, one) for one in ratings])


def test_a_perfect_a_wrong_and_a_constant_reader():
    labels = np.array([0, 0, 0, 1, 1, 1, 1])
    found = delong(labels, [labels, -labels, 0 * labels])
    assert found.auc.tolist() == [1.0, 0.0, 0.5]
    # closed form: three disjoint pairs in order have a chance of AUC ** 3 at most
    assert auc_interval(found, 0) == pytest.approx((0.025 ** (1 / 3), 1.0))
    assert auc_interval(found, 1) == pytest.approx((0.0, 1 - 0.025 ** (1 / 3)))
    assert compare(found, 0, 0) == (0.0, 0.0, 0.0, 1.0)
    assert compare(found, 0, 1).p == 0.0


def test_the_interval_stays_within_bounds_and_narrows_with_confidence():
    found = delong(np.repeat([0, 1], 8), [np.r_[np.arange(8), np.arange(6, 14)]])
    low, high = auc_interval(found)
    narrow = auc_interval(found, confidence=0.5)
    assert 0 < low < narrow.low < found.auc[0] < narrow.high < high < 1


def test_the_paired_test_keeps_its_level_and_its_interval_covers_on_simulated_readers():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 30)
    p, holds, alone = [], 0, 0
    for _ in range(500):
        shared = rng.normal(size=60)
        ratings = 1.2 * labels + 0.7 * shared + np.sqrt(1 - 0.49) * rng.normal(size=(2, 60))
        found = delong(labels, ratings)
        one = compare(found)
        p.append(one.p)
        holds += one.low <= 0 <= one.high
        low, high = auc_interval(found)
        alone += low <= 0.80193 <= high  # Phi(1.2 / sqrt(2))
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.03)
    assert holds / 500 == pytest.approx(0.95, abs=0.03)
    assert alone / 500 == pytest.approx(0.95, abs=0.03)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ExamError, match="two patches of each class, got 3 real, 1 fake"):
        delong([0, 0, 0, 1], [[1, 2, 3, 4]])
    with pytest.raises(ExamError, match="finite ratings, got 1"):
        delong([0, 0, 1, 1], [[1, 2, np.nan, 4]])
    with pytest.raises(ExamError, match="one row a reader"):
        delong([0, 0, 1, 1], [1, 2, 3, 4])
    with pytest.raises(ConfigError, match="confidence must be between 0 and 1, got 95"):
        compare(delong([0, 0, 1, 1], [[1, 2, 3, 4], [1, 2, 3, 4]]), confidence=95)

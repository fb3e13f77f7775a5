"""The average reader against the published analysis of Van Dyke's data, and on simulated readers of known truth."""

from __future__ import annotations

import math
import os

import numpy as np
import pytest
from scipy.stats import norm

from histoforensics.benchmarks.mrmc import Merits, accuracy_merits, against, auc_merits, average_reader
from histoforensics.slides import ExamError

# Van Dyke et al. 1993: five readers, two modalities, 114 cases. AUCs, covariances and the analysis as printed in
# Chakraborty's RJafroc book (dataset02, Wilcoxon, method OR, readers and cases random).
FIRST = np.array([0.91964573, 0.85877617, 0.90386473, 0.97310789, 0.82979066])
SECOND = np.array([0.94782609, 0.90531401, 0.92173913, 0.99935588, 0.92995169])
COV1, COV2, COV3 = 0.00034661371, 0.00034407483, 0.00023902837
VARIANCE = 0.00080228827
SIMULATIONS = int(os.environ.get("HISTOFORENSICS_SIMULATIONS", "300"))


def _compound(readers, variance, covariance):
    return np.full((readers, readers), covariance) + np.eye(readers) * (variance - covariance)


@pytest.mark.parametrize(
    ("aucs", "cov2", "mean", "error", "df", "low", "high"),
    [
        (FIRST, 0.00048396180, 0.89703704, 0.033173597, 12.744648, 0.82522360, 0.96885048),
        (SECOND, 0.00020418785, 0.94083736, 0.021566368, 12.710190, 0.89413783, 0.98753689),
    ],
)
def test_each_modality_of_van_dyke_s_data(aucs, cov2, mean, error, df, low, high):
    found = average_reader(Merits(aucs, _compound(5, 0.001, cov2)))
    assert found[:5] == pytest.approx((mean, low, high, error, df), rel=1e-6)


def test_the_crossed_comparison_of_van_dyke_s_data():
    # Of differences: variance 2 (Var - Cov1), covariance 2 (Cov2 - Cov3).
    differences = Merits(FIRST - SECOND, _compound(5, 2 * (VARIANCE - COV1), 2 * (COV2 - COV3)))
    found = average_reader(differences, null=0.0)
    assert found.mean == pytest.approx(-0.043800322)
    assert found.standard_error == pytest.approx(0.020748618)
    assert found.df == pytest.approx(15.259675, rel=1e-6)
    assert (found.low, found.high) == pytest.approx((-0.087959499, 0.00035885444), abs=1e-7)
    assert found.p == pytest.approx(0.051665686, rel=1e-6)
    assert (found.mean / found.standard_error) ** 2 == pytest.approx(4.4563187, rel=1e-6)


def test_a_machine_is_subtracted_with_its_covariance():
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], 20)
    right = rng.random((4, 40)) < 0.7
    merits = accuracy_merits(labels, right)
    apart = accuracy_merits(labels, right[:3].astype(float) - right[3])  # the covariance of differences, directly
    assert merits.less(3).value == pytest.approx(apart.value)
    assert merits.less(3).covariance == pytest.approx(apart.covariance)
    assert against(merits, 3) == pytest.approx(average_reader(apart, 0.0))


def test_accuracy_has_the_binomial_variance_of_each_class():
    labels = np.repeat([0, 1], 10)
    right = np.r_[np.repeat([1, 0], [7, 3]), np.repeat([1, 0], [9, 1])]
    expected = (10 * (0.21 * 10 / 9) + 10 * (0.09 * 10 / 9)) / 400  # sample variances, class by class
    found = accuracy_merits(labels, right[None])
    assert found.value.tolist() == [0.8]
    assert found.covariance[0, 0] == pytest.approx(expected)


def test_readers_who_agree_in_everything_vary_by_patches_alone():
    labels = np.repeat([0, 1], 10)
    one = np.r_[np.repeat([1, 0], [7, 3]), np.repeat([1, 0], [9, 1])]
    found = average_reader(accuracy_merits(labels, np.stack([one] * 3)))
    assert math.isinf(found.df)
    assert found.standard_error == pytest.approx(accuracy_merits(labels, one[None]).covariance[0, 0] ** 0.5)
    perfect = average_reader(accuracy_merits(labels, np.ones((3, 20))))
    assert perfect[:4] == (1.0, 1.0, 1.0, 0.0)
    assert perfect.p == 0.0


def test_readers_who_differ_less_than_chance_would_make_them_are_not_believed():
    # Equal AUCs by luck: what ratings alone scatter, Var - Cov2, takes the place of the mean square of zero.
    found = average_reader(Merits(np.full(3, 0.8), _compound(3, 0.004, 0.001)))
    assert found.standard_error == pytest.approx(math.sqrt((0.003 + 3 * 0.001) / 3))
    assert found.df == pytest.approx(0.006**2 / (0.003**2 / 2))


def test_two_readers_are_no_sample_and_a_class_needs_two_patches():
    with pytest.raises(ExamError, match="needs 3 of them, got 2"):
        average_reader(Merits(np.array([0.5, 0.6]), np.eye(2)))
    with pytest.raises(ExamError, match="two patches of each class, got 3 real and 1 fake"):
        accuracy_merits([0, 0, 0, 1], [[1, 1, 1, 1]])
    with pytest.raises(ExamError, match="a row a reader"):
        accuracy_merits([0, 0, 1, 1], [1, 1, 1, 1])


def _roe_metz(rng, labels, separation, readers, reader_sd, shared):
    """Random readers of random cases (Roe & Metz 1997): of the ratings' variance 1, ``shared`` is the case's own."""
    skill = separation + reader_sd * rng.normal(size=(readers, 1))
    cases = math.sqrt(shared) * rng.normal(size=len(labels))
    return skill * labels + cases + math.sqrt(1 - shared) * rng.normal(size=(readers, len(labels)))


def test_the_interval_covers_the_average_of_all_readers_on_simulated_ones():
    # 0.35: Roe and Metz' readers of high variability. More simulations: HISTOFORENSICS_SIMULATIONS.
    rng = np.random.default_rng(7)
    labels = np.repeat([0, 1], 30)
    slack = 0.025 + 3 * math.sqrt(0.95 * 0.05 / SIMULATIONS)
    for readers, reader_sd in ((3, 0.15), (5, 0.35)):
        truth = norm.cdf(1.0 / math.sqrt(2 + reader_sd**2))  # the mean of Phi(separation / sqrt 2) over readers
        found = [
            average_reader(auc_merits(labels, _roe_metz(rng, labels, 1.0, readers, reader_sd, 0.3)))
            for _ in range(SIMULATIONS)
        ]
        assert np.mean([one.low <= truth <= one.high for one in found]) == pytest.approx(0.95, abs=slack), readers


def test_readers_as_good_as_the_machine_on_average_are_seldom_called_different():
    rng = np.random.default_rng(8)
    labels = np.repeat([0, 1], 30)
    differ = 0
    for _ in range(SIMULATIONS):
        ratings = _roe_metz(rng, labels, 1.0, 5, 0.0, 0.3)
        differ += against(auc_merits(labels, ratings), 4).p < 0.05
    assert differ / SIMULATIONS < 0.05 + 3 * math.sqrt(0.05 * 0.95 / SIMULATIONS)

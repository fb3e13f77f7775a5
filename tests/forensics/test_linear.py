"""The regressions against scikit-learn, the folds against their promise."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from histoforensics.forensics.linear import choose_penalty, draw_rows, fit_logistic, fit_ridge, grouped_folds, shifted
from histoforensics.forensics.radial import RadialDetector
from histoforensics.slides import ConfigError, PatchError


def unbalanced(n, d, seed=0):
    rng = np.random.default_rng(seed)
    labels = (np.arange(n) % 4 == 0).astype(int)
    return rng.standard_normal((n, d)) * rng.uniform(0.1, 5, d) + labels[:, None] * 0.5 + 3, labels


@pytest.mark.parametrize("d", [20, 300])
def test_ridge_equals_scikit_learns_with_fewer_and_with_more_features_than_patches(d):
    features, labels = unbalanced(120, d)
    model = fit_ridge(features, labels, penalties=(50.0,))
    pipeline = make_pipeline(StandardScaler(), RidgeClassifier(alpha=50.0, class_weight="balanced")).fit(
        features, labels
    )
    np.testing.assert_allclose(features @ model.weights + model.bias, pipeline.decision_function(features), atol=1e-10)


def test_logistic_regression_equals_scikit_learns():
    features, labels = unbalanced(200, 10)
    model = fit_logistic(features, labels, penalties=(20.0,))
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=1 / 20, class_weight="balanced", tol=1e-9))
    pipeline.fit(features, labels)
    np.testing.assert_allclose(features @ model.weights + model.bias, pipeline.decision_function(features), atol=1e-4)


@pytest.mark.parametrize("fit", [fit_logistic, fit_ridge])
def test_constant_feature_gets_no_weight(fit):
    features, labels = unbalanced(60, 5)
    features[:, 2] = 7.0
    assert fit(features, labels).weights[2] == pytest.approx(0, abs=1e-12)


def test_folds_never_cut_a_group_and_hold_both_classes():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [60, 30])
    groups = np.r_[rng.integers(0, 9, 60), 100 + rng.integers(0, 7, 30)]
    fold = grouped_folds(labels, groups, rng)
    assert fold.max() == 4
    for group in np.unique(groups):
        assert len(np.unique(fold[groups == group])) == 1
    for k in range(5):
        assert set(labels[fold == k]) == {0, 1}


def test_three_generators_are_left_out_one_by_one():
    labels = np.repeat([0, 1], [40, 30])
    groups = np.r_[np.arange(40), np.repeat([100, 101, 102], 10)]
    fold = grouped_folds(labels, groups, np.random.default_rng(0))
    assert sorted(np.unique(groups[(fold == k) & (labels == 1)]).tolist() for k in range(3)) == [[100], [101], [102]]


def test_one_single_generator_is_dealt_out_patch_by_patch():
    labels = np.repeat([0, 1], 20)
    fold = grouped_folds(labels, np.r_[np.arange(20), np.full(20, 99)], np.random.default_rng(0))
    assert np.bincount(fold[labels == 1]).tolist() == [4] * 5


def test_strongest_penalty_wins_among_equals():
    labels = np.repeat([0, 1], 20)
    chosen = choose_penalty(
        lambda _, rows: labels[rows].astype(float), labels, np.arange(40), penalties=(1.0, 100.0, 10.0)
    )
    assert chosen == 100.0


def test_penalty_with_clearly_better_held_out_auc_wins():
    labels = np.repeat([0, 1], 50)
    noise = np.random.default_rng(0).standard_normal(100)
    chosen = choose_penalty(
        lambda penalty, rows: (labels if penalty == 10 else noise)[rows].astype(float), labels, np.arange(100),
        penalties=(1.0, 10.0, 100.0),
    )  # fmt: skip
    assert chosen == 10.0


def test_shift_moves_content_and_mirrors_the_border():
    ramp = np.arange(8, dtype=np.uint8)[None, :, None, None] * np.ones((1, 1, 8, 3), np.uint8)
    moved = shifted(ramp, np.array([[3, 0]]))
    assert moved[0, :, 0, 0].tolist() == [3, 4, 5, 6, 7, 7, 6, 5]


def test_drawn_rows_keep_the_smaller_class_whole():
    labels = np.repeat([0, 1], [10, 90])
    rows = draw_rows(labels, 40, np.random.default_rng(0))
    assert np.bincount(labels[rows]).tolist() == [10, 30]
    assert len(set(rows.tolist())) == 40
    assert np.bincount(labels[draw_rows(labels, 12, np.random.default_rng(0))]).tolist() == [6, 6]


def test_fit_tells_what_it_took(blurred_noise):
    detector = RadialDetector.fit(*blurred_noise(10, 32), seed=0, penalties=(10.0,))
    assert detector.card.run["fit"] == {"patches": 20, "copies": 0, "views": 1, "penalty": 10.0}


def test_same_seed_gives_the_same_detector(blurred_noise):
    pixels, labels = blurred_noise(10, 32)
    first, second = (RadialDetector.fit(pixels, labels, seed=3, copies=1) for _ in range(2))
    assert (first.weights == second.weights).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, y: (p, np.zeros(len(y), int)), "at least 2 fake patches are needed to train, got 0"),
        (lambda p, y: (p[:0], y[:0]), "at least 2 real patches are needed to train, got 0"),
        (lambda p, y: (p, y[:-1]), "20 patches need one label and one group each"),
        (lambda p, y: (p, y + 1), r"labels must be 0 \(real\) or 1 \(fake\), got \[1, 2\]"),
        (lambda p, y: (p[:, :, :24], y), "patches must be square, got 24 x 32 px"),
        (lambda p, y: (p / 255.0, y), r"patches must be a uint8 array \(n, h, w, 3\), got float64 \(20, 32, 32, 3\)"),
    ],
)
def test_patches_that_cannot_train_are_refused(blurred_noise, change, message):
    with pytest.raises(PatchError, match=message):
        RadialDetector.fit(*change(*blurred_noise(10, 32)), seed=0)


def test_options_are_checked(blurred_noise):
    with pytest.raises(ConfigError, match="copies must be at least 0, got -1"):
        RadialDetector.fit(*blurred_noise(4, 32), seed=0, copies=-1)
    with pytest.raises(TypeError, match="colour"):
        RadialDetector.fit(*blurred_noise(4, 32), seed=0, colour=True)

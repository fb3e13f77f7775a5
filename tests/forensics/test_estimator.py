"""Detectors behave as scikit-learn's own classifiers where patches allow it."""

import numpy as np
import pytest
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline

from histoforensics.forensics import DetectorClassifier
from histoforensics.forensics.registry import detector_class
from histoforensics.slides import DetectorError, PatchError

QUICK = {"copies": 0, "penalties": (1e2,)}


@pytest.fixture(scope="module")
def data(blurred_noise):
    pixels, labels = blurred_noise(12, 32)
    return pixels, labels, np.tile(np.repeat(np.arange(4), 3), 2)  # four slides, three patches of each class


def quick(**parameters):
    return DetectorClassifier(**({"name": "wht-lr", "options": QUICK} | parameters))


def test_cross_validation_by_slide_finds_what_is_there(data):
    pixels, labels, slides = data
    scores = cross_val_score(quick(), pixels, labels, groups=slides, cv=GroupKFold(4), scoring="roc_auc")
    assert scores.tolist() == [1.0] * 4
    aucs = cross_val_score(
        quick(), pixels, labels, groups=slides, cv=GroupKFold(4), params={"groups": slides}, scoring="roc_auc"
    )
    assert aucs.tolist() == [1.0] * 4


def test_flattened_patches_are_the_same_patches(data):
    pixels, labels, slides = data
    flat = pixels.reshape(len(pixels), -1)
    whole = quick().fit(pixels, labels)
    rows = quick().fit(flat, labels)
    np.testing.assert_array_equal(rows.predict_proba(flat), whole.predict_proba(pixels))
    assert rows.n_features_in_ == whole.n_features_in_ == 32 * 32 * 3
    assert cross_val_score(make_pipeline(quick()), flat, labels, groups=slides, cv=GroupKFold(2)).mean() == 1.0


def test_it_is_the_detector_itself(data):
    pixels, labels, slides = data
    detector = detector_class("wht-lr").fit(pixels, labels, seed=3, groups=slides, **QUICK)
    fitted = quick(seed=3).fit(pixels, labels, groups=slides)
    np.testing.assert_allclose(fitted.predict_proba(pixels)[:, 1], detector.score(pixels))
    np.testing.assert_allclose(fitted.decision_function(pixels), detector.logits(pixels))


def test_columns_are_in_the_order_of_the_classes_whatever_they_are_called(data):
    pixels, labels, _ = data
    numbers = quick().fit(pixels, labels)
    names = quick().fit(pixels, np.array(["real", "fake"])[labels])
    assert numbers.classes_.tolist() == [0, 1]
    assert names.classes_.tolist() == ["fake", "real"]  # sorted, as scikit-learn wants
    np.testing.assert_array_equal(names.predict_proba(pixels), numbers.predict_proba(pixels)[:, ::-1])
    assert (names.predict(pixels) == np.array(["real", "fake"])[numbers.predict(pixels)]).all()
    assert ((names.decision_function(pixels) > 0) == (names.predict(pixels) == names.classes_[1])).all()
    assert names.score(pixels, np.array(["real", "fake"])[labels]) == 1.0


def test_probabilities_sum_to_one_and_agree_with_the_prediction(data):
    pixels, labels, _ = data
    fitted = quick().fit(pixels, labels)
    probabilities = fitted.predict_proba(pixels)
    assert probabilities.shape == (24, 2)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert (fitted.classes_[probabilities.argmax(1)] == fitted.predict(pixels)).all()


def test_clone_takes_the_parameters_and_nothing_learned(data):
    pixels, labels, _ = data
    fitted = quick(seed=7).fit(pixels, labels)
    fresh = clone(fitted)
    assert fresh.get_params() == fitted.get_params()
    assert fresh.set_params(name="rgb", seed=1).get_params()["name"] == "rgb"
    assert is_classifier(fresh)
    with pytest.raises(NotFittedError):
        fresh.predict(pixels)


def test_searches_and_calibration_take_it(data):
    pixels, labels, slides = data
    folds = list(GroupKFold(2).split(pixels, labels, slides))  # else the search would hand its groups to fit as well
    search = GridSearchCV(quick(), {"name": ["slope", "wht-lr"], "options": [QUICK]}, cv=folds).fit(pixels, labels)
    assert search.best_score_ == 1.0
    flat = pixels.reshape(len(pixels), -1)
    calibrated = CalibratedClassifierCV(quick(), cv=2).fit(flat, labels)
    assert calibrated.predict_proba(flat)[labels == 1, 1].min() > calibrated.predict_proba(flat)[labels == 0, 1].max()


def test_shuffled_labels_are_not_learned(data):
    pixels, labels, _ = data
    shuffled = np.random.default_rng(0).permutation(labels)
    found = cross_val_predict(quick(), pixels, shuffled, cv=3)
    assert 0.15 < (found == shuffled).mean() < 0.85  # 24 fair coins miss this once in a thousand times


@pytest.mark.parametrize(
    ("parameters", "change", "error", "message"),
    [
        ({"name": "wavelets"}, lambda x, y: (x, y), DetectorError, "unknown detector 'wavelets'"),
        ({}, lambda x, y: (x / 255, y), PatchError, "wht-lr: patches must be a uint8 array"),
        ({}, lambda x, y: (x.reshape(24, -1)[:, 1:], y), PatchError, "flattened square RGB patches .* got 3071"),
        ({}, lambda x, y: (x, y + 1), PatchError, r"labels must be 0 and 1, .* got \[1, 2\]"),
        ({}, lambda x, y: (x, y * 0), PatchError, r"both present; got \[0\]"),
    ],
)
def test_bad_input_gets_one_sentence(data, parameters, change, error, message):
    pixels, labels, _ = data
    with pytest.raises(error, match=message):
        quick(**parameters).fit(*change(pixels, labels))

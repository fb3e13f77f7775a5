"""Attribution: known makers are named, an unknown one is called so, and a folder holds it all."""

import json

import numpy as np
import pytest

from histoforensics.forensics.attribution import UNKNOWN, Attributor, frequency_features
from histoforensics.forensics.standins import stand_ins
from histoforensics.slides import DetectorError, PatchError

MAKERS = ("bilinear", "nearest", "zero-insert")


@pytest.fixture(scope="module")
def made(tissue):
    def make(each, seed, makers=MAKERS):
        rng = np.random.default_rng(seed)
        parts = [stand_ins(tissue(each, 64, seed * 100 + k), [name], rng) for k, name in enumerate(makers)]
        return np.concatenate(parts), np.repeat(makers, each)

    return make


@pytest.fixture(scope="module")
def attributor(made):
    return Attributor.fit(*made(60, 1), *made(40, 2))


def test_known_makers_are_named(attributor, made):
    pixels, makers = made(20, 3)
    found = attributor.score(pixels)
    assert found.generators == tuple(sorted(MAKERS))
    np.testing.assert_allclose(found.probabilities.sum(1), 1)
    assert (np.array(found.generators)[found.probabilities.argmax(1)] == makers).mean() >= 0.95
    assert (found.verdicts == makers).mean() >= 0.8  # about a twentieth is rejected


def test_no_more_calibration_patches_than_promised_are_rejected(attributor, made):
    pixels, _ = made(40, 2)
    rejected = (attributor.score(pixels).verdicts == UNKNOWN).mean()
    assert rejected <= 0.05
    assert attributor.facts["rejected"] == pytest.approx(rejected)
    assert attributor.facts["fitted_on"] == dict.fromkeys(sorted(MAKERS), 60)


def test_noise_and_a_maker_that_was_not_fitted_are_unknown(attributor, tissue):
    noise = np.random.default_rng(0).integers(0, 256, (10, 64, 64, 3), dtype=np.uint8)
    assert (attributor.score(noise).verdicts == UNKNOWN).all()
    real = tissue(20, 64, seed=77)
    assert (attributor.score(real).verdicts == UNKNOWN).mean() >= 0.8


def test_two_makers_are_enough_and_their_probabilities_are_scikit_learns(made):
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    pixels, makers = made(20, 4, MAKERS[:2])
    two = Attributor.fit(pixels, makers, *made(10, 5, MAKERS[:2]))
    scaler = StandardScaler().fit(frequency_features(pixels))
    model = LogisticRegression(C=0.1, class_weight="balanced", max_iter=5000)
    model.fit(scaler.transform(frequency_features(pixels)), makers)
    test, _ = made(6, 6, MAKERS[:2])
    expected = model.predict_proba(scaler.transform(frequency_features(test)))
    np.testing.assert_allclose(two.score(test).probabilities, expected, atol=1e-4)


def test_a_saved_attributor_says_the_same_and_a_changed_one_is_refused(attributor, made, tmp_path):
    pixels, _ = made(4, 8)
    folder = attributor.save(tmp_path / "who")
    loaded = Attributor.load(folder)
    np.testing.assert_array_equal(loaded.score(pixels).probabilities, attributor.score(pixels).probabilities)
    np.testing.assert_array_equal(loaded.score(pixels).verdicts, attributor.score(pixels).verdicts)
    assert str(tmp_path) not in (folder / "card.json").read_text()
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | {"weights_sha256": "0"}))
    with pytest.raises(DetectorError, match=r"who: attributor\.safetensors is not the file"):
        Attributor.load(folder)
    with pytest.raises(DetectorError, match="nowhere: not an attributor's folder"):
        Attributor.load(tmp_path / "nowhere")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    with pytest.raises(DetectorError, match="full: the folder holds other files"):
        attributor.save(tmp_path / "full")


def test_splits_that_cannot_fit_or_calibrate_are_refused(made):
    pixels, makers = made(6, 9)
    other, others = made(6, 10)
    with pytest.raises(PatchError, match="18 patches are in both the training and the calibration patches"):
        Attributor.fit(pixels, makers, pixels, makers)
    with pytest.raises(PatchError, match="two or more generators"):
        Attributor.fit(pixels[:6], makers[:6], other[:6], others[:6])
    with pytest.raises(PatchError, match="at least 5 patches of each generator are wanted, got 2 of nearest"):
        Attributor.fit(pixels[:8], makers[:8], other[:8], others[:8])
    with pytest.raises(PatchError, match="both need the same generators"):
        Attributor.fit(pixels, makers, other[:12], others[:12])
    with pytest.raises(PatchError, match="18 patches need one generator each"):
        Attributor.fit(pixels, makers[:3], other, others)


def test_patches_of_another_size_are_refused(attributor):
    with pytest.raises(PatchError, match="attribution: patches are 32 x 32 px, but this detector judges 64 x 64 px"):
        attributor.score(np.zeros((1, 32, 32, 3), np.uint8))
    assert attributor.score(np.zeros((0, 64, 64, 3), np.uint8)).verdicts.shape == (0,)

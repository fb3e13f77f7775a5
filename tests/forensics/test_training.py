"""Training end to end: the leak checks, the card, and the codec as the easiest fake there is."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from histoforensics.forensics import TrainingSet, train_detector
from histoforensics.forensics.augment import jpeg
from histoforensics.forensics.leaks import refuse_overlap, sha256_of_patches, split_digest
from histoforensics.slides import ConfigError, DetectorError, PatchError

FREQUENCY = ["radial-lr", "dct-ridge", "wht-lr"]


@pytest.fixture(scope="module")
def data(blurred_noise):
    pixels, _ = blurred_noise(40, 32)
    real, fake = pixels[:40], pixels[40:]
    return TrainingSet(
        real=real[:20],
        fake=fake[:20],
        calibration_real=real[20:],
        calibration_fake=fake[20:],
        real_groups=np.arange(20),
        calibration_real_groups=np.arange(20, 40),
    )


def test_shared_patches_between_splits_are_refused(data):
    leaky = replace(data, calibration_real=np.concatenate([data.calibration_real[:-2], data.real[:2]]))
    with pytest.raises(PatchError, match=r"2 patches are in both the training and the calibration patches \(sha256 "):
        train_detector("radial-lr", leaky)


def test_patches_that_are_both_real_and_fake_are_refused(data):
    with pytest.raises(PatchError, match="20 patches are in both the real and the fake patches"):
        train_detector("radial-lr", replace(data, fake=data.real))


def test_shared_blocks_between_splits_are_refused(data):
    with pytest.raises(PatchError, match="real patches of '19' are in both the training and the calibration split"):
        train_detector("radial-lr", replace(data, calibration_real_groups=np.arange(19, 39)))


def test_tested_patches_that_were_trained_or_calibrated_on_are_refused(data, blurred_noise):
    detector = train_detector("radial-lr", data)
    detector.refuse_seen(blurred_noise(5, 32, seed=9)[0])
    with pytest.raises(PatchError, match="3 patches are in both the training and the exam patches"):
        detector.refuse_seen(data.fake[:3], "exam")
    with pytest.raises(PatchError, match="1 patch is in both the calibration and the test patches"):
        detector.refuse_seen(data.calibration_fake[:1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fake": np.zeros((20, 48, 48, 3), np.uint8)}, "real patches are 32 px wide and fake ones 48 px; crop both"),
        ({"calibration_fake": np.zeros((20, 48, 48, 3), np.uint8)}, "patches are 48 x 48 px, but this detector judges"),
        ({"fake": np.zeros((0, 32, 32, 3), np.uint8)}, "at least 2 fake patches are needed to train, got 0"),
        ({"calibration_fake": np.zeros((0, 32, 32, 3), np.uint8)}, "the calibration split has no fake patches"),
    ],
)
def test_sets_that_cannot_train_are_refused(data, change, message):
    with pytest.raises(PatchError, match=message):
        train_detector("radial-lr", replace(data, **change))


def test_unknown_detector_and_device_are_refused(data):
    with pytest.raises(DetectorError, match="unknown detector 'fft'"):
        train_detector("fft", data)
    with pytest.raises(ConfigError, match="device 'abacus' cannot be used here; cpu always can"):
        train_detector("radial-lr", data, device="abacus")


def test_options_reach_the_detector_and_the_card(data):
    detector = train_detector("radial-lr", data, options={"compat": "durall"})
    assert detector.compat == "durall"
    assert detector.card.options == {"compat": "durall"}
    assert detector.card.config["compat"] == "durall"


def test_frozen_thresholds_keep_the_calibration_rates(data):
    detector = train_detector("slope", data)
    verdicts = detector.verdicts(detector.score(data.calibration_real))
    assert (verdicts == "fake").mean() <= 0.05
    assert (detector.verdicts(detector.score(data.calibration_fake)) == "real").mean() <= 0.05


def test_digest_of_a_split_forgets_order_and_counts_repeats():
    assert split_digest(["a", "b"]) == split_digest(["b", "a"]) != split_digest(["a", "b", "b"])


def test_digest_of_a_patch_is_that_of_its_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3)).astype(np.uint8)
    pixels[2] = pixels[0]
    first, second, third = sha256_of_patches(pixels[:, ::-1][:, ::-1])
    assert first == third != second
    refuse_overlap("a", [first], "b", [second])


@pytest.mark.parametrize("name", FREQUENCY)
def test_jpeg_on_one_class_alone_is_found_on_drawn_tissue(tissue, name):
    one, other = tissue(80, 64, seed=1), jpeg(tissue(80, 64, seed=2), 70)
    data = TrainingSet(
        real=one[:40], fake=other[:40], calibration_real=one[40:50], calibration_fake=other[40:50]
    )  # fmt: skip
    detector = train_detector(name, data)
    scores = detector.score(np.concatenate([one[50:], other[50:]]))
    assert roc_auc_score(np.repeat([0, 1], 30), scores) >= 0.95


@pytest.mark.parametrize("name", FREQUENCY)
def test_jpeg_on_one_class_alone_is_found_on_real_tissue(glas, name):
    pixels, patients = glas
    halves = pixels[0::2], jpeg(pixels[1::2], 30)  # as the sample slide was
    sides = patients[0::2], patients[1::2]
    order = np.unique(patients)
    train, calibration, test = order[:4], order[4:6], order[6:]
    (real, fake), (real_who, fake_who) = halves, sides
    data = TrainingSet(
        real=real[np.isin(real_who, train)],
        fake=fake[np.isin(fake_who, train)],
        calibration_real=real[np.isin(real_who, calibration)],
        calibration_fake=fake[np.isin(fake_who, calibration)],
        real_groups=real_who[np.isin(real_who, train)],
        calibration_real_groups=real_who[np.isin(real_who, calibration)],
    )
    detector = train_detector(name, data)
    parts = real[np.isin(real_who, test)], fake[np.isin(fake_who, test)]
    scores = detector.score(np.concatenate(parts))
    assert roc_auc_score(np.repeat([0, 1], [len(p) for p in parts]), scores) >= 0.95


@pytest.mark.parametrize("name", FREQUENCY)
def test_labels_drawn_by_lot_give_chance(tissue, name):
    pixels = tissue(120, 64, seed=1)
    lot = np.random.default_rng(0).permutation(np.repeat([0, 1], 40))
    train, test = pixels[:80], pixels[80:]
    data = TrainingSet(
        real=train[lot == 0][:30], fake=train[lot == 1][:30],
        calibration_real=train[lot == 0][30:], calibration_fake=train[lot == 1][30:],
    )  # fmt: skip
    scores = train_detector(name, data).score(test)
    aucs = [roc_auc_score(np.random.default_rng(s).permutation(np.repeat([0, 1], 20)), scores) for s in range(200)]
    assert np.mean(aucs) == pytest.approx(0.5, abs=0.03)

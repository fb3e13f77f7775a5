"""What every detector does: scores, verdicts, refusals; saved and loaded without a pickle."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from histoforensics.forensics import CONTROLS, DETECTORS, DetectorCard, TrainingSet, load_detector, train_detector
from histoforensics.forensics.detector import Verdict
from histoforensics.forensics.radial import RadialDetector
from histoforensics.forensics.registry import detector_class, find_detectors
from histoforensics.forensics.wht import WHTDetector
from histoforensics.slides import ConfigError, DetectorError, PatchError


@pytest.fixture(scope="module")
def data(blurred_noise):
    pixels, _ = blurred_noise(60, 32)
    real, fake = pixels[:60], pixels[60:]
    return TrainingSet(
        real=real[:30], fake=fake[:30], calibration_real=real[30:], calibration_fake=fake[30:],
        real_groups=np.arange(30) // 3, calibration_real_groups=10 + np.arange(30) // 3,
        provenance={"codec_policy": "none", "slides": ["/home/somebody/a.svs"], "mpp": 0.5},
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(data):
    return train_detector("radial-lr", data, seed=0)


def test_scores_are_probabilities_of_single_precision_that_rise_with_logits(trained, blurred_noise):
    pixels, _ = blurred_noise(20, 32, seed=5)
    scores, logits = trained.score(pixels), trained.logits(pixels)
    assert scores.dtype == np.float32
    assert scores.shape == (40,)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert (np.argsort(scores, kind="stable") == np.argsort(logits, kind="stable")).all()
    wanted = 1 / (1 + np.exp(-(trained.scale.item() * logits + trained.bias.item())))
    np.testing.assert_allclose(scores, wanted, atol=1e-6)


def test_batch_size_does_not_change_scores(trained, blurred_noise):
    pixels, _ = blurred_noise(9, 32)
    np.testing.assert_allclose(trained.score(pixels, batch=1), trained.score(pixels, batch=64), atol=1e-6)


def test_no_patches_give_no_scores(trained):
    assert trained.score(np.zeros((0, 32, 32, 3), np.uint8)).shape == (0,)


def test_views_with_negative_strides_are_scored_like_their_copies(trained, blurred_noise):
    pixels, _ = blurred_noise(4, 32)
    np.testing.assert_array_equal(trained.score(pixels[:, ::-1]), trained.score(pixels[:, ::-1].copy()))


def test_verdicts_follow_the_thresholds_and_the_thresholds_themselves_are_unsure(trained):
    detector = RadialDetector(32)
    detector.real_below.fill_(0.25)
    detector.fake_above.fill_(0.75)
    scores = np.array([0.0, 0.2, 0.25, 0.5, 0.75, 0.8, 1.0], np.float32)
    assert detector.verdicts(scores).tolist() == ["real", "real", "unsure", "unsure", "unsure", "fake", "fake"]
    assert {v.value for v in Verdict} == {"real", "fake", "unsure"}


def test_verdicts_need_thresholds_and_probabilities(trained):
    with pytest.raises(DetectorError, match="radial-lr: no thresholds yet"):
        RadialDetector(32).verdicts(np.array([0.5]))
    with pytest.raises(DetectorError, match=r"scores must be from 0 to 1, got .*1\.5"):
        trained.verdicts(np.array([0.5, 1.5]))
    with pytest.raises(DetectorError, match=r"scores must be from 0 to 1, got .*nan"):
        trained.verdicts(np.array([np.nan]))


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((2, 40, 36, 3), np.uint8), "patches are 36 x 40 px, but this detector judges 32 x 32 px; crop them"),
        (np.zeros((2, 32, 32, 3), np.float32), "must be a uint8 array"),
        (np.zeros((32, 32, 3), np.uint8), r"got uint8 \(32, 32, 3\)"),
        (np.zeros((1, 32, 32, 4), np.uint8), r"got uint8 \(1, 32, 32, 4\)"),
        ([[1]], "got list"),
    ],
)
def test_pixels_of_another_kind_are_refused(trained, pixels, message):
    with pytest.raises(PatchError, match=message):
        trained.score(pixels)


def test_patch_size_must_be_a_sensible_whole_number():
    with pytest.raises(ConfigError, match="patch_px must be a whole number of at least 16, got 8"):
        RadialDetector(8)


def test_weights_that_are_not_finite_are_told():
    detector = RadialDetector(32)
    detector.intercept.fill_(float("nan"))
    with pytest.raises(DetectorError, match="2 of 2 logits are not finite"):
        detector.score(np.zeros((2, 32, 32, 3), np.uint8))


def test_every_registered_name_is_its_classes_name_and_controls_say_so():
    assert {name: kind.name for name, kind in (DETECTORS | CONTROLS).items()} == {n: n for n in DETECTORS | CONTROLS}
    assert {kind.kind for kind in DETECTORS.values()} == {"detector"}
    assert {kind.kind for kind in CONTROLS.values()} == {"control"}
    assert {"radial-lr", "dct-ridge", "wht-lr", "npr", "resnet"} <= set(DETECTORS)
    assert set(CONTROLS) == {"rgb", "blockiness", "slope"}


def test_unknown_name_lists_what_there_is():
    with pytest.raises(DetectorError, match=r"unknown detector 'fft'; detectors are radial-lr, .*; controls are rgb"):
        detector_class("fft")


@pytest.mark.parametrize("name", ["radial-lr", "dct-ridge", "wht-lr", "rgb", "blockiness", "slope"])
def test_saved_detector_scores_alike_after_loading(data, tmp_path, name):
    detector = train_detector(name, data, seed=1)
    detector.save(tmp_path / name)
    loaded = load_detector(tmp_path / name)
    assert type(loaded) is type(detector)
    np.testing.assert_array_equal(loaded.score(data.real), detector.score(data.real))
    assert (loaded.real_below, loaded.fake_above) == (detector.real_below, detector.fake_above)
    assert loaded.card == detector.card
    assert sorted(p.name for p in (tmp_path / name).iterdir()) == ["card.json", "detector.safetensors", "split.json"]


def test_fresh_interpreter_loads_and_scores(trained, tmp_path):
    trained.save(tmp_path / "d")
    code = (
        "import numpy as np; from histoforensics.forensics import load_detector; "
        "print(load_detector('d').score(np.full((2, 32, 32, 3), 90, np.uint8)).shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(2,)"


def test_saving_over_an_older_detector_replaces_it_but_spares_other_files(trained, tmp_path):
    trained.save(tmp_path / "d")
    trained.save(tmp_path / "d")
    assert load_detector(tmp_path / "d").name == "radial-lr"
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "thesis.txt").write_text("x")
    with pytest.raises(DetectorError, match="e: the folder holds other files"):
        trained.save(tmp_path / "e")
    with pytest.raises(DetectorError, match=r"thesis.txt: a file stands where"):
        trained.save(tmp_path / "e" / "thesis.txt")


def test_detectors_are_found_in_a_folder(trained, tmp_path):
    trained.save(tmp_path / "b")
    trained.save(tmp_path / "a")
    (tmp_path / "c").mkdir()
    assert [p.name for p in find_detectors(tmp_path)] == ["a", "b"]
    assert find_detectors(tmp_path / "nothing") == []


def test_unknown_folder_and_untrained_name_are_told_apart(tmp_path):
    with pytest.raises(DetectorError, match=r"nowhere: no such detector folder, and none of the shipped .* for radial"):
        load_detector(tmp_path / "nowhere")
    with pytest.raises(DetectorError, match="resnet is not trained yet; train it with `histoforensics detectors train"):
        load_detector("resnet")


def edit(folder, **fields):
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | fields))


def reweigh(folder):
    tensors = load_file(folder / "detector.safetensors")
    save_file(tensors | {"bias": torch.tensor(9.0)}, folder / "detector.safetensors")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda f: (f / "split.json").unlink(), "d: not a detector's folder, it lacks split.json"),
        (lambda f: (f / "card.json").write_text("{"), "d: the card is not JSON"),
        (lambda f: (f / "card.json").write_bytes(b"\xff\xfe"), "d: card.json is not text"),
        (lambda f: (f / "card.json").write_text("[]"), "d: this is not a detector's card"),
        (lambda f: edit(f, name="fft"), "d: unknown detector 'fft'; known are"),
        (lambda f: edit(f, format=4), "d: card format 4 .* reads 1 and 2 and 3"),
        (lambda f: edit(f, mood="good"), r"unknown fields \['mood'\]"),
        (lambda f: edit(f, calibration={"scale": 1}), "the card's calibration is incomplete"),
        (lambda f: edit(f, config={"patch_px": 32, "colour": 1}), "d: the card's config does not build a radial-lr"),
        (lambda f: edit(f, config={"patch_px": 48, "compat": None}), "does not fit the radial-lr"),
        (lambda f: edit(f, splits={}), "d: the training split's digest does not match"),
        (reweigh, "detector.safetensors is not the file that the card was written for"),
        (lambda f: (f / "split.json").write_text("{}"), "split.json is not the file that the card was written for"),
    ],
)
def test_harmed_folder_never_loads(trained, tmp_path, harm, message):
    folder = trained.save(tmp_path / "d")
    harm(folder)
    with pytest.raises(DetectorError, match=message):
        load_detector(folder)


def test_card_tells_what_was_done_and_no_path(trained, data, tmp_path):
    card = json.loads((trained.save(tmp_path / "d") / "card.json").read_text())
    assert (card["name"], card["kind"], card["patch_px"], card["seed"]) == ("radial-lr", "detector", 32, 0)
    assert (card["codec_policy"], card["mpp"]) == ("none", 0.5)
    assert card["trained_on"] == {"real": 30, "fake": 30, "real_groups": 10, "fake_groups": 30, "slides": ["a.svs"]}
    assert card["calibration"]["real_groups"] == 10
    assert "10 independent groups" in card["promise"]
    assert set(card["splits"]) == {"training", "calibration"}
    assert "somebody" not in json.dumps(card)
    assert DetectorCard.from_json(json.dumps(card)) == trained.card


def test_uncalibrated_detector_is_saved_and_loaded_as_such(blurred_noise, tmp_path):
    pixels, labels = blurred_noise(10, 32)
    WHTDetector.fit(pixels, labels, seed=0, copies=0).save(tmp_path / "d")
    assert not load_detector(tmp_path / "d").is_calibrated


def test_card_of_the_first_format_still_loads_without_what_it_lacks(trained, tmp_path, blurred_noise):
    folder = trained.save(tmp_path / "d")
    card = json.loads((folder / "card.json").read_text())
    card["calibration"] = {k: v for k, v in card["calibration"].items() if k not in ("strict_fake_above", "conformal")}
    card = {k: v for k, v in card.items() if k not in ("domain", "replay_rounds")} | {"format": 1}
    (folder / "card.json").write_text(json.dumps(card))
    old = load_detector(folder)
    pixels, _ = blurred_noise(4, 32)
    assert old.verdicts(old.score(pixels)).tolist() == trained.verdicts(trained.score(pixels)).tolist()
    assert old.reasons_to_doubt(pixels // 8) == [None] * 8
    with pytest.raises(DetectorError, match="radial-lr: no conformal scores in its card; train it again"):
        old.verdicts(old.score(pixels), alpha=0.1)


def test_verdicts_at_an_error_rate_are_conformal_and_survive_saving(trained, tmp_path, blurred_noise):
    pixels, _ = blurred_noise(20, 32, seed=3)
    scores = trained.score(pixels)
    wanted = trained.card.calibration.conformal.verdicts(scores, 0.2)
    assert trained.verdicts(scores, alpha=0.2).tolist() == wanted.tolist()
    assert load_detector(trained.save(tmp_path / "d")).verdicts(scores, alpha=0.2).tolist() == wanted.tolist()


def test_an_error_rate_that_so_few_groups_cannot_support_is_refused(trained):
    with pytest.raises(DetectorError, match=r"alpha 0\.05 is .* with 10 independent reals and 30 fakes; 0\.091 is the"):
        trained.verdicts(np.array([0.5]), alpha=0.05)


def test_doubtful_patches_become_unsure(trained, blurred_noise):
    pixels, _ = blurred_noise(5, 32, seed=5)
    scores = trained.score(pixels)
    sure = trained.verdicts(scores)
    told = trained.verdicts(scores, doubtful=["too small"] + [None] * 9)
    assert told[0] == "unsure"
    assert told[1:].tolist() == sure[1:].tolist()
    assert set(trained.verdicts(scores, doubtful=np.ones(10, bool))) == {"unsure"}
    with pytest.raises(PatchError, match="10 scores need one doubt each, got 2"):
        trained.verdicts(scores, doubtful=[True, False])


def test_reasons_to_doubt_tell_size_resolution_and_looks(trained, blurred_noise):
    pixels, _ = blurred_noise(8, 32, seed=6)
    assert trained.reasons_to_doubt(pixels, mpp=0.5) == [None] * 16
    assert trained.reasons_to_doubt(pixels, mpp=0.54) == [None] * 16
    assert set(trained.reasons_to_doubt(pixels, mpp=1.0)) == {"1 um/px, but this detector was trained at 0.5 um/px"}
    told = trained.reasons_to_doubt(pixels[:2], mpp=[None, 0.25])
    assert told == [None, "0.25 um/px, but this detector was trained at 0.5 um/px"]
    assert set(trained.reasons_to_doubt(pixels[:, :30])) == {"32 x 30 px, but this detector judges 32 x 32 px"}
    flat = trained.reasons_to_doubt(np.full((1, 32, 32, 3), 200, np.uint8))
    assert flat[0].startswith("blurrier than anything calibrated on")
    assert trained.reasons_to_doubt(np.zeros((0, 32, 32, 3), np.uint8)) == []
    with pytest.raises(PatchError, match=r"16 patches need one resolution .* got 2"):
        trained.reasons_to_doubt(pixels, mpp=[0.5, 0.5])
    with pytest.raises(PatchError, match="must be a uint8 array"):
        trained.reasons_to_doubt(pixels.astype(float))

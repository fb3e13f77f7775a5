"""The stock: detectors by name, and what is said where their files are missing or damaged."""

import json

import numpy as np
import pytest

from histoforensics.forensics import DETECTORS, TrainingSet, load_detector, stock, train_detector
from histoforensics.forensics.stock import STOCK, in_stock, stock_card, stock_folder
from histoforensics.slides import DetectorError

BYTES_MOST = 6 * 10**6


@pytest.fixture
def tiny_stock(blurred_noise, tmp_path, monkeypatch):
    """A stock of one detector."""
    (pixels, _), (others, _) = blurred_noise(16, 32), blurred_noise(10, 32, seed=1)
    data = TrainingSet(real=pixels[:16], fake=pixels[16:], calibration_real=others[:10], calibration_fake=others[10:])
    train_detector("wht-lr", data).save(tmp_path / "stock/wht-lr")
    monkeypatch.setattr(stock, "STOCK_ROOT", tmp_path / "stock")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "stock"


def test_every_detector_of_the_stock_is_a_registered_one():
    assert set(STOCK) <= set(DETECTORS)


def test_a_shipped_detector_is_loaded_by_its_name(tiny_stock):
    detector = load_detector("wht-lr")
    assert detector.name == "wht-lr"
    assert detector.is_calibrated
    assert stock_card("wht-lr") == detector.card
    assert in_stock() == ("wht-lr",)


def test_an_existing_folder_goes_before_a_name(tiny_stock, tmp_path):
    detector = load_detector("wht-lr")
    detector.intercept.fill_(7.0)
    detector.save(tmp_path / "wht-lr")
    assert load_detector("wht-lr").intercept.item() == 7.0


def test_a_detector_that_is_not_there_is_missed_in_one_sentence(tiny_stock):
    with pytest.raises(
        DetectorError, match=r"^the shipped fusion is missing from this installation; install again, or"
    ):
        load_detector("fusion")


def test_a_name_outside_the_stock_is_answered_with_the_known_ones():
    with pytest.raises(DetectorError, match=r"resnet is not a shipped detector; these are: .*fusion"):
        stock_folder("resnet")


def test_a_changed_card_never_loads(tiny_stock):
    card = json.loads((tiny_stock / "wht-lr/card.json").read_text())
    (tiny_stock / "wht-lr/card.json").write_text(json.dumps(card | {"weights_sha256": "0" * 64}))
    with pytest.raises(
        DetectorError, match=r"wht-lr: detector\.safetensors is not the file that the card was written for"
    ):
        stock_card("wht-lr")


@pytest.mark.parametrize("name", in_stock())
def test_what_is_shipped_is_small_calibrated_measured_and_says_where_it_fails(name):
    folder = stock_folder(name)
    assert {path.name for path in folder.iterdir()} == {"card.json", "detector.safetensors", "split.json"}
    assert sum(path.stat().st_size for path in folder.iterdir()) <= BYTES_MOST
    detector = load_detector(name)
    card = detector.card
    assert detector.is_calibrated
    assert card.licence.startswith("Apache-2.0")
    assert card.replay_rounds > 0
    assert card.domain is not None
    assert len(card.limits) >= 3
    assert any("ship" in command for command in card.commands)
    measured = card.evaluation
    assert {"in_domain", "leave_one_out", "best_control"} <= set(measured)
    for variant in ("clean", "jpeg_70", "resize_0.75"):
        cell = measured["leave_one_out"][variant]
        assert 0 <= cell["worst"] <= cell["mean"] <= 1
        assert set(cell["each"]) == set(card.trained_on["generators"])
    scores = detector.score(
        np.random.default_rng(0).integers(0, 256, (2, *[detector.patch_px] * 2, 3)).astype(np.uint8)
    )
    assert scores.shape == (2,)

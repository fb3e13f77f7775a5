"""The codec history of judged patches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from histoforensics.forensics import Detector, history, load_detector
from histoforensics.forensics.history import Panel, parse_history, slide_panel
from histoforensics.forensics.scan import scan_slide
from histoforensics.forensics.scan_grid import ScanGrid
from histoforensics.forensics.scoremap import OK
from histoforensics.forensics.slideresults import describe
from histoforensics.slides import Codec, CodecError, ConfigError, Slide, replay
from histoforensics.slides.synthetic import purple_tissue, write_svs


@pytest.fixture
def trained_on_replayed(detector_folder: Path) -> Detector:
    detector = load_detector(detector_folder)
    detector.card = replace(detector.card, replay_rounds=3)
    return detector


@pytest.fixture
def coarse(tmp_path: Path) -> Path:
    return write_svs(tmp_path / "a.svs", purple_tissue((400, 400), np.random.default_rng(3)), quality=40)


def test_patches_are_put_through_the_slides_codec_as_often_as_the_card_says(
    coarse: Path, trained_on_replayed: Detector, detector: Detector
) -> None:
    with Slide.open(coarse) as slide:
        scan = scan_slide(slide, {"replayed": trained_on_replayed, "plain": detector}, ScanGrid(stride_px=40)).scores
        for row, column in np.argwhere(scan.status == OK)[::5]:
            x, y = 40 * int(column), 40 * int(row)
            patch = slide.read(x, y, 64, 64)[None]
            wanted = trained_on_replayed.score(replay(slide.codec, patch, x, y, rounds=3))[0]
            assert scan.scores["replayed"][row, column] == pytest.approx(wanted, abs=1e-6)
            assert scan.scores["plain"][row, column] == pytest.approx(detector.score(patch)[0], abs=1e-6)


def test_as_is_judges_what_the_slide_holds(coarse: Path, trained_on_replayed: Detector) -> None:
    with Slide.open(coarse) as slide:
        panel, reason = slide_panel(slide, {"a": trained_on_replayed}, "as-is")
        patch = slide.read(3, 5, 64, 64)[None]
        scores = panel.score(patch, np.array([3]), np.array([5]))
        verdict = describe("a", slide, scan_slide(slide, {"a": trained_on_replayed}, ScanGrid(history="as-is")),
                           {"a": trained_on_replayed}, "as-is")  # fmt: skip
    assert reason == ""
    np.testing.assert_array_equal(scores["a"], trained_on_replayed.score(patch))
    assert verdict["detectors"]["a"]["replay_rounds"] == 0


def test_a_slide_whose_codec_cannot_be_replayed_is_judged_as_it_is_and_says_so(
    coarse: Path, trained_on_replayed: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(codec: Codec) -> Codec:
        raise CodecError("it cannot be repeated.")

    monkeypatch.setattr(history, "matched_codec", refuse)
    with Slide.open(coarse) as slide:
        panel, reason = slide_panel(slide, {"a": trained_on_replayed})
        patch = slide.read(0, 0, 64, 64)[None]
        scores = panel.score(patch, np.array([0]), np.array([0]))
    assert reason == "it cannot be repeated."
    np.testing.assert_array_equal(scores["a"], trained_on_replayed.score(patch))


def test_a_verdict_warns_where_patches_could_not_be_replayed(coarse: Path, trained_on_replayed: Detector) -> None:
    judges = {"a": trained_on_replayed}
    with Slide.open(coarse) as slide:
        scan = replace(scan_slide(slide, judges, ScanGrid()), not_replayed="x: unknown codec.")
        verdict = describe("a", slide, scan, judges)
    assert any("cannot be replayed (x: unknown codec.)" in warning for warning in verdict["warnings"])
    assert verdict["detectors"]["a"]["replay_rounds"] == 0


def test_a_panel_without_a_codec_never_replays(trained_on_replayed: Detector) -> None:
    patch = purple_tissue((64, 64), np.random.default_rng(0))[None]
    scores = Panel({"a": trained_on_replayed}).score(patch, np.array([1]), np.array([1]))
    np.testing.assert_array_equal(scores["a"], trained_on_replayed.score(patch))


def test_the_rounds_are_saved_with_the_card(trained_on_replayed: Detector, tmp_path: Path) -> None:
    assert load_detector(trained_on_replayed.save(tmp_path / "d")).card.replay_rounds == 3


def test_other_histories_are_refused() -> None:
    assert (parse_history("card"), parse_history("as-is")) == ("card", "as-is")
    with pytest.raises(ConfigError, match="history must be card or as-is, got 'raw'"):
        parse_history("raw")
    with pytest.raises(ConfigError, match="history must be card or as-is, got 'raw'"):
        ScanGrid(history="raw")

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from histoforensics.forensics import Detector
from histoforensics.forensics.calibration import false_positive_promise
from histoforensics.forensics.scoremap import BACKGROUND, OK, ScoreMap
from histoforensics.forensics.verdict import (
    Scope,
    SlideCall,
    alarm_tail,
    conclude,
    disjoint_scores,
    resolution_scope,
    slide_verdict,
)
from histoforensics.forensics.wht import WHTDetector
from histoforensics.forensics.windows import Lattice
from histoforensics.slides import ConfigError, DetectorError


def score_map(scores: np.ndarray, stride: int = 32, mpp: float = 0.25) -> ScoreMap:
    rows, columns = scores.shape
    lattice = Lattice((columns - 1) * stride + 64, (rows - 1) * stride + 64, 64, stride)
    status = np.where(np.isnan(scores), BACKGROUND, OK).astype(np.uint8)
    return ScoreMap(lattice, mpp, status, {"a": scores.astype(np.float32)})


@pytest.mark.parametrize(("patches", "groups"), [(1, 17), (10, 17), (300, 17), (300, 100), (4000, 60)])
def test_the_tail_is_scipys_beta_binomial(patches: int, groups: int) -> None:
    above = int(0.05 * groups)
    law = stats.betabinom(patches, above + 1, groups - above)
    k = np.unique(np.linspace(0, patches, 25).astype(int))
    np.testing.assert_allclose(alarm_tail(patches, groups)[k], law.sf(k - 1), rtol=1e-6, atol=1e-10)


def test_its_mean_is_the_rate_that_calibration_expects() -> None:
    tail = alarm_tail(400, 17)
    assert tail[1:].sum() / 400 == pytest.approx(false_positive_promise(17)[0], rel=1e-9)


def test_a_real_slide_alarms_as_rarely_as_promised() -> None:
    """Calibrate on 40 scores, scan 200 new ones from the same law, many times: at most 1 % of the slides alarm."""
    rng = np.random.default_rng(0)
    runs, alarms = 4000, 0
    tail = alarm_tail(200, 40)
    for _ in range(runs):
        threshold = np.sort(rng.random(40))[::-1][2]  # the smallest that at most 5 % of 40 exceed
        alarms += tail[(rng.random(200) > threshold).sum()] <= 0.01
    assert alarms / runs <= 0.01 + 3 * (0.01 * 0.99 / runs) ** 0.5
    assert alarms / runs > 0.004  # and the rule is not idle


def test_only_patches_that_share_no_pixel_count() -> None:
    scores = np.arange(35, dtype=float).reshape(5, 7) / 35
    scores[2, 2] = np.nan
    assert (disjoint_scores(score_map(scores), "a") * 35).round().tolist() == [0, 2, 4, 6, 14, 18, 20, 28, 30, 32, 34]
    assert len(disjoint_scores(score_map(scores, stride=64), "a")) == 34
    assert len(disjoint_scores(score_map(scores, stride=25), "a")) == 2 * 3


def test_a_slide_full_of_fakes_is_suspicious_and_a_real_one_is_not(detector: Detector) -> None:
    low, high = 0.01, 0.99
    real = slide_verdict(score_map(np.full((20, 20), low)), "a", detector)
    assert (real.call, real.patches, real.called_fake, real.p) == (SlideCall.NOTHING_FOUND, 100, 0, 1.0)
    fake = slide_verdict(score_map(np.full((20, 20), high)), "a", detector)
    assert fake.call is SlideCall.SUSPICIOUS
    assert fake.called_fake == 100
    assert fake.p is not None
    assert fake.p < 1e-6
    assert fake.calibration_groups == 75
    assert fake.false_alarm_rate == false_positive_promise(75)[0]
    assert fake.scope is Scope.SAME
    assert fake.warnings == ()


def test_the_count_that_is_needed_is_where_the_call_turns(detector: Detector) -> None:
    for judges in (1, 3):
        needed = slide_verdict(score_map(np.full((20, 20), 0.01)), "a", detector, detectors=judges).needed
        assert needed is not None
        calls = []
        for count in (needed - 1, needed):
            scores = np.full((10, 10), 0.01)
            scores.ravel()[:count] = 0.99
            calls.append(slide_verdict(score_map(scores, stride=64), "a", detector, detectors=judges).call)
        assert calls == [SlideCall.NOTHING_FOUND, SlideCall.SUSPICIOUS]


def test_the_plain_binomial_stands_beside_it(detector: Detector) -> None:
    scores = np.full((10, 10), 0.01)
    scores[0, :] = 0.99
    verdict = slide_verdict(score_map(scores, stride=64), "a", detector)
    expected = stats.binomtest(10, 100, verdict.false_alarm_rate, alternative="greater").pvalue
    assert verdict.p_at_expected_rate == pytest.approx(expected)
    assert verdict.p is not None
    assert verdict.p > expected


def test_without_tissue_nothing_is_judged(detector: Detector) -> None:
    for shape in ((4, 4), (0, 0)):
        nothing = np.full(shape, np.nan, np.float32)
        scores = ScoreMap(Lattice(160, 160, 64, 32), 0.25, np.full(shape, BACKGROUND, np.uint8), {"a": nothing})
        verdict = slide_verdict(scores, "a", detector)
        assert (verdict.call, verdict.p, verdict.patches, verdict.needed) == (SlideCall.NOT_JUDGED, None, 0, None)


def test_another_resolution_is_said_and_not_resampled(detector: Detector) -> None:
    card = detector.card
    assert resolution_scope(card, 0.27)[0] is Scope.SAME
    scope, (warning,) = resolution_scope(card, 0.499)
    assert scope is Scope.OTHER
    assert "0.499 um/px, the detector was trained at 0.25 um/px; nothing was resampled" in warning
    assert resolution_scope(replace(card, mpp=None), 0.25)[0] is Scope.UNKNOWN


def test_one_suspicious_detector_is_enough(detector: Detector) -> None:
    low = slide_verdict(score_map(np.full((20, 20), 0.01)), "a", detector, detectors=2)
    high = slide_verdict(score_map(np.full((20, 20), 0.99)), "a", detector, detectors=2)
    none = slide_verdict(score_map(np.full((20, 20), np.nan)), "a", detector, detectors=2)
    assert high.alpha == 0.005
    assert conclude({"a": low, "b": high}) is SlideCall.SUSPICIOUS
    assert conclude({"a": low, "b": none}) is SlideCall.NOTHING_FOUND
    assert conclude({"a": none}) is SlideCall.NOT_JUDGED


def test_a_detector_without_calibration_is_refused(detector: Detector) -> None:
    bare = copy.copy(WHTDetector(64))
    with pytest.raises(DetectorError, match="no calibration in its card"):
        slide_verdict(score_map(np.full((2, 2), 0.5)), "a", bare)
    with pytest.raises(ConfigError, match="calibration_groups must be at least 1, got 0"):
        alarm_tail(3, 0)

"""What a score map says of the whole slide, with its false-alarm rate.

The rule: of the disjoint patches of tissue, count those that the detector calls fake at its frozen threshold. On real
tissue each is a false alarm with a rate that calibration could only bound: with k of n independent calibration groups
above the threshold it is Beta(k + 1, n - k). The number of false alarms among m patches then is beta-binomial, and p is
its upper tail at the count. The slide is suspicious when p is at most ``ALPHA`` over the number of detectors.

References: Wilks 1941 for the law of the rate; Bonferroni for several detectors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from histoforensics.slides import DetectorError, require

from .calibration import FALSE_POSITIVE_RATE
from .card import DetectorCard
from .ood import MPP_TOLERANCE
from .scoremap import OK, ScoreMap

if TYPE_CHECKING:
    from .detector import Detector

ALPHA = 0.01  # real slides that may be called suspicious, if the rule's assumptions hold
DOES_NOT_SHOW = (
    "Patches of one slide share stain, scanner and codec, so they depend on each other more than the rule assumes.",
    "On tissue, scanners or codecs unlike the calibration's the false-alarm rate is not known.",
    "A small splice hardly moves the share of a slide: nothing found does not prove that nothing was replaced.",
    "Generators that the detectors were not trained on may pass; a resaved, resampled or restained slide may alarm.",
    "It says nothing of who changed the slide, nor of what the tissue shows.",
)


class SlideCall(StrEnum):
    """What is said of a slide."""

    SUSPICIOUS = "suspicious"
    NOTHING_FOUND = "nothing found"
    NOT_JUDGED = "not judged"


class Scope(StrEnum):
    """Whether the slide is at the resolution that a detector was trained on."""

    SAME = "same resolution"
    OTHER = "other resolution"
    UNKNOWN = "resolution of the training not told"


@dataclass(frozen=True, kw_only=True)
class SlideVerdict:
    """One detector's verdict on one slide.

    Attributes:
        call: Suspicious, nothing found, or not judged where no disjoint patch has tissue.
        patches: Disjoint patches that were judged.
        called_fake: Those among them above the frozen threshold.
        p: Chance of as many on real tissue like the calibration's, its rate as uncertain as calibration left it.
        p_at_expected_rate: The plain binomial tail, as if the expected rate were exact; smaller, and too sure.
        alpha: What p has to reach.
        needed: The smallest count that would have made this slide suspicious; ``None`` if no count can.
        false_alarm_rate: Expected per patch, from calibration.
        false_alarm_rate_upper95: What it is at most, with 95 % confidence.
        calibration_groups: Independent blocks, slides or patients that it was measured on.
        scope: Whether the resolution is the training's.
        warnings: A sentence each.
    """

    call: SlideCall
    patches: int
    called_fake: int
    p: float | None
    p_at_expected_rate: float | None
    alpha: float
    needed: int | None
    false_alarm_rate: float
    false_alarm_rate_upper95: float
    calibration_groups: int
    scope: Scope
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values, in the order of the fields."""
        return {key: value.value if isinstance(value, StrEnum) else value for key, value in asdict(self).items()}


def slide_verdict(scores: ScoreMap, label: str, judge: Detector, *, detectors: int = 1) -> SlideVerdict:
    """The verdict of one detector, by the rule in this module's docstring.

    Args:
        scores: The score map.
        label: Which of its scores are this detector's.
        judge: For its thresholds and card.
        detectors: How many judge the slide: each gets its share of ``ALPHA``.

    Raises:
        DetectorError: If the detector has no calibration.
    """
    from .detector import Verdict  # brings torch, which an index of verdicts is spared

    calibration = judge.card.calibration
    if calibration is None:
        raise DetectorError(f"{judge.name}: no calibration in its card; its false-alarm rate is unknown.")
    disjoint = disjoint_scores(scores, label)
    fakes = int((judge.verdicts(disjoint) == Verdict.FAKE.value).sum())
    alpha = ALPHA / detectors
    tail = alarm_tail(len(disjoint), calibration.real_groups)
    enough = np.flatnonzero(tail <= alpha)
    p = float(tail[fakes]) if len(disjoint) else None
    call = SlideCall.NOT_JUDGED if p is None else SlideCall.SUSPICIOUS if p <= alpha else SlideCall.NOTHING_FOUND
    rate = calibration.expected_fpr
    scope, warnings = resolution_scope(judge.card, scores.mpp)
    return SlideVerdict(
        call=call,
        patches=len(disjoint),
        called_fake=fakes,
        p=p,
        p_at_expected_rate=None if p is None else float(special.bdtrc(fakes - 1, len(disjoint), rate)),
        alpha=alpha,
        needed=int(enough[0]) if len(enough) else None,
        false_alarm_rate=rate,
        false_alarm_rate_upper95=calibration.fpr_upper95,
        calibration_groups=calibration.real_groups,
        scope=scope,
        warnings=warnings,
    )


def disjoint_scores(scores: ScoreMap, label: str) -> NDArray[np.float32]:
    """The scores of judged patches that share no pixel: every ceil(patch / stride)-th of the lattice, (n,)."""
    step = -(-scores.lattice.patch_px // scores.lattice.stride_px)
    judged = scores.status[::step, ::step] == OK
    picked: NDArray[np.float32] = scores.scores[label][::step, ::step][judged]
    return picked


def alarm_tail(patches: int, calibration_groups: int) -> NDArray[np.float64]:
    """P(at least k false alarms) for k = 0 ... ``patches``, on real tissue like the calibration's: (patches + 1,).

    >>> alarm_tail(1, 19).round(3).tolist()  # one patch: the expected rate itself, 1 / 20
    [1.0, 0.05]
    """
    require(patches >= 0, "patches", "at least 0", patches)
    require(calibration_groups >= 1, "calibration_groups", "at least 1", calibration_groups)
    above = math.floor(FALSE_POSITIVE_RATE * calibration_groups)
    a, b = above + 1, calibration_groups - above
    k = np.arange(patches + 1)
    log_choose = special.gammaln(patches + 1) - special.gammaln(k + 1) - special.gammaln(patches - k + 1)
    chances = np.exp(log_choose + special.betaln(k + a, patches - k + b) - special.betaln(a, b))
    tail: NDArray[np.float64] = np.minimum(np.cumsum(chances[::-1])[::-1], 1.0)
    tail[0] = 1.0
    return tail


def resolution_scope(card: DetectorCard, mpp: float) -> tuple[Scope, tuple[str, ...]]:
    """Whether a slide of ``mpp`` um per pixel is what a detector was trained on, and the warning if it is not."""
    if card.mpp is None:
        return Scope.UNKNOWN, (
            f"The detector does not tell at which resolution it was trained; this is {mpp:g} um/px.",
        )
    if abs(mpp / card.mpp - 1) > MPP_TOLERANCE:
        warning = (
            f"The slide has {mpp:g} um/px, the detector was trained at {card.mpp:g} um/px; nothing was resampled, and "
            "neither its threshold nor its false-alarm rate is known at this resolution."
        )
        return Scope.OTHER, (warning,)
    return Scope.SAME, ()


def conclude(verdicts: Mapping[str, SlideVerdict]) -> SlideCall:
    """The slide's call: suspicious if any detector says so, not judged if none could judge."""
    calls = {verdict.call for verdict in verdicts.values()}
    if SlideCall.SUSPICIOUS in calls:
        return SlideCall.SUSPICIOUS
    return SlideCall.NOTHING_FOUND if SlideCall.NOTHING_FOUND in calls else SlideCall.NOT_JUDGED

"""From logits to probabilities and verdicts, on the calibration split and nowhere else.

References: Platt 1999, with his smoothed targets; order statistics of a threshold: Wilks 1941.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy import special

from histoforensics.slides import PatchError

from .conformal import Conformal
from .leaks import as_groups
from .metrics import least_reals

FALSE_POSITIVE_RATE = 0.05  # reals of the calibration split that may be called fake
STRICT_RATE = 0.01  # the same for those who can afford no false alarm; only where enough reals calibrate
MISS_RATE = 0.05  # its fakes that may be called real
SMALLEST_SLOPE = 1e-3  # a standard deviation of logits: scores rise with them even where no signal is found
RULE = (
    "fake above the smallest score that at most 5 % of the calibration reals exceed, real below the largest score that "
    "at most 5 % of the calibration fakes fall short of, unsure between"
)
CROSSED = (
    "the two thresholds crossed (every cut between them keeps both rates), so one cut stands midway between them in "
    "log-odds and no score is unsure"
)

Floats = npt.NDArray[np.floating[Any]]
Groups = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Scale, bias and thresholds, with what they were chosen on and what that can promise."""

    scale: float  # P(fake) = sigmoid(scale * logit + bias), for as many fakes as reals
    bias: float
    real_below: float  # thresholds on P(fake)
    fake_above: float
    n_real: int
    n_fake: int
    real_groups: int  # independent reals: blocks, slides or patients
    fake_groups: int
    false_positive_rate: float  # on the calibration split itself
    miss_rate: float
    unsure_rate: float
    expected_fpr: float  # on new reals, if the groups are independent
    fpr_upper95: float
    rule: str
    strict_fake_above: float | None = None  # for 1 % false positives; None under 99 independent reals
    conformal: Conformal | None = None  # for verdicts at any error rate; None in cards of format 1

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """What ``dataclasses.asdict`` made of one, after JSON; a TypeError if a field is missing or foreign."""
        told = data.get("conformal")
        return cls(**{**data, "conformal": None if told is None else Conformal.from_json(told)})

    @property
    def cut(self) -> float:
        """P(fake) midway between the two thresholds in log-odds, for whoever must decide every patch."""
        return _midway(self.real_below, self.fake_above)

    @property
    def promise(self) -> str:
        """One sentence on the false-positive rate that so few independent reals can support."""
        return (
            f"{self.n_real} calibration reals from {self.real_groups} independent groups: on new tissue of the same "
            f"kind expect about {100 * self.expected_fpr:.0f} % false positives; with 95 % confidence at most "
            f"{100 * self.fpr_upper95:.0f} %."
        )


def calibrate(
    real_logits: Floats,
    fake_logits: Floats,
    *,
    real_groups: Groups | int | None = None,
    fake_groups: Groups | int | None = None,
) -> Calibration:
    """Platt scaling and thresholds from the logits of a calibration split.

    Args:
        real_logits: (n,) of real patches that no training saw.
        fake_logits: (m,) of fake ones.
        real_groups: Block, slide or patient of each real (n,), or only how many there are; each patch its own if None.
        fake_groups: The same of the fakes.

    Raises:
        PatchError: If a class is missing from the calibration split.
    """
    for name, logits in (("real", real_logits), ("fake", fake_logits)):
        if len(logits) == 0:
            raise PatchError(f"the calibration split has no {name} patches; thresholds need both classes.")
    scale, bias = (float(np.float32(v)) for v in platt(real_logits, fake_logits))
    real, fake = (probabilities(x, scale, bias) for x in (real_logits, fake_logits))
    real_below, fake_above, crossed = thresholds(real, fake)
    k = _count(real_groups, len(real))
    strict = exceeded_by(real, STRICT_RATE) if k >= least_reals(STRICT_RATE) else None
    expected, upper = false_positive_promise(k)
    return Calibration(
        scale=scale,
        bias=bias,
        real_below=real_below,
        fake_above=fake_above,
        n_real=len(real),
        n_fake=len(fake),
        real_groups=k,
        fake_groups=_count(fake_groups, len(fake)),
        false_positive_rate=float((real > fake_above).mean()),
        miss_rate=float((fake < real_below).mean()),
        unsure_rate=float(np.mean([((p >= real_below) & (p <= fake_above)).mean() for p in (real, fake)])),
        expected_fpr=expected,
        fpr_upper95=upper,
        rule=f"{RULE}; {CROSSED}" if crossed else RULE,
        strict_fake_above=None if strict is None else max(strict, fake_above),
        conformal=Conformal.of(real, fake, real_groups),
    )


def probabilities(logits: Floats, scale: float, bias: float) -> npt.NDArray[np.float32]:
    """sigmoid(scale * logit + bias) as float32, which is how detectors compute and compare scores."""
    p: npt.NDArray[np.float32] = special.expit(np.float32(scale) * np.asarray(logits, np.float32) + np.float32(bias))
    return p


def platt(real_logits: Floats, fake_logits: Floats) -> tuple[float, float]:
    """Scale (above 0) and bias of P(fake) = sigmoid(scale * logit + bias), both classes weighted alike.

    Platt's smoothed targets, (n + 1) / (n + 2) in place of 1, keep the answer finite where the classes are separate.
    """
    x = np.concatenate([real_logits, fake_logits]).astype(np.float64)
    n, m = len(real_logits), len(fake_logits)
    spread = float(x.std()) or 1.0
    u = (x - x.mean()) / spread  # the optimiser sees unit scale whatever the logits' range
    target = np.concatenate([np.full(n, 1 / (n + 2)), np.full(m, (m + 1) / (m + 2))])
    weight = np.concatenate([np.full(n, 0.5 / n), np.full(m, 0.5 / m)])

    def loss(ab: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        z = ab[0] * u + ab[1]
        value = weight @ (np.logaddexp(0, z) - target * z)
        slope = weight * (special.expit(z) - target)
        return float(value), np.array([slope @ u, slope.sum()])

    from scipy import optimize  # which programs that only read cards are spared

    bounds = [(SMALLEST_SLOPE, None), (None, None)]
    a, b = optimize.minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=bounds, tol=1e-12).x
    return float(a / spread), float(b - a * x.mean() / spread)


def thresholds(real: Floats, fake: Floats) -> tuple[float, float, bool]:
    """(real_below, fake_above, crossed) on P(fake), from calibration scores.

    ``fake_above`` is the smallest value that at most 5 % of ``real`` exceed, ``real_below`` the largest that at most
    5 % of ``fake`` fall short of. Where the first is under the second, every cut between them keeps both rates: then
    both become the one cut that is midway in log-odds, and nothing is unsure.
    """
    fake_above = exceeded_by(real, FALSE_POSITIVE_RATE)
    real_below = float(np.sort(fake)[math.floor(MISS_RATE * len(fake))])
    if fake_above >= real_below:
        return real_below, fake_above, False
    cut = float(np.clip(np.float32(_midway(fake_above, real_below)), fake_above, real_below))
    return cut, cut, True


def exceeded_by(scores: Floats, share: float) -> float:
    """The smallest of ``scores`` (n,) that at most ``share`` of them exceed."""
    return float(np.sort(scores)[::-1][math.floor(share * len(scores))])


def false_positive_promise(independent: int) -> tuple[float, float]:
    """Expected and 95 %-upper false-positive rate on new reals of a threshold that floor(5 % of n) of n exceed.

    With k of n independent scores above the threshold, the true rate is Beta(k + 1, n - k): 17 reals, none above, give
    5.6 % expected and up to 16 %.
    """
    above = math.floor(FALSE_POSITIVE_RATE * independent)
    a, b = above + 1, independent - above
    return a / (a + b), float(special.betaincinv(a, b, 0.95))


def _midway(p: float, q: float) -> float:
    """The probability halfway between two others in log-odds."""
    tiny = 1e-7  # float32 scores saturate at 0 and 1
    return float(special.expit(np.mean(special.logit(np.clip([p, q], tiny, 1 - tiny)))))


def _count(groups: Groups | int | None, n: int) -> int:
    """How many independent groups n patches come from."""
    if isinstance(groups, int):
        return groups
    return len(np.unique([str(group) for group in as_groups(groups, n).tolist()]))

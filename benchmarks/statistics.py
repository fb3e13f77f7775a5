"""What an exam can show: intervals and tests for counts, by scipy and statsmodels where they have them.

Every function takes counts, not rates, because sixty answers are few and a rate hides how few. AUC and its cluster
bootstrap live with the detectors, in `histoforensics.forensics.metrics`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, binomtest, fisher_exact, norm
from statsmodels.stats.proportion import confint_proportions_2indep

from histoforensics.slides import require

MOST_PATCHES = 5000  # no exam is larger


class Interval(NamedTuple):
    """A confidence interval: the lower and the upper end."""

    low: float
    high: float


class Sensitivity(NamedTuple):
    """Signal detection: ``d_prime`` is 0 at chance; a positive ``criterion`` leans to the answer "real"."""

    d_prime: float
    criterion: float


def wilson(right: int, total: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion, in [0, 1]; no answers at all leave everything possible.

    References: Wilson 1927, JASA 22.

    >>> [round(end, 3) for end in wilson(34, 60)]
    [0.441, 0.684]
    """
    return _proportion_interval(right, total, confidence, "wilson")


def clopper_pearson(right: int, total: int, confidence: float = 0.95) -> Interval:
    """The exact interval of a proportion, which covers at least ``confidence`` and is therefore the wider one.

    References: Clopper & Pearson 1934, Biometrika 26.

    >>> [round(end, 3) for end in clopper_pearson(60, 60)]
    [0.94, 1.0]
    """
    return _proportion_interval(right, total, confidence, "exact")


def binomial_p(right: int, total: int, chance: float = 0.5) -> float:
    """Exact two-sided probability of a count at least as unlikely as this one if every answer were a guess.

    >>> round(binomial_p(34, 60), 4)
    0.3663
    """
    _check_counts(right, total)
    require(0.0 < chance < 1.0, "chance", "between 0 and 1", chance)
    return 1.0 if total == 0 else float(binomtest(right, total, chance).pvalue)


def least_above_chance(total: int, alpha: float = 0.05) -> int | None:
    """The least count of right answers that beats guessing at ``alpha``, two-sided; None where no count can.

    >>> least_above_chance(60)
    39
    """
    candidates = range(total // 2 + 1, total + 1)
    return next((right for right in candidates if binomial_p(right, total) < alpha), None)


def power(total: int, accuracy: float, alpha: float = 0.05) -> float:
    """Chance in [0, 1] that a reader of this true accuracy is seen to beat guessing on ``total`` patches.

    >>> [round(power(60, accuracy), 2) for accuracy in (0.65, 0.70)]
    [0.56, 0.84]
    """
    require(0.5 < accuracy <= 1.0, "accuracy", "above 0.5 and at most 1", accuracy)
    least = least_above_chance(total, alpha)
    return 0.0 if least is None else float(binom.sf(least - 1, total, accuracy))


def patches_to_beat_guessing(accuracy: float, wanted: float = 0.8, alpha: float = 0.05) -> int | None:
    """From how many patches on `power` is at least ``wanted`` for a reader of this true accuracy; None above 5,000.

    >>> patches_to_beat_guessing(0.65)
    97
    """
    require(0.5 < accuracy <= 1.0, "accuracy", "above 0.5 and at most 1", accuracy)
    sizes = np.arange(1, MOST_PATCHES + 1)
    return _from_which_on(binom.sf(binom.isf(alpha / 2, sizes, 0.5), sizes, accuracy), wanted)


def patches_to_show_guessing(margin: float, wanted: float = 0.8, alpha: float = 0.05) -> int | None:
    """From how many patches on `equivalence_p` falls below ``alpha`` for a true guesser, with probability ``wanted``.

    None above 5,000. Showing that somebody guesses takes more than showing that somebody does not.

    >>> patches_to_show_guessing(0.1)
    227
    """
    require(0.0 < margin < 0.5, "margin", "between 0 and 0.5", margin)
    sizes = np.arange(1, MOST_PATCHES + 1)
    least = binom.isf(alpha, sizes, 0.5 - margin) + 1  # fewer right answers could come from below the margin
    return _from_which_on(binom.cdf(sizes - least, sizes, 0.5) - binom.cdf(least - 1, sizes, 0.5), wanted)


def equivalence_p(right: int, total: int, margin: float) -> float:
    """P of two one-sided exact tests: small where the accuracy is within ``margin`` of guessing; large shows nothing.

    References: Schuirmann 1987, J. Pharmacokinetics and Biopharmaceutics 15.

    >>> [round(equivalence_p(right, total, 0.1), 3) for right, total in ((30, 60), (300, 600))]
    [0.075, 0.0]
    """
    _check_counts(right, total)
    require(0.0 < margin < 0.5, "margin", "between 0 and 0.5", margin)
    if total == 0:
        return 1.0
    above = binomtest(right, total, 0.5 - margin, alternative="greater").pvalue
    below = binomtest(right, total, 0.5 + margin, alternative="less").pvalue
    return float(max(above, below))


def fisher_p(right: int, total: int, other_right: int, other_total: int) -> float:
    """Fisher's exact two-sided p of two proportions of *different* items; for the same items use McNemar's test.

    >>> round(fisher_p(45, 60, 34, 60), 3)
    0.054
    """
    _check_counts(right, total)
    _check_counts(other_right, other_total)
    return float(fisher_exact([[right, total - right], [other_right, other_total - other_right]]).pvalue)


def newcombe(right: int, total: int, other_right: int, other_total: int, confidence: float = 0.95) -> Interval:
    """Newcombe's hybrid score interval of ``right/total - other_right/other_total``, unpaired, in [-1, 1].

    References: Newcombe 1998, Statistics in Medicine 17, method 10 (his example: 56/70 against 48/80).

    >>> [round(end, 4) for end in newcombe(56, 70, 48, 80)]
    [0.0524, 0.3339]
    """
    _check_counts(right, total)
    _check_counts(other_right, other_total)
    _check_confidence(confidence)
    if total == 0 or other_total == 0:
        return Interval(-1.0, 1.0)
    low, high = confint_proportions_2indep(
        right, total, other_right, other_total, method="newcomb", compare="diff", alpha=1.0 - confidence
    )
    return Interval(float(low), float(high))


def sensitivity(hits: int, fakes: int, false_alarms: int, reals: int, log_linear: bool = True) -> Sensitivity:
    """Sensitivity d' and criterion of a reader; a hit is a fake called fake, a false alarm a real called fake.

    ``log_linear`` adds a half to each count, so that a perfect reader has a finite d' (Hautus 1995).

    Raises:
        ConfigError: If a class is empty, or a rate is 0 or 1 without the correction.
    """
    _check_counts(hits, fakes)
    _check_counts(false_alarms, reals)
    require(fakes > 0 and reals > 0, "the exam", "of both classes", f"{reals} real and {fakes} fake")
    extra = 0.5 if log_linear else 0.0
    hit_rate, alarm_rate = (hits + extra) / (fakes + 2 * extra), (false_alarms + extra) / (reals + 2 * extra)
    for rate in (hit_rate, alarm_rate):
        require(0.0 < rate < 1.0, "an uncorrected rate", "between 0 and 1", rate)
    z_hit, z_alarm = float(norm.ppf(hit_rate)), float(norm.ppf(alarm_rate))
    return Sensitivity(z_hit - z_alarm, -(z_hit + z_alarm) / 2)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """The p values by name, adjusted for their number (Holm 1979): the chance of one false claim among all is kept."""
    for name, p in p_values.items():
        require(0.0 <= p <= 1.0, f"the p value of {name}", "from 0 to 1", p)
    # Ours, because statsmodels' multipletests collects garbage at every call: a second where torch is loaded.
    adjusted: dict[str, float] = {}
    worst = 0.0
    for at, name in enumerate(sorted(p_values, key=lambda one: p_values[one])):
        worst = max(worst, min(1.0, (len(p_values) - at) * p_values[name]))
        adjusted[name] = worst
    return {name: adjusted[name] for name in p_values}


def _from_which_on(powers: NDArray[np.float64], wanted: float) -> int | None:
    """The size, from 1, from which on no power is below ``wanted``: powers of counts rise in a sawtooth."""
    require(0.0 < wanted < 1.0, "the power wanted", "between 0 and 1", wanted)
    short = np.flatnonzero(powers < wanted)
    size = int(short[-1]) + 2 if len(short) else 1
    return size if size <= len(powers) else None


def _proportion_interval(right: int, total: int, confidence: float, method: str) -> Interval:
    _check_counts(right, total)
    _check_confidence(confidence)
    if total == 0:
        return Interval(0.0, 1.0)
    ends = binomtest(right, total).proportion_ci(confidence, method=method)
    return Interval(float(ends.low), float(ends.high))


def _check_counts(right: int, total: int) -> None:
    require(total >= 0 and total == int(total), "the number of answers", "a whole number, 0 or more", total)
    require(0 <= right <= total, "the number of right answers", f"from 0 to {total}", right)


def _check_confidence(confidence: float) -> None:
    require(0.0 < confidence < 1.0, "confidence", "between 0 and 1", confidence)

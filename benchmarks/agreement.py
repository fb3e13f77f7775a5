"""Who agrees with whom, who is right where another is wrong, and who errs on the same patches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import binom, fisher_exact
from statsmodels.stats.contingency_tables import mcnemar as _mcnemar
from statsmodels.stats.inter_rater import cohens_kappa, fleiss_kappa

from histoforensics.slides import require

from .confusion import VERDICTS


class Paired(NamedTuple):
    """Two readers on the same patches: how often only one was right, and two-sided p values."""

    only_first: int
    only_second: int
    exact_p: float
    mid_p: float  # less conservative than the exact one, and still seldom above its level


class Mistakes(NamedTuple):
    """Two readers on the same patches: do they miss the same ones?

    ``phi`` and ``kappa`` are of being right, 1 the same patches, 0 no more than by chance, NaN where a reader is always
    right or always wrong; ``expected`` is how many patches two independent readers of this skill would both miss, and
    ``p`` is Fisher's, two-sided, of that.
    """

    both_wrong: int
    expected: float
    phi: float
    kappa: float
    p: float


def cohen(first: Sequence[str], second: Sequence[str]) -> float:
    """Cohen's kappa of two readers' verdicts on the same patches: 1 agree, 0 by chance; NaN where chance is certain.

    References: Cohen 1960, Educational and Psychological Measurement 20.

    >>> round(cohen(["real"] * 25 + ["fake"] * 25, ["real"] * 20 + ["fake"] * 5 + ["real"] * 10 + ["fake"] * 15), 6)
    0.4
    """
    require(len(first) == len(second), "the second reader's verdicts", f"{len(first)} as the first's", len(second))
    table = np.array(
        [[sum(pair == (a, b) for pair in zip(first, second, strict=True)) for b in VERDICTS] for a in VERDICTS]
    )
    used = int((table.sum(axis=0) + table.sum(axis=1) > 0).sum())
    return float(cohens_kappa(table, return_results=False)) if used > 1 else math.nan


def fleiss(verdicts: Sequence[Sequence[str]]) -> float:
    """Fleiss' kappa of two or more readers; one sequence a patch, one verdict a reader in it; NaN as in `cohen`.

    References: Fleiss 1971, Psychological Bulletin 76.
    """
    table = np.array([[list(patch).count(verdict) for verdict in VERDICTS] for patch in verdicts]).reshape(-1, 3)
    return float(fleiss_kappa(table)) if (table.sum(axis=0) > 0).sum() > 1 else math.nan


def gwet(verdicts: Sequence[Sequence[str]]) -> float:
    """Gwet's AC1 of two or more readers, one sequence a patch: 1 agree, 0 by chance; NaN without patches.

    Unlike kappa it does not fall where nearly all verdicts are one. Chance is over the three answers that are offered,
    whether or not somebody gave them.

    References: Gwet 2008, British Journal of Mathematical and Statistical Psychology 61.
    """
    if not verdicts:
        return math.nan
    table = np.array([[list(patch).count(verdict) for verdict in VERDICTS] for patch in verdicts], dtype=np.float64)
    readers = int(table[0].sum())
    require(readers >= 2, "the number of readers", "at least 2", readers)
    require(bool((table.sum(axis=1) == readers).all()), "the verdicts of each patch", f"{readers}", "fewer or more")
    agree = float((table * (table - 1)).sum(axis=1).mean()) / (readers * (readers - 1))
    share = table.mean(axis=0) / readers
    chance = float((share * (1 - share)).sum()) / (len(VERDICTS) - 1)
    return (agree - chance) / (1 - chance)


def same_mistakes(first_right: Sequence[bool], second_right: Sequence[bool]) -> Mistakes:
    """Whether two readers miss the same patches; readers who lean the same way do, and by that alone."""
    one, two = np.asarray(first_right, dtype=bool), np.asarray(second_right, dtype=bool)
    require(len(one) == len(two), "the second reader's marks", f"{len(one)} as the first's", len(two))
    table = np.array(
        [[int((one & two).sum()), int((one & ~two).sum())], [int((~one & two).sum()), int((~one & ~two).sum())]]
    )
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    if not len(one) or 0 in rows or 0 in columns:
        return Mistakes(int(table[1, 1]), float(rows[1] * columns[1] / max(1, len(one))), math.nan, math.nan, 1.0)
    phi = float(np.linalg.det(table.astype(float)) / math.sqrt(float(np.prod(rows)) * float(np.prod(columns))))
    kappa = float(cohens_kappa(table, return_results=False))
    p = float(fisher_exact(table).pvalue)
    return Mistakes(int(table[1, 1]), float(rows[1] * columns[1] / len(one)), phi, kappa, p)


def mcnemar(first_right: Sequence[bool], second_right: Sequence[bool]) -> Paired:
    """McNemar's test of two readers on the same patches; only patches on which one of the two is right count.

    References: McNemar 1947, Psychometrika 12; mid-p: Fagerland et al. 2013, BMC Medical Research Methodology 13.
    """
    pairs = list(zip(first_right, second_right, strict=True))
    only_first, only_second = pairs.count((True, False)), pairs.count((False, True))
    differ, fewer = only_first + only_second, min(only_first, only_second)
    if differ == 0:
        return Paired(0, 0, 1.0, 1.0)
    exact = float(_mcnemar([[0, only_first], [only_second, 0]], exact=True).pvalue)
    mid = min(1.0, float(2 * binom.cdf(fewer, differ, 0.5) - binom.pmf(fewer, differ, 0.5)))
    return Paired(only_first, only_second, exact, mid)

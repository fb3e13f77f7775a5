"""Who agrees with whom, and who is right where another is wrong: kappa and McNemar's test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import binom
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

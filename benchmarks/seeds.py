"""The luck of the seed: networks trained again with other seeds, and how far their figures move.

The first seed of a study is the one that sits the exam; which seed is kept is never chosen by a test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from .generalization import HeldOut, auc_matrix, in_domain, leave_one_out, same_generator
from .readers import Judge

TrainSeed = Callable[[str, tuple[str, ...], int], Judge]  # (detector, generators to learn from, seed)


def trained_again(
    names: Sequence[str], test: HeldOut, train: TrainSeed, seeds: Sequence[int]
) -> dict[int, tuple[pd.DataFrame, pd.DataFrame]]:
    """By seed, the scores of `same_generator` and of `leave_one_out` of detectors trained with it."""
    found = {}
    for seed in seeds:

        def with_seed(name: str, learn_from: tuple[str, ...], seed: int = seed) -> Judge:
            return train(name, learn_from, seed)

        found[seed] = same_generator(names, test, with_seed), leave_one_out(names, test, with_seed)
    return found


def seed_spread(scores: Mapping[int, tuple[pd.DataFrame, pd.DataFrame]]) -> dict[str, Any]:
    """Detector to AUC a seed with mean, deviation and ends: on all generators together, and on each one left out.

    Args:
        scores: By seed, `same_generator` and `leave_one_out` of the same detectors on the same patches.
    """
    if len(scores) < 2:
        return {}
    domain = {seed: in_domain(seen, n_boot=100) for seed, (seen, _) in scores.items()}
    matrix = {seed: auc_matrix(unseen, n_boot=100) for seed, (_, unseen) in scores.items()}
    names = list(next(iter(domain.values())))
    return {name: _of_detector(name, domain, matrix) for name in names}


def named_scores(scores: Mapping[int, tuple[pd.DataFrame, pd.DataFrame]]) -> list[pd.DataFrame]:
    """The tables with the seed in the detector's name, for the file of all scores."""
    return [
        table.assign(detector=table["detector"] + f", seed {seed}")
        for seed, both in scores.items()
        for table in both
        if len(table)
    ]


def _of_detector(name: str, domain: Mapping[int, Any], matrix: Mapping[int, Any]) -> dict[str, Any]:
    left_out = list(next(iter(matrix.values())).get(name, {}))
    unseen = {one: [matrix[seed][name][one].auc for seed in matrix] for one in left_out}
    told = {"seeds": list(domain), "in_domain": _spread([cells[name].auc for cells in domain.values()])}
    if not unseen:
        return told | {"generalization": {}, "mean_left_out": None}
    means = np.mean(list(unseen.values()), axis=0)
    return told | {
        "generalization": {one: _spread(values) for one, values in unseen.items()},
        "mean_left_out": _spread([float(value) for value in means]),
    }


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {
        "auc": list(values), "mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1)),
        "low": min(values), "high": max(values),
    }  # fmt: skip

"""Abstention: a patch is called real or fake only where the other class can be excluded, else unsure.

For each class the calibration scores of that class alone give a p value: how many of them are at least as far out as
this one. A class with p above alpha stays in the patch's set; {real} and {fake} are verdicts, both and none are unsure.
Whatever the share of fakes, a real patch like the calibration's keeps "real" in its set in at least 1 - alpha of cases,
and a fake like the calibration's keeps "fake".

Reals come in groups (blocks, slides, patients) and patches of one group resemble each other, so a group counts as one
observation, its patches sharing its weight. Fakes come from independent seeds: each counts, and the promise is for the
generators that calibrated.

References: Vovk et al. 2003 (Mondrian conformal prediction); Sadinle et al. 2019 (class-conditional sets); Dunn et al.
2022, section 3.1 (pooling the distribution functions of groups); El-Yaniv & Wiener 2010 (risk and coverage).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from histoforensics.slides import PatchError, require

from .leaks import as_groups

MOST_KNOTS = 500  # of a saved tail; thinning rounds p values up, so it never makes a verdict bolder
PATHOLOGIST_COVERAGE = 57 / 60  # the published reader decided 57 of 60 patches
TINY = 1e-12
SATURATED = 1e-7  # float32 scores end in 0 and 1

Floats = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Tail:
    """How much of a calibration sample lies at a value or above it, as a step function.

    Attributes:
        knots: Rising values; ``p[i]`` holds above ``knots[i - 1]`` up to and including ``knots[i]``.
        p: (share of the sample's weight there + 1) / (observations + 1), falling.
        observations: Independent ones: groups of reals, single fakes.
    """

    knots: tuple[float, ...]
    p: tuple[float, ...]
    observations: int

    @classmethod
    def of(cls, values: Floats, weights: Floats) -> Tail:
        """The tail of ``values`` (n,) whose ``weights`` (n,) sum to the number of independent observations."""
        order = np.argsort(values, kind="stable")
        knots, first = np.unique(np.asarray(values, np.float64)[order], return_index=True)
        total = float(weights.sum())
        before = np.concatenate([[0.0], np.cumsum(weights[order])])[first]  # weight strictly under each knot
        p = (total - before + 1) / (total + 1)
        if len(knots) > MOST_KNOTS:
            kept = np.unique(np.linspace(0, len(knots) - 1, MOST_KNOTS).round().astype(int))
            p, knots = p[np.concatenate([[0], kept[:-1] + 1])], knots[kept]
        return cls(knots=tuple(knots.tolist()), p=tuple(p.tolist()), observations=round(total))

    @property
    def least(self) -> float:
        """The smallest p value that there can be: 1 / (observations + 1)."""
        return 1 / (self.observations + 1)

    def __call__(self, values: Floats) -> npt.NDArray[np.float64]:
        """P value (n,) of each value (n,)."""
        steps = np.concatenate([np.asarray(self.p), [self.least]])
        return steps[np.searchsorted(np.asarray(self.knots), np.asarray(values, np.float64), side="left")]


@dataclass(frozen=True, kw_only=True)
class Conformal:
    """Class-conditional p values of P(fake), frozen on a calibration split."""

    real: Tail  # of the reals' scores
    fake: Tail  # of the fakes' scores times -1

    @classmethod
    def of(cls, real: Floats, fake: Floats, real_groups: npt.NDArray[Any] | int | None = None) -> Conformal:
        """From calibration scores P(fake) of reals (n,) and fakes (m,).

        Args:
            real: Scores of reals.
            fake: Scores of fakes.
            real_groups: Block, slide or patient of each real (n,), or only how many there are; each its own if None.
        """
        for name, scores in (("real", real), ("fake", fake)):
            if not len(scores) or not np.isfinite(scores).all():
                raise PatchError(f"conformal sets need finite {name} calibration scores, got {len(scores)} scores.")
        return cls(real=Tail.of(real, _weights(real_groups, len(real))), fake=Tail.of(-fake, np.ones(len(fake))))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Conformal:
        """What ``dataclasses.asdict`` made of one, after JSON."""
        tails = {
            name: Tail(knots=tuple(data[name]["knots"]), p=tuple(data[name]["p"]),
                       observations=data[name]["observations"])
            for name in ("real", "fake")
        }  # fmt: skip
        return cls(**tails)

    @property
    def least_alpha(self) -> float:
        """The smallest alpha at which either class can be excluded; so few calibration patches support no smaller."""
        return max(self.real.least, self.fake.least)

    def p_values(self, scores: Floats) -> npt.NDArray[np.float64]:
        """P values of "real" and of "fake", (n, 2), of P(fake) (n,)."""
        scores = np.asarray(scores, np.float64)
        return np.stack([self.real(scores), self.fake(-scores)], axis=1)

    def sets(self, scores: Floats, alpha: float) -> Mask:
        """Whether "real" and "fake" are in each patch's set, (n, 2); a larger alpha never adds a class."""
        require(0 < alpha < 1, "alpha", "between 0 and 1", alpha)
        return self.p_values(scores) > alpha + TINY

    def verdicts(self, scores: Floats, alpha: float) -> npt.NDArray[np.str_]:
        """``real`` or ``fake`` where the set holds just that, ``unsure`` where it holds both or none, (n,)."""
        kept = self.sets(scores, alpha)
        alone = kept.sum(axis=1) == 1
        return np.where(alone & kept[:, 0], "real", np.where(alone, "fake", "unsure"))


@dataclass(frozen=True, kw_only=True)
class Selective:
    """What abstention bought on judged patches."""

    n: int
    decided: int
    wrong: int  # of the decided ones
    real_kept: float | None = None  # share of reals whose set holds "real"; conformal sets promise 1 - alpha
    fake_kept: float | None = None

    @property
    def coverage(self) -> float:
        """Share of patches that got a verdict."""
        return self.decided / self.n

    @property
    def risk(self) -> float | None:
        """Share of wrong ones among the decided; None where nothing was decided."""
        return self.wrong / self.decided if self.decided else None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"n": self.n, "decided": self.decided, "wrong": self.wrong, "coverage": self.coverage,
                "risk": self.risk, "real_kept": self.real_kept, "fake_kept": self.fake_kept}  # fmt: skip


def selective(
    labels: npt.NDArray[np.integer[Any]], verdicts: npt.NDArray[np.str_], sets: Mask | None = None
) -> Selective:
    """Coverage and selective risk of verdicts (n,) on the truth (n,), 0 real and 1 fake; ``sets`` (n, 2) if there are.

    Raises:
        PatchError: If the shapes differ or there is no patch.
    """
    labels, verdicts = np.asarray(labels), np.asarray(verdicts)
    if labels.shape != verdicts.shape or not len(labels):
        raise PatchError(f"one verdict a label is wanted, got {labels.shape} labels and {verdicts.shape} verdicts.")
    truth = np.where(labels == 1, "fake", "real")
    decided = verdicts != "unsure"
    kept: list[float | None] = [None, None]
    if sets is not None:
        kept = [float(sets[labels == c, c].mean()) if (labels == c).any() else None for c in (0, 1)]
    return Selective(
        n=len(labels), decided=int(decided.sum()), wrong=int((decided & (verdicts != truth)).sum()),
        real_kept=kept[0], fake_kept=kept[1],
    )  # fmt: skip


def risk_at_coverage(
    labels: npt.NDArray[np.integer[Any]], scores: Floats, cut: float, coverage: float = PATHOLOGIST_COVERAGE
) -> float:
    """Share of wrong verdicts among the surest ``coverage`` of the patches (n,); the pathologist decided 95 %.

    A score above ``cut`` is called fake, and a patch is the surer the further its log-odds are from the cut's; no label
    is used to choose whom to leave out. Ties at the edge are counted by their mean, so that order cannot matter.

    Args:
        labels: 0 real, 1 fake (n,).
        scores: P(fake) (n,).
        cut: Frozen, such as :attr:`Calibration.cut`.
        coverage: Share of patches that get a verdict.

    Raises:
        PatchError: If the shapes differ or there is no patch.
    """
    labels, p = np.asarray(labels), np.asarray(scores, np.float64)
    require(0 < coverage <= 1, "coverage", "above 0 and at most 1", coverage)
    require(0 < cut < 1, "cut", "between 0 and 1", cut)
    if labels.shape != p.shape or not len(labels):
        raise PatchError(f"one score a label is wanted, got {labels.shape} labels and {p.shape} scores.")
    leaning = special.logit(np.clip(p, SATURATED, 1 - SATURATED)) - special.logit(cut)  # above 0 leans to fake
    wrong = np.where(leaning == 0, 0.5, (leaning > 0) != (labels == 1))  # a tie is a coin's toss
    sureness, last = np.abs(leaning), max(1, round(coverage * len(labels)))
    edge = np.sort(sureness)[::-1][last - 1]
    inside, tied = sureness > edge, sureness == edge
    return float((wrong[inside].sum() + wrong[tied].mean() * (last - inside.sum())) / last)


def _weights(groups: npt.NDArray[Any] | int | None, n: int) -> npt.NDArray[np.float64]:
    """Weight of each of n patches, so that every group weighs 1; of equal patches where only the number is known."""
    if isinstance(groups, int):
        return np.full(n, groups / n)
    codes = np.unique([str(g) for g in as_groups(groups, n).tolist()], return_inverse=True)[1]
    weights: npt.NDArray[np.float64] = 1 / np.bincount(codes)[codes]
    return weights

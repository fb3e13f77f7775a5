"""Cascade: a frequency detector decides where it is sure, and a CNN is asked for the rest alone.

References: Viola & Jones 2001 (cheap stages first).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from histoforensics.slides import require
from histoforensics.slides.progress import Progress

from .detector import FAKE, Groups, Labels, Pixels, check_training
from .fusion import StackedDetector
from .linear import balanced_weights
from .stacking import FOLDS, cross_fitted_logits, fit_stack

MEMBERS = ("wht-lr", "npr")  # cheap, thorough
RISK = 0.01  # of a patch that the first stage decides alone
MOST_DEFERRED = 0.25  # of the patches, however unsure the first stage is: the time that a CNN may take


class CascadeDetector(StackedDetector):
    """Where the first member's log-likelihood ratio is far enough from 0 it stands; elsewhere both are weighed."""

    name: ClassVar[str] = "cascade"
    margin: Tensor  # on the first member's |log-likelihood ratio|

    def __init__(self, patch_px: int, members: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(patch_px, members)
        require(len(members) == 2, "members", "a cheap and a thorough one", len(members))
        self.register_buffer("margin", torch.tensor(float("inf")))

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (n,) of uint8 patches (n, N, N, 3); the second member sees only those that the first leaves open."""
        first, second = self.members
        logits: Tensor = self.scales[0] * first(pixels) + self.biases[0]
        (unsure,) = torch.nonzero(logits.abs() < self.margin, as_tuple=True)
        if not len(unsure):
            return logits
        asked = self.scales[1] * second(pixels[unsure]) + self.biases[1]
        both = self.weights[0] * logits[unsure] + self.weights[1] * asked + self.intercept
        return logits.index_copy(0, unsure, both.to(logits.dtype))

    def deferred(self, pixels: Pixels) -> npt.NDArray[np.bool_]:
        """Which patches (n,) the second member is asked about."""
        logits = torch.from_numpy(self.detectors[0].logits(pixels))
        llrs = self.scales[0].cpu() * logits + self.biases[0].cpu()
        asked: npt.NDArray[np.bool_] = (llrs.abs() < self.margin.cpu()).numpy()
        return asked

    @classmethod
    def fit(  # type: ignore[override]  # the base's options, spelled out
        cls,
        pixels: Pixels,
        labels: Labels,
        *,
        seed: int,
        groups: Groups | None = None,
        budget_seconds: float | None = None,
        progress: Progress | None = None,
        device: str = "cpu",
        members: Sequence[str] = MEMBERS,
        folds: int = FOLDS,
        risk: float = RISK,
        most_deferred: float = MOST_DEFERRED,
        member_options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Self:
        """Fit both members, weigh them on the folds left out, and set the margin there.

        Args:
            pixels: uint8 (n, h, w, 3), square.
            labels: REAL or FAKE (n,).
            seed: Of folds and trainings.
            groups: (n,), see :meth:`Detector.fit`.
            budget_seconds: Of all trainings together.
            progress: Told after each training.
            device: Where to train.
            members: The cheap detector and the thorough one.
            folds: At least 2.
            risk: Share of wrong ones among the patches that the first decides alone, at most.
            most_deferred: Share of patches that the second is asked about, at most; it goes before the risk.
            member_options: Of each member's ``fit``, by name.
        """
        check_training(pixels, labels, groups, cls.name)
        require(len(members) == 2, "members", "a cheap and a thorough one", tuple(members))
        whole, held_out = cross_fitted_logits(
            members,
            pixels,
            labels,
            groups,
            seed=seed,
            folds=folds,
            options=member_options,
            budget_seconds=budget_seconds,
            device=device,
            progress=progress,
        )
        stack = fit_stack(held_out, labels)
        detector = cls.assembled(whole, stack)
        margin = confident_margin(stack.llrs(held_out)[:, 0], labels, risk=risk, most_deferred=most_deferred)
        detector.margin.fill_(margin)
        return detector.to(device)


def confident_margin(
    llrs: npt.NDArray[np.floating[Any]], labels: Labels, *, risk: float = RISK, most_deferred: float = MOST_DEFERRED
) -> float:
    """The smallest |log-likelihood ratio| from which decisions are wrong in at most ``risk``, classes weighted alike.

    No more than ``most_deferred`` of the patches lie below it; 0 if there are no mistakes to keep.

    Args:
        llrs: (n,), of patches that the detector was not trained on.
        labels: REAL or FAKE (n,).
        risk: 0 to 1.
        most_deferred: 0 to 1.
    """
    require(0 <= risk <= 1, "risk", "from 0 to 1", risk)
    require(0 <= most_deferred <= 1, "most_deferred", "from 0 to 1", most_deferred)
    size = np.abs(llrs)
    order = np.argsort(size, kind="stable")
    weight = balanced_weights(labels)[order] / len(labels)
    wrong = weight * ((llrs > 0) != (labels == FAKE))[order]
    below = np.append(0.0, np.cumsum(weight))[:-1]  # what is deferred if the margin is the size at this place
    left = wrong[::-1].cumsum()[::-1] / weight[::-1].cumsum()[::-1]  # risk among this place and all after it
    allowed = np.flatnonzero(below <= most_deferred)
    good = allowed[left[allowed] <= risk]
    place = int(good[0]) if len(good) else int(allowed[-1])
    return float(size[order[place]]) if place else 0.0

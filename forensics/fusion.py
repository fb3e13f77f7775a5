"""Fusion: what several detectors say together, each weighed by what it adds on patches that it never saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from histoforensics.slides import DetectorError, require
from histoforensics.slides.progress import Progress

from .detector import Detector, Groups, Labels, Pixels, check_pixels, check_training
from .luma import logits_together
from .stacking import FOLDS, Stack, cross_fitted_logits, fit_stack

MEMBERS = ("radial-lr", "dct-ridge", "wht-lr", "npr")


class StackedDetector(Detector):
    """Members and the stack that weighs them, in one module: one folder holds and loads them all."""

    scales: Tensor  # (members,)
    biases: Tensor
    weights: Tensor
    intercept: Tensor

    def __init__(self, patch_px: int, members: Sequence[Mapping[str, Any]]) -> None:
        from .registry import detector_class

        super().__init__(patch_px)
        require(len(members) >= 2, "members", "two or more", len(members))
        self.members = nn.ModuleList(detector_class(m["name"])(**m["config"]) for m in members)
        for name, value in (("scales", 1.0), ("biases", 0.0), ("weights", 0.0)):
            self.register_buffer(name, torch.full((len(members),), value))
        self.register_buffer("intercept", torch.zeros(()))

    def config(self) -> Mapping[str, Any]:
        """Judged size, and each member's name and own config."""
        members = [{"name": member.name, "config": dict(member.config())} for member in self.detectors]
        return {"patch_px": self.patch_px, "members": members}

    @property
    def detectors(self) -> list[Detector]:
        """The members, in the order of their weights."""
        return [member for member in self.members if isinstance(member, Detector)]

    def llrs(self, logits: Tensor) -> Tensor:
        """Calibrated log-likelihood ratios of the members' logits, both (..., members)."""
        return logits * self.scales + self.biases

    @classmethod
    def assembled(cls, members: Sequence[Detector], stack: Stack, **options: Any) -> Self:
        """A detector of fitted members and a fitted stack.

        Raises:
            DetectorError: If the members judge patches of different sizes.
        """
        sizes = sorted({member.patch_px for member in members})
        if len(sizes) != 1:
            raise DetectorError(f"{cls.name}: members judge patches of {sizes} px; one size is wanted.")
        config = [{"name": member.name, "config": dict(member.config())} for member in members]
        detector = cls(sizes[0], config, **options)
        for mine, member in zip(detector.members, members, strict=True):
            mine.load_state_dict(member.state_dict())
        for name in ("scales", "biases", "weights"):
            getattr(detector, name).copy_(torch.from_numpy(getattr(stack, name)))
        detector.intercept.fill_(stack.intercept)
        told = {"scales": stack.scales, "weights": stack.weights}
        run = {key: [round(float(v), 6) for v in values] for key, values in told.items()}
        detector.card = replace(detector.card, run={"stack": run | {"members": [m.name for m in members]}})
        return detector.eval()


class FusionDetector(StackedDetector):
    """The members' calibrated log-likelihood ratios, weighed by a logistic regression on held-out scores."""

    name: ClassVar[str] = "fusion"

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (n,) of uint8 patches (n, N, N, 3)."""
        return self.llrs(logits_together(self.members, pixels)) @ self.weights + self.intercept

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
        member_options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Self:
        """Fit each member ``folds`` times without a fold and once with all, and the stack on the folds left out.

        Args:
            pixels: uint8 (n, h, w, 3), square.
            labels: REAL or FAKE (n,).
            seed: Of folds and trainings.
            groups: (n,), see :meth:`Detector.fit`; give them, or members judge what they have all but seen.
            budget_seconds: Of all trainings together.
            progress: Told after each training.
            device: Where to train.
            members: Names of detectors.
            folds: At least 2.
            member_options: Of each member's ``fit``, by name.
        """
        check_training(pixels, labels, groups, cls.name)
        require(len(members) >= 2, "members", "two or more", len(members))
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
        return cls.assembled(whole, fit_stack(held_out, labels)).to(device)

    @classmethod
    def of(cls, members: Sequence[Detector], pixels: Pixels, labels: Labels) -> Self:
        """A fusion of trained detectors, its stack fitted on patches that none of them was trained on.

        Calibrate it afterwards on others still: these have chosen its weights.

        Raises:
            PatchError: If a member was trained on one of the patches, or the sizes differ.
        """
        check_training(pixels, labels, None, cls.name)
        for member in members:
            check_pixels(pixels, member.patch_px, member.name)
            member.refuse_seen(pixels, f"{cls.name}'s")
        with torch.inference_mode():
            columns = [torch.from_numpy(member.logits(pixels)) for member in members]
        return cls.assembled(members, fit_stack(torch.stack(columns, dim=1).numpy(), labels))

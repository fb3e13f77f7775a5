"""One fitting loop for every CNN detector: balanced batches, one cycle, a grouped validation split, a time budget.

A budget shortens the schedule instead of cutting it off: after each check the steps that still fit are planned anew,
so that the learning rate always comes down to zero. Where the budget does not bind, a seed gives the same network.

References: Loshchilov & Hutter 2019, arXiv:1711.05101 (AdamW); Smith & Topin 2018, arXiv:1708.07120 (one cycle).
"""

from __future__ import annotations

import copy
import math
import time
from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal, Self, assert_never

import numpy as np
import torch
from torch import Tensor, nn

from histoforensics.slides import require
from histoforensics.slides.progress import Progress

from .augment import GENTLE, Augmentation, augment
from .batches import balanced_batches, random_crops, validation_split
from .detector import FAKE, REAL, Detector, Groups, Labels, Pixels, check_training
from .leaks import as_groups
from .metrics import auc

Precision = Literal["auto", "bfloat16", "float32"]


@dataclass(frozen=True, kw_only=True)
class CnnRecipe:
    """How a CNN detector is trained. The defaults are for seconds on two cores; raise ``steps`` where there is time."""

    steps: int = 160
    check_every: int = 20  # steps between looks at the validation split
    batch: int = 16  # half real, half fake
    crop_px: int | None = 64  # trained on crops: traces are local, and a crop costs a third of a 112-px patch
    learning_rate: float = 1e-3  # at the top of the cycle
    weight_decay: float = 1e-2
    warmup: float = 0.2  # share of the steps that the learning rate rises
    validation: float = 0.2  # share of each class's patches, in whole groups
    patience: int = 5  # checks without a better validation loss before training ends
    good_enough: float = 0.02  # a validation loss that ends training at once
    precision: Precision = "auto"
    augmentation: Augmentation = GENTLE

    def __post_init__(self) -> None:
        for name in ("steps", "check_every", "patience"):
            require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        require(self.batch >= 2 and self.batch % 2 == 0, "batch", "even and at least 2", self.batch)
        require(self.crop_px is None or self.crop_px >= 16, "crop_px", "at least 16 or None", self.crop_px)
        require(self.learning_rate > 0, "learning_rate", "above 0", self.learning_rate)
        require(self.weight_decay >= 0, "weight_decay", "at least 0", self.weight_decay)
        require(0 < self.warmup < 1, "warmup", "between 0 and 1", self.warmup)
        require(0 < self.validation < 0.9, "validation", "between 0 and 0.9", self.validation)


@dataclass(frozen=True)
class Check:
    """One look at the validation split."""

    step: int
    loss: float  # cross-entropy of validation patches, classes weighted alike
    auc: float


@dataclass(frozen=True, kw_only=True)
class TrainingReport:
    """What one training run did; the card keeps it."""

    checks: tuple[Check, ...]
    best: Check
    steps: int
    planned_steps: int
    ended_by: Literal["steps", "budget", "patience", "good enough"]
    seconds: float
    n_train: int
    n_validation: int

    def to_json(self) -> dict[str, Any]:
        """The fields, JSON-ready."""
        return asdict(self)


class CnnDetector(Detector):
    """A detector that is a network trained by :func:`fit_network`."""

    recipe: ClassVar[CnnRecipe] = CnnRecipe()
    training_report: TrainingReport | None = None

    @classmethod
    def build(cls, patch_px: int, **options: Any) -> Self:
        """An untrained detector for patches of that size."""
        return cls(patch_px, **options)

    @abstractmethod
    def images(self, pixels: Tensor) -> Tensor:
        """What the network sees: float32 (n, 3, h, w) of uint8 (n, h, w, 3)."""

    def place_logits(self, pixels: Tensor) -> Tensor:
        """What the loss is put on: logits (n, places) of uint8 (n, h, w, 3); one place, the whole patch, by default."""
        logits: Tensor = self(pixels)
        return logits[:, None]

    @classmethod
    def fit(
        cls,
        pixels: Pixels,
        labels: Labels,
        *,
        seed: int,
        groups: Groups | None = None,
        budget_seconds: float | None = None,
        progress: Progress | None = None,
        recipe: CnnRecipe | None = None,
        device: str = "cpu",
        **options: Any,
    ) -> Self:
        """Train from ``seed`` by ``recipe`` (the class's own if None); see :meth:`Detector.fit`.

        ``options`` go to the constructor. A fifth of the groups is set apart to choose the best moment; what was done
        stands in ``training_report`` and in the card's ``run``.
        """
        check_training(pixels, labels, groups, cls.name)
        with torch.random.fork_rng(devices=[]):  # a module's initial weights can only come from torch's own generator
            torch.manual_seed(seed)
            detector = cls.build(pixels.shape[1], **options)
        detector.to(device)
        detector.training_report = fit_network(
            detector,
            pixels,
            labels,
            groups=groups,
            recipe=recipe or cls.recipe,
            seed=seed,
            budget_seconds=budget_seconds,
            progress=progress,
            judged=detector.place_logits,
        )
        detector.card = replace(detector.card, run={"training": detector.training_report.to_json()})
        return detector.eval()


def fit_network(
    network: nn.Module,
    pixels: Pixels,
    labels: Labels,
    *,
    groups: Groups | None = None,
    recipe: CnnRecipe,
    seed: int,
    budget_seconds: float | None = None,
    progress: Progress | None = None,
    judged: Callable[[Tensor], Tensor] | None = None,
) -> TrainingReport:
    """Train ``network`` (uint8 (n, h, w, 3) in, logits (n,) out) in place; it ends with the weights of its best check.

    Args:
        network: Its parameters that require gradients are trained, on the device where they are.
        pixels: uint8 (n, h, w, 3).
        labels: REAL or FAKE (n,).
        groups: (n,); whole groups are set apart for validation.
        recipe: Schedule and augmentation.
        seed: Of the split, the batches and the augmentation.
        budget_seconds: The whole training's wall clock, checks included.
        progress: Told after each check.
        judged: What the loss is put on, logits (n, places) of uint8 patches; ``network`` itself if None.
    """
    start = time.monotonic()
    rng = np.random.default_rng(seed)
    held_out = validation_split(labels, as_groups(groups, len(labels)), recipe.validation, rng)
    validation = np.flatnonzero(held_out)
    device = next(network.parameters()).device
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
    batches = balanced_batches(labels, np.flatnonzero(~held_out), recipe.batch, rng)
    checks: list[Check] = []
    best, best_state = Check(0, math.inf, 0.0), network.state_dict()
    step, planned, last = 0, recipe.steps, start
    ended_by: Literal["steps", "budget", "patience", "good enough"] = "steps"
    while step < planned:
        network.train()
        for _ in range(min(recipe.check_every, planned - step)):
            rows = next(batches)
            crops = augment(random_crops(pixels, rows, recipe.crop_px, rng), rng, recipe.augmentation)
            rate = recipe.learning_rate * one_cycle(step / planned, recipe.warmup)
            _step(network, judged or network, optimizer, crops, labels[rows], rate, recipe.precision)
            step += 1
        checks.append(_check(network, pixels[validation], labels[validation], step, recipe, device))
        if checks[-1].loss < best.loss:
            best, best_state = checks[-1], copy.deepcopy(network.state_dict())
        if progress is not None:
            progress(step, planned, f"validation AUC {checks[-1].auc:.3f}")
        if best.loss <= recipe.good_enough:
            ended_by = "good enough"
            break
        if step - best.step >= recipe.patience * recipe.check_every:
            ended_by = "patience"
            break
        if budget_seconds is not None:
            now = time.monotonic()  # the pace of the last steps: the first ones compile kernels
            pace, last = (now - last) / (step - (checks[-2].step if len(checks) > 1 else 0)), now
            fitting = steps_that_fit(step, start + budget_seconds - now, pace)
            if fitting < planned:
                planned, ended_by = fitting, "budget"
    network.load_state_dict(best_state)
    return TrainingReport(
        checks=tuple(checks),
        best=best,
        steps=step,
        planned_steps=recipe.steps,
        ended_by=ended_by,
        seconds=round(time.monotonic() - start, 2),
        n_train=int((~held_out).sum()),
        n_validation=len(validation),
    )


def _step(
    network: nn.Module,
    judged: Callable[[Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    crops: Pixels,
    labels: Labels,
    rate: float,
    precision: Precision,
) -> None:
    device = next(network.parameters()).device
    for group in optimizer.param_groups:
        group["lr"] = rate
    with _autocast(device, _precision(precision, device)):
        logits = judged(torch.from_numpy(crops).to(device))
    each = torch.from_numpy(labels.astype(np.float32)).to(device)
    targets = each.view(-1, *[1] * (logits.ndim - 1)).expand_as(logits)
    loss = nn.functional.binary_cross_entropy_with_logits(logits.float(), targets)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_([p for p in network.parameters() if p.requires_grad], 5.0)
    optimizer.step()


def _check(
    network: nn.Module, pixels: Pixels, labels: Labels, step: int, recipe: CnnRecipe, device: torch.device
) -> Check:
    network.eval()
    with torch.inference_mode(), _autocast(device, _precision(recipe.precision, device)):
        chunks = [torch.from_numpy(pixels[i : i + 64]).to(device) for i in range(0, len(pixels), 64)]
        logits = [network(chunk).float().cpu() for chunk in chunks]
    out = torch.cat(logits).double().numpy()
    signed = np.where(labels == FAKE, out, -out)
    losses = np.logaddexp(0, -signed)
    loss = (losses[labels == REAL].mean() + losses[labels == FAKE].mean()) / 2
    return Check(step, round(float(loss), 6), round(auc(labels, out), 6))


def one_cycle(done: float, warmup: float) -> float:
    """Factor of the learning rate when a share ``done`` of the steps is over: up in a line, down in a half cosine."""
    if done < warmup:
        return 0.04 + 0.96 * done / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (done - warmup) / (1 - warmup))))


def steps_that_fit(step: int, left_seconds: float, seconds_per_step: float) -> int:
    """How many steps there can be in all when ``step`` are done and that much time is left, at this pace."""
    return step + max(0, math.floor(left_seconds / seconds_per_step))


def _precision(precision: Precision, device: torch.device) -> torch.dtype:
    match precision:
        case "float32":
            return torch.float32
        case "bfloat16":
            return torch.bfloat16
        case "auto":
            return torch.bfloat16 if _has_fast_bfloat16(device) else torch.float32
        case _:
            assert_never(precision)


def _has_fast_bfloat16(device: torch.device) -> bool:
    # A processor without the instructions emulates bfloat16 several times slower than float32; with them it halves
    # the time of a dense convolution.
    if device.type != "cpu":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)

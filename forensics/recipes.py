"""Recipes: how each detector is trained where there is time, one entry a detector.

The classes' own defaults are for seconds. A recipe asks for what makes a detector hold on what it never saw: stand-in
fakes beside the generators', every augmentation on both classes, a long schedule that a validation split of whole
slides or blocks ends early, and three seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from histoforensics.slides import SETTLING_ROUNDS, Codec, DetectorError, matched_codec, replay, require
from histoforensics.slides.progress import Progress

from .augment import Augmentation, Pixels
from .cnn import CnnRecipe
from .detector import Detector
from .splits import UNMATCHED
from .standins import TRAIN_KERNELS, draw_kernels, enrich
from .training import TrainingSet, train_detector

WIDE = Augmentation(jpeg=0.4, blur=0.25, noise=0.25, noise_sigma=6.0, stain=0.5, resize=0.2)
LONG = CnnRecipe(steps=2000, check_every=50, patience=8, good_enough=0.002, augmentation=WIDE)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one detector is trained; ``options`` go to its ``fit`` and hold the augmentation and the schedule."""

    stand_ins: float = 0.3  # share of the fakes, of training and calibration alike
    kernels: tuple[str, ...] = TRAIN_KERNELS
    seeds: tuple[int, ...] = (0, 1, 2)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(0 <= self.stand_ins <= 1, "stand_ins", "a share from 0 to 1", self.stand_ins)
        require(len(set(self.seeds)) == len(self.seeds) > 0, "seeds", "one or more different ones", self.seeds)
        draw_kernels(0, self.kernels, np.random.default_rng(0))


_MEASURED: dict[str, Mapping[str, Any]] = {
    "radial-lr": {"copies": 2, "recipe": WIDE},
    "dct-ridge": {"copies": 1, "recipe": WIDE},
    "wht-lr": {"copies": 3, "recipe": WIDE},
    "encoder-linear": {"copies": 1, "recipe": WIDE},
    "cooccurrence": {"copies": 1, "recipe": WIDE},
}
_LEARNED: dict[str, Mapping[str, Any]] = {
    "npr": {"recipe": LONG},
    "resnet": {"recipe": replace(LONG, learning_rate=2e-3)},
    "patch-xception": {"recipe": replace(LONG, learning_rate=4e-3)},
}
_STACKED: dict[str, Mapping[str, Any]] = {
    name: {"member_options": {member: {**_MEASURED, **_LEARNED}[member] for member in members}}
    for name, members in (("fusion", ("radial-lr", "dct-ridge", "wht-lr", "npr")), ("cascade", ("wht-lr", "npr")))
}
RECIPES: dict[str, Recipe] = {
    **{name: Recipe(options=options) for name, options in {**_MEASURED, **_LEARNED, **_STACKED}.items()},
    "morphology-lr": Recipe(stand_ins=0.0, options={"copies": 0}),  # stand-ins have the nuclei of real tissue
}


def recipe_of(name: str) -> Recipe:
    """The recipe of a detector.

    Raises:
        DetectorError: If there is none: a control, which stays as simple as it is, or an unknown name.
    """
    if name not in RECIPES:
        raise DetectorError(f"no recipe for {name!r}; recipes are {', '.join(RECIPES)}.")
    return RECIPES[name]


def codec_path(codec: Codec) -> Callable[[Pixels], Pixels] | None:
    """The slide's whole codec history as a function on patches cut on its 16-px grid; None if it is lossless.

    Raises:
        CodecError: If the slide is JPEG 2000 of a kind that cannot be repeated.
    """
    known = matched_codec(codec)
    return None if known.kind == "lossless" else lambda pixels: replay(known, pixels, rounds=SETTLING_ROUNDS)


def matched_set(data: TrainingSet, path: Callable[[Pixels], Pixels] | None, policy: str) -> TrainingSet:
    """``data`` with all of its patches, real and fake, taken along ``path``; ``policy`` says so on the card."""
    limits = [limit for limit in data.provenance.get("limits", ()) if limit != UNMATCHED]
    provenance = {**data.provenance, "codec_policy": policy, "limits": limits}
    if path is None:
        return replace(data, provenance=provenance)
    return replace(
        data,
        real=path(data.real),
        fake=path(data.fake),
        calibration_real=path(data.calibration_real),
        calibration_fake=path(data.calibration_fake),
        provenance=provenance,
    )


def train_by_recipe(
    name: str,
    data: TrainingSet,
    *,
    recipe: Recipe | None = None,
    seed: int = 0,
    path: Callable[[Pixels], Pixels] | None = None,
    budget_seconds: float | None = None,
    progress: Progress | None = None,
    device: str = "cpu",
    options: Mapping[str, Any] | None = None,
) -> Detector:
    """A detector trained as its recipe says, calibrated, with thresholds frozen; the card keeps the recipe.

    Args:
        name: One of RECIPES.
        data: Real patches and generators' fakes, of one codec history.
        recipe: Instead of the detector's own.
        seed: Of every random draw.
        path: The codec history of the real patches as a function, for the stand-ins; None where they are lossless.
        budget_seconds: For iterative training; it shortens the schedule.
        progress: Told as work gets done.
        device: A torch device, to train on.
        options: Of the detector's ``fit``, before the recipe's.
    """
    recipe = recipe or recipe_of(name)
    enriched = enrich(data, recipe.stand_ins, np.random.default_rng(seed), kernels=recipe.kernels, path=path)
    return train_detector(
        name,
        enriched,
        seed=seed,
        budget_seconds=budget_seconds,
        progress=progress,
        device=device,
        options={**recipe.options, **(options or {})},
    )


def train_seeds(name: str, data: TrainingSet, *, recipe: Recipe | None = None, **settings: Any) -> tuple[Detector, ...]:
    """One detector for each of the recipe's seeds, in their order, so that a figure can be told with its spread.

    Which of them is kept must not be chosen by a test; the others' figures are part of the result.

    Args:
        name: One of RECIPES.
        data: As for :func:`train_by_recipe`.
        recipe: Instead of the detector's own.
        settings: Further arguments of :func:`train_by_recipe`.
    """
    recipe = recipe or recipe_of(name)
    return tuple(train_by_recipe(name, data, recipe=recipe, seed=seed, **settings) for seed in recipe.seeds)

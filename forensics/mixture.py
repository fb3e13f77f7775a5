"""The mixture that shipped detectors learn from: tissue of several slides, fakes of several generators, stand-ins.

Each part has one origin, one role and one codec history, so that both classes can be had with the same histories. The
first slide is home: the generators learned from its training blocks, and what comes from elsewhere goes through its
history as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from histoforensics.slides import require
from histoforensics.slides.blocks import Role

from .augment import Augmentation, Pixels

GRID_PX = 16  # fakes are cropped on it
STAND_IN = "stand-in "  # how the origin of a stand-in starts
Kind = Literal["clean", "augmented"]


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Patches of each role, at most."""

    train: int
    calibration: int
    exam: int

    def of(self, role: Role) -> int:
        """The number of a role."""
        count: int = getattr(self, role)
        return count


@dataclass(frozen=True, kw_only=True)
class MixtureConfig:
    """How much of what."""

    patch_px: int = 112
    rounds: int = 5  # of the home slide's history
    away_rounds: int = 2  # of other slides': one grid settles sooner, and JPEG 2000 takes 30 times as long
    home: Counts = field(default_factory=lambda: Counts(train=400, calibration=120, exam=160))
    away: Counts = field(default_factory=lambda: Counts(train=200, calibration=80, exam=80))
    fakes: Counts = field(default_factory=lambda: Counts(train=200, calibration=70, exam=110))  # of each generator
    stand_ins: Counts = field(default_factory=lambda: Counts(train=120, calibration=0, exam=50))  # of each slide
    copies: int = 1  # augmented ones of every patch that trains; one of every patch that calibrates
    augmentation: Augmentation = field(
        default_factory=lambda: Augmentation(
            jpeg=0.5, blur=0.2, noise=0.2, noise_sigma=5.0, stain=0.5, resize=0.4, resize_factor=(0.5, 1.5)
        )
    )
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.patch_px % GRID_PX == 0 and self.patch_px > 0, "patch_px", "a multiple of 16", self.patch_px)
        require(self.copies >= 1, "copies", "at least 1", self.copies)


@dataclass(frozen=True, eq=False)
class Part:
    """Patches of one origin, role and history: pixels uint8 (n, p, p, 3); groups (n,) are resampled together."""

    label: int
    origin: str  # a slide, a generator, or a stand-in with its slide
    role: Role
    history: str  # the slide whose compressions the patches went through last
    kind: Kind
    pixels: Pixels
    groups: npt.NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True, eq=False)
class Mixture:
    """All parts, and what they came from."""

    parts: tuple[Part, ...]
    slides: tuple[str, ...]  # home first
    generators: tuple[str, ...]
    config: MixtureConfig
    facts: Mapping[str, Any]

    @property
    def home(self) -> str:
        """The slide that the generators learned from."""
        return self.slides[0]

    def where(self, chosen: Callable[[Part], bool]) -> tuple[Pixels, npt.NDArray[np.str_]]:
        """Pixels and groups of the parts for which ``chosen`` holds, in order."""
        found = [part for part in self.parts if chosen(part)]
        px = self.config.patch_px
        pixels = [np.empty((0, px, px, 3), np.uint8), *(part.pixels for part in found)]
        groups = [np.empty(0, dtype=str), *(part.groups for part in found)]
        return np.concatenate(pixels), np.concatenate(groups)

"""What happens to patches between the lab and the detector: seven perturbations, each with its severities.

A study may name others of each, within what the perturbation can do (`chosen`).

Each is a pure function of uint8 patches (n, h, w, 3), a severity and a generator of random numbers, and must change the
image: published robustness curves have been drawn of perturbations that did nothing.

References: Hendrycks & Dietterich 2019, arXiv:1903.12261 (severities, curves); Ruifrok & Johnston 2001 (stains).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from histoforensics.forensics.augment import add_noise, blur, jpeg, resize, stain_jitter
from histoforensics.slides import PatchError, require

Pixels = NDArray[np.uint8]
Apply = Callable[[Pixels, float, np.random.Generator], Pixels]

CUBIC = 1  # of augment.resize


@dataclass(frozen=True)
class Perturbation:
    """One way of changing patches.

    Attributes:
        name: As in tables.
        axis: What a severity is, with its unit, for an axis.
        severities: In the order of a curve.
        apply: Patches, severity and random numbers to patches of the same shape.
        neutral: The severity that would change nothing, for the axis; None where the axis has no such place.
        low: The least severity that makes sense.
        high: The greatest.
        is_whole: Whether only whole numbers do.
    """

    name: str
    axis: str
    severities: tuple[float, ...]
    apply: Apply
    neutral: float | None
    low: float = -math.inf
    high: float = math.inf
    is_whole: bool = False

    def __call__(self, pixels: Pixels, severity: float, seed: int = 0) -> Pixels:
        """Changed patches (n, h, w, 3).

        Args:
            pixels: uint8 (n, h, w, 3).
            severity: Any that the perturbation can do, not only those listed.
            seed: The same one gives the same patches, whatever else was perturbed before.

        Raises:
            PatchError: If not a single value has changed.
        """
        changed = self.apply(pixels, severity, np.random.default_rng([seed, *self.name.encode()]))
        if mean_change(pixels, changed) == 0:
            raise PatchError(f"{self.name} at {severity:g} changed nothing; a curve of it would be a flat lie.")
        return changed


def mean_change(pixels: Pixels, changed: Pixels) -> float:
    """Mean absolute difference of two sets of patches, grey levels."""
    return float(np.abs(changed.astype(np.int16) - pixels.astype(np.int16)).mean())


def gamma(pixels: Pixels, exponent: float) -> Pixels:
    """255 (x / 255) ** exponent, rounded: under 1 brighter, 1 changes nothing."""
    require(exponent > 0, "exponent", "above 0", exponent)
    table = np.rint(255 * (np.arange(256) / 255) ** exponent).astype(np.uint8)
    return table[pixels]


def crop_phase(pixels: Pixels, px: int) -> Pixels:
    """The patch cut ``px`` further right and down, what is missing mirrored: the codec's grid lies elsewhere in it."""
    require(0 <= px < min(pixels.shape[1:3]), "px", "from 0 to less than the patch", px)
    height, width = pixels.shape[1:3]
    padded = np.pad(pixels, ((0, 0), (0, px), (0, px), (0, 0)), mode="symmetric")
    return padded[:, px : px + height, px : px + width]


def stain_shift(pixels: Pixels, density: float) -> Pixels:
    """Every pixel with ``density`` more haematoxylin and as much less eosin, in optical density (ln)."""
    return stain_jitter(pixels, 1.0, [density, -density, 0.0])


PERTURBATIONS: tuple[Perturbation, ...] = (
    Perturbation("jpeg", "JPEG quality", (90, 80, 70, 50, 30), lambda p, q, _: jpeg(p, int(q)), None, 1, 100, True),
    Perturbation("blur", "blur, sigma in px", (0.5, 1, 1.5, 2, 3), lambda p, s, _: blur(p, s), 0.0, 0.1, 10),
    Perturbation("resize", "resize factor", (0.5, 0.75, 0.9, 1.25, 1.5), lambda p, f, _: resize(p, f, CUBIC), 1.0,
                 0.25, 4),
    Perturbation("noise", "noise, sigma in grey levels", (1, 2, 5, 10, 20), add_noise, 0.0, 0.5, 100),
    Perturbation("gamma", "gamma", (0.7, 0.85, 1.15, 1.3, 1.5), lambda p, g, _: gamma(p, g), 1.0, 0.2, 5),
    Perturbation("crop phase", "crop phase, px", (1, 2, 3, 4, 7), lambda p, k, _: crop_phase(p, int(k)), 0.0, 1, 15,
                 True),
    Perturbation("stain", "stain shift, density", (-0.2, -0.1, -0.05, 0.05, 0.1, 0.2),
                 lambda p, d, _: stain_shift(p, d), 0.0, -1, 1),
)  # fmt: skip


def perturbation(name: str) -> Perturbation:
    """One of `PERTURBATIONS` by its name."""
    known = {one.name: one for one in PERTURBATIONS}
    require(name in known, "perturbation", f"one of {', '.join(known)}", name)
    return known[name]


def chosen(severities: Mapping[str, Sequence[float]]) -> tuple[Perturbation, ...]:
    """The perturbations that are named, each at the severities given, rising.

    Raises:
        ConfigError: If a name is unknown, or a severity is out of the perturbation's range or would change nothing.
    """
    return tuple(_at(perturbation(name), values) for name, values in severities.items())


def _at(one: Perturbation, severities: Sequence[float]) -> Perturbation:
    kind = "whole numbers" if one.is_whole else "numbers"
    wanted = f"one or more different {kind} from {one.low:g} to {one.high:g}"
    wanted += f" without {one.neutral:g}" if one.neutral is not None and one.low < one.neutral < one.high else ""
    for value in severities:
        ok = one.low <= value <= one.high and value != one.neutral and not (one.is_whole and value % 1)
        require(ok, f"perturbations of {one.name}", wanted, value)
    require(0 < len(set(severities)) == len(severities), f"perturbations of {one.name}", wanted, list(severities))
    return replace(one, severities=tuple(sorted(severities)))

"""Controls: trivial cues that need no forensics. A detector is worth what it adds to the best of them.

They have the detectors' interface and are trained like them, on the patches as they are: a control shall find its cue
wherever there is one.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from .linear import LinearDetector, LinearModel
from .luma import ROUNDING_VARIANCE, luma
from .radial import radial_profile

JPEG_BLOCK = 8


def colour_statistics(pixels: Tensor) -> Tensor:
    """Mean and standard deviation of R, G and B, float32 (n, 6), of uint8 patches (n, h, w, 3)."""
    flat = pixels.to(torch.float32).flatten(1, 2)
    return torch.cat([flat.mean(1), flat.std(1, correction=0)], dim=1)


def blockiness(grey: Tensor) -> Tensor:
    """Log of the mean step at grid phase p over that at p + 4, for p from 0 to 3: (n, 4), for grey patches (n, h, w).

    Phase p holds the steps from column (and row) 8 k + p - 1 to 8 k + p; phase 0 is the border of JPEG blocks where the
    patch starts on their grid. Without a grid of period 8 all four are near 0: the period 2 or 4 of an enlarged image
    cancels, since that is what detectors are for.
    """
    across = (grey[:, :, 1:] - grey[:, :, :-1]).abs().mean(1)  # (n, w - 1)
    down = (grey[:, 1:] - grey[:, :-1]).abs().mean(2)
    phases = []
    for p in range(JPEG_BLOCK):
        start = (p - 1) % JPEG_BLOCK  # step i goes from pixel i to i + 1
        phases.append((across[:, start::JPEG_BLOCK].mean(1) + down[:, start::JPEG_BLOCK].mean(1)) / 2)
    steps = torch.stack(phases, dim=1) + ROUNDING_VARIANCE**0.5  # a flat patch has no steps
    loud: Tensor = steps.log()
    return loud[:, : JPEG_BLOCK // 2] - loud[:, JPEG_BLOCK // 2 :]


def spectrum_slope(grey: Tensor) -> Tensor:
    """Least-squares slope of ln power against ln frequency over radii 2 to N / 2, (n, 1), for grey (n, N, N)."""
    size = grey.shape[-1]
    radius = np.arange(2, size // 2 + 1)
    x = np.log(radius) - np.log(radius).mean()
    weights = torch.from_numpy(x / (x @ x)).float().to(grey.device)
    power = radial_profile(grey, floor=ROUNDING_VARIANCE * size**2)[:, radius[0] : radius[-1] + 1]
    return (power @ weights / 10)[:, None]  # 20 ln|F| is 10 times ln power


class Control(LinearDetector):
    """Logistic regression on a few trivial numbers."""

    kind = "control"
    penalties = (1e4, 1e3, 1e2, 1e1, 1.0)
    width: ClassVar[int]  # how many numbers
    weights: Tensor

    def __init__(self, patch_px: int) -> None:
        super().__init__(patch_px)
        self.register_buffer("weights", torch.zeros(self.width))

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (n,) of uint8 patches (n, N, N, 3)."""
        return self.features(pixels) @ self.weights + self.intercept

    def fold(self, model: LinearModel) -> None:
        """Take the weights as they are."""
        self.weights.copy_(torch.from_numpy(model.weights))
        self.intercept.fill_(model.bias)


class ColourControl(Control):
    """Mean colour and contrast: stain, white balance, how much tissue."""

    name = "rgb"
    width = 6

    def features(self, pixels: Tensor) -> Tensor:
        """Mean and standard deviation of R, G and B."""
        return colour_statistics(pixels)


class BlockinessControl(Control):
    """JPEG's 8-px grid."""

    name = "blockiness"
    width = JPEG_BLOCK // 2

    def features(self, pixels: Tensor) -> Tensor:
        """Contrast of each grid phase with the one half a block away."""
        return blockiness(luma(pixels))


class SlopeControl(Control):
    """Overall sharpness, as one number."""

    name = "slope"
    width = 1

    def features(self, pixels: Tensor) -> Tensor:
        """Slope of the log-log power spectrum."""
        return spectrum_slope(luma(pixels))

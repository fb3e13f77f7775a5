"""Co-occurrence: how often each pair of values stands a few pixels apart, channel by channel.

References: Nataraj et al. 2019, arXiv:1903.06836 (256 x 256 matrices at a distance of 5 into a CNN). Here 32 levels and
a ridge take the place of 256 and the CNN: a patch of 112 px has 12,000 pairs, too few to fill 65,536 places.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from histoforensics.slides import require

from .detector import Labels
from .linear import Features, LinearDetector, LinearModel, fit_ridge

LEVELS = 32
DISTANCE_PX = 5


def cooccurrence(pixels: Tensor, distance_px: int = DISTANCE_PX, levels: int = 256) -> Tensor:
    """Symmetric co-occurrence matrices, float32 (n, 3, levels, levels), of uint8 patches (n, h, w, 3); each sums to 1.

    Args:
        pixels: uint8; w above ``distance_px``.
        distance_px: From a pixel to the one right of it.
        levels: 2 to 256; values are cut into as many equal ranges.
    """
    n = len(pixels)
    values = pixels.permute(0, 3, 1, 2).long() * levels // 256  # (n, 3, h, w)
    pair = values[..., :-distance_px] * levels + values[..., distance_px:]
    offset = torch.arange(3 * n, device=pixels.device).view(n, 3, 1, 1) * levels**2
    counts = torch.bincount((pair + offset).flatten(), minlength=3 * n * levels**2).view(n, 3, levels, levels)
    return (counts + counts.transpose(2, 3)) / (2 * pair[0, 0].numel() if n else 1)


class CooccurrenceDetector(LinearDetector):
    """Ridge on the root of the co-occurrences. Mostly colour, so hold it against the control of that name.

    The root makes the noise of a count the same everywhere.
    """

    name: ClassVar[str] = "cooccurrence"
    penalties: ClassVar[tuple[float, ...]] = (1e5, 1e4, 1e3, 1e2)
    most_rows: ClassVar[int | None] = 4000
    copies: ClassVar[int] = 1
    weights: Tensor

    def __init__(self, patch_px: int, levels: int = LEVELS) -> None:
        super().__init__(patch_px)
        require(isinstance(levels, int) and 2 <= levels <= 64, "levels", "a whole number from 2 to 64", levels)
        self.levels = levels
        self.register_buffer("weights", torch.zeros(3 * levels * (levels + 1) // 2))

    def config(self) -> Mapping[str, Any]:
        """Judged size and levels."""
        return {"patch_px": self.patch_px, "levels": self.levels}

    def features(self, pixels: Tensor) -> Tensor:
        """Roots of the upper triangles (n, 3 * levels * (levels + 1) / 2)."""
        rows, columns = torch.triu_indices(self.levels, self.levels, device=pixels.device)
        return cooccurrence(pixels, levels=self.levels)[:, :, rows, columns].sqrt().flatten(1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (n,) of uint8 patches (n, N, N, 3)."""
        return self.features(pixels) @ self.weights + self.intercept

    @staticmethod
    def regress(features: Features, labels: Labels, **options: Any) -> LinearModel:
        """Ridge on -1 and 1: more features than patches."""
        return fit_ridge(features, labels, **options)

    def fold(self, model: LinearModel) -> None:
        """Take the weights as they are."""
        self.weights.copy_(torch.from_numpy(model.weights))
        self.intercept.fill_(model.bias)

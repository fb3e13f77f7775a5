"""Where tissue is replaced: rectangles, and irregular regions with a smooth outline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from histoforensics.slides import require

Shape = Literal["rectangle", "irregular"]

LEAST_PX = 16
_WAVES = 5  # harmonics of an irregular outline
_ROUGHNESS = 0.22  # their size beside the mean radius


@dataclass(frozen=True, eq=False)
class Region:
    """Replaced pixels of a slide.

    Attributes:
        x: Left edge of the bounding box, level-0 pixels.
        y: Top edge.
        mask: Which pixels of the box are replaced, bool (h, w); some in its first and last row and column.
        size_px: The size that was asked for; an irregular region of that size covers less.
    """

    x: int
    y: int
    mask: NDArray[np.bool_]
    size_px: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x, y, width, height, level-0 pixels."""
        height, width = self.mask.shape
        return self.x, self.y, width, height

    @property
    def area_px(self) -> int:
        """How many pixels are replaced."""
        return int(self.mask.sum())

    def moved(self, x: int, y: int) -> Region:
        """The same shape elsewhere."""
        return Region(x, y, self.mask, self.size_px)

    def is_near(self, other: Region, margin_px: int) -> bool:
        """Whether fewer than ``margin_px`` lie between the two boxes."""
        (ax, ay, aw, ah), (bx, by, bw, bh) = self.box, other.box
        return (
            ax < bx + bw + margin_px
            and bx < ax + aw + margin_px
            and ay < by + bh + margin_px
            and by < ay + ah + margin_px
        )


def draw_mask(shape: Shape, size_px: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """The mask of a region that fits a square of ``size_px``, cut to its own extent, bool (h, w).

    Raises:
        ConfigError: If the shape is unknown or the size is too small.

    >>> draw_mask("rectangle", 64, np.random.default_rng(0)).shape
    (64, 64)
    """
    require(shape in get_args(Shape), "shape", f"one of {', '.join(get_args(Shape))}", shape)
    require(size_px >= LEAST_PX, "size_px", f"at least {LEAST_PX}", size_px)
    if shape == "rectangle":
        return np.ones((size_px, size_px), bool)
    return _blob(size_px, rng)


def _blob(size_px: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A star-shaped region: its radius is a random periodic function of the angle, so it hangs together."""
    waves = np.arange(2, 2 + _WAVES)
    strength = rng.normal(size=_WAVES) / waves
    strength *= _ROUGHNESS / np.sqrt((strength**2).sum() / 2)
    phase = rng.uniform(0, 2 * np.pi, _WAVES)
    middle = (size_px - 1) / 2
    y, x = np.indices((size_px, size_px)) - middle
    angle = np.arctan2(y, x)
    radius = 1 + (strength * np.cos(waves * angle[..., None] + phase)).sum(-1)
    radius = np.clip(radius, 0.3, 1.7)
    mask = np.hypot(x, y) <= radius * (size_px / 2) / 1.3
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.asarray(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])

"""Adaptive augmentation for small data (ADA), with what tissue allows.

The discriminator sees real and generated images through the same random pipeline. Each operation is applied with a
chance p, and p follows how sure the discriminator has become of the reals: it rises while the mean sign of their logits
is above a target, and falls below it (Karras et al. 2020, arXiv:2006.06676, section 3).

The pipeline is the part of the published one that leaves H&E what it is. Geometry: mirrors, quarter turns, shifts by
whole pixels, a zoom and a free turn, all around the middle, the border reflected. Colour: how strongly the tissue took
up each of the two stains, in optical density, where white stays white. Left out, because no slide shows them: turned
hue, inverted or saturated colour, unequal axes, band filters, noise. The zoom and the turn are bilinear, where the
published ones filter more finely.

An operation that is left out often enough does not leak into what the generator draws, because the unchanged image
stays the most frequent one (their section 2.2); p therefore ends at `MAX_CHANCE`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

TARGET = 0.6  # mean sign of the reals' logits, as published
SHIFT_SHARE = 1 / 8  # the largest shift, as a share of the side
ZOOM_SPREAD = 0.2  # standard deviation of log2 of the zoom; both as published
STAIN_SPREAD = 0.2  # standard deviation of the logarithm of a stain's strength
MAX_CHANCE = 0.8  # above it the published experiments saw augmentations leak
DARKEST = 1 / 255  # of transmitted light; below it optical density goes on as a straight line
# Optical density of haematoxylin and eosin in red, green, blue (Ruifrok & Johnston 2001), and what is neither
STAINS = ((0.650, 0.704, 0.286), (0.072, 0.990, 0.105), (0.268, 0.570, 0.776))


@dataclass
class Adaptive:
    """The chance p of the pipeline, and the signs of the reals' logits since p moved last."""

    chance: float = 0.0
    signs: int = 0  # sum of the signs
    count: int = 0  # logits seen

    def see(self, logits: Tensor) -> None:
        """Count the signs of the logits of real images (n,)."""
        self.signs += int(logits.detach().sign().sum())
        self.count += len(logits)

    def move(self, target: float, reach: float) -> None:
        """Take p by ``reach`` towards where the mean sign is ``target``; begin counting anew."""
        if self.count:
            above = self.signs / self.count - target
            self.chance = min(max(self.chance + math.copysign(reach, above) * (above != 0), 0.0), MAX_CHANCE)
        self.signs = self.count = 0


def ada_augment(images: Tensor, chance: float, rng: torch.Generator, value_range: tuple[float, float]) -> Tensor:
    """Images (n, 3, h, h) after the pipeline, each operation on each image with its own ``chance``.

    Differentiable twice. At a chance of 0 the images come back as they are.

    Args:
        images: Square, of ``value_range``, not clipped.
        chance: p, from 0 to 1.
        rng: A CPU generator; it is advanced by the same amount whatever the chance.
        value_range: The values of black and white.
    """
    images = mirror(images, chance, rng)
    images = quarter_turn(images, chance, rng)
    images = shift(images, chance, rng)
    images = zoom_and_turn(images, chance, rng)
    return restain(images, chance, rng, value_range)


def mirror(images: Tensor, chance: float, rng: torch.Generator) -> Tensor:
    """Mirror half of the images that the chance picks, so that both forms are alike where p is 1."""
    used = _picked(len(images), chance / 2, rng).to(images.device)
    return torch.where(used[:, None, None, None], images.flip(3), images)


def quarter_turn(images: Tensor, chance: float, rng: torch.Generator) -> Tensor:
    """Turn picked images by 0, 90, 180 or 270 degrees."""
    used = _picked(len(images), chance, rng)
    turns = torch.randint(0, 4, (len(images),), generator=rng) * used
    return torch.stack([one.rot90(int(k), (1, 2)) for one, k in zip(images, turns, strict=True)])


def shift(images: Tensor, chance: float, rng: torch.Generator) -> Tensor:
    """Move picked images by whole pixels, up to an eighth of the side in both directions."""
    n, _, h, w = images.shape
    used = _picked(n, chance, rng)
    reach = round(h * SHIFT_SHARE)
    moves = torch.randint(-reach, reach + 1, (2, n), generator=rng) * used + reach
    padded = F.pad(images, (reach,) * 4, mode="reflect")
    return torch.stack([one[:, y : y + h, x : x + w] for one, y, x in zip(padded, *moves.tolist(), strict=True)])


def zoom_and_turn(images: Tensor, chance: float, rng: torch.Generator) -> Tensor:
    """Zoom picked images by 2^N(0, 0.2^2), and turn picked ones by any angle."""
    n = len(images)
    zooms = torch.exp2(torch.randn(n, generator=rng) * ZOOM_SPREAD * _picked(n, chance, rng))
    angles = (torch.rand(n, generator=rng) * 2 - 1) * math.pi * _picked(n, chance, rng)
    rows = torch.stack([angles.cos() / zooms, angles.sin() / zooms], 1)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, :2], theta[:, 1, 0], theta[:, 1, 1] = rows, -rows[:, 1], rows[:, 0]
    moved = ((zooms != 1) | (angles != 0)).to(images.device)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False).to(images)
    warped: Tensor = _Warp.apply(images, grid)
    return torch.where(moved[:, None, None, None], warped, images)


def restain(images: Tensor, chance: float, rng: torch.Generator, value_range: tuple[float, float]) -> Tensor:
    """Give picked images another strength of haematoxylin and of eosin, each by a factor of mean 1."""
    n = len(images)
    used = _picked(n, chance, rng)
    draws = torch.randn(n, 2, generator=rng)
    factors = torch.ones(n, 3)
    factors[:, :2] = torch.exp(STAIN_SPREAD * draws - STAIN_SPREAD**2 / 2)
    low, high = value_range
    stains = torch.tensor(STAINS)
    stains = stains / stains.norm(dim=1, keepdim=True)
    mix = torch.linalg.inv(stains) @ (factors[:, :, None] * stains)  # (n, 3, 3): density -> stains -> density
    density = optical_density((images - low) / (high - low))
    stained = torch.einsum("nchw,ncd->ndhw", density, mix.to(density))
    light = torch.exp(-stained) * (high - low) + low
    return torch.where(used.to(images.device)[:, None, None, None], light.to(images.dtype), images)


def optical_density(light: Tensor) -> Tensor:
    """Return -ln of the light let through, 1 being white; a straight line from `DARKEST` down, so that it stays finite.

    >>> optical_density(torch.tensor([1.0, 0.5])).tolist()
    [-0.0, 0.6931471824645996]
    """
    return -light.clamp(min=DARKEST).log() + (DARKEST - light).clamp(min=0.0) / DARKEST


def _picked(n: int, chance: float, rng: torch.Generator) -> Tensor:
    return torch.rand(n, generator=rng) < chance


class _Warp(torch.autograd.Function):
    """Bilinear sampling at fixed places. PyTorch's own has no second derivative, though it is linear in the image."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.shape = images.shape
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _Adjoint.apply(grad, ctx.saved_tensors[0], ctx.shape), None


class _Adjoint(torch.autograd.Function):
    """The transpose of `_Warp`, whose own gradient is `_Warp`."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, grid: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        bilinear, reflection, corners = 0, 2, False
        places = grad.new_zeros(shape)
        found: Tensor = torch.ops.aten.grid_sampler_2d_backward(
            grad.contiguous(), places, grid, bilinear, reflection, corners, [True, False]
        )[0]
        return found

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _Warp.apply(grad, ctx.saved_tensors[0]), None, None

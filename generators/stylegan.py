"""StyleGAN (2019): a generator that grows, styled by instance normalisation, and a discriminator that grows with it.

``lod`` says how far both are below full size, in halvings: 0 is full size, 2.5 is half-way between a quarter and an
eighth. Images always have full size; a lower level is repeated to it (G) or averaged from it (D).

Nearest-neighbour enlargement with a 3 x 3 convolution is one transposed convolution with a 4 x 4 kernel, and a 3 x 3
convolution with a 2 x 2 mean is one convolution of stride 2 with a 4 x 4 kernel; both do less than half of the
arithmetic.

The published code fuses these from 128 px on. Its fused enlargement is *not* the operation that it replaces: it is
the same with the kernel rotated by 180 degrees. ``variant="released"`` keeps this, so that published weights mean
what they meant; for training from scratch it makes no difference.

References: Karras et al. 2019, arXiv:1812.04948; Karras et al. 2018, arXiv:1710.10196 (growing).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from histoforensics.slides import require

from .layers import (
    Constant,
    EqualConv2d,
    EqualLinear,
    Fixed,
    NoiseMode,
    channels_at,
    channels_last,
    lrelu,
    lrelu_,
    minibatch_stddev,
    noise_map,
    stages,
    styled_norm_,
)
from .mapping import MappingNetwork, StyleGenerator
from .resample import (
    binomial_blur,
    conv_doubling,
    conv_halving,
    mean_down,
    mean_down_kernel,
    nearest_up,
    nearest_up_kernel,
    without_autocast,
)
from .rows import add_grain_, by_pixel, pixels_a_row

SQRT2 = math.sqrt(2)
MBSTD_GROUP = 4
FUSED_FROM = 128  # side from which the published code fuses the enlargement
VARIANTS = ("released", "intended")


@dataclass(frozen=True, kw_only=True)
class StyleGANConfig:
    """Shape of a StyleGAN. The defaults are the published network at 256 px."""

    resolution: int = 256
    z_dim: int = 512
    w_dim: int = 512
    fmap_base: int = 8192  # channels at side s: min(2 * fmap_base / s, fmap_max)
    fmap_max: int = 512
    mapping_layers: int = 8
    variant: Literal["released", "intended"] = "released"

    def __post_init__(self) -> None:
        r = self.resolution
        require(8 <= r <= 1024 and r & (r - 1) == 0, "resolution", "a power of two from 8 to 1024", r)
        for name in ("z_dim", "w_dim", "fmap_base", "fmap_max", "mapping_layers"):
            require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        require(self.variant in VARIANTS, "variant", " or ".join(VARIANTS), self.variant)

    @property
    def num_ws(self) -> int:
        """Number of styles that an image takes: two a side length."""
        return 2 * len(stages(self.resolution))

    @property
    def max_lod(self) -> int:
        """The lod of 4 px, where growing could begin."""
        return len(stages(self.resolution)) - 1

    def channels(self, side: int) -> int:
        """Return the number of channels at a side length."""
        return channels_at(side, self.fmap_base, self.fmap_max)


class Epilogue(nn.Module):
    """What follows every convolution of G: noise, bias, leaky ReLU, instance norm, the style's scale and shift.

    The bias is added by the convolution before it, where it costs nothing.
    """

    noise_const: Tensor

    def __init__(self, channels: int, side: int, w_dim: int) -> None:
        super().__init__()
        self.noise_weight = nn.Parameter(torch.zeros(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.style = EqualLinear(w_dim, 2 * channels)
        self.register_buffer("noise_const", torch.randn(side, side))
        self.pixels = pixels_a_row(channels, side**2)
        self._fixed = Fixed()

    def forward(self, x: Tensor, w: Tensor, noise: NoiseMode, rng: torch.Generator | None) -> Tensor:
        """Return x * (scale + 1) + shift, x normalised; ``x`` (n, c, h, w) is fresh, and has the bias already."""
        grain = noise_map(noise, x, self.noise_const, rng)
        full = self.bias.dtype  # under autocast a CPU adds in bf16 six times slower than in float32
        x = x.to(full)
        if grain is not None:
            with without_autocast(x):
                x = add_grain_(x, grain, self._fixed.keep(self._grain_matrix, self.noise_weight))
        scale, shift = self.style(w).to(full).chunk(2, 1)
        return styled_norm_(lrelu_(x), scale + 1, shift, 1e-8)

    def _grain_matrix(self) -> Tensor:
        return by_pixel(self.noise_weight[None], self.pixels)


class SynthesisBlock(nn.Module):
    """Two convolutions, each with its epilogue, at one side length; the first one enlarges."""

    def __init__(self, inputs: int, outputs: int, side: int, w_dim: int, *, rotated: bool) -> None:
        super().__init__()
        self.rotated = rotated
        kernel = partial(nearest_up_kernel, rotated=rotated)
        self.up = EqualConv2d(inputs, outputs, 3, gain=SQRT2, bias=False, resample=conv_doubling, effective=kernel)
        self.up_epilogue = Epilogue(outputs, side, w_dim)
        self.conv = EqualConv2d(outputs, outputs, 3, gain=SQRT2, bias=False)
        self.conv_epilogue = Epilogue(outputs, side, w_dim)

    def forward(self, x: Tensor, ws: list[Tensor], noise: NoiseMode, rng: torch.Generator | None) -> Tensor:
        """Return the features (n, c', 2h, 2w)."""
        x = self.up_epilogue(binomial_blur(self.up(x), self.up_epilogue.bias), ws[0], noise, rng)
        y: Tensor = self.conv_epilogue(self.conv(x, self.conv_epilogue.bias), ws[1], noise, rng)
        return y


class FirstBlock(nn.Module):
    """The learned constant at 4 x 4, an epilogue, a convolution, an epilogue."""

    def __init__(self, channels: int, side: int, w_dim: int) -> None:
        super().__init__()
        self.const = Constant(torch.ones(channels, side, side))
        self.const_epilogue = Epilogue(channels, side, w_dim)
        self.conv = EqualConv2d(channels, channels, 3, gain=SQRT2, bias=False)
        self.conv_epilogue = Epilogue(channels, side, w_dim)

    def forward(self, ws: list[Tensor], noise: NoiseMode, rng: torch.Generator | None) -> Tensor:
        """Return the features (n, c, 4, 4)."""
        x = self.const(ws[0].shape[0]) + self.const_epilogue.bias[:, None, None]
        x = self.const_epilogue(x, ws[0], noise, rng)
        y: Tensor = self.conv_epilogue(self.conv(x, self.conv_epilogue.bias), ws[1], noise, rng)
        return y


class SynthesisNetwork(nn.Module):
    """ws (n, num_ws, w_dim) -> images (n, 3, r, r)."""

    def __init__(self, config: StyleGANConfig) -> None:
        super().__init__()
        sides = stages(config.resolution)
        widths = [config.channels(side) for side in sides]
        released = config.variant == "released"
        self.max_lod = config.max_lod
        self.first = FirstBlock(widths[0], sides[0], config.w_dim)
        self.blocks = nn.ModuleList(
            SynthesisBlock(i, o, side, config.w_dim, rotated=released and side >= FUSED_FROM)
            for (i, o), side in zip(pairwise(widths), sides[1:], strict=True)
        )
        self.to_rgb = nn.ModuleList(EqualConv2d(width, 3, 1) for width in widths)

    def forward(
        self, ws: Tensor, noise: NoiseMode = "random", rng: torch.Generator | None = None, lod: float = 0.0
    ) -> Tensor:
        """Return images, about [-1, 1], of full size at any ``lod``; ``noise`` is "random", "const" or "none"."""
        whole, share = split_lod(lod, self.max_lod)
        styles = list(ws.unbind(1))
        x = before = self.first(styles[:2], noise, rng)
        last = self.max_lod - whole
        for k in range(last):
            before, x = x, self.blocks[k](x, styles[2 * k + 2 : 2 * k + 4], noise, rng)
        image: Tensor = self.to_rgb[last](x)
        if share > 0:
            image = torch.lerp(image, nearest_up(self.to_rgb[last - 1](before)).to(image), share)
        return nearest_up(image, 2**whole)


class StyleGANGenerator(StyleGenerator):
    """G of StyleGAN: ``G(z)``, or ``G.synthesis(G.styles(z), lod=...)``."""

    def __init__(self, config: StyleGANConfig) -> None:
        super().__init__(
            MappingNetwork(config.z_dim, config.w_dim, config.mapping_layers, gain_after=False),
            SynthesisNetwork(config),
            z_dim=config.z_dim,
            w_dim=config.w_dim,
            num_ws=config.num_ws,
            resolution=config.resolution,
        )
        self.config = config

    def forward(
        self,
        z: Tensor,
        psi: float = 1.0,
        cutoff: int | None = None,
        noise: NoiseMode = "random",
        rng: torch.Generator | None = None,
        lod: float = 0.0,
    ) -> Tensor:
        """Return images (n, 3, r, r), about [-1, 1], for z (n, z_dim) ~ N(0, I)."""
        images: Tensor = self.synthesis(self.styles(z, psi, cutoff), noise=noise, rng=rng, lod=lod)
        return images


class DiscriminatorBlock(nn.Module):
    """Convolution, blur, convolution to half the size; leaky ReLU after both."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = EqualConv2d(inputs, inputs, 3, gain=SQRT2)
        self.down = EqualConv2d(inputs, outputs, 3, gain=SQRT2, resample=conv_halving, effective=mean_down_kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, outputs, h / 2, w / 2)."""
        return lrelu_(self.down(binomial_blur(lrelu_(self.conv(x)))))


class StyleGANDiscriminator(nn.Module):
    """D of StyleGAN: images (n, 3, r, r) in [-1, 1] -> logits (n,); above zero reads as real.

    The batch is at most 4 or a multiple of 4: the minibatch standard deviation compares samples in groups of 4.
    """

    def __init__(self, config: StyleGANConfig) -> None:
        super().__init__()
        self.config = config
        self.resolution = config.resolution
        widths = [config.channels(side) for side in reversed(stages(config.resolution))]
        last = widths[-1]
        self.from_rgb = nn.ModuleList(EqualConv2d(3, width, 1, gain=SQRT2) for width in widths)
        self.blocks = nn.ModuleList(DiscriminatorBlock(i, o) for i, o in pairwise(widths))
        self.conv = EqualConv2d(last + 1, last, 3, gain=SQRT2)
        self.dense = EqualLinear(last * 16, last, gain=SQRT2)
        self.out = EqualLinear(last, 1)

    def forward(self, images: Tensor, lod: float = 0.0) -> Tensor:
        """Return logits (n,); at ``lod`` only the layers of that size and below take part."""
        whole, share = split_lod(lod, self.config.max_lod)
        images = channels_last(mean_down(images, 2**whole))
        x = lrelu(self.from_rgb[whole](images))
        for k in range(whole, len(self.blocks)):
            x = self.blocks[k](x)
            if share > 0 and k == whole:
                x = torch.lerp(x, lrelu(self.from_rgb[k + 1](mean_down(images))).to(x), share)
        x = lrelu_(self.conv(minibatch_stddev(x, MBSTD_GROUP)))
        logits: Tensor = self.out(lrelu(self.dense(x.flatten(1))))
        return logits.squeeze(1)


def split_lod(lod: float, max_lod: int) -> tuple[int, float]:
    """Return the whole and the fractional part of ``lod``.

    Raises:
        ConfigError: If ``lod`` lies outside 0 to ``max_lod``.
    """
    require(0 <= lod <= max_lod, "lod", f"from 0 to {max_lod}", lod)
    whole = int(lod)
    return whole, lod - whole

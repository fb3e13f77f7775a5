"""StyleGAN2, config-f: a skip generator with modulated convolutions, a residual discriminator, nothing that grows.

Two rewrites make it quick without a compiled extension, and leave the result as it is up to rounding:

- a modulated convolution scales its input, convolves the whole batch with one weight and scales its output, where the
  published code makes a weight for every sample and convolves in groups;
- lrelu(x) * a = lrelu(a * x) for a > 0: G's gain and demodulation wait for the next layer's style, which scales the
  same channels; D's gain goes into the weights and the biases, and sum / sqrt(2) of the residual blocks into the
  weights of the skip.

References: Karras et al. 2020, arXiv:1912.04958.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

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
)
from .mapping import MappingNetwork, StyleGenerator
from .resample import conv, conv_down, conv_up, fir_up
from .rows import RGB_PIXELS, add_grain_, by_pixel, from_rows, mix_channels, pixels_a_row, repeated, rows, scale_

SQRT2 = math.sqrt(2)
MBSTD_GROUP = 4


@dataclass(frozen=True, kw_only=True)
class StyleGAN2Config:
    """Shape of a StyleGAN2. The defaults are the published config-f at 256 px."""

    resolution: int = 256
    z_dim: int = 512
    w_dim: int = 512
    fmap_base: int = 16384  # channels at side s: min(2 * fmap_base / s, fmap_max)
    fmap_max: int = 512
    mapping_layers: int = 8

    def __post_init__(self) -> None:
        r = self.resolution
        require(8 <= r <= 1024 and r & (r - 1) == 0, "resolution", "a power of two from 8 to 1024", r)
        for name in ("z_dim", "w_dim", "fmap_base", "fmap_max", "mapping_layers"):
            require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))

    @property
    def num_ws(self) -> int:
        """Number of styles that an image takes: one a convolution, and one for the last ToRGB."""
        return 2 * len(stages(self.resolution))

    def channels(self, side: int) -> int:
        """Return the number of channels at a side length."""
        return channels_at(side, self.fmap_base, self.fmap_max)


class ModulatedConv(nn.Module):
    """A convolution whose input channels are scaled by a style: x (n, c, h, w) and w (n, w_dim) -> (n, c', h', w').

    Scaling and demodulation are left to the caller, who puts gains of its own into the factors.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, w_dim: int, *, up: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.affine = EqualLinear(w_dim, inputs, bias_init=1.0)
        self.scale = 1.0 / math.sqrt(inputs * kernel**2)
        self.up = up
        self._fixed, self._fixed_power = Fixed(), Fixed()

    def used(self) -> Tensor:
        """Return the weight as used, (c', c, k, k)."""
        return self._fixed.keep(lambda: self.weight * self.scale, self.weight)

    def deviation(self, style: Tensor) -> Tensor:
        """Return `deviation` of the weight as used for ``style`` (n, c): (n, c')."""
        return deviation(self._fixed_power.keep(lambda: power(self.used()), self.weight), style)

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolved image; ``x`` is scaled already."""
        return conv_up(x, self.used()) if self.up else conv(x, self.used())


def power(weight: Tensor) -> Tensor:
    """Return the sum of squares of ``weight`` (c', c, k, k) over its taps, (c, c')."""
    return weight.square().sum((2, 3)).T.contiguous()


def deviation(power: Tensor, style: Tensor, eps: float = 1e-8) -> Tensor:
    """Return the standard deviations (n, c') of a modulated convolution's outputs, where its inputs have one of 1.

    The square root of the sum over input channels and taps of (weight * style)^2, + eps. Its inverse is what the output
    is demodulated with, eq. 3 of the paper.

    Args:
        power: `power` of the weight as used, shape (c, c').
        style: Shape (n, c).
        eps: Against a weight of zero.
    """
    return (style.square() @ power + eps).sqrt()


class SynthesisLayer(nn.Module):
    """Modulated 3 x 3 convolution, demodulated, + noise, + bias, leaky ReLU, gain sqrt(2).

    The result is left divided by its gain, sqrt(2) over `deviation`. What comes next has a style of its own for each
    channel, which takes the gain in; noise and bias, added before, are divided instead.
    """

    noise_const: Tensor

    def __init__(self, inputs: int, outputs: int, side: int, w_dim: int, *, up: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, outputs, 3, w_dim, up=up)
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("noise_const", torch.randn(side, side))
        self.pixels = pixels_a_row(outputs, side**2)
        self._fixed = Fixed()

    def factors(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Return the style (n, c) of the input and the deviation (n, c') of the output for w (n, w_dim)."""
        style = self.conv.affine(w)
        return style, self.conv.deviation(style).to(self.bias.dtype)

    def forward(self, x: Tensor, style: Tensor, sigma: Tensor, noise: NoiseMode, rng: torch.Generator | None) -> Tensor:
        """Return the layer's output (n, c', side, side) without its gain; ``style`` holds the gain of ``x``."""
        y = self.conv(scale_(x, style.to(x.dtype)))
        grain = noise_map(noise, y, self.noise_const, rng)
        if grain is None:
            grain = y.new_zeros(1, 1, 1, 1)
        matrix = self._fixed.keep(self._grain_matrix, self.noise_strength, self.bias)
        return lrelu_(add_grain_(y, grain, matrix * repeated(sigma, self.pixels)))

    def _grain_matrix(self) -> Tensor:
        strength = by_pixel(self.noise_strength.expand(1, len(self.bias)), self.pixels)
        return torch.cat([strength, self.bias.repeat(self.pixels)[None]])


class ToRGB(nn.Module):
    """Modulated 1 x 1 convolution to three channels, *not* demodulated, + bias, + the image so far, enlarged."""

    def __init__(self, inputs: int, w_dim: int) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, 3, 1, w_dim)
        self.bias = nn.Parameter(torch.zeros(3))
        self._fixed, self._fixed_bias = Fixed(), Fixed()

    def forward(self, x: Tensor, w: Tensor, gain: Tensor, image: Tensor | None) -> Tensor:
        """Return (n, 3, h, w) for features ``x`` (n, c, h, w) that still lack their ``gain`` (n, c)."""
        matrix = self._fixed.keep(lambda: by_pixel(self.conv.used().flatten(1).T, RGB_PIXELS), self.conv.weight)
        flat = mix_channels(x, self.conv.affine(w) * gain, matrix).to(self.bias.dtype)
        flat = flat.add_(self._fixed_bias.keep(lambda: self.bias.repeat(RGB_PIXELS), self.bias))
        if image is not None:
            flat = flat.add_(rows(fir_up(image), RGB_PIXELS))
        return from_rows(flat, *x.shape[2:])


class SynthesisBlock(nn.Module):
    """Two layers and a ToRGB at one side length; the first block has one layer."""

    def __init__(self, inputs: int | None, outputs: int, side: int, w_dim: int) -> None:
        super().__init__()
        self.up = None if inputs is None else SynthesisLayer(inputs, outputs, side, w_dim, up=True)
        self.conv = SynthesisLayer(outputs, outputs, side, w_dim)
        self.to_rgb = ToRGB(outputs, w_dim)

    def forward(
        self,
        x: Tensor,
        gain: Tensor | None,
        image: Tensor | None,
        ws: list[Tensor],
        noise: NoiseMode,
        rng: torch.Generator | None,
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Return (features, the gain (n, c') that they still lack, image so far).

        ``ws`` holds a style for every layer and one for ToRGB, each (n, w_dim).
        """
        for layer, w in zip((self.conv,) if self.up is None else (self.up, self.conv), ws, strict=False):
            style, sigma = layer.factors(w)
            x = layer(x, style if gain is None else style * gain, sigma, noise, rng)
            gain = SQRT2 / sigma
        return x, gain, self.to_rgb(x, ws[-1], gain, image)


class SynthesisNetwork(nn.Module):
    """ws (n, num_ws, w_dim) -> images (n, 3, r, r)."""

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        sides = stages(config.resolution)
        widths = [config.channels(side) for side in sides]
        self.const = Constant(torch.randn(widths[0], sides[0], sides[0]))
        self.blocks = nn.ModuleList(
            SynthesisBlock(i, o, side, config.w_dim) for i, o, side in zip([None, *widths], widths, sides, strict=False)
        )

    def forward(self, ws: Tensor, noise: NoiseMode = "random", rng: torch.Generator | None = None) -> Tensor:
        """Return images, about [-1, 1]; ``noise`` is "random", "const" (the stored maps) or "none"."""
        styles = list(ws.unbind(1))
        x = self.const(ws.shape[0])
        image: Tensor | None = None
        gain: Tensor | None = None
        for k, block in enumerate(self.blocks):
            # a ToRGB shares its style with the first layer of the next block
            x, gain, image = block(x, gain, image, styles[max(0, 2 * k - 1) : 2 * k + 2], noise, rng)
        assert image is not None
        return image


class StyleGAN2Generator(StyleGenerator):
    """G of StyleGAN2: ``G(z)``, or ``G.synthesis(G.styles(z))``."""

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__(
            MappingNetwork(config.z_dim, config.w_dim, config.mapping_layers, gain_after=True),
            SynthesisNetwork(config),
            z_dim=config.z_dim,
            w_dim=config.w_dim,
            num_ws=config.num_ws,
            resolution=config.resolution,
        )
        self.config = config


class ActivatedConv(nn.Module):
    """Convolution, bias, leaky ReLU, ``gain``; of half the size where ``down``."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, gain: float = SQRT2, down: bool = False) -> None:
        super().__init__()
        self.conv = EqualConv2d(inputs, outputs, kernel, resample=conv_down if down else None, out_gain=gain)

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated image."""
        y: Tensor = self.conv(x)
        return lrelu(y) if self.conv.weight.shape[-1] == 1 else lrelu_(y)  # the former's result is a view


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions, the second of half the size, plus a 1 x 1 skip, over sqrt(2)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = ActivatedConv(inputs, inputs, 3)
        self.down = ActivatedConv(inputs, outputs, 3, gain=1.0, down=True)  # sqrt(2) / sqrt(2)
        self.skip = EqualConv2d(inputs, outputs, 1, bias=False, resample=conv_down, out_gain=1 / SQRT2)

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, outputs, h / 2, w / 2)."""
        y: Tensor = self.down(self.conv(x)) + self.skip(x)
        return y


class ActivatedLinear(nn.Module):
    """Dense layer, leaky ReLU, gain sqrt(2)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.dense = EqualLinear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, outputs)."""
        return lrelu(self.dense(x), SQRT2)


class StyleGAN2Discriminator(nn.Module):
    """D of StyleGAN2: images (n, 3, r, r) in [-1, 1] -> logits (n,); above zero reads as real.

    The batch is at most 4 or a multiple of 4: the minibatch standard deviation compares samples in groups of 4.
    """

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        self.config = config
        self.resolution = config.resolution
        widths = [config.channels(side) for side in reversed(stages(config.resolution))]
        last = widths[-1]
        self.from_rgb = ActivatedConv(3, widths[0], 1)
        self.blocks = nn.ModuleList(ResidualBlock(i, o) for i, o in pairwise(widths))
        self.conv = ActivatedConv(last + 1, last, 3)
        self.dense = ActivatedLinear(last * 16, last)
        self.out = EqualLinear(last, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n,)."""
        x = self.from_rgb(channels_last(images))
        for block in self.blocks:
            x = block(x)
        x = self.conv(minibatch_stddev(x, MBSTD_GROUP))
        logits: Tensor = self.out(self.dense(x.flatten(1)))
        return logits.squeeze(1)

"""StyleGAN2, config-f: a skip generator with modulated convolutions, a residual discriminator, nothing that grows.

Two rewrites make it quick without a compiled extension, and leave the result as it is up to rounding:

- a modulated convolution scales its input, convolves the whole batch with one weight and scales its output, where the
  published code makes a weight for every sample and convolves in groups;
- lrelu(x) * sqrt(2) = lrelu(sqrt(2) * x), so the gain goes into the demodulation factors, the weights and the biases,
  and sum / sqrt(2) of the residual blocks into the weights of the skip.

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

    Demodulation is left to the caller, who can put a gain of its own into the factors; hence the weight as used and the
    style are returned as well.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, w_dim: int, *, up: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.affine = EqualLinear(w_dim, inputs, bias_init=1.0)
        self.scale = 1.0 / math.sqrt(inputs * kernel**2)
        self.up = up

    def forward(self, x: Tensor, w: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return (convolved image plus ``bias`` (n, c', h', w'), weight as used (c', c, k, k), style (n, c))."""
        style = self.affine(w)  # (n, c)
        weight = self.weight * self.scale
        x = x * style[:, :, None, None].to(x.dtype)
        y = conv_up(x, weight, bias) if self.up else conv(x, weight, bias)
        return y, weight, style


def demodulation(weight: Tensor, style: Tensor, eps: float = 1e-8) -> Tensor:
    """Return the factors (n, c') that bring each output of a modulated convolution back to unit variance.

    1 / sqrt(sum over input channels and taps of (weight * style)^2 + eps), eq. 3 of the paper.

    Args:
        weight: As used, shape (c', c, k, k).
        style: Shape (n, c).
        eps: Against a weight of zero.
    """
    return (style.square() @ weight.square().sum((2, 3)).T + eps).rsqrt()


class SynthesisLayer(nn.Module):
    """Modulated 3 x 3 convolution, demodulated, + noise, + bias, leaky ReLU, gain sqrt(2)."""

    noise_const: Tensor

    def __init__(self, inputs: int, outputs: int, side: int, w_dim: int, *, up: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, outputs, 3, w_dim, up=up)
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("noise_const", torch.randn(side, side))

    def forward(self, x: Tensor, w: Tensor, noise: NoiseMode, rng: torch.Generator | None) -> Tensor:
        """Return the layer's output (n, c', side, side)."""
        y, weight, style = self.conv(x, w)
        grain = noise_map(noise, y, self.noise_const, rng)
        reduced, full = y.dtype, self.bias.dtype  # under autocast a CPU adds in bf16 six times slower than in float32
        gain = (demodulation(weight, style).to(full) * SQRT2)[:, :, None, None]
        bias = (self.bias * SQRT2)[:, None, None]
        if grain is None:
            return lrelu_(torch.addcmul(bias, y.to(full), gain)).to(reduced)
        grain = grain.to(full) * (self.noise_strength * SQRT2)
        return lrelu_(torch.addcmul(grain, y.to(full), gain).add_(bias)).to(reduced)


class ToRGB(nn.Module):
    """Modulated 1 x 1 convolution to three channels, *not* demodulated, + bias."""

    def __init__(self, inputs: int, w_dim: int) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, 3, 1, w_dim)
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Return (n, 3, h, w)."""
        y: Tensor = self.conv(x, w, self.bias)[0]
        return y


class SynthesisBlock(nn.Module):
    """Two layers and a ToRGB at one side length; the first block has one layer."""

    def __init__(self, inputs: int | None, outputs: int, side: int, w_dim: int) -> None:
        super().__init__()
        self.up = None if inputs is None else SynthesisLayer(inputs, outputs, side, w_dim, up=True)
        self.conv = SynthesisLayer(outputs, outputs, side, w_dim)
        self.to_rgb = ToRGB(outputs, w_dim)

    def forward(
        self, x: Tensor, image: Tensor | None, ws: list[Tensor], noise: NoiseMode, rng: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Return (features, image so far); ``ws`` holds a style for every layer and one for ToRGB, each (n, w_dim)."""
        if self.up is not None:
            x = self.up(x, ws[0], noise, rng)
        x = self.conv(x, ws[-2], noise, rng)
        rgb = self.to_rgb(x, ws[-1])
        return x, rgb if image is None else fir_up(image) + rgb


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
        for k, block in enumerate(self.blocks):
            # a ToRGB shares its style with the first layer of the next block
            x, image = block(x, image, styles[max(0, 2 * k - 1) : 2 * k + 2], noise, rng)
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

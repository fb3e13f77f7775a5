"""PathologyGAN: residual blocks, attention, spectral norm everywhere, styles through conditional instance norm.

``variant="released"`` is the published code with what it really does:

- its noise is one number a channel, which the instance norm that follows subtracts again: it changes nothing;
- half of the dense layers of the mapping network are computed and not used. They are kept here as ``unused``
parameters,
  so that the counts agree and published weights have a place, but they are never called.

``variant="intended"`` gives every pixel noise of its own. What else differs between the two (gradient penalty, beta2,
orthogonal regularisation) belongs to training.

Below 224 px the published channels go by side length: a network of 112 px is the one of 224 px without its finest
stage.

References: Quiros et al. 2021, arXiv:1907.02644.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from histoforensics.slides import require

from .layers import NoiseMode, channels_last, instance_norm, lrelu, lrelu_, noise_map, stages
from .resample import without_autocast
from .spectral import SpectralConv2d, SpectralDown, SpectralLinear, SpectralUp

FIRST_SIDE = 7
ATTENTION_SIDE = 28
CIN_EPS = 1e-5
VARIANTS = ("released", "intended")
RESOLUTIONS = (28, 56, 112, 224)
MAPPING_BLOCKS = 4


@dataclass(frozen=True, kw_only=True)
class PathologyGANConfig:
    """Shape of a PathologyGAN. The defaults are the published network at 224 px."""

    resolution: int = 224
    z_dim: int = 128
    width: float = 1.0  # factor on every number of channels and features, save those of z and w
    dense_width: float | None = None  # of the dense layers and G's 7-px channels, which hold most weights; None: width
    variant: Literal["released", "intended"] = "released"

    def __post_init__(self) -> None:
        wanted = ", ".join(map(str, RESOLUTIONS[:-1])) + f" or {RESOLUTIONS[-1]}"
        require(self.resolution in RESOLUTIONS, "resolution", wanted, self.resolution)
        require(self.z_dim >= 1, "z_dim", "at least 1", self.z_dim)
        require(0 < self.width <= 4, "width", "above 0 and at most 4", self.width)
        ok = self.dense_width is None or 0 < self.dense_width <= 4
        require(ok, "dense_width", "above 0 and at most 4, or none", self.dense_width)
        require(self.variant in VARIANTS, "variant", " or ".join(VARIANTS), self.variant)

    @property
    def num_ws(self) -> int:
        """Number of styles that an image takes: one a side length."""
        return len(stages(self.resolution, FIRST_SIDE))

    def scaled(self, channels: int) -> int:
        """Return a published number of channels at this width, at least 1."""
        return max(1, round(channels * self.width))

    def scaled_dense(self, features: int) -> int:
        """Return a published number of features of a dense layer at this width, at least 1."""
        return max(1, round(features * (self.width if self.dense_width is None else self.dense_width)))

    def channels(self, side: int) -> int:
        """Return G's number of channels at a side length: 256 at 7 px, 512 at 14 px, then half at each doubling."""
        return self.scaled_dense(256) if side == FIRST_SIDE else self.scaled(512 * 14 // side)

    def channels_d(self, side: int) -> int:
        """Return D's number of channels at a side length: 3 at full size; 512 at 7 px, half at each doubling."""
        return 3 if side == self.resolution else self.scaled(512 * FIRST_SIDE // side)


class MappingNetwork(nn.Module):
    """z (n, z_dim) -> w (n, z_dim): four blocks w + ReLU(dense(w)), then a dense layer."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(SpectralLinear(dim, dim) for _ in range(MAPPING_BLOCKS))
        self.unused = nn.ModuleList(SpectralLinear(dim, dim) for _ in range(MAPPING_BLOCKS))
        self.out = SpectralLinear(dim, dim)

    def forward(self, z: Tensor) -> Tensor:
        """Return w (n, z_dim)."""
        w = z
        for block in self.blocks:
            w = w + torch.relu(block(w))
        out: Tensor = self.out(w)
        return out


class ConditionalInstanceNorm(nn.Module):
    """Instance norm whose scale and shift come from the style through a small network.

    hidden = ReLU(dense(w)), scale = ReLU(dense(hidden)), shift = dense(hidden). For features without pixels, (n, c),
    the moments run over the features.
    """

    def __init__(self, channels: int, w_dim: int) -> None:
        super().__init__()
        hidden = (channels + w_dim) // 2
        xavier = nn.init.xavier_uniform_
        self.hidden = SpectralLinear(w_dim, hidden, init=xavier)
        self.scale = SpectralLinear(hidden, channels, init=xavier)
        self.shift = SpectralLinear(hidden, channels, init=xavier)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Return the normalised, scaled and shifted ``x``, (n, c, h, w) or (n, c), for w (n, w_dim)."""
        hidden = torch.relu(self.hidden(w))
        shape = (*x.shape[:2], *(1,) * (x.ndim - 2))
        scale, shift = torch.relu(self.scale(hidden)).view(shape), self.shift(hidden).view(shape)
        return torch.addcmul(shift, instance_norm(x, CIN_EPS), scale)


class NoiseNorm(nn.Module):
    """What follows every convolution of G: + noise, conditional instance norm, leaky ReLU."""

    noise_const: Tensor

    def __init__(self, channels: int, side: int, config: PathologyGANConfig) -> None:
        super().__init__()
        self.per_pixel = config.variant == "intended"
        self.noise_weight = nn.Parameter(torch.zeros(channels))
        self.register_buffer("noise_const", torch.randn(side, side) if self.per_pixel else torch.randn(channels, 1, 1))
        self.norm = ConditionalInstanceNorm(channels, config.z_dim)

    def forward(self, x: Tensor, w: Tensor, noise: NoiseMode, rng: torch.Generator | None) -> Tensor:
        """Return the activated features (n, c, h, w)."""
        shape = None if self.per_pixel else (*x.shape[:2], 1, 1)
        grain = noise_map(noise, x, self.noise_const, rng, shape)
        if grain is not None:
            full = self.noise_weight.dtype  # under autocast a CPU adds in bf16 six times slower than in float32
            x = torch.addcmul(x.to(full), grain.to(full), self.noise_weight[:, None, None])
        return lrelu_(self.norm(x, w))


class ResidualBlock(nn.Module):
    """x + two convolutions, each with noise, conditional instance norm and leaky ReLU; nothing after the sum."""

    def __init__(self, channels: int, side: int, config: PathologyGANConfig) -> None:
        super().__init__()
        self.convs = nn.ModuleList(SpectralConv2d(channels, channels, 3) for _ in range(2))
        self.norms = nn.ModuleList(NoiseNorm(channels, side, config) for _ in range(2))

    def forward(self, x: Tensor, w: Tensor, noise: NoiseMode, rng: torch.Generator | None) -> Tensor:
        """Return (n, c, h, w)."""
        y = x
        for conv, norm in zip(self.convs, self.norms, strict=True):
            y = norm(conv(y), w, noise, rng)
        return x + y


class Attention(nn.Module):
    """Self-attention over pixels: x + gamma * softmax(f g^T) h, gamma starting at 0 (Zhang et al. 2019, unscaled)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(1, channels // 8)
        self.f = SpectralConv2d(channels, inner, 1)
        self.g = SpectralConv2d(channels, inner, 1)
        self.h = SpectralConv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, c, h, w); memory grows with (h w)^2."""
        f, g, h = (layer(x).flatten(2).transpose(1, 2) for layer in (self.f, self.g, self.h))  # (n, p, c)
        affinities = f @ g.transpose(1, 2)
        # autocast would take it to float32 and back; its sums are float32 in any case, and its result is rounded
        with without_autocast(x):
            weights = torch.softmax(affinities, -1)  # (n, p, p): row p says where pixel p looks
        return torch.addcmul(x, (weights @ h).transpose(1, 2).view_as(x), self.gamma)


class GeneratorBlock(nn.Module):
    """A residual block, attention where the side is 28, then a convolution to twice the side."""

    def __init__(self, side: int, config: PathologyGANConfig) -> None:
        super().__init__()
        inputs, outputs = config.channels(side), config.channels(2 * side)
        self.residual = ResidualBlock(inputs, side, config)
        self.attention = Attention(inputs) if side == ATTENTION_SIDE else None
        self.up = SpectralUp(inputs, outputs)
        self.norm = NoiseNorm(outputs, 2 * side, config)

    def forward(self, x: Tensor, w: Tensor, w_next: Tensor, noise: NoiseMode, rng: torch.Generator | None) -> Tensor:
        """Return (n, c', 2h, 2w)."""
        x = self.residual(x, w, noise, rng)
        if self.attention is not None:
            x = self.attention(x)
        y: Tensor = self.norm(self.up(x), w_next, noise, rng)
        return y


class SynthesisNetwork(nn.Module):
    """ws (n, num_ws, z_dim) -> images (n, 3, r, r) in [0, 1]. The first style is also the network's input."""

    def __init__(self, config: PathologyGANConfig) -> None:
        super().__init__()
        first, start = config.scaled_dense(1024), config.channels(FIRST_SIDE)
        flat = FIRST_SIDE**2 * start
        sides = stages(config.resolution, FIRST_SIDE)
        self.dense = nn.ModuleList([SpectralLinear(config.z_dim, first), SpectralLinear(first, flat)])
        self.dense_norms = nn.ModuleList(ConditionalInstanceNorm(n, config.z_dim) for n in (first, flat))
        self.blocks = nn.ModuleList(GeneratorBlock(side, config) for side in sides[:-1])
        self.to_rgb = SpectralConv2d(config.channels(sides[-1]), 3, 3)

    def forward(self, ws: Tensor, noise: NoiseMode = "random", rng: torch.Generator | None = None) -> Tensor:
        """Return images in [0, 1]; ``noise`` is "random", "const" (the stored numbers) or "none"."""
        styles = ws.unbind(1)
        x = styles[0]
        for dense, norm in zip(self.dense, self.dense_norms, strict=True):
            x = lrelu(norm(dense(x), styles[0]))
        x = x.view(len(x), FIRST_SIDE, FIRST_SIDE, -1).permute(0, 3, 1, 2)  # channels come last in the dense layer
        for k, block in enumerate(self.blocks):
            x = block(x, styles[k], styles[k + 1], noise, rng)
        return torch.sigmoid(self.to_rgb(x))


class PathologyGANGenerator(nn.Module):
    """G of PathologyGAN: ``G(z)``, or ``G.synthesis(G.styles(z))``. It keeps no mean of w, so it cannot truncate."""

    value_range = (0.0, 1.0)

    def __init__(self, config: PathologyGANConfig) -> None:
        super().__init__()
        self.config = config
        self.z_dim = self.w_dim = config.z_dim
        self.num_ws, self.resolution = config.num_ws, config.resolution
        self.mapping = MappingNetwork(config.z_dim)
        self.synthesis = SynthesisNetwork(config)

    def styles(self, z: Tensor, psi: float = 1.0, cutoff: int | None = None) -> Tensor:
        """Return the styles of all layers, (n, num_ws, z_dim).

        Raises:
            ConfigError: If ``psi`` is not 1 or ``cutoff`` is given.
        """
        require(psi == 1.0, "psi", "1 for PathologyGAN, which keeps no average style", psi)
        require(cutoff is None, "cutoff", "none for PathologyGAN, which keeps no average style", cutoff)
        w: Tensor = self.mapping(z)
        return w[:, None].expand(-1, self.num_ws, -1)

    def forward(
        self,
        z: Tensor,
        psi: float = 1.0,
        cutoff: int | None = None,
        noise: NoiseMode = "random",
        rng: torch.Generator | None = None,
    ) -> Tensor:
        """Return images (n, 3, r, r) in [0, 1] for z (n, z_dim) ~ N(0, I)."""
        images: Tensor = self.synthesis(self.styles(z, psi, cutoff), noise=noise, rng=rng)
        return images


class DiscriminatorBlock(nn.Module):
    """A residual block, attention where the side is 28, then a convolution to half the side; leaky ReLU, no norm."""

    def __init__(self, side: int, config: PathologyGANConfig) -> None:
        super().__init__()
        inputs, outputs = config.channels_d(side), config.channels_d(side // 2)
        self.convs = nn.ModuleList(SpectralConv2d(inputs, inputs, 3) for _ in range(2))
        # where 28 px is the image itself there are no features yet to attend to
        self.attention = Attention(inputs) if side == ATTENTION_SIDE < config.resolution else None
        self.down = SpectralDown(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, c', h / 2, w / 2)."""
        y = x
        for conv in self.convs:
            y = lrelu_(conv(y))
        x = x + y
        if self.attention is not None:
            x = self.attention(x)
        return lrelu_(self.down(x))


class PathologyGANDiscriminator(nn.Module):
    """D of PathologyGAN: images (n, 3, r, r) in [0, 1] -> logits (n,); above zero reads as real."""

    def __init__(self, config: PathologyGANConfig) -> None:
        super().__init__()
        self.config = config
        self.resolution = config.resolution
        hidden = config.scaled_dense(1024)
        sides = stages(config.resolution, FIRST_SIDE)
        self.blocks = nn.ModuleList(DiscriminatorBlock(side, config) for side in reversed(sides[1:]))
        self.dense = SpectralLinear(FIRST_SIDE**2 * config.channels_d(FIRST_SIDE), hidden)
        self.out = SpectralLinear(hidden, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n,)."""
        x = channels_last(images)
        for block in self.blocks:
            x = block(x)
        x = lrelu(self.dense(x.permute(0, 2, 3, 1).flatten(1)))  # channels last, as the published weights have it
        logits: Tensor = self.out(x)
        return logits.squeeze(1)


def orthogonal_weights(module: nn.Module) -> list[Tensor]:
    """Return the stored weights that the orthogonal regularisation of the intended variant concerns."""
    return [p for name, p in module.named_parameters() if name.endswith("spectral.weight") and "unused" not in name]

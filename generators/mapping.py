"""From z to w: the mapping network of the StyleGANs, its running mean, truncation and style mixing.

References: Karras et al. 2019, arXiv:1812.04948, section 2 and appendix B (truncation).
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from .layers import EqualLinear, NoiseMode, lrelu, normalise_latents

W_AVG_DECAY = 0.995  # per call of the generator in training mode
LRMUL = 0.01  # the mapping learns at a hundredth of the rate


class MappingNetwork(nn.Module):
    """z (n, z_dim) -> w (n, w_dim): normalised, then ``layers`` dense layers, leaky ReLU after every one.

    Args:
        z_dim: Features of z.
        w_dim: Features of w and of the hidden layers.
        layers: Number of dense layers.
        gain_after: False: sqrt(2) is part of the weight (StyleGAN). True: it follows the activation, so that it also
            scales the bias (StyleGAN2).
    """

    def __init__(self, z_dim: int, w_dim: int, layers: int, *, gain_after: bool) -> None:
        super().__init__()
        widths = [z_dim] + [w_dim] * layers
        self.gain = math.sqrt(2) if gain_after else 1.0
        self.layers = nn.ModuleList(
            EqualLinear(i, o, gain=math.sqrt(2) / self.gain, lrmul=LRMUL) for i, o in pairwise(widths)
        )

    def forward(self, z: Tensor) -> Tensor:
        """Return w (n, w_dim)."""
        w = normalise_latents(z)
        for layer in self.layers:
            w = lrelu(layer(w), self.gain)
        return w


def mix_styles(ws: Tensor, other: Tensor, cutoff: int) -> Tensor:
    """Return ``ws`` (n, num_ws, w_dim) with the layers from ``cutoff`` on replaced by those of ``other``."""
    return torch.cat([ws[:, :cutoff], other[:, cutoff:]], 1)


def truncate(ws: Tensor, w_avg: Tensor, psi: float, cutoff: int | None = None) -> Tensor:
    """Return ``ws`` (n, num_ws, w_dim) pulled towards ``w_avg`` (w_dim): psi 1 leaves it, psi 0 gives the mean.

    ``cutoff``: only the first so many layers are pulled; None pulls all.
    """
    if psi == 1.0:
        return ws
    pulled = torch.lerp(w_avg, ws, psi)
    return pulled if cutoff is None else mix_styles(pulled, ws, cutoff)


class StyleGenerator(nn.Module):
    """What the two StyleGAN generators share: z -> w, the running mean of w, truncation, then ``synthesis``.

    In training mode every call follows the batch mean of w with a decay of 0.995, as the published code does (also in
    the discriminator's step); ``mapping`` alone does not: the second latents of style mixing stay out of the mean.
    """

    value_range = (-1.0, 1.0)  # of the images at convergence; nothing clips them
    w_avg: Tensor

    def __init__(
        self, mapping: MappingNetwork, synthesis: nn.Module, *, z_dim: int, w_dim: int, num_ws: int, resolution: int
    ) -> None:
        super().__init__()
        self.mapping = mapping
        self.synthesis = synthesis
        self.z_dim, self.w_dim, self.num_ws, self.resolution = z_dim, w_dim, num_ws, resolution
        self.register_buffer("w_avg", torch.zeros(w_dim))

    def styles(self, z: Tensor, psi: float = 1.0, cutoff: int | None = None) -> Tensor:
        """Return the styles of all layers, (n, num_ws, w_dim), for z (n, z_dim); w_avg follows them in training."""
        w = self.mapping(z)
        if self.training:
            with torch.no_grad():
                self.w_avg.lerp_(w.detach().mean(0).to(self.w_avg.dtype), 1.0 - W_AVG_DECAY)
        return truncate(w[:, None].expand(-1, self.num_ws, -1), self.w_avg, psi, cutoff)

    def forward(
        self,
        z: Tensor,
        psi: float = 1.0,
        cutoff: int | None = None,
        noise: NoiseMode = "random",
        rng: torch.Generator | None = None,
    ) -> Tensor:
        """Return images (n, 3, r, r), about [-1, 1], for z (n, z_dim) ~ N(0, I)."""
        images: Tensor = self.synthesis(self.styles(z, psi, cutoff), noise=noise, rng=rng)
        return images

"""The compact StyleGANs the plain way, to measure ours against: float32, NCHW, as one writes them down from the papers.

Per-sample weights and grouped convolution (StyleGAN2), nearest-neighbour enlargement, convolution and blur one after
the other (StyleGAN), filters as depthwise convolutions, every gain where the papers have it. `plain` takes a network of
ours and gives the same modules with the same weights back, of which only the forward passes are replaced; a training
step is written out as a script would have it.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from histoforensics.generators import layers, stylegan, stylegan2
from histoforensics.generators.augment import diff_augment
from histoforensics.generators.losses import logistic_d, nonsaturating_g, r1_penalty

SQRT2 = math.sqrt(2)


def fir(x: Tensor, taps: tuple[float, ...], pad: tuple[int, int], gain: float = 1.0, stride: int = 1) -> Tensor:
    row = torch.tensor(taps, dtype=x.dtype)
    kernel = torch.outer(row, row)
    kernel = (kernel * gain / kernel.sum()).expand(x.shape[1], 1, -1, -1)
    return F.conv2d(F.pad(x, (*pad, *pad)), kernel, stride=stride, groups=x.shape[1])


def fir_up(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    zeros = x.new_zeros(n, c, h, 2, w, 2)
    zeros[:, :, :, 0, :, 0] = x
    return fir(zeros.view(n, c, 2 * h, 2 * w), (1, 3, 3, 1), (2, 1), gain=4.0)


def modulated(x: Tensor, layer: stylegan2.ModulatedConv, w: Tensor, *, demodulate: bool) -> Tensor:
    """One weight a sample, the batch as groups of one convolution: as the paper describes it."""
    n, c, h, width = x.shape
    style = F.linear(w, layer.affine.weight / math.sqrt(w.shape[1]), layer.affine.bias)
    weights = (layer.weight * layer.scale)[None] * style[:, None, :, None, None]  # (n, c', c, k, k)
    if demodulate:
        weights = weights * (weights.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    outputs = weights.shape[1]
    x = x.reshape(1, n * c, h, width)
    if layer.up:
        weights = weights.transpose(1, 2).reshape(n * c, outputs, *weights.shape[3:])
        y = F.conv_transpose2d(x, weights, stride=2, groups=n)
        y = fir(y.view(n, outputs, *y.shape[2:]), (1, 3, 3, 1), (1, 1), gain=4.0)
    else:
        y = F.conv2d(x, weights.flatten(0, 1), padding=layer.weight.shape[-1] // 2, groups=n)
    return y.view(n, outputs, *y.shape[2:])


class Constant(layers.Constant):
    def forward(self, n):
        return self.value.repeat(n, 1, 1, 1)


class SynthesisLayer(stylegan2.SynthesisLayer):
    def forward(self, x, w, noise, rng):
        y = modulated(x, self.conv, w, demodulate=True)
        grain = layers.noise_map(noise, y, self.noise_const, rng)
        if grain is not None:
            y = y + grain * self.noise_strength
        return F.leaky_relu(y + self.bias.view(1, -1, 1, 1), 0.2) * SQRT2


class ToRGB(stylegan2.ToRGB):
    def forward(self, x, w):
        return modulated(x, self.conv, w, demodulate=False) + self.bias.view(1, -1, 1, 1)


class SynthesisBlock(stylegan2.SynthesisBlock):
    def forward(self, x, gain, image, ws, noise, rng):
        if self.up is not None:
            x = self.up(x, ws[0], noise, rng)
        x = self.conv(x, ws[-2], noise, rng)
        rgb = self.to_rgb(x, ws[-1])
        return x, gain, rgb if image is None else fir_up(image) + rgb


def equal_conv(x: Tensor, conv: layers.EqualConv2d, gain: float, *, down: bool = False) -> Tensor:
    k = conv.weight.shape[-1]
    weight = conv.weight * (gain / math.sqrt(conv.weight[0].numel()))
    if down and k == 3:
        return F.conv2d(fir(x, (1, 3, 3, 1), (2, 2)), weight, conv.bias, stride=2)
    if down:
        return F.conv2d(fir(x, (1, 3, 3, 1), (1, 1)), weight, conv.bias, stride=2)
    return F.conv2d(x, weight, conv.bias, padding=k // 2)


class ActivatedConv(stylegan2.ActivatedConv):
    def forward(self, x):
        return F.leaky_relu(equal_conv(x, self.conv, 1.0), 0.2) * SQRT2


class ResidualBlock(stylegan2.ResidualBlock):
    def forward(self, x):
        y = F.leaky_relu(equal_conv(self.conv(x), self.down.conv, 1.0, down=True), 0.2) * SQRT2
        return (y + equal_conv(x, self.skip, 1.0, down=True)) / SQRT2


class StyleGAN2Discriminator(stylegan2.StyleGAN2Discriminator):
    def forward(self, images):
        x = self.from_rgb(images)
        for block in self.blocks:
            x = block(x)
        x = self.conv(layers.minibatch_stddev(x))
        return self.out(self.dense(x.flatten(1))).squeeze(1)


class Epilogue(stylegan.Epilogue):
    def forward(self, x, w, noise, rng):
        grain = layers.noise_map(noise, x, self.noise_const, rng)
        if grain is not None:
            x = x + grain * self.noise_weight.view(1, -1, 1, 1)
        x = F.leaky_relu(x + self.bias.view(1, -1, 1, 1), 0.2)
        x = x - x.mean((2, 3), keepdim=True)
        x = x * (x.square().mean((2, 3), keepdim=True) + 1e-8).rsqrt()
        scale, shift = self.style(w)[:, :, None, None].chunk(2, 1)
        return x * (scale + 1) + shift


class StyleGANFirstBlock(stylegan.FirstBlock):
    def forward(self, ws, noise, rng):
        x = self.const_epilogue(self.const(len(ws[0])), ws[0], noise, rng)
        return self.conv_epilogue(equal_conv(x, self.conv, SQRT2), ws[1], noise, rng)


class StyleGANBlock(stylegan.SynthesisBlock):
    def forward(self, x, ws, noise, rng):
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        weight = self.up.weight.flip(2, 3) if self.rotated else self.up.weight
        x = F.conv2d(x, weight * self.up.scale, padding=1)
        x = self.up_epilogue(fir(x, (1, 2, 1), (1, 1)), ws[0], noise, rng)
        return self.conv_epilogue(equal_conv(x, self.conv, SQRT2), ws[1], noise, rng)


class StyleGANDiscriminatorBlock(stylegan.DiscriminatorBlock):
    def forward(self, x):
        x = fir(F.leaky_relu(equal_conv(x, self.conv, SQRT2), 0.2), (1, 2, 1), (1, 1))
        down = F.conv2d(x, self.down.weight * self.down.scale, padding=1)
        return F.leaky_relu(F.avg_pool2d(down, 2) + self.down.bias.view(1, -1, 1, 1), 0.2)


class StyleGANDiscriminator(stylegan.StyleGANDiscriminator):
    def forward(self, images, lod=0.0):
        x = F.leaky_relu(self.from_rgb[0](images), 0.2)
        for block in self.blocks:
            x = block(x)
        x = F.leaky_relu(self.conv(layers.minibatch_stddev(x)), 0.2)
        return self.out(F.leaky_relu(self.dense(x.flatten(1)), 0.2)).squeeze(1)


PLAIN = {
    layers.Constant: Constant,
    stylegan2.SynthesisLayer: SynthesisLayer,
    stylegan2.ToRGB: ToRGB,
    stylegan2.SynthesisBlock: SynthesisBlock,
    stylegan2.ActivatedConv: ActivatedConv,
    stylegan2.ResidualBlock: ResidualBlock,
    stylegan2.StyleGAN2Discriminator: StyleGAN2Discriminator,
    stylegan.Epilogue: Epilogue,
    stylegan.FirstBlock: StyleGANFirstBlock,
    stylegan.SynthesisBlock: StyleGANBlock,
    stylegan.DiscriminatorBlock: StyleGANDiscriminatorBlock,
    stylegan.StyleGANDiscriminator: StyleGANDiscriminator,
}


def plain(network: nn.Module) -> nn.Module:
    """A copy of ``network`` with the same weights that computes the plain way."""
    network = copy.deepcopy(network)
    for module in network.modules():
        module.__class__ = PLAIN.get(type(module), type(module))
    return network


class PlainTraining:
    """A training step of a StyleGAN as a script has it: G, EMA, D, and at times R1."""

    def __init__(self, run) -> None:
        self.config, self.data = run.config, run.data
        self.G, self.D, self.G_ema = plain(run.players.G), plain(run.players.D), plain(run.players.G_ema)
        self.adam_G = torch.optim.Adam(self.G.parameters(), lr=self.config.lr_g, betas=self.config.betas)
        self.adam_D = torch.optim.Adam(self.D.parameters(), lr=self.config.lr_d, betas=self.config.betas)
        self.rng = torch.Generator().manual_seed(0)

    def step(self, *, with_r1: bool) -> None:
        config, G, D = self.config, self.G, self.D
        n = config.batch_size(0.0)
        real = torch.from_numpy(self.data.draw(0, 0, n, config.orientations)).permute(0, 3, 1, 2).contiguous()
        real = real.float() / 127.5 - 1
        G.requires_grad_(True), D.requires_grad_(False)
        self.learn(self.adam_G, nonsaturating_g(self.judge(self.fakes(n))).mean())
        with torch.no_grad():
            for mean, weight in zip(self.G_ema.parameters(), G.parameters(), strict=True):
                mean.lerp_(weight, 0.001)
        G.requires_grad_(False), D.requires_grad_(True)
        with torch.no_grad():
            fake = self.fakes(n)
        self.learn(self.adam_D, logistic_d(self.judge(real), self.judge(fake)).mean())
        if with_r1:
            self.learn(self.adam_D, config.r1_gamma / 2 * config.r1_every * r1_penalty(self.judge, real).mean())

    def fakes(self, n: int) -> Tensor:
        G, rng = self.G, self.rng
        z = torch.randn(2, n, G.z_dim, generator=rng)
        first, second = G.styles(z[0]), G.mapping(z[1])
        if float(torch.rand((), generator=rng)) < self.config.style_mixing:
            cut = int(torch.randint(1, G.num_ws, (), generator=rng))
            first = torch.cat([first[:, :cut], second[:, None].expand_as(first)[:, cut:]], 1)
        return G.synthesis(first, noise="random", rng=rng)

    def judge(self, images: Tensor) -> Tensor:
        return self.D(diff_augment(images, self.config.diff_augment, self.rng))

    def learn(self, adam: torch.optim.Adam, loss: Tensor) -> None:
        adam.zero_grad()
        loss.backward()
        adam.step()

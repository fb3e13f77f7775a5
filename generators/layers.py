"""Layers that the StyleGANs share: equalised learning rate, activation, noise, minibatch standard deviation.

Equalised learning rate (Karras et al. 2018, arXiv:1710.10196, section 4.1): a weight is stored with unit variance and
scaled by gain / sqrt(fan_in) whenever it is used, so that Adam's steps are of one relative size in every layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, TypeVar, assert_never, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from histoforensics.slides import require

from .resample import conv, without_autocast
from .rows import centred, scale_, shift_scale_

NoiseMode = Literal["random", "const", "none"]
NOISE_MODES: tuple[NoiseMode, ...] = ("random", "const", "none")
SLOPE = 0.2  # of the leaky ReLU, in all three models
T = TypeVar("T")


class Fixed(nn.Module):
    """Keeps what depends on weights alone while they only sample: made once, not once for each batch of images.

    In training nothing is kept, and what was is forgotten: PyTorch's fused Adam changes weights without counting it.
    The same holds wherever gradients are wanted, since an optimizer may follow. What is changed through a weight's
    ``.data`` while it samples is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self._key: list[tuple[Tensor, int]] = []  # the tensors themselves too, so that no other takes their memory
        self._value: Any = None

    def keep(self, make: Callable[[], T], *weights: Tensor) -> T:
        """Return ``make()``, which must depend on ``weights`` alone; as kept, if these are what they were then."""
        if not self.may_keep() or any(weight.is_inference() for weight in weights):  # whose changes nobody counts
            return make()
        same = bool(self._key) and all(
            kept.data_ptr() == weight.data_ptr() and kept.dtype == weight.dtype and version == weight._version
            for (kept, version), weight in zip(self._key, weights, strict=True)
        )
        if not same:
            with without_autocast(weights[0]):
                self._value = make()
            self._key = [(weight.detach(), weight._version) for weight in weights]
        return cast("T", self._value)

    def may_keep(self) -> bool:
        """Return whether weights only sample now; where they do not, everything is forgotten."""
        if self.training:  # forgotten already
            return False
        if torch.is_grad_enabled():
            self._forget()
            return False
        return True

    def train(self, mode: bool = True) -> Fixed:
        """Forget everything where training begins."""
        if mode:
            self._forget()
        return super().train(mode)

    def _forget(self) -> None:
        self._key, self._value = [], None


def channels_last(x: Tensor) -> Tensor:
    """Return ``x`` (n, c, h, w) with its channels last in memory; the values and the shape stay.

    Whatever follows keeps the layout. Narrow networks convolve faster in it on a CPU: a training step of the compact
    StyleGAN2 took 29 % less time, of the compact StyleGAN 14 % less (one core, float32).
    """
    return x.contiguous(memory_format=torch.channels_last)


def lrelu(x: Tensor, gain: float = 1.0) -> Tensor:
    """Return the leaky ReLU of ``x`` with slope 0.2, times ``gain``."""
    y = F.leaky_relu(x, SLOPE)
    return y * gain if gain != 1.0 else y


def lrelu_(x: Tensor) -> Tensor:
    """Return the leaky ReLU of ``x`` in the place of ``x``, which must be the fresh result of an operation.

    Half of the cost of an activation is the memory for its result. The operation before it must not need its own
    result for its gradient: convolutions, dense layers, sums and products do not.
    """
    return F.leaky_relu_(x, SLOPE)


def normalise_latents(z: Tensor, eps: float = 1e-8) -> Tensor:
    """Return ``z`` (n, d) with every row scaled to a mean square of one."""
    return z * (z.square().mean(1, keepdim=True) + eps).rsqrt()


def instance_norm(x: Tensor, eps: float) -> Tensor:
    """Return ``x`` (n, c, h, w) or (n, c) with zero mean and unit biased variance per sample.

    Moments run over the pixels of each channel, or over the features. Written out, because PyTorch's own refuses a
    single pixel and has no form for (n, c).
    """
    if x.ndim == 2:
        variance, mean = torch.var_mean(x, 1, correction=0, keepdim=True)
        return (x - mean) * (variance + eps).rsqrt()
    normalised, _ = _InstanceNorm.apply(x, eps)
    return cast("Tensor", normalised)


def styled_norm_(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    """Return `instance_norm` of ``x`` (n, c, h, w) times ``scale`` (n, c) plus ``shift`` (n, c).

    Where no gradient is wanted, in the place of ``x``, which must be the fresh result of an operation.
    """
    if torch.is_grad_enabled():
        return shift_scale_(instance_norm(x, eps), shift, scale)
    x, variance = centred(x, in_place=True)
    return shift_scale_(x, shift, scale * (variance + eps).rsqrt())


class _InstanceNorm(torch.autograd.Function):
    """(x, eps) -> (normalised x, 1 / standard deviation), with its own gradient.

    On one core and 8 x 8 x 128 x 128, channels last, both directions take 4.3 ms, where PyTorch takes 12.7 ms for its
    var_mean and what follows. The second result is there for the gradient's gradient.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        flat, variance = centred(x)
        inverse = (variance + eps).rsqrt()
        y = scale_(flat, inverse)  # there is no gradient to take in here
        inverse = inverse[:, :, None, None]
        ctx.save_for_backward(y, inverse)
        ctx.set_materialize_grads(False)
        return y, inverse

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, d_inverse: Tensor | None) -> tuple[Tensor | None, None]:
        y, inverse = ctx.saved_tensors
        dx: Tensor | None = None
        if dy is not None:
            pull = (dy * y).mean((2, 3), keepdim=True)
            dx = torch.addcmul(dy - dy.mean((2, 3), keepdim=True), y, pull, value=-1) * inverse
        if d_inverse is not None:  # d(1 / sigma) / dx = -(x - mean) / (n sigma^3)
            extra = y * (d_inverse * inverse.square() / -(y.shape[2] * y.shape[3]))
            dx = extra if dx is None else dx + extra
        return dx, None


def minibatch_stddev(x: Tensor, group: int = 4, eps: float = 1e-8) -> Tensor:
    """Return ``x`` (n, c, h, w) with one more channel: how much the samples of a group differ on average.

    Groups are strided, not consecutive: with m = n / group, the samples i, i + m, i + 2m, ... belong together. A batch
    smaller than ``group`` is one group; otherwise n must be a multiple of it. Identical samples give sqrt(eps).
    """
    n, c, h, w = x.shape
    group = min(group, n)
    require(n % group == 0, "the discriminator's batch", f"at most {group} or a multiple of it", n)
    y = x.reshape(group, n // group, c, h, w)
    y = (y.var(0, correction=0) + eps).sqrt().mean((1, 2, 3))  # (n / group,)
    return torch.cat([x, y.repeat(group).view(n, 1, 1, 1).expand(n, 1, h, w)], 1)


def noise_map(
    mode: NoiseMode, x: Tensor, const: Tensor, rng: torch.Generator | None, shape: tuple[int, ...] | None = None
) -> Tensor | None:
    """Return the noise for the image ``x`` (n, c, h, w).

    Returns:
        "random": normal numbers of ``shape``, by default (n, 1, h, w), from ``rng`` or from PyTorch's global stream;
        "const": the stored map ``const``; "none": None.

    Raises:
        ConfigError: If ``mode`` is none of the three.
    """
    match mode:
        case "random":
            shape = shape or (x.shape[0], 1, *x.shape[2:])
            dtype = torch.float32 if x.dtype == torch.bfloat16 else x.dtype  # the same numbers in both precisions
            return torch.randn(shape, dtype=dtype, device=x.device, generator=rng)
        case "const":
            return const
        case "none":
            return None
        case _:
            require(False, "noise", " or ".join(repr(name) for name in NOISE_MODES), mode)
            assert_never(mode)


class Constant(nn.Module):
    """A learned image that a generator begins with, the same for every sample."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = nn.Parameter(value)

    def forward(self, n: int) -> Tensor:
        """Return the image ``n`` times, (n, c, h, w), channels last in fresh memory, as all that follows will be."""
        return self.value.expand(n, -1, -1, -1).clone(memory_format=torch.channels_last)


class EqualLinear(nn.Module):
    """A dense layer with equalised learning rate, (n, inputs) -> (n, outputs).

    Args:
        inputs: Features in.
        outputs: Features out.
        gain: Of the weight: sqrt(2) before a leaky ReLU in StyleGAN; 1 in StyleGAN2, where the activation has the gain.
        lrmul: Learning-rate multiplier: stored values are divided by it, used values multiplied.
        bias_init: The bias *as used* at the start.
    """

    def __init__(
        self, inputs: int, outputs: int, *, gain: float = 1.0, lrmul: float = 1.0, bias_init: float = 0.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lrmul)
        self.bias = nn.Parameter(torch.full((outputs,), bias_init / lrmul))
        self.scale = gain * lrmul / math.sqrt(inputs)
        self.lrmul = lrmul
        self._fixed = Fixed()

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output (n, outputs)."""
        if not self._fixed.may_keep():
            return torch.addmm(self.bias, x, self.weight.T, beta=self.lrmul, alpha=self.scale)  # scaled as it is used
        weight, bias = self._fixed.keep(
            lambda: (self.weight.T * self.scale, self.bias * self.lrmul), self.weight, self.bias
        )
        return torch.addmm(bias, x, weight)


class EqualConv2d(nn.Module):
    """A convolution with equalised learning rate and zero padding that keeps the size, (n, c, h, w) -> (n, c', h, w).

    Args:
        inputs: Channels in.
        outputs: Channels out.
        kernel: Side of the kernel, odd.
        gain: Of the weight.
        bias: Whether a bias is added; it comes last, after any resampling.
        out_gain: Of the whole output, bias too. It costs nothing, because it goes into the weight and the bias.
        resample: Replaces the plain convolution: called with the image, the weight (c', c, k, k) and the bias as used.
        effective: Makes the kernel that is used from the weight and the factor on it.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        gain: float = 1.0,
        bias: bool = True,
        out_gain: float = 1.0,
        resample: Callable[[Tensor, Tensor, Tensor | None], Tensor] | None = None,
        effective: Callable[[Tensor, float], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.scale = gain * out_gain / math.sqrt(inputs * kernel**2)
        self.out_gain = out_gain
        self.resample = resample
        self.effective = effective
        self._fixed = Fixed()

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return the convolved image, plus ``bias`` (c'), which only a layer without one of its own may be given."""
        weight = self._fixed.keep(self._used, self.weight)
        if self.bias is not None:
            bias = self.bias if self.out_gain == 1.0 else self.bias * self.out_gain
        return (self.resample or conv)(x, weight, bias)

    def _used(self) -> Tensor:
        return self.weight * self.scale if self.effective is None else self.effective(self.weight, self.scale)


def stages(resolution: int, first: int = 4) -> list[int]:
    """Return the side lengths of a network's stages, each twice the one before: ``first``, ..., ``resolution``.

    >>> stages(32)
    [4, 8, 16, 32]
    """
    sides = [first]
    while sides[-1] < resolution:
        sides.append(2 * sides[-1])
    return sides


def channels_at(side: int, fmap_base: int, fmap_max: int) -> int:
    """Return the StyleGANs' number of channels at a side length.

    >>> [channels_at(side, 8192, 512) for side in (4, 32, 64, 128, 256)]
    [512, 512, 256, 128, 64]
    """
    return max(1, min(2 * fmap_base // side, fmap_max))

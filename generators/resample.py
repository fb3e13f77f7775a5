"""Resampling as StyleGAN does it: small fixed filters, zeros beyond the border, depthwise convolutions.

A depthwise convolution with the whole 2-D filter is the quickest form on a CPU: on one core it took 8 ms where two
separable passes took 14, shifted sums 16 and a fold of the channels into the batch 196 (8 x 128 x 67 x 67, float32,
forward; the order is the same backward). All functions are linear in the image, so double backward works through them.
Its transpose takes 5 to 14 times as long in bf16 as in float32, so what has it in one direction stays out of autocast.

References: Karras et al. 2019, arXiv:1812.04948; Karras et al. 2020, arXiv:1912.04958, appendix B.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import TypeVarTuple

import torch
import torch.nn.functional as F
from torch import Tensor

BINOMIAL = (1.0, 2.0, 1.0)  # StyleGAN's blur
NARROW = 4  # up to so many channels, `conv_up` is one convolution
DENSE_UP = 128  # `fir_up` of rows of up to so many numbers is two matrix products
FIR = (1.0, 3.0, 3.0, 1.0)  # StyleGAN2's resampling filter
K = TypeVarTuple("K")


def constant(make: Callable[[*K], Tensor]) -> Callable[[*K], Tensor]:
    """Keep the tensors that ``make`` gives for its arguments. A compiled graph makes its own: they are small."""
    kept: dict[tuple[*K], Tensor] = {}

    @wraps(make)
    def call(*key: *K) -> Tensor:
        if torch.compiler.is_compiling():  # it would watch what is kept, and be compiled again with every new tensor
            return make(*key)
        if key not in kept:
            kept[key] = make(*key)
        return kept[key]

    return call


def outer_kernel(taps: Sequence[float], *, like: Tensor, gain: float = 1.0) -> Tensor:
    """Return the filter ``outer(taps, taps)`` with sum ``gain``, shape (k, k), of the device and type of ``like``."""
    return _kernel(tuple(taps), gain, like.dtype, like.device)


@constant
def _kernel(taps: tuple[float, ...], gain: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # it may be wanted in training later
        row = torch.tensor(taps, dtype=dtype, device=device)
        kernel = torch.outer(row, row)
        return kernel * (gain / kernel.sum())


def conv(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``x`` (n, c, h, w) convolved with ``weight`` (c', c, k, k), k odd, zero padding: (n, c', h, w).

    A single pixel's kernel does not care which pixels are neighbours. On a CPU with one thread PyTorch gives batches
    below 16 to a slow routine (6.3 ms against 1.7 ms for 8 x 3 x 128 x 128 to 8 channels, both directions), so the
    rows of the images are made the batch, which costs nothing where channels are last in memory.
    """
    n, c, h, w = x.shape
    k = weight.shape[-1]
    if k > 1 or n >= 16 or not x.is_contiguous(memory_format=torch.channels_last):
        return F.conv2d(x, weight, bias, padding=k // 2)
    rows = x.permute(0, 2, 3, 1).reshape(n * h, 1, w, c).permute(0, 3, 1, 2)
    y = F.conv2d(rows, weight, bias)
    return y.permute(0, 2, 3, 1).reshape(n, h, w, -1).permute(0, 3, 1, 2)


def blur(
    x: Tensor, taps: Sequence[float], pad: tuple[int, int], gain: float = 1.0, bias: Tensor | None = None
) -> Tensor:
    """Return ``x`` (n, c, h, w) filtered, padded with zeros, plus ``bias`` (c): ``pad`` = (before, after) both ways."""
    n_channels = x.shape[1]
    kernel = outer_kernel(taps, like=x, gain=gain).expand(n_channels, 1, -1, -1)
    before, after = pad
    if before != after:
        x, before = F.pad(x, (before, after, before, after)), 0
    return F.conv2d(x, kernel, bias, padding=before, groups=n_channels)


def binomial_blur(x: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``x`` (n, c, h, w) blurred by [1, 2, 1] in both directions, same size, plus ``bias`` (c).

    The border is zero, as in StyleGAN: a constant 1 becomes 9/16 in the corners and 12/16 along the edges.
    """
    return blur(x, BINOMIAL, (1, 1), bias=bias)


def fir_up(x: Tensor) -> Tensor:
    """Return ``x`` (n, c, h, w) at twice the size: zeros inserted, then [1, 3, 3, 1] with gain 4."""
    x = _full(x)
    n, c, h, w = x.shape
    with without_autocast(x):
        if c * max(h, w) <= DENSE_UP:  # a fifth to a half of the convolution's time, whose start alone takes 100 us
            flat = x.permute(0, 2, 3, 1).reshape(n, h, w * c)
            flat = _fir_matrix(h, 1, x.dtype, x.device) @ flat @ _fir_matrix(w, c, x.dtype, x.device).T
            return flat.view(n, 2 * h, 2 * w, c).permute(0, 3, 1, 2)
        kernel = outer_kernel(FIR, like=x, gain=4.0).expand(c, 1, -1, -1)
        return F.conv_transpose2d(x, kernel, stride=2, padding=1, groups=c)


@constant
def _fir_matrix(side: int, channels: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The matrix (2 * side * channels, side * channels) by which a row is enlarged: 1/4, 3/4 of the two nearest."""
    with torch.inference_mode(False):
        offset = torch.arange(2 * side, device=device)[:, None] - 2 * torch.arange(side, device=device)
        near, far = (offset >= 0) & (offset <= 1), (offset == -1) | (offset == 2)
        one = 0.75 * near.to(dtype) + 0.25 * far.to(dtype)
        return torch.kron(one, torch.eye(channels, dtype=dtype, device=device))


def fir_down(x: Tensor) -> Tensor:
    """Return ``x`` (n, c, h, w) at half the size: [1, 3, 3, 1], then every other pixel; h and w must be even."""
    n_channels, x = x.shape[1], _full(x)
    kernel = outer_kernel(FIR, like=x).expand(n_channels, 1, -1, -1)
    with without_autocast(x):
        return F.conv2d(x, kernel, stride=2, padding=1, groups=n_channels)


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Return a context in which operations on the device of ``x`` keep its precision."""
    if x.device.type == "meta":  # shapes are told without values, and without autocast
        return nullcontext()
    return torch.autocast(x.device.type, enabled=False)


def _full(x: Tensor) -> Tensor:
    return x.float() if x.dtype == torch.bfloat16 else x


def nearest_up(x: Tensor, factor: int = 2) -> Tensor:
    """Return ``x`` (n, c, h, w) with every pixel repeated ``factor`` times in both directions."""
    return F.interpolate(x, scale_factor=factor, mode="nearest") if factor > 1 else x


def mean_down(x: Tensor, factor: int = 2) -> Tensor:
    """Return ``x`` (n, c, h, w) with every ``factor`` x ``factor`` block replaced by its mean."""
    return F.avg_pool2d(x, factor) if factor > 1 else x


def conv_up(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return StyleGAN2's up-convolution of ``x`` (n, c, h, w) with ``weight`` (c', c, 3, 3): (n, c', 2h, 2w).

    A transposed convolution of stride 2, then the FIR filter with gain 4, then ``bias`` (c'); the same as to correlate
    the zero-inserted image with the kernel rotated by 180 degrees. Where c' is small, both are one convolution that
    gives the four pixels of every 2 x 2 as channels: four times the arithmetic, but of registers that would be empty.
    """
    outputs = len(weight)
    if outputs <= NARROW:
        n, _, h, w = x.shape
        y = F.conv2d(x, _four_phases(weight), None if bias is None else bias.repeat(4), padding=1)
        y = y.permute(0, 2, 3, 1).reshape(n, h, w, 2, 2 * outputs).transpose(2, 3)
        return y.reshape(n, 2 * h, 2 * w, outputs).permute(0, 3, 1, 2)
    y = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)  # (n, c', 2h + 1, 2w + 1)
    return blur(y, FIR, (1, 1), gain=4.0, bias=bias)


def _four_phases(weight: Tensor) -> Tensor:
    """The kernel (4 c', c, 3, 3) of `conv_up`, weight and filter in one, for each pixel of 2 x 2 in reading order."""
    a, b = weight.shape[:2]
    with without_autocast(weight):
        taps = weight.reshape(a, b, 9) @ _fir_spread(weight.dtype, weight.device)
    return taps.view(a, b, 3, 2, 3, 2).flip(2, 4).permute(3, 5, 0, 1, 2, 4).reshape(4 * a, b, 3, 3)


@constant
def _fir_spread(dtype: torch.dtype, device: torch.device) -> Tensor:
    """The matrix (9, 36) that filters a kernel of 3 x 3 with [1, 3, 3, 1] and gain 4; tap 2 s + phase, both ways."""
    with torch.inference_mode(False):
        taps = torch.eye(9, dtype=dtype, device=device).view(9, 1, 3, 3)
        return F.conv2d(taps, outer_kernel(FIR, like=taps, gain=4.0)[None, None], padding=3).flatten(1)


def conv_down(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return StyleGAN2's down-convolution of ``x`` (n, c, h, w) with ``weight`` (c', c, k, k): (n, c', h / 2, w / 2).

    The FIR filter, then a convolution of stride 2 with ``bias`` (c'); k is 1 or 3.
    """
    if weight.shape[-1] == 1:  # the filter is only needed where the stride lands
        return conv(fir_down(x), weight, bias)
    return F.conv2d(blur(x, FIR, (2, 2)), weight, bias, stride=2)


def conv_nearest_up(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, rotated: bool = False) -> Tensor:
    """Return the convolution of ``nearest_up(x)`` with ``weight`` (c', c, 3, 3), zero padding: (n, c', 2h, 2w).

    Done as one transposed convolution of stride 2 with a 4 x 4 kernel; then ``bias`` (c'). ``rotated`` turns the
    kernel by 180 degrees, as StyleGAN's published fused form does.
    """
    return conv_doubling(x, nearest_up_kernel(weight, rotated=rotated), bias)


def nearest_up_kernel(weight: Tensor, gain: float = 1.0, *, rotated: bool = False) -> Tensor:
    """Return the kernel (c, c', 4, 4) with which `conv_doubling` is `conv_nearest_up` with ``weight`` (c', c, 3, 3)."""
    return shifted_sum(weight, gain, rotated=not rotated).transpose(0, 1)


def conv_doubling(x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return the transposed convolution of ``x`` (n, c, h, w) with ``kernel`` (c, c', 4, 4): (n, c', 2h, 2w)."""
    return F.conv_transpose2d(x, kernel, bias, stride=2, padding=1)


def conv_mean_down(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``mean_down`` of the convolution of ``x`` with ``weight`` (c', c, 3, 3), zero padding: (n, c', h/2, w/2).

    Done as one convolution of stride 2 with a 4 x 4 kernel; then ``bias`` (c').
    """
    return conv_halving(x, mean_down_kernel(weight), bias)


def mean_down_kernel(weight: Tensor, gain: float = 1.0) -> Tensor:
    """Return the kernel (c', c, 4, 4) with which `conv_halving` is `conv_mean_down` with ``weight`` (c', c, 3, 3)."""
    return shifted_sum(weight, gain / 4)


def conv_halving(x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return the convolution of ``x`` (n, c, h, w) with ``kernel`` (c', c, 4, 4) at every other pixel."""
    return F.conv2d(x, kernel, bias, stride=2, padding=1)


def shifted_sum(weight: Tensor, gain: float = 1.0, *, rotated: bool = False) -> Tensor:
    """Return ``weight`` (a, b, k, k) as (a, b, k + 1, k + 1): the sum of its four copies, one in each corner.

    Times ``gain``; ``rotated`` turns the kernel by 180 degrees. A matrix product of the taps: in training one operation
    each way, where sums of padded copies are seven.
    """
    a, b, k, _ = weight.shape
    with without_autocast(weight):
        spread = _spread(k, gain, rotated, weight.dtype, weight.device)
        return (weight.reshape(a, b, k * k) @ spread).view(a, b, k + 1, k + 1)


@constant
def _spread(k: int, gain: float, rotated: bool, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The matrix (k * k, (k + 1) * (k + 1)) of `shifted_sum`."""
    with torch.inference_mode(False):
        taps = torch.eye(k * k, dtype=dtype, device=device).view(k * k, 1, k, k)
        copies = F.conv2d(taps, taps.new_ones(1, 1, 2, 2), padding=1) * gain
        return (copies.flip(2, 3) if rotated else copies).flatten(1)

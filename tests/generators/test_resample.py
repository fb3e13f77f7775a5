from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import convolve
from torch import Tensor

from histoforensics.generators.resample import (
    binomial_blur,
    blur,
    conv,
    conv_down,
    conv_mean_down,
    conv_nearest_up,
    conv_up,
    fir_down,
    fir_up,
    mean_down,
    nearest_up,
)

FIR_GAIN_4 = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 16


def image(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def zero_inserted(x: Tensor) -> Tensor:
    y = x.new_zeros((*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3]))
    y[:, :, ::2, ::2] = x
    return y


def test_fir_up_spreads_one_pixel_over_four_by_four() -> None:
    x = torch.zeros(1, 1, 5, 5)
    x[0, 0, 2, 1] = 1
    wanted = np.zeros((10, 10))
    wanted[3:7, 1:5] = FIR_GAIN_4
    np.testing.assert_allclose(fir_up(x)[0, 0].numpy(), wanted, atol=1e-7)


def test_fir_up_of_two_by_two_is_the_published_table() -> None:
    wanted = [
        [0, 0.1875, 0.5625, 0.5625],
        [0.375, 0.75, 1.25, 1.125],
        [1.125, 1.75, 2.25, 1.875],
        [1.125, 1.6875, 2.0625, 1.6875],
    ]
    np.testing.assert_allclose(fir_up(torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]]))[0, 0].numpy(), wanted, atol=1e-6)


def test_fir_down_of_a_ramp_is_the_published_table() -> None:
    wanted = [
        [4.921875, 7.1875, 8.9375, 9.1875],
        [18.125, 22.5, 24.5, 23],
        [32.125, 38.5, 40.5, 37],
        [39.046875, 46.1875, 47.9375, 43.3125],
    ]
    ramp = torch.arange(64.0).view(1, 1, 8, 8)
    np.testing.assert_allclose(fir_down(ramp)[0, 0].numpy(), wanted, atol=1e-5)


def test_binomial_blur_dims_the_border_of_a_constant() -> None:
    y = binomial_blur(torch.ones(1, 2, 5, 6))[0, 1]
    assert torch.allclose(y[1:-1, 1:-1], torch.ones(3, 4))
    assert torch.allclose(y[[0, 0, -1, -1], [0, -1, 0, -1]], torch.full((4,), 9 / 16))
    assert torch.allclose(y[0, 1:-1], torch.full((4,), 12 / 16))


def test_blur_agrees_with_scipy_on_every_channel() -> None:
    x = image(2, 3, 7, 5)
    wanted = [[convolve(c.numpy(), np.outer([1, 2, 1], [1, 2, 1]) / 16, mode="constant") for c in s] for s in x]
    np.testing.assert_allclose(binomial_blur(x).numpy(), wanted, atol=1e-12)


def test_blur_pads_before_and_after_apart() -> None:
    x = image(1, 2, 4, 4)
    whole = blur(x, (1, 3, 3, 1), (3, 3))
    assert torch.allclose(blur(x, (1, 3, 3, 1), (1, 3)), whole[:, :, 2:, 2:])


@pytest.mark.parametrize("outputs", [2, 7])  # one convolution, and two
def test_conv_up_is_zero_insertion_rotated_kernel_and_filter(outputs: int) -> None:
    x, weight, bias = image(2, 3, 4, 5), image(outputs, 3, 3, 3, seed=1), image(outputs, seed=2)
    y = F.conv2d(zero_inserted(x), weight.flip(2, 3), padding=2)
    wanted = blur(y, (1, 3, 3, 1), (1, 1), gain=4.0)[:, :, :8, :10]
    torch.testing.assert_close(conv_up(x, weight), wanted)
    torch.testing.assert_close(conv_up(x, weight, bias), wanted + bias[:, None, None])


@pytest.mark.parametrize("shape", [(2, 3, 4, 6), (2, 3, 2, 60)])  # matrix products, and a convolution
def test_fir_up_is_zero_insertion_and_filter(shape: tuple[int, ...]) -> None:
    x = image(*shape)
    wanted = blur(zero_inserted(x), (1, 3, 3, 1), (2, 2), gain=4.0)[:, :, : 2 * shape[2], : 2 * shape[3]]
    torch.testing.assert_close(fir_up(x), wanted)


@pytest.mark.parametrize("kernel", [1, 3])
def test_conv_down_is_filter_convolution_and_every_other_pixel(kernel: int) -> None:
    x, weight = image(2, 3, 8, 6), image(4, 3, kernel, kernel, seed=1)
    pad = (kernel + 1) // 2
    wanted = F.conv2d(blur(x, (1, 3, 3, 1), (pad, pad)), weight)[:, :, ::2, ::2]
    torch.testing.assert_close(conv_down(x, weight), wanted)
    assert conv_down(x, weight).shape == (2, 4, 4, 3)


def test_fused_enlargement_is_nearest_neighbour_then_convolution() -> None:
    x, weight = image(2, 3, 4, 5), image(2, 3, 3, 3, seed=1)
    torch.testing.assert_close(conv_nearest_up(x, weight), F.conv2d(nearest_up(x), weight, padding=1))


def test_published_fused_enlargement_turns_the_kernel_by_180_degrees() -> None:
    x, weight = image(2, 3, 4, 5), image(2, 3, 3, 3, seed=1)
    turned = F.conv2d(nearest_up(x), weight.rot90(2, (2, 3)), padding=1)
    torch.testing.assert_close(conv_nearest_up(x, weight, rotated=True), turned)
    assert (conv_nearest_up(x, weight) - turned).abs().max() > 1


def test_fused_reduction_is_convolution_then_two_by_two_mean() -> None:
    x, weight = image(2, 3, 8, 6), image(2, 3, 3, 3, seed=1)
    torch.testing.assert_close(conv_mean_down(x, weight), mean_down(F.conv2d(x, weight, padding=1)))


def test_nearest_and_mean_undo_each_other() -> None:
    x = image(1, 2, 3, 3)
    torch.testing.assert_close(mean_down(nearest_up(x, 4), 4), x)
    assert nearest_up(x, 1) is x


@pytest.mark.parametrize("resample", [fir_up, fir_down, binomial_blur, nearest_up, mean_down])
def test_resampling_differentiates_twice(resample: object) -> None:
    x = image(1, 2, 4, 4).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda t: resample(t).tanh(), x)  # type: ignore[operator]


@pytest.mark.parametrize("conv", [conv_up, conv_down, conv_nearest_up, conv_mean_down])
def test_resampling_convolutions_differentiate_twice(conv: object) -> None:
    x, weight = image(1, 2, 4, 4).requires_grad_(), image(1, 2, 3, 3, seed=1).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda a, b: conv(a, b).tanh(), (x, weight))  # type: ignore[operator]


@pytest.mark.parametrize(("n", "kernel"), [(3, 1), (3, 3), (20, 1)])
def test_a_convolution_is_pytorchs_own_in_every_layout(n: int, kernel: int) -> None:
    x, weight, bias = image(n, 4, 6, 5), image(7, 4, kernel, kernel, seed=1), image(7, seed=2)
    wanted = F.conv2d(x, weight, bias, padding=kernel // 2)
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.testing.assert_close(conv(x.contiguous(memory_format=layout), weight, bias), wanted)


def test_filters_of_bf16_images_are_taken_in_float32() -> None:
    x = image(1, 2, 8, 8).to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert {fir_up(x).dtype, fir_down(x).dtype} == {torch.float32}
    torch.testing.assert_close(fir_down(x), fir_down(x.float()))

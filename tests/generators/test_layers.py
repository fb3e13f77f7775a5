from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from histoforensics.generators.layers import (
    Constant,
    EqualConv2d,
    EqualLinear,
    channels_at,
    instance_norm,
    lrelu,
    minibatch_stddev,
    noise_map,
    normalise_latents,
    stages,
)
from histoforensics.generators.resample import conv_down
from histoforensics.slides import ConfigError


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_bias_then_activation_gives_the_published_values() -> None:
    y = lrelu(torch.tensor([-1.0, 0.0, 2.0]) + torch.tensor([0.0, 1.0, 1.0]), math.sqrt(2))
    np.testing.assert_allclose(y.numpy(), [-0.282843, 1.414214, 4.242641], atol=1e-6)


def test_the_gain_of_the_activation_can_move_in_front_of_it() -> None:
    x = numbers(100)
    torch.testing.assert_close(lrelu(x, 1.5), lrelu(1.5 * x))


def test_normalised_latents_have_a_mean_square_of_one() -> None:
    z = normalise_latents(5 * numbers(4, 64))
    torch.testing.assert_close(z.square().mean(1), torch.ones(4))


@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (4, 50)])
def test_instance_norm_has_no_mean_and_unit_biased_variance(shape: tuple[int, ...]) -> None:
    y = instance_norm(3 * numbers(*shape) + 7, 1e-8).numpy()
    axes = (2, 3) if len(shape) == 4 else (1,)
    np.testing.assert_allclose(y.mean(axes), 0, atol=1e-6)
    np.testing.assert_allclose(y.var(axes), 1, atol=1e-5)


def test_instance_norm_has_the_first_and_second_derivatives_of_its_formula() -> None:
    x = numbers(2, 3, 4, 5).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: instance_norm(x, 1e-8), (x,))
    assert torch.autograd.gradgradcheck(lambda x: instance_norm(x, 1e-8), (x,))


def test_instance_norm_of_a_constant_is_zero() -> None:
    assert instance_norm(torch.full((1, 2, 4, 4), 1.0), 1e-8).abs().max() == 0


def test_identical_samples_have_a_stddev_of_the_root_of_eps() -> None:
    x = numbers(1, 3, 4, 4).expand(8, -1, -1, -1)
    np.testing.assert_allclose(minibatch_stddev(x)[:, 3].numpy(), 1e-4, rtol=1e-4)


def test_stddev_groups_are_strided_and_not_consecutive() -> None:
    x = torch.zeros(8, 1, 2, 2)
    x[[0, 2]] = 1.0  # samples 0, 2, 4, 6 are one group, 1, 3, 5, 7 the other
    y = minibatch_stddev(x, group=4)[:, 1, 0, 0]
    np.testing.assert_allclose(y[::2].numpy(), np.std([1, 1, 0, 0]), atol=1e-6)
    np.testing.assert_allclose(y[1::2].numpy(), 1e-4, atol=1e-6)


def test_a_batch_smaller_than_the_group_is_one_group() -> None:
    x = numbers(3, 2, 2, 2)
    wanted = x.numpy().std(0).mean()
    np.testing.assert_allclose(minibatch_stddev(x)[:, 2].numpy(), wanted, rtol=1e-4)


def test_a_batch_that_does_not_divide_into_groups_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch must be at most 4 or a multiple of it, got 6"):
        minibatch_stddev(numbers(6, 2, 2, 2))


def test_equal_linear_stores_wide_weights_and_uses_scaled_ones() -> None:
    layer = EqualLinear(400, 500, gain=2.0, lrmul=0.01, bias_init=1.0)
    assert abs(float(layer.weight.detach().std()) - 100) < 1
    torch.testing.assert_close(layer.bias, torch.full((500,), 100.0))
    x = numbers(2, 400)
    wanted = x @ (layer.weight * (2 * 0.01 / 20)).T + 1
    torch.testing.assert_close(layer(x), wanted)


def test_equal_conv_scales_by_the_fan_in_and_its_output_gain_covers_the_bias() -> None:
    layer = EqualConv2d(4, 3, 3, gain=2.0, out_gain=0.5)
    torch.nn.init.normal_(layer.bias)
    x = numbers(1, 4, 5, 5)
    wanted = 0.5 * torch.nn.functional.conv2d(x, layer.weight * (2 / 6), layer.bias, padding=1)
    torch.testing.assert_close(layer(x), wanted)


def test_a_resampling_convolution_adds_its_bias_last() -> None:
    layer = EqualConv2d(1, 2, 3, resample=conv_down)
    torch.nn.init.ones_(layer.bias)
    assert torch.equal(layer(torch.zeros(1, 1, 4, 4)), torch.ones(1, 2, 2, 2))


def test_the_constant_is_the_same_for_every_sample() -> None:
    constant = Constant(numbers(2, 4, 4))
    assert torch.equal(constant(3)[0], constant(3)[2])


def test_noise_modes_give_fresh_stored_and_no_noise() -> None:
    x, const = torch.zeros(3, 5, 4, 4), numbers(4, 4)
    draws = [noise_map("random", x, const, torch.Generator().manual_seed(1)) for _ in range(2)]
    assert draws[0] is not None
    assert draws[0].shape == (3, 1, 4, 4)
    assert torch.equal(draws[0], draws[1])  # type: ignore[arg-type]
    assert noise_map("const", x, const, None) is const
    assert noise_map("none", x, const, None) is None


def test_an_unknown_noise_mode_is_refused() -> None:
    with pytest.raises(ConfigError, match="noise must be 'random' or 'const' or 'none', got 'some'"):
        noise_map("some", torch.zeros(1, 1, 2, 2), torch.zeros(2, 2), None)  # type: ignore[arg-type]


def test_channels_are_those_of_the_published_tables() -> None:
    sides = stages(256)
    assert sides == [4, 8, 16, 32, 64, 128, 256]
    assert [channels_at(side, 8192, 512) for side in sides] == [512, 512, 512, 512, 256, 128, 64]
    assert [channels_at(side, 16384, 512) for side in sides] == [512, 512, 512, 512, 512, 256, 128]
    assert stages(224, first=7) == [7, 14, 28, 56, 112, 224]

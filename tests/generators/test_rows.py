"""Arithmetic over rows of pixels against the same arithmetic with broadcasting, in place and with gradients."""

import pytest
import torch
from torch import Tensor

from histoforensics.generators.layers import EqualConv2d, EqualLinear, Fixed, instance_norm, styled_norm_
from histoforensics.generators.rows import (
    RGB_PIXELS,
    add_grain_,
    by_pixel,
    centred,
    from_rows,
    mix_channels,
    pixels_a_row,
    repeated,
    rows,
    scale_,
    shift_scale_,
)
from histoforensics.generators.spectral import SpectralLinear

CHANNELS = [1, 3, 4, 8, 16, 20]


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def image(channels: int) -> Tensor:
    return numbers(2, channels, 4, 8).contiguous(memory_format=torch.channels_last)


def test_rows_are_another_view_of_an_image_whose_channels_are_last() -> None:
    x = image(4)
    flat = rows(x, 4)
    assert flat.shape == (2, 8, 16)
    assert flat.data_ptr() == x.data_ptr()
    assert torch.equal(from_rows(flat, 4, 8), x)


def test_a_row_is_of_no_more_pixels_than_divide_the_image() -> None:
    assert pixels_a_row(1, 6 * 5) == 2
    assert pixels_a_row(4, 7 * 7) == 1
    assert pixels_a_row(64, 16, RGB_PIXELS) == 4


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("channels", CHANNELS)
def test_rows_give_what_broadcasting_gives(channels: int, grad: bool) -> None:
    x, grain = image(channels), numbers(2, 1, 4, 8, seed=1)
    a, b = numbers(2, channels, seed=2), numbers(2, channels, seed=3)
    p = pixels_a_row(channels, 32)
    own = torch.stack([torch.cat([by_pixel(s[None], p), t.repeat(p)[None]]) for s, t in zip(a, b, strict=True)])
    wide = a[:, :, None, None], b[:, :, None, None]
    with torch.set_grad_enabled(grad):
        close = torch.testing.assert_close
        close(scale_(x.clone(), a), x * wide[0])
        close(shift_scale_(x.clone(), b, a), x * wide[0] + wide[1])
        close(add_grain_(x.clone(), grain, own), x + grain * wide[0] + wide[1])
        close(add_grain_(x.clone(), grain, by_pixel(a[:1], p)), x + grain * a[0, :, None, None])
        close(add_grain_(x.clone(), grain[0, 0], by_pixel(a[:1], p)), x + grain[:1] * a[0, :, None, None])


@pytest.mark.parametrize("channels", CHANNELS)
def test_a_gradient_leaves_the_image_as_it_is_and_its_absence_works_in_place(channels: int) -> None:
    factors = numbers(2, channels, seed=1)
    for grad in (False, True):
        x = image(channels)
        with torch.set_grad_enabled(grad):
            y = scale_(x, factors)
        assert (y.data_ptr() == x.data_ptr()) == (not grad)


@pytest.mark.parametrize("channels", CHANNELS)
def test_channels_are_mixed_by_each_samples_own_weights(channels: int) -> None:
    x, factors, weight = image(channels), numbers(2, channels, seed=1), numbers(3, channels, seed=2)
    wanted = torch.einsum("nchw,nc,oc->nohw", x, factors, weight)
    mixed = mix_channels(x, factors, by_pixel(weight.T, RGB_PIXELS))
    torch.testing.assert_close(from_rows(mixed, 4, 8), wanted)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("channels", CHANNELS)
def test_moments_are_those_of_each_channel(channels: int, in_place: bool) -> None:
    x = 3 * image(channels) + 7
    variance, mean = torch.var_mean(x, (2, 3), correction=0)
    flat, found = centred(x.clone(), in_place=in_place)
    torch.testing.assert_close(flat, x - mean[:, :, None, None])
    torch.testing.assert_close(found, variance)


@pytest.mark.parametrize("channels", CHANNELS)
def test_autocast_rounds_no_moments(channels: int) -> None:
    x = image(channels).float()
    _, variance = centred(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(centred(x)[1], variance)


@pytest.mark.parametrize("channels", CHANNELS)
def test_the_styled_norm_is_the_norm_then_the_style_with_gradients_or_without(channels: int) -> None:
    x, scale, shift = image(channels), numbers(2, channels, seed=1), numbers(2, channels, seed=2)
    wanted = instance_norm(x, 1e-8) * repeated(scale, 1)[:, 0, :, None, None] + shift[:, :, None, None]
    torch.testing.assert_close(styled_norm_(x.clone(), scale, shift, 1e-8), wanted)
    with torch.no_grad():
        torch.testing.assert_close(styled_norm_(x.clone(), scale, shift, 1e-8), wanted)


def test_what_is_fixed_is_made_again_only_when_its_weight_has_changed() -> None:
    weight, fixed, made = torch.nn.Parameter(torch.ones(2)), Fixed().eval(), []

    def value() -> Tensor:
        return fixed.keep(lambda: made.append(1) or weight * 2, weight)

    with torch.no_grad():
        assert value() is value()
        weight.mul_(3)
        assert value().tolist() == [6, 6]
        weight.data = torch.full((2,), 5.0)
        assert value().tolist() == [10, 10]
    assert len(made) == 3
    assert value().requires_grad  # with gradients nothing is kept


def test_nothing_is_fixed_while_an_optimizer_that_counts_no_changes_is_at_work() -> None:
    weight, fixed = torch.nn.Parameter(torch.ones(2)), Fixed().eval()
    adam = torch.optim.Adam([weight], lr=1.0, fused=True)

    def value() -> float:
        with torch.no_grad():
            return float(fixed.keep(lambda: weight * 1, weight)[0])

    before = value()
    fixed.train()
    weight.grad = torch.ones(2)
    adam.step()
    assert value() == weight.tolist()[0] != before


def test_what_is_fixed_is_forgotten_where_a_gradient_is_wanted_in_evaluation_mode_too() -> None:
    for layer in (EqualLinear(2, 2), EqualConv2d(2, 2, 1), SpectralLinear(2, 2)):
        layer.eval()
        adam = torch.optim.Adam(layer.parameters(), lr=1.0, fused=True)
        x = torch.ones((2, 2, 1, 1) if isinstance(layer, EqualConv2d) else (2, 2))
        with torch.no_grad():
            layer(x)
        layer(x).square().sum().backward()
        adam.step()
        with torch.no_grad():
            sampled = layer(x)
        torch.testing.assert_close(sampled, layer(x).detach())


def test_weights_made_in_inference_mode_work_though_nothing_counts_their_changes() -> None:
    with torch.inference_mode():
        for layer in (EqualLinear(2, 2).eval(), SpectralLinear(2, 2).eval()):
            before = layer(torch.ones(1, 2))
            for parameter in layer.parameters():
                parameter.add_(1.0)
            assert not torch.equal(layer(torch.ones(1, 2)), before)


def test_what_is_fixed_is_made_in_full_precision_under_autocast() -> None:
    weight = torch.rand(8, 8)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert Fixed().eval().keep(lambda: weight @ weight, weight).dtype == torch.float32

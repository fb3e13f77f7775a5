from __future__ import annotations

import math

import torch
from torch import Tensor

from histoforensics.generators.mapping import MappingNetwork, mix_styles, truncate
from histoforensics.generators.stylegan2 import StyleGAN2Config, StyleGAN2Generator


def latents(n: int, d: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0))


def small_generator() -> StyleGAN2Generator:
    return StyleGAN2Generator(StyleGAN2Config(resolution=8, z_dim=8, w_dim=8, fmap_base=32, fmap_max=8))


def test_mapping_weights_are_stored_a_hundredfold() -> None:
    mapping = MappingNetwork(256, 256, 2, gain_after=False)
    assert all(abs(float(layer.weight.detach().std()) - 100) < 3 for layer in mapping.layers)


def test_the_two_gains_agree_without_bias_and_differ_with_it() -> None:
    before, after = (MappingNetwork(16, 16, 3, gain_after=flag) for flag in (False, True))
    after.load_state_dict(before.state_dict())
    z = latents(4, 16)
    torch.testing.assert_close(before(z), after(z))
    for mapping in (before, after):
        torch.nn.init.constant_(mapping.layers[2].bias, 100.0)  # used as 1
    ratio = (after(z) - math.sqrt(2) * before(z)).abs().max()
    assert ratio > 0.1


def test_mapping_ignores_the_length_of_z() -> None:
    mapping = MappingNetwork(16, 16, 2, gain_after=True)
    z = latents(4, 16)
    torch.testing.assert_close(mapping(3 * z), mapping(z))


def test_truncation_interpolates_from_the_mean() -> None:
    ws, mean = latents(2, 12).view(2, 3, 4), torch.arange(4.0)
    assert truncate(ws, mean, 1.0) is ws
    torch.testing.assert_close(truncate(ws, mean, 0.0), mean.expand(2, 3, 4))
    torch.testing.assert_close(truncate(ws, mean, 0.5), (ws + mean) / 2)


def test_truncation_with_a_cutoff_leaves_the_later_layers() -> None:
    ws, mean = latents(2, 12).view(2, 3, 4), torch.arange(4.0)
    pulled = truncate(ws, mean, 0.25, cutoff=1)
    torch.testing.assert_close(pulled[:, 0], mean + 0.25 * (ws[:, 0] - mean))
    assert torch.equal(pulled[:, 1:], ws[:, 1:])


def test_mixing_takes_the_layers_from_the_cutoff_on() -> None:
    mixed = mix_styles(torch.zeros(1, 5, 2), torch.ones(1, 5, 2), 2)
    assert mixed[0, :, 0].tolist() == [0, 0, 1, 1, 1]


def test_the_mean_of_w_follows_training_calls_with_a_decay_of_0995() -> None:
    G = small_generator().train()
    z = latents(16, 8)
    mean = G.mapping(z).mean(0)
    assert torch.equal(G.w_avg, torch.zeros(8))  # mapping alone leaves it
    G(z)
    torch.testing.assert_close(G.w_avg, 0.005 * mean)
    G.styles(z)
    torch.testing.assert_close(G.w_avg, (0.005 + 0.995 * 0.005) * mean)


def test_sampling_leaves_the_mean_of_w() -> None:
    G = small_generator().eval()
    G(latents(4, 8))
    assert torch.equal(G.w_avg, torch.zeros(8))


def test_psi_zero_gives_one_image_for_all_latents() -> None:
    G = small_generator().eval()
    G.w_avg.normal_()
    images = G(latents(3, 8), psi=0.0, noise="const")
    torch.testing.assert_close(images[0], images[2])

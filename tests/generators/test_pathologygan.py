from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from histoforensics.generators.losses import gradient_penalty_intended, gradient_penalty_released
from histoforensics.generators.pathologygan import (
    Attention,
    ConditionalInstanceNorm,
    PathologyGANConfig,
    PathologyGANDiscriminator,
    PathologyGANGenerator,
    orthogonal_weights,
)
from histoforensics.slides import ConfigError

SMALL = PathologyGANConfig(resolution=56, z_dim=12, width=1 / 32)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def generator(config: PathologyGANConfig = SMALL) -> PathologyGANGenerator:
    """A generator whose noise weights and attention are not at zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        G = PathologyGANGenerator(config).eval()
        for name, p in G.named_parameters():
            if name.endswith(("noise_weight", "gamma")):
                nn.init.normal_(p)
    return G


@pytest.mark.parametrize(
    ("z_dim", "g", "mapping", "unused"),
    [(128, 184_917_780, 148_608, 66_048), (200, 187_241_184, 361_800, 160_800)],
)
def test_parameter_counts_are_those_of_the_published_network(z_dim: int, g: int, mapping: int, unused: int) -> None:
    config = PathologyGANConfig(z_dim=z_dim)
    with torch.device("meta"):
        G, D = PathologyGANGenerator(config), PathologyGANDiscriminator(config)
    assert (count(G), count(G.mapping), count(G.mapping.unused), count(D)) == (g, mapping, unused, 30_068_458)
    assert sum(p.numel() for name, p in G.named_parameters() if "noise_weight" in name) == 3_424


def test_one_layer_holds_most_of_the_generator() -> None:
    with torch.device("meta"):
        G = PathologyGANGenerator(PathologyGANConfig())
    assert count(G.synthesis.dense_norms[1]) == 159_800_000


@pytest.mark.parametrize("resolution", [28, 56, 112])
def test_every_resolution_gives_images_from_zero_to_one_and_one_logit_each(resolution: int) -> None:
    config = PathologyGANConfig(resolution=resolution, z_dim=8, width=1 / 32)
    G, D = PathologyGANGenerator(config), PathologyGANDiscriminator(config)
    images = G(numbers(2, 8))
    assert images.shape == (2, 3, resolution, resolution)
    assert images.min() >= 0
    assert images.max() <= 1
    assert images.std() > 0.01
    assert D(images).shape == (2,)


def test_channels_below_224_px_are_those_of_the_published_stages() -> None:
    whole, half = PathologyGANConfig(), PathologyGANConfig(resolution=112)
    assert [whole.channels(side) for side in (7, 14, 28, 56, 112, 224)] == [256, 512, 256, 128, 64, 32]
    assert [whole.channels_d(side) for side in (224, 112, 56, 28, 14, 7)] == [3, 32, 64, 128, 256, 512]
    assert [half.channels_d(side) for side in (112, 56, 28, 14, 7)] == [3, 64, 128, 256, 512]
    assert (whole.num_ws, half.num_ws) == (6, 5)


def test_attention_stands_at_28_px_in_both_networks() -> None:
    config = PathologyGANConfig(resolution=112, z_dim=8, width=1 / 32)
    G, D = PathologyGANGenerator(config), PathologyGANDiscriminator(config)
    where = [name for net in (G, D) for name, m in net.named_modules() if isinstance(m, Attention)]
    assert where == ["synthesis.blocks.2.attention", "blocks.2.attention"]


def test_released_noise_changes_nothing_that_can_be_seen() -> None:
    G = generator()
    z = numbers(3, 12)
    change = (G(z, noise="random") - G(z, noise="none")).abs().max()
    assert 0 < change <= 1e-5


def test_intended_noise_changes_the_image() -> None:
    G = generator(PathologyGANConfig(resolution=56, z_dim=12, width=1 / 32, variant="intended"))
    z = numbers(3, 12)
    assert (G(z, noise="random") - G(z, noise="none")).abs().max() > 0.01
    first, again = (G(z, rng=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(G(z, noise="const"), G(z, noise="const"))


def test_half_of_the_mapping_is_without_effect() -> None:
    G = generator()
    z = numbers(3, 12)
    before = G(z, noise="none")
    for p in G.mapping.unused.parameters():
        nn.init.zeros_(p)
    assert torch.equal(G(z, noise="none"), before)


def test_mapping_is_four_residual_steps_and_a_dense_layer() -> None:
    mapping = generator().mapping
    z = w = numbers(3, 12)
    for block in mapping.blocks:
        w = w + (w @ block.spectral().T + block.bias).clamp(min=0)
    torch.testing.assert_close(mapping(z), w @ mapping.out.spectral().T + mapping.out.bias)


def test_conditional_norm_takes_mean_and_deviation_from_the_style() -> None:
    norm = ConditionalInstanceNorm(6, 4).eval()
    x, w = 3 * numbers(2, 6, 50, 50) + 1, numbers(2, 4, seed=1)
    hidden = norm.hidden(w).clamp(min=0)
    y = norm(x, w)
    torch.testing.assert_close(y.mean((2, 3)), norm.shift(hidden), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.std((2, 3), correction=0), norm.scale(hidden).clamp(min=0), atol=1e-4, rtol=0)


def test_conditional_norm_of_features_without_pixels_runs_over_the_features() -> None:
    norm, x, w = ConditionalInstanceNorm(64, 4).eval(), 5 * numbers(2, 64) + 1, numbers(2, 4)
    hidden = norm.hidden(w).clamp(min=0)
    normal = (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(norm(x, w), normal * norm.scale(hidden).clamp(min=0) + norm.shift(hidden))


def test_attention_is_a_weighted_mean_over_all_pixels() -> None:
    attention = Attention(8).eval()
    x = numbers(1, 8, 3, 3)
    assert torch.equal(attention(x), x)  # gamma starts at zero
    nn.init.constant_(attention.gamma, 0.7)
    f, g, h = (layer(x)[0].flatten(1) for layer in (attention.f, attention.g, attention.h))
    wanted = torch.empty(8, 9)
    for pixel in range(9):
        share = torch.stack([f[:, pixel] @ g[:, other] for other in range(9)]).softmax(0)
        wanted[:, pixel] = sum(share[other] * h[:, other] for other in range(9))
    torch.testing.assert_close(attention(x), x + 0.7 * wanted.view(1, 8, 3, 3))


def test_styles_reach_only_their_own_layers() -> None:
    G = generator()
    ws = numbers(1, SMALL.num_ws, 12)
    before = G.synthesis(ws, noise="none")
    for layer in range(SMALL.num_ws):
        other = ws.clone()
        other[:, layer] += 1
        assert not torch.allclose(G.synthesis(other, noise="none"), before)


def test_one_latent_gives_one_image_however_often_it_is_asked_for() -> None:
    G = generator()
    z = numbers(2, 12)
    first = G(z, noise="none")
    G(numbers(2, 12, seed=1))
    assert torch.equal(G(z, noise="none"), first)


def test_truncation_is_refused() -> None:
    G = generator()
    with pytest.raises(ConfigError, match=r"psi must be 1 for PathologyGAN, which keeps no average style, got 0\.5"):
        G(numbers(1, 12), psi=0.5)
    with pytest.raises(ConfigError, match="cutoff must be none for PathologyGAN"):
        G(numbers(1, 12), cutoff=2)


def test_released_and_intended_penalties_differ_and_reach_every_weight() -> None:
    config = PathologyGANConfig(resolution=28, z_dim=8, width=1 / 16)
    D = PathologyGANDiscriminator(config)
    real, fake, share = torch.rand(4, 3, 28, 28), torch.rand(4, 3, 28, 28), torch.rand(4, 1, 1, 1)
    D.eval()  # both with the same vectors
    intended = gradient_penalty_intended(D, real, fake, share)
    released = gradient_penalty_released(D, real, fake, share)
    assert intended.shape == (4,)
    assert released.shape == ()
    assert abs(released.item() - intended.mean().item()) > 0.1
    released.backward()
    assert all(p.grad is not None for name, p in D.named_parameters() if "spectral" in name)


def test_the_orthogonal_regularisation_covers_every_weight_in_use() -> None:
    G = generator()
    weights = orthogonal_weights(G)
    convs = sum(p.numel() for name, p in G.named_parameters() if name.endswith("spectral.weight"))
    unused = sum(p.numel() for name, p in G.mapping.unused.named_parameters() if name.endswith("weight"))
    assert sum(w.numel() for w in weights) == convs - unused


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"resolution": 128}, "resolution must be 28, 56, 112 or 224, got 128"),
        ({"width": 0}, "width must be above 0 and at most 4, got 0"),
        ({"z_dim": 0}, "z_dim must be at least 1, got 0"),
        ({"variant": "fixed"}, "variant must be released or intended, got 'fixed'"),
    ],
)
def test_a_config_out_of_range_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PathologyGANConfig(**fields)  # type: ignore[arg-type]

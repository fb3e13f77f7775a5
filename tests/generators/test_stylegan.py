"""StyleGAN against a reference written here from the paper, with plain operations in place of fused ones."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from histoforensics.generators.stylegan import (
    FUSED_FROM,
    StyleGANConfig,
    StyleGANDiscriminator,
    StyleGANGenerator,
)
from histoforensics.slides import ConfigError

SMALL = StyleGANConfig(resolution=16, z_dim=8, w_dim=6, fmap_base=32, fmap_max=7, mapping_layers=3)
NARROW = {"z_dim": 4, "w_dim": 4, "fmap_base": 128, "fmap_max": 3, "mapping_layers": 1}
Weights = dict[str, Tensor]


# --- the reference ---


def conv(x: Tensor, p: Weights, name: str, gain: float = math.sqrt(2), *, rotate: bool = False) -> Tensor:
    weight = p[f"{name}.weight"]
    weight = weight * gain / math.sqrt(weight[0].numel())
    return F.conv2d(x, weight.rot90(2, (2, 3)) if rotate else weight, padding=weight.shape[-1] // 2)


def bias(p: Weights, name: str) -> Tensor:
    return p[f"{name}.bias"].view(1, -1, 1, 1)


def act(x: Tensor) -> Tensor:
    return torch.maximum(x, 0.2 * x)


def blur(x: Tensor) -> Tensor:
    kernel = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]], dtype=x.dtype).expand(x.shape[1], 1, 3, 3) / 16
    return F.conv2d(x, kernel, padding=1, groups=x.shape[1])


def epilogue(x: Tensor, w: Tensor, p: Weights, name: str) -> Tensor:
    x = x + p[f"{name}.noise_const"] * p[f"{name}.noise_weight"].view(1, -1, 1, 1)
    x = F.instance_norm(act(x + bias(p, name)), eps=1e-8)
    style = w @ p[f"{name}.style.weight"].T / math.sqrt(w.shape[1]) + p[f"{name}.style.bias"]
    scale, shift = style[:, : x.shape[1], None, None], style[:, x.shape[1] :, None, None]
    return x * (scale + 1) + shift


def reference_images(ws: Tensor, p: Weights, stages: int) -> list[Tensor]:
    """The image of every stage, at its own size."""
    x = p["synthesis.first.const.value"].expand(len(ws), -1, -1, -1)
    x = epilogue(x, ws[:, 0], p, "synthesis.first.const_epilogue")
    x = epilogue(conv(x, p, "synthesis.first.conv"), ws[:, 1], p, "synthesis.first.conv_epilogue")
    features = [x]
    for k in range(stages - 1):
        name, fused = f"synthesis.blocks.{k}", 8 << k >= FUSED_FROM
        x = blur(conv(x.repeat_interleave(2, 2).repeat_interleave(2, 3), p, f"{name}.up", rotate=fused))
        x = epilogue(x, ws[:, 2 * k + 2], p, f"{name}.up_epilogue")
        x = epilogue(conv(x, p, f"{name}.conv"), ws[:, 2 * k + 3], p, f"{name}.conv_epilogue")
        features.append(x)
    return [conv(x, p, f"synthesis.to_rgb.{k}", 1.0) + bias(p, f"synthesis.to_rgb.{k}") for k, x in enumerate(features)]


def reference_logits(images: Tensor, p: Weights, stages: int) -> Tensor:
    x = act(conv(images, p, "from_rgb.0") + bias(p, "from_rgb.0"))
    for k in range(stages - 1):
        x = act(conv(x, p, f"blocks.{k}.conv") + bias(p, f"blocks.{k}.conv"))
        x = act(F.avg_pool2d(conv(blur(x), p, f"blocks.{k}.down"), 2) + bias(p, f"blocks.{k}.down"))
    m = len(x) // 4
    spread = [(x[i::m].var(0, correction=0) + 1e-8).sqrt().mean() for i in range(m)] * 4
    x = torch.cat([x, torch.stack(spread).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)], 1)
    x = act(conv(x, p, "conv") + bias(p, "conv")).flatten(1)
    x = act(x @ p["dense.weight"].T * math.sqrt(2 / x.shape[1]) + p["dense.bias"])
    return (x @ p["out.weight"].T / math.sqrt(x.shape[1]) + p["out.bias"])[:, 0]


# --- helpers ---


def lively(module: nn.Module, seed: int) -> nn.Module:
    rng = torch.Generator().manual_seed(seed)
    for name, value in module.state_dict().items():
        if name.endswith(("bias", "noise_weight", "const.value")):
            value += (30.0 if "mapping" in name else 0.5) * torch.randn(value.shape, generator=rng, dtype=value.dtype)
    return module.double().eval()


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def weights(module: nn.Module) -> Weights:
    return {name: value.detach() for name, value in module.state_dict().items()}


@pytest.fixture(name="G")
def generator() -> StyleGANGenerator:
    G = lively(StyleGANGenerator(SMALL), 1)
    assert isinstance(G, StyleGANGenerator)
    return G


@pytest.fixture(name="D")
def discriminator() -> StyleGANDiscriminator:
    D = lively(StyleGANDiscriminator(SMALL), 2)
    assert isinstance(D, StyleGANDiscriminator)
    return D


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# --- tests ---


def test_mapping_has_its_gain_in_the_weight(G: StyleGANGenerator) -> None:
    z, p = numbers(3, 8), weights(G)
    w = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()
    for i in range(3):
        weight, shift = p[f"mapping.layers.{i}.weight"], p[f"mapping.layers.{i}.bias"]
        w = act(w @ weight.T * 0.01 * math.sqrt(2 / w.shape[1]) + 0.01 * shift)
    torch.testing.assert_close(G.mapping(z), w)


def test_images_at_full_size_agree_with_the_reference(G: StyleGANGenerator) -> None:
    ws = numbers(2, 6, 6)
    torch.testing.assert_close(G.synthesis(ws, noise="const"), reference_images(ws, weights(G), 3)[-1])


@pytest.mark.parametrize("lod", [0.0, 0.25, 1.0, 1.75, 2.0])
def test_a_growing_generator_blends_two_stages(G: StyleGANGenerator, lod: float) -> None:
    ws, whole = numbers(2, 6, 6), math.floor(lod)
    coarse_first = reference_images(ws, weights(G), 3)
    full = [F.interpolate(image, (16, 16), mode="nearest") for image in coarse_first]
    share = lod - whole
    wanted = (1 - share) * full[2 - whole] + (share * full[1 - whole] if share else 0)
    torch.testing.assert_close(G.synthesis(ws, noise="const", lod=lod), wanted)


def test_logits_at_full_size_agree_with_the_reference(D: StyleGANDiscriminator) -> None:
    images = numbers(8, 3, 16, 16)
    torch.testing.assert_close(D(images), reference_logits(images, weights(D), 3))


def test_a_growing_discriminator_at_a_whole_lod_is_the_smaller_network(D: StyleGANDiscriminator) -> None:
    images = numbers(4, 3, 16, 16)
    p = {name: value for name, value in weights(D).items() if not name.startswith(("from_rgb.0", "blocks.0"))}
    down_one = {name.replace("from_rgb.1", "from_rgb.0").replace("blocks.1", "blocks.0"): v for name, v in p.items()}
    torch.testing.assert_close(D(images, lod=1.0), reference_logits(F.avg_pool2d(images, 2), down_one, 2))


def test_a_growing_discriminator_is_continuous_where_a_stage_comes_in(D: StyleGANDiscriminator) -> None:
    images = numbers(4, 3, 16, 16)
    torch.testing.assert_close(D(images, lod=1 - 1e-9), D(images, lod=1.0), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(D(images, lod=1e-9), D(images, lod=0.0), atol=1e-6, rtol=1e-6)


def test_a_growing_pair_sees_only_what_its_level_can_show(G: StyleGANGenerator, D: StyleGANDiscriminator) -> None:
    images = G.synthesis(numbers(4, 6, 6), noise="const", lod=1.0)
    assert torch.equal(images[:, :, ::2, ::2], images[:, :, 1::2, 1::2])
    noisy = images + torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64).repeat(8, 8)
    torch.testing.assert_close(D(noisy, lod=1.0), D(images, lod=1.0))


@pytest.mark.parametrize("variant", ["released", "intended"])
def test_only_released_turns_kernels_and_only_from_128_px(variant: str) -> None:
    config = StyleGANConfig(resolution=128, variant=variant, **NARROW)  # type: ignore[arg-type]
    G = lively(StyleGANGenerator(config), 1)
    ws = numbers(1, config.num_ws, 4)
    images = G.synthesis(ws, noise="const")
    wanted = reference_images(ws, weights(G), 6)[-1]  # turns from 128 px on
    assert torch.allclose(images, wanted) is (variant == "released")
    below = G.synthesis(ws, noise="const", lod=1.0)
    torch.testing.assert_close(below[:, :, ::2, ::2], reference_images(ws, weights(G), 6)[-2])


def test_the_first_epilogue_on_the_constant_of_ones_is_the_style_shift() -> None:
    G = StyleGANGenerator(SMALL).eval()
    epilogue_0 = G.synthesis.first.const_epilogue
    w = numbers(2, 6).float()
    shift = epilogue_0.style(w)[:, 7:]
    y = epilogue_0(G.synthesis.first.const(2), w, "random", None)
    assert torch.equal(y, shift[:, :, None, None].expand_as(y))


def test_a_fresh_generator_is_deaf_to_noise_and_a_trained_one_is_not(G: StyleGANGenerator) -> None:
    ws = numbers(2, 6, 6)
    fresh = StyleGANGenerator(SMALL).double()
    assert torch.equal(fresh.synthesis(ws, noise="random"), fresh.synthesis(ws, noise="none"))
    assert not torch.allclose(G.synthesis(ws, noise="random"), G.synthesis(ws, noise="none"))


def test_random_noise_comes_from_the_given_stream(G: StyleGANGenerator) -> None:
    z = numbers(2, 8)
    first, again, other = (G(z, rng=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_parameter_counts_are_the_published_ones() -> None:
    with torch.device("meta"):
        G, D = StyleGANGenerator(StyleGANConfig()), StyleGANDiscriminator(StyleGANConfig())
        large = StyleGANConfig(resolution=1024)
        assert (count(StyleGANGenerator(large)), count(StyleGANDiscriminator(large))) == (26_219_627, 23_087_249)
    assert (count(G), count(D), count(G.mapping)) == (26_086_229, 23_052_353, 2_101_248)
    buffers = dict(G.named_buffers())
    assert sum(b.numel() for name, b in buffers.items() if "noise" in name) == 174_752
    active_g = count(G) - sum(count(layer) for layer in G.synthesis.to_rgb[:-1])
    active_d = count(D) - sum(count(layer) for layer in D.from_rgb[1:])
    assert (active_g, active_d) == (26_078_915, 23_042_625)


def test_both_networks_differentiate_twice(G: StyleGANGenerator, D: StyleGANDiscriminator) -> None:
    z = numbers(4, 8).requires_grad_()
    gradient = torch.autograd.grad(D(G(z, noise="const", lod=0.5), lod=0.5).sum(), z, create_graph=True)[0]
    gradient.square().sum().backward()
    silent = {name for name, p in [*G.named_parameters(), *D.named_parameters()] if p.grad is None}
    lowest = {f"{layer}.{p}" for layer in ("synthesis.to_rgb.0", "from_rgb.2") for p in ("weight", "bias")}
    assert silent == {"out.bias", *lowest}  # a constant has no slope; the lowest level takes no part at this lod


@pytest.mark.parametrize("lod", [-0.1, 2.1])
def test_a_lod_out_of_range_is_refused(G: StyleGANGenerator, D: StyleGANDiscriminator, lod: float) -> None:
    with pytest.raises(ConfigError, match=f"lod must be from 0 to 2, got {lod}"):
        G(numbers(1, 8), lod=lod)
    with pytest.raises(ConfigError, match="lod must be from 0 to 2"):
        D(numbers(1, 3, 16, 16), lod=lod)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"resolution": 100}, "resolution must be a power of two from 8 to 1024, got 100"),
        ({"w_dim": 0}, "w_dim must be at least 1, got 0"),
        ({"variant": "best"}, "variant must be released or intended, got 'best'"),
    ],
)
def test_a_config_out_of_range_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        StyleGANConfig(**fields)  # type: ignore[arg-type]

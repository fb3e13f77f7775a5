"""StyleGAN2 against a reference written here from the paper: NumPy and SciPy, float64.

The reference takes the stored tensors and shares no code with the networks: it makes a weight for each sample, inserts
zeros, pads and correlates, where they scale activations and fold gains.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from scipy.signal import correlate2d
from torch import Tensor, nn

from histoforensics.generators.losses import r1_penalty
from histoforensics.generators.resample import fir_down, fir_up
from histoforensics.generators.stylegan2 import (
    StyleGAN2Config,
    StyleGAN2Discriminator,
    StyleGAN2Generator,
    deviation,
    power,
)
from histoforensics.slides import ConfigError

Array = NDArray[np.float64]
Weights = dict[str, Array]

SMALL = StyleGAN2Config(resolution=16, z_dim=8, w_dim=6, fmap_base=32, fmap_max=7, mapping_layers=3)
SIDES = (4, 8, 16)
FIR = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64
REPOSITORY = Path(__file__).parents[2]
ORACLE = (
    Path(os.environ.get("HISTOFORENSICS_DATA", REPOSITORY / "../shared/data"))
    / "../oracles/stylegan2_res32.safetensors"
)


# --- the reference ---


def act(x: Array) -> Array:
    return np.where(x > 0, x, 0.2 * x) * np.sqrt(2)


def dense(x: Array, p: Weights, name: str, lrmul: float = 1.0) -> Array:
    weight, bias = p[f"{name}.weight"], p[f"{name}.bias"]
    return x @ (weight * lrmul / np.sqrt(weight.shape[1])).T + bias * lrmul


def correlate(x: Array, weight: Array, pad: tuple[int, int]) -> Array:
    x = np.pad(x, ((0, 0), pad, pad))
    return np.array([sum(correlate2d(c, k, "valid") for c, k in zip(x, kernels, strict=True)) for kernels in weight])


def each(x: Array, kernel: Array, pad: tuple[int, int]) -> Array:
    return np.array([correlate2d(np.pad(c, (pad, pad)), kernel, "valid") for c in x])


def zeros_between(x: Array) -> Array:
    y = np.zeros((len(x), 2 * x.shape[1], 2 * x.shape[2]))
    y[:, ::2, ::2] = x
    return y


def modulated(x: Array, w: Array, p: Weights, name: str, *, demodulate: bool, up: bool = False) -> Array:
    style = dense(w[None], p, f"{name}.affine")[0]
    stored = p[f"{name}.weight"]
    weight = stored / np.sqrt(np.prod(stored.shape[1:])) * style[None, :, None, None]
    if demodulate:
        weight /= np.sqrt((weight**2).sum((1, 2, 3), keepdims=True) + 1e-8)
    if not up:
        pad = stored.shape[-1] // 2
        return correlate(x, weight, (pad, pad))
    y = correlate(zeros_between(x), weight[:, :, ::-1, ::-1], (2, 2))
    side = 2 * x.shape[1]
    return each(y, 4 * FIR, (1, 1))[:, :side, :side]


def layer(x: Array, w: Array, p: Weights, name: str, *, noise: bool, up: bool = False) -> Array:
    y = modulated(x, w, p, f"{name}.conv", demodulate=True, up=up)
    if noise:
        y = y + p[f"{name}.noise_const"] * p[f"{name}.noise_strength"]
    return act(y + p[f"{name}.bias"][:, None, None])


def reference_w(z: Array, p: Weights) -> Array:
    w = z / np.sqrt((z**2).mean(1, keepdims=True) + 1e-8)
    for i in range(SMALL.mapping_layers):
        w = act(dense(w, p, f"mapping.layers.{i}", lrmul=0.01))
    return w


def reference_image(ws: Array, p: Weights, *, noise: bool) -> Array:
    """The image of one sample; ``ws`` (6, w_dim)."""
    x, image = p["synthesis.const.value"], np.zeros((3, 2, 2))
    for k in range(len(SIDES)):
        block = f"synthesis.blocks.{k}"
        if k > 0:
            x = layer(x, ws[2 * k - 1], p, f"{block}.up", noise=noise, up=True)
        x = layer(x, ws[2 * k], p, f"{block}.conv", noise=noise)
        rgb = modulated(x, ws[2 * k + 1], p, f"{block}.to_rgb.conv", demodulate=False)
        image = each(zeros_between(image), 4 * FIR, (2, 1)) + rgb + p[f"{block}.to_rgb.bias"][:, None, None]
    return image


def reference_logits(images: Array, p: Weights) -> Array:
    features = np.array([reference_features(image, p) for image in images])  # (n, c, 4, 4)
    n = len(features)
    m = n // 4
    groups = [features[i::m] for i in range(m)]
    spread = [np.sqrt(((g - g.mean(0)) ** 2).mean(0) + 1e-8).mean() for g in groups]
    logits = []
    for i, x in enumerate(features):
        x = np.concatenate([x, np.full((1, 4, 4), spread[i % m])])
        x = act(scaled_conv(x, p, "conv.conv", (1, 1)) + p["conv.conv.bias"][:, None, None])
        hidden = act(dense(x.reshape(1, -1), p, "dense.dense"))
        logits.append(dense(hidden, p, "out")[0, 0])
    return np.array(logits)


def scaled_conv(x: Array, p: Weights, name: str, pad: tuple[int, int]) -> Array:
    weight = p[f"{name}.weight"]
    return correlate(x, weight / np.sqrt(np.prod(weight.shape[1:])), pad)


def reference_features(image: Array, p: Weights) -> Array:
    x = act(scaled_conv(image, p, "from_rgb.conv", (0, 0)) + p["from_rgb.conv.bias"][:, None, None])
    for k in range(len(SIDES) - 1):
        block = f"blocks.{k}"
        skip = scaled_conv(each(x, FIR, (1, 1))[:, ::2, ::2], p, f"{block}.skip", (0, 0))
        y = act(scaled_conv(x, p, f"{block}.conv.conv", (1, 1)) + p[f"{block}.conv.conv.bias"][:, None, None])
        y = scaled_conv(each(y, FIR, (2, 2)), p, f"{block}.down.conv", (0, 0))[:, ::2, ::2]
        x = (act(y + p[f"{block}.down.conv.bias"][:, None, None]) + skip) / np.sqrt(2)
    return x


# --- helpers ---


def arrays(module: nn.Module) -> Weights:
    return {name: value.detach().double().numpy().copy() for name, value in module.state_dict().items()}


def lively(module: nn.Module, seed: int) -> nn.Module:
    """Biases, noise strengths and means away from zero: else half of the code would not be seen."""
    rng = torch.Generator().manual_seed(seed)
    for name, value in module.state_dict().items():
        if "weight" not in name and "noise_const" not in name:
            scale = 30.0 if "mapping" in name else 0.5
            value += scale * torch.randn(value.shape, generator=rng, dtype=value.dtype)
    return module


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(name="G")
def generator() -> StyleGAN2Generator:
    G = lively(StyleGAN2Generator(SMALL), 1).double().eval()
    assert isinstance(G, StyleGAN2Generator)
    return G


@pytest.fixture(name="D")
def discriminator() -> StyleGAN2Discriminator:
    D = lively(StyleGAN2Discriminator(SMALL), 2).double().eval()
    assert isinstance(D, StyleGAN2Discriminator)
    return D


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# --- tests ---


def test_mapping_agrees_with_the_reference(G: StyleGAN2Generator) -> None:
    z = numbers(3, 8)
    np.testing.assert_allclose(G.mapping(z).detach().numpy(), reference_w(z.numpy(), arrays(G)), atol=1e-12)


@pytest.mark.parametrize("noise", ["const", "none"])
def test_images_agree_with_the_reference(G: StyleGAN2Generator, noise: str) -> None:
    ws = numbers(2, 6, 6)  # a style of its own for every layer, so that no two can be exchanged
    images = G.synthesis(ws, noise=noise).detach().numpy()
    wanted = np.array([reference_image(w, arrays(G), noise=noise == "const") for w in ws.numpy()])
    np.testing.assert_allclose(images, wanted, atol=1e-12 * np.abs(wanted).max())


def test_truncated_images_agree_with_the_reference(G: StyleGAN2Generator) -> None:
    z, p = numbers(2, 8), arrays(G)
    w = p["w_avg"] + 0.7 * (reference_w(z.numpy(), p) - p["w_avg"])
    wanted = np.array([reference_image(np.tile(one, (6, 1)), p, noise=True) for one in w])
    images = G(z, psi=0.7, noise="const").detach().numpy()
    np.testing.assert_allclose(images, wanted, atol=1e-12 * np.abs(wanted).max())


def test_float32_images_agree_with_the_float64_reference(G: StyleGAN2Generator) -> None:
    ws = numbers(2, 6, 6)
    wanted = np.array([reference_image(w, arrays(G), noise=True) for w in ws.numpy()])
    images = G.float().synthesis(ws.float(), noise="const").detach().numpy()
    np.testing.assert_allclose(images, wanted, atol=1e-5 * np.abs(wanted).max())


def test_logits_agree_with_the_reference(D: StyleGAN2Discriminator) -> None:
    images = numbers(8, 3, 16, 16)
    wanted = reference_logits(images.numpy(), arrays(D))
    np.testing.assert_allclose(D(images).detach().numpy(), wanted, atol=1e-11 * np.abs(wanted).max())


def test_r1_is_the_slope_of_the_reference(D: StyleGAN2Discriminator) -> None:
    images, p, step = numbers(4, 3, 16, 16), arrays(D), 1e-5
    probe = images.clone().requires_grad_()
    gradient = torch.autograd.grad(D(probe).sum(), probe)[0]
    direction = gradient / gradient.square().sum().sqrt()
    ahead, behind = (reference_logits((images + s * step * direction).numpy(), p).sum() for s in (1, -1))
    slope = (ahead - behind) / (2 * step)  # along its own gradient a function rises by the gradient's norm
    np.testing.assert_allclose(r1_penalty(D, images).sum().item(), slope**2, rtol=1e-6)


def test_parameter_counts_are_the_published_ones() -> None:
    wanted = {
        StyleGAN2Config(): (30_034_338, 28_864_129),
        StyleGAN2Config(resolution=1024): (30_370_060, 29_012_513),
        StyleGAN2Config(fmap_base=8192): (24_767_458, 24_001_089),
        StyleGAN2Config(fmap_base=8192, mapping_layers=2): (23_191_522, 24_001_089),
    }
    with torch.device("meta"):
        counts = {
            config: (count(StyleGAN2Generator(config)), count(StyleGAN2Discriminator(config))) for config in wanted
        }
        assert count(StyleGAN2Generator(StyleGAN2Config()).mapping) == 2_101_248
    assert counts == wanted


def test_noise_buffers_have_the_published_size() -> None:
    with torch.device("meta"):
        buffers = dict(StyleGAN2Generator(StyleGAN2Config()).named_buffers())
    assert sum(b.numel() for name, b in buffers.items() if "noise" in name) == 174_736


def test_a_fresh_generator_is_deaf_to_noise() -> None:
    G = StyleGAN2Generator(SMALL).eval()
    z = numbers(2, 8).float()
    assert torch.equal(G(z, noise="random"), G(z, noise="none"))


def test_random_noise_comes_from_the_given_stream(G: StyleGAN2Generator) -> None:
    z = numbers(2, 8)
    first, again, other = (G(z, rng=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_demodulated_weights_have_unit_norm() -> None:
    weight, style = numbers(5, 4, 3, 3), numbers(2, 4)
    modulated_weight = weight[None] * style[:, None, :, None, None]
    norm = (modulated_weight / deviation(power(weight), style)[:, :, None, None, None]).square().sum((2, 3, 4))
    torch.testing.assert_close(norm, torch.ones(2, 5, dtype=torch.float64))


def test_one_sample_does_not_depend_on_its_batch(G: StyleGAN2Generator) -> None:
    z = numbers(3, 8)
    torch.testing.assert_close(G(z, noise="const")[1:2], G(z[1:2], noise="const"))


def test_both_networks_differentiate_twice(G: StyleGAN2Generator, D: StyleGAN2Discriminator) -> None:
    z = numbers(2, 8).requires_grad_()
    gradient = torch.autograd.grad(D(G(z, noise="const")).sum(), z, create_graph=True)[0]
    gradient.square().sum().backward()
    silent = [name for name, p in [*G.named_parameters(), *D.named_parameters()] if p.grad is None]
    assert silent == ["out.bias"]  # a constant has no slope


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"resolution": 48}, "resolution must be a power of two from 8 to 1024, got 48"),
        ({"resolution": 2048}, "resolution must be a power of two from 8 to 1024, got 2048"),
        ({"z_dim": 0}, "z_dim must be at least 1, got 0"),
        ({"fmap_max": -3}, "fmap_max must be at least 1, got -3"),
    ],
)
def test_a_config_out_of_range_is_refused(fields: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        StyleGAN2Config(**fields)


# --- against the published implementation's own output, where the file with it is at hand ---


def their_generator(o: dict[str, Tensor]) -> dict[str, Tensor]:
    state = {"w_avg": o["G.mapping.w_avg"], "synthesis.const.value": o["G.synthesis.b4.const"]}
    for i in range(8):
        state |= {f"mapping.layers.{i}.{a}": o[f"G.mapping.fc{i}.{a}"] for a in ("weight", "bias")}
    for k in range(4):
        for ours, theirs in (("up", "conv0"), ("conv", "conv1"), ("to_rgb", "torgb")):
            mine, other = f"synthesis.blocks.{k}.{ours}", f"G.synthesis.b{4 << k}.{theirs}"
            names = {"conv.weight": "weight", "bias": "bias"} | {
                f"conv.affine.{a}": f"affine.{a}" for a in ("weight", "bias")
            }
            names |= {} if ours == "to_rgb" else {a: a for a in ("noise_strength", "noise_const")}
            if not (k == 0 and ours == "up"):
                state |= {f"{mine}.{a}": o[f"{other}.{b}"] for a, b in names.items()}
    return state


def their_discriminator(o: dict[str, Tensor]) -> dict[str, Tensor]:
    pairs = {"from_rgb.conv": "D.b32.fromrgb", "conv.conv": "D.b4.conv", "dense.dense": "D.b4.fc", "out": "D.b4.out"}
    for k in range(3):
        pairs |= {f"blocks.{k}.conv.conv": f"D.b{32 >> k}.conv0", f"blocks.{k}.down.conv": f"D.b{32 >> k}.conv1"}
    state = {f"{mine}.{a}": o[f"{theirs}.{a}"] for mine, theirs in pairs.items() for a in ("weight", "bias")}
    return state | {f"blocks.{k}.skip.weight": o[f"D.b{32 >> k}.skip.weight"] for k in range(3)}


@pytest.mark.skipif(not ORACLE.is_file(), reason="the reference implementation's output is not at hand")
def test_the_published_implementation_agrees_to_one_in_a_hundred_thousand() -> None:
    o = load_file(ORACLE)
    config = StyleGAN2Config(resolution=32, z_dim=32, w_dim=32, fmap_base=128, fmap_max=32)
    G, D = StyleGAN2Generator(config).eval(), StyleGAN2Discriminator(config).eval()
    G.load_state_dict(their_generator(o))
    D.load_state_dict(their_discriminator(o))
    z, images = o["in.z"], o["out.image_const_noise"]
    pairs = [
        (fir_up(o["fir.x"]), o["fir.up2"]),
        (fir_down(o["fir.x"]), o["fir.down2"]),
        (G.mapping(z), o["out.w"]),
        (G(z, noise="const"), images),
        (G(z, noise="none"), o["out.image_no_noise"]),
        (G(z, psi=0.7, noise="const"), o["out.image_psi07_const_noise"]),
        (D(images), o["out.d_logits"][:, 0]),
        (r1_penalty(D, images), o["out.r1_per_image"]),
    ]
    for ours, theirs in pairs:
        assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()

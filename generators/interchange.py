"""StyleGAN2's tensors under other projects' names: stylegan2-ada-pytorch (and StyleGAN3), rosinality, TensorFlow.

A table says for every tensor of ours which of theirs it is, and in which form. Of these three only TensorFlow's numbers
need work: kernels are stored (height, width, inputs, outputs), dense weights transposed, the kernels of Conv0_up
rotated by 180 degrees, and the style's bias without its 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, assert_never

from torch import Tensor

from .layers import stages

Scheme = Literal["stylegan2-ada-pytorch", "rosinality", "tensorflow"]
Part = Literal["up", "conv", "to_rgb"]


def same(x: Tensor) -> Tensor:
    """The numbers as they are."""
    return x


def transposed(x: Tensor) -> Tensor:
    """A dense weight (inputs, outputs) as (outputs, inputs)."""
    return x.T


def kernels_last(x: Tensor) -> Tensor:
    """A weight (height, width, inputs, outputs) as (outputs, inputs, height, width)."""
    return x.permute(3, 2, 0, 1)


def kernels_last_rotated(x: Tensor) -> Tensor:
    """As `kernels_last`, the kernels rotated by 180 degrees."""
    return kernels_last(x.flip(0, 1))


def plus_one(x: Tensor) -> Tensor:
    """A style's bias that is stored without its 1."""
    return x + 1


@dataclass(frozen=True)
class Source:
    """Where a tensor of ours comes from: a tensor of theirs, and what becomes of it."""

    name: str
    form: Callable[[Tensor], Tensor] = same


Table = Mapping[str, Source]  # by our name


def generator_table(scheme: Scheme, resolution: int, mapping_layers: int) -> dict[str, Source]:
    """Where the tensors of a `StyleGAN2Generator` come from; TensorFlow's names begin with the network's part."""
    layer: Callable[[int, int, Part], dict[str, Source]]  # of the k-th block, its side length, its part
    match scheme:
        case "stylegan2-ada-pytorch":
            table, layer = _ada_head(mapping_layers), _ada_layer
        case "rosinality":
            table, layer = _rosinality_head(mapping_layers), _rosinality_layer
        case "tensorflow":
            table, layer = _tensorflow_head(mapping_layers), _tensorflow_layer
        case _:
            assert_never(scheme)
    for k, side, part in _layers(resolution):
        found = layer(k, side, part)
        if part == "to_rgb":
            found = {leaf: source for leaf, source in found.items() if not leaf.startswith("noise")}
        table |= {f"synthesis.blocks.{k}.{part}.{leaf}": source for leaf, source in found.items()}
    return table


def discriminator_table(scheme: Scheme, resolution: int) -> dict[str, Source]:
    """Where the tensors of a `StyleGAN2Discriminator` come from."""
    sides = stages(resolution)[:0:-1]  # of the blocks: full size first, 4 px has none
    match scheme:
        case "stylegan2-ada-pytorch":
            names = {"from_rgb.conv": f"b{resolution}.fromrgb", "conv.conv": "b4.conv", "dense.dense": "b4.fc"}
            names |= {"out": "b4.out"}
            for k, side in enumerate(sides):
                names |= {f"blocks.{k}.conv.conv": f"b{side}.conv0", f"blocks.{k}.down.conv": f"b{side}.conv1"}
                names |= {f"blocks.{k}.skip": f"b{side}.skip"}
            table = _pairs(names)
        case "rosinality":
            table = _rosinality_discriminator(len(sides))
        case "tensorflow":
            names = {"from_rgb.conv": f"{resolution}x{resolution}/FromRGB", "conv.conv": "4x4/Conv"}
            for k, side in enumerate(sides):
                block = f"{side}x{side}"
                names |= {f"blocks.{k}.conv.conv": f"{block}/Conv0", f"blocks.{k}.down.conv": f"{block}/Conv1_down"}
                names |= {f"blocks.{k}.skip": f"{block}/Skip"}
            table = _pairs(names, "/", kernels_last)
            table |= _pairs({"dense.dense": "4x4/Dense0", "out": "Output"}, "/", transposed)
        case _:
            assert_never(scheme)
    return {ours: source for ours, source in table.items() if not ours.endswith("skip.bias")}


def resample_filters(resolution: int) -> tuple[list[str], list[str]]:
    """The names under which stylegan2-ada-pytorch's G and D keep their copies of the filter [1, 3, 3, 1]."""
    sides = stages(resolution)
    G = [f"synthesis.b{side}.{part}resample_filter" for side in sides for part in ("", "conv0.", "conv1.")]
    G.remove("synthesis.b4.conv0.resample_filter")  # the first block has one layer
    D = [f"b{side}.{part}resample_filter" for side in sides[1:] for part in ("", "conv0.", "conv1.", "skip.")]
    return G, [*D, f"b{resolution}.fromrgb.resample_filter", "b4.conv.resample_filter"]


def _layers(resolution: int) -> Iterator[tuple[int, int, Part]]:
    for k, side in enumerate(stages(resolution)):
        if k > 0:
            yield k, side, "up"
        yield k, side, "conv"
        yield k, side, "to_rgb"


def _pairs(names: Mapping[str, str], dot: str = ".", form: Callable[[Tensor], Tensor] = same) -> dict[str, Source]:
    """The weight and the bias of every layer in ``names``, ours -> theirs."""
    weights = {f"{ours}.weight": Source(f"{theirs}{dot}weight", form) for ours, theirs in names.items()}
    return weights | {f"{ours}.bias": Source(f"{theirs}{dot}bias") for ours, theirs in names.items()}


def _ada_head(mapping_layers: int) -> dict[str, Source]:
    table = _pairs({f"mapping.layers.{i}": f"mapping.fc{i}" for i in range(mapping_layers)})
    return table | {"w_avg": Source("mapping.w_avg"), "synthesis.const.value": Source("synthesis.b4.const")}


def _ada_layer(_: int, side: int, part: Part) -> dict[str, Source]:
    base = f"synthesis.b{side}." + {"up": "conv0", "conv": "conv1", "to_rgb": "torgb"}[part]
    names = {"conv.weight": "weight", "conv.affine.weight": "affine.weight", "conv.affine.bias": "affine.bias"}
    names |= {name: name for name in ("bias", "noise_strength", "noise_const")}
    return {ours: Source(f"{base}.{theirs}") for ours, theirs in names.items()}


def _rosinality_head(mapping_layers: int) -> dict[str, Source]:
    # style.0 normalises and has no weights; the mean of w is not in the network
    table = _pairs({f"mapping.layers.{i}": f"style.{i + 1}" for i in range(mapping_layers)})
    return table | {"w_avg": Source("latent_avg"), "synthesis.const.value": Source("input.input")}


def _rosinality_layer(k: int, _: int, part: Part) -> dict[str, Source]:
    first = {"up": "", "conv": "conv1", "to_rgb": "to_rgb1"}
    later = {"up": f"convs.{2 * k - 2}", "conv": f"convs.{2 * k - 1}", "to_rgb": f"to_rgbs.{k - 1}"}
    base = (later if k else first)[part]
    return {
        "conv.weight": Source(f"{base}.conv.weight"),
        "conv.affine.weight": Source(f"{base}.conv.modulation.weight"),
        "conv.affine.bias": Source(f"{base}.conv.modulation.bias"),
        "bias": Source(f"{base}.bias" if part == "to_rgb" else f"{base}.activate.bias"),
        "noise_strength": Source(f"{base}.noise.weight"),
        "noise_const": Source(f"noises.noise_{2 * k - (part == 'up')}"),
    }


def _rosinality_discriminator(blocks: int) -> dict[str, Source]:
    table = {"from_rgb.conv.weight": Source("convs.0.0.weight"), "from_rgb.conv.bias": Source("convs.0.1.bias")}
    for k in range(blocks):
        ours, theirs = f"blocks.{k}", f"convs.{k + 1}"
        table |= {
            f"{ours}.conv.conv.weight": Source(f"{theirs}.conv1.0.weight"),
            f"{ours}.conv.conv.bias": Source(f"{theirs}.conv1.1.bias"),
            f"{ours}.down.conv.weight": Source(f"{theirs}.conv2.1.weight"),
            f"{ours}.down.conv.bias": Source(f"{theirs}.conv2.2.bias"),
            f"{ours}.skip.weight": Source(f"{theirs}.skip.1.weight"),
        }
    table |= {"conv.conv.weight": Source("final_conv.0.weight"), "conv.conv.bias": Source("final_conv.1.bias")}
    return table | _pairs({"dense.dense": "final_linear.0", "out": "final_linear.1"})


def _tensorflow_head(mapping_layers: int) -> dict[str, Source]:
    names = {f"mapping.layers.{i}": f"mapping/Dense{i}" for i in range(mapping_layers)}
    table = _pairs(names, "/", transposed)
    return table | {"w_avg": Source("dlatent_avg"), "synthesis.const.value": Source("synthesis/4x4/Const/const")}


def _tensorflow_layer(k: int, side: int, part: Part) -> dict[str, Source]:
    name = {"up": "Conv0_up", "conv": "Conv1" if k else "Conv", "to_rgb": "ToRGB"}[part]
    base = f"synthesis/{side}x{side}/{name}"
    return {
        "conv.weight": Source(f"{base}/weight", kernels_last_rotated if part == "up" else kernels_last),
        "conv.affine.weight": Source(f"{base}/mod_weight", transposed),
        "conv.affine.bias": Source(f"{base}/mod_bias", plus_one),
        "bias": Source(f"{base}/bias"),
        "noise_strength": Source(f"{base}/noise_strength"),
        "noise_const": Source(f"synthesis/noise{2 * k - (part == 'up')}"),
    }

"""Foreign tensors as ours: the network's shape that they tell, and their numbers in our names and forms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .families import FAMILIES
from .interchange import Source, Table, same
from .layers import channels_at, stages
from .resample import FIR, outer_kernel
from .sorting import GENERATOR_SETTINGS, Foreign, Stored, mismatches
from .stylegan import StyleGANConfig
from .stylegan2 import StyleGAN2Config
from .unpickle import Refused, shown

StyleConfig = StyleGANConfig | StyleGAN2Config
LARGEST, MOST_LAYERS = 1024, 64  # side and mapping of the largest network that is looked for
WIDEST = 2**16  # features of a layer; the published networks have 512


def network_config(foreign: Foreign) -> StyleConfig:
    """The shape of the generator, as its tensors tell it.

    Raises:
        Refused: It was made with settings that our networks do not have, or lacks tensors.
    """
    for name, value, wanted in mismatches(foreign.generator_settings, GENERATOR_SETTINGS):
        raise Refused(f"holds a generator with {name} {value}, but only {wanted} can be reproduced")
    table = foreign.generator_table(LARGEST, MOST_LAYERS)
    biases = [_bias_name(k, foreign.family == "stylegan") for k in range(len(stages(LARGEST)))]
    widths = _leading([table[name].name for name in biases], foreign.generator)
    layers = _leading([table[f"mapping.layers.{i}.bias"].name for i in range(MOST_LAYERS)], foreign.generator)
    if len(widths) < 2 or not layers:
        title = FAMILIES[foreign.family].title
        raise Refused(f"lacks the tensors of a {title} generator, such as {table[biases[1]].name}")
    weight = table["mapping.layers.0.weight"].name
    if weight not in foreign.generator:
        raise Refused(f"lacks the tensor {weight}")
    resolution = 4 << (len(widths) - 1)
    # the smallest base that gives every width; with it channels_at gives them all, or no base does
    base = max(-(-width * side // 2) for width, side in zip(widths, stages(resolution), strict=True))
    fields: dict[str, Any] = {
        "resolution": resolution, "z_dim": foreign.generator[weight].numel // max(layers[0], 1), "w_dim": layers[0],
        "fmap_base": base, "fmap_max": max(widths), "mapping_layers": len(layers),
    }  # fmt: skip
    widest = max(fields[name] for name in ("z_dim", "w_dim", "fmap_max"))
    if widest > WIDEST:
        raise Refused(f"holds a generator with a layer of {widest} features; at most {WIDEST} are read")
    if min(fields.values()) < 1 or any(
        channels_at(side, base, max(widths)) != width
        for side, width in zip(stages(resolution), widths, strict=True)
    ):  # fmt: skip
        raise Refused(f"holds a generator with the widths {widths}, which follow no rule of StyleGAN's")
    if foreign.family == "stylegan":
        fields["variant"] = "intended" if foreign.generator_settings.get("fused_scale") is False else "released"
        return StyleGANConfig(**fields)
    return StyleGAN2Config(**fields)


def converted(wanted: Mapping[str, Tensor], table: Table, tensors: Mapping[str, Stored]) -> dict[str, Tensor]:
    """The tensors in ``wanted`` (of any device; only shapes count), from ``tensors`` by ``table``.

    Raises:
        Refused: One is missing, of another shape, or not finite.
    """
    for ours, like in wanted.items():
        name = table[ours].name
        if name not in tensors:
            raise Refused(f"lacks the tensor {name}")
        if tensors[name].numel != like.numel():
            raise Refused(f"has a tensor {name} of {tensors[name].numel} numbers, but {like.numel()} were wanted")
    used = {source.name: tensors[source.name] for ours, source in table.items() if ours in wanted}
    _check_rest({name: stored for name, stored in tensors.items() if name not in used})
    # tensors may share their data, and then claim far more numbers than the file holds
    if sum(x.nbytes for x in used.values()) > sum({x.origin: x.origin_nbytes for x in used.values()}.values()):
        raise Refused("claims more numbers than it holds")
    return {ours: _converted(like, table[ours], tensors[table[ours].name]) for ours, like in wanted.items()}


def _converted(like: Tensor, source: Source, stored: Stored) -> Tensor:
    value = stored.tensor()
    shape = tuple(value.shape)
    if source.form is not same and value.ndim != like.ndim:
        raise Refused(f"has a tensor {source.name} of shape {shape}, but {like.ndim} dimensions were wanted")
    value = source.form(value)
    if _squeezed(value) != _squeezed(like):  # 1 x 512 x 1 x 1 is as good as 512
        raise Refused(f"has a tensor {source.name} of shape {shape}, which does not fit")
    if not value.is_floating_point():
        raise Refused(f"has a tensor {source.name} of whole numbers")
    value = value.to(torch.float32).reshape(like.shape).contiguous()
    if not bool(value.isfinite().all()):
        raise Refused(f"has a tensor {source.name} with numbers that are not finite")
    return value


def _check_rest(tensors: Mapping[str, Stored]) -> None:
    """What is left over may be copies of the filter [1, 3, 3, 1], of whatever gain, and the level of growth."""
    wanted = outer_kernel(FIR, like=torch.zeros(()))
    for name, stored in tensors.items():
        if name.endswith(("resample_filter", ".kernel")):
            is_small = stored.numel == 16 and stored.origin_nbytes <= 4096
            kernel = stored.tensor().float() if is_small else torch.zeros(1)
            if kernel.shape != wanted.shape or not torch.allclose(kernel / kernel.sum(), wanted, atol=1e-6):
                raise Refused(f"resamples with another filter than [1, 3, 3, 1] at {shown(name)}")
        elif name.rpartition("/")[2] != "lod":
            raise Refused(f"has a tensor {shown(name)}, which no network of this tool has")


def _bias_name(k: int, is_stylegan: bool) -> str:
    if not is_stylegan:
        return f"synthesis.blocks.{k}.conv.bias"
    return "synthesis.first.conv_epilogue.bias" if k == 0 else f"synthesis.blocks.{k - 1}.conv_epilogue.bias"


def _leading(names: list[str], tensors: Mapping[str, Stored]) -> list[int]:
    """The sizes of the tensors of these names, up to the first that is missing."""
    sizes: list[int] = []
    for name in names:
        if name not in tensors:
            break
        sizes.append(tensors[name].numel)
    return sizes


def _squeezed(x: Tensor) -> list[int]:
    return [size for size in x.shape if size != 1]

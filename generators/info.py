"""What a network is made of: its layers, their output shapes and parameters, without the memory that it would take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from histoforensics.slides import require

from .families import FAMILIES, NetworkConfig, WidthPreset


@dataclass(frozen=True)
class LayerRow:
    """One line of a layer table."""

    name: str  # as in the state dict
    type: str  # class
    output_shape: tuple[int, ...] | None  # of one sample, without the batch; None: never called
    parameters: int


@dataclass(frozen=True)
class NetworkInfo:
    """The two networks of a family at one size."""

    family: str
    title: str
    config: NetworkConfig
    generator: tuple[LayerRow, ...]
    discriminator: tuple[LayerRow, ...]

    @property
    def generator_parameters(self) -> int:
        """Number of parameters of G, those without effect too."""
        return sum(row.parameters for row in self.generator)

    @property
    def discriminator_parameters(self) -> int:
        """Number of parameters of D."""
        return sum(row.parameters for row in self.discriminator)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values: family, title, config, and layers and parameters of G and of D."""
        return {
            "family": self.family,
            "title": self.title,
            "config": asdict(self.config),
            "generator": {"parameters": self.generator_parameters, "layers": [asdict(row) for row in self.generator]},
            "discriminator": {
                "parameters": self.discriminator_parameters,
                "layers": [asdict(row) for row in self.discriminator],
            },
        }


def describe(name: str, resolution: int | None = None, preset: WidthPreset = "paper") -> NetworkInfo:
    """Return the layers and the parameter counts of a family's networks.

    Args:
        name: "stylegan", "stylegan2" or "pathologygan".
        resolution: Side of the images, pixels; None takes the preset's.
        preset: The published widths, or those that suit a CPU.

    Raises:
        ConfigError: If the family or the preset is unknown, or the family does not come in this resolution.

    >>> info = describe("stylegan2", 256)
    >>> info.generator_parameters, info.discriminator_parameters
    (30034338, 28864129)
    """
    require(name in FAMILIES, "the generator", f"one of {', '.join(FAMILIES)}", name)
    family = FAMILIES[name]
    config = family.config(preset, **({} if resolution is None else {"resolution": resolution}))
    with torch.device("meta"):  # shapes only: no weight is ever made
        G, D = family.build(config)
        rows_g = layer_table(G, torch.empty(1, config.z_dim))
        rows_d = layer_table(D, torch.empty(1, 3, config.resolution, config.resolution))
    return NetworkInfo(name, family.title, config, rows_g, rows_d)


def layer_table(module: nn.Module, *inputs: Tensor) -> tuple[LayerRow, ...]:
    """Return the layers of ``module`` in the order of its state dict; their parameters add up to its own.

    A layer is the outermost module that owns a parameter itself. The module is called once, in evaluation mode, on
    ``inputs`` with a batch of 1.
    """
    layers = dict(_layers(module))
    shapes: dict[nn.Module, tuple[int, ...]] = {}

    def note(layer: nn.Module, _: object, output: Tensor) -> None:
        shapes.setdefault(layer, tuple(output.shape[1:]))

    hooks = [layer.register_forward_hook(note) for layer in layers.values()]
    was_training = module.training
    try:
        with torch.no_grad():
            module.eval()(*inputs)
    finally:
        module.train(was_training)
        for hook in hooks:
            hook.remove()
    return tuple(
        LayerRow(name, type(layer).__name__, shapes.get(layer), sum(p.numel() for p in layer.parameters()))
        for name, layer in layers.items()
    )


def _layers(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    if next(module.parameters(recurse=False), None) is not None:
        yield name, module
        return
    for child_name, child in module.named_children():
        yield from _layers(child, f"{name}.{child_name}" if name else child_name)

"""The register of the three model families: their configs, their presets of width, and how to build their networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import torch

from histoforensics.slides import ConfigError, require

from .pathologygan import PathologyGANConfig, PathologyGANDiscriminator, PathologyGANGenerator
from .stylegan import StyleGANConfig, StyleGANDiscriminator, StyleGANGenerator
from .stylegan2 import StyleGAN2Config, StyleGAN2Discriminator, StyleGAN2Generator

NetworkConfig = StyleGANConfig | StyleGAN2Config | PathologyGANConfig
Generator = StyleGANGenerator | StyleGAN2Generator | PathologyGANGenerator
Discriminator = StyleGANDiscriminator | StyleGAN2Discriminator | PathologyGANDiscriminator
WidthPreset = Literal["paper", "zoo", "compact"]
WIDTH_PRESETS: tuple[WidthPreset, ...] = ("paper", "zoo", "compact")


@dataclass(frozen=True)
class Family:
    """One kind of GAN."""

    name: str
    title: str
    networks: Callable[[Any], tuple[Generator, Discriminator]]
    config_type: type[StyleGANConfig] | type[StyleGAN2Config] | type[PathologyGANConfig]
    compact: Mapping[str, Any]  # fields that make it quick on a CPU
    zoo: Mapping[str, Any]  # fields of the shipped generators

    def config(self, preset: WidthPreset = "paper", **fields: Any) -> NetworkConfig:
        """Return the network's config: the preset's fields, and ``fields`` over them.

        Raises:
            ConfigError: If the preset is unknown, or a field is unknown or out of range.
        """
        require(preset in WIDTH_PRESETS, "preset", " or ".join(WIDTH_PRESETS), preset)
        values = {**{"paper": {}, "zoo": self.zoo, "compact": self.compact}[preset], **fields}
        try:
            return self.config_type(**values)
        except TypeError as err:
            known = ", ".join(sorted(self.config_type.__dataclass_fields__))
            unknown = ", ".join(sorted(set(values) - set(self.config_type.__dataclass_fields__)))
            raise ConfigError(f"{self.title} has no setting {unknown}; it has {known}.") from err

    def build(self, config: NetworkConfig, seed: int | None = None) -> tuple[Generator, Discriminator]:
        """Return (G, D) with fresh weights, in training mode.

        Args:
            config: Of this family.
            seed: Of the weights; None draws them from PyTorch's global stream, which a seed leaves as it was.

        Raises:
            ConfigError: If ``config`` is of another family.
        """
        if not isinstance(config, self.config_type):
            wanted, got = self.config_type.__name__, type(config).__name__
            raise ConfigError(f"the config of {self.title} must be {wanted}, got {got}.")
        if seed is None:
            return self.networks(config)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return self.networks(config)


# 8 channels at 128 px, 16 at 64 px, 32 below: what a CPU of two cores trains at 30 to 50 images/s
_NARROW = {"resolution": 128, "z_dim": 64, "w_dim": 64, "fmap_base": 512, "fmap_max": 32, "mapping_layers": 3}
# 16 channels at 128 px, 32 at 64 px, 64 below: 15 images/s on one core
_ZOO = {"resolution": 128, "z_dim": 64, "w_dim": 64, "fmap_base": 1024, "fmap_max": 64, "mapping_layers": 3}

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "stylegan": Family(
            "stylegan",
            "StyleGAN",
            lambda config: (StyleGANGenerator(config), StyleGANDiscriminator(config)),
            StyleGANConfig,
            _NARROW,
            _ZOO,
        ),
        "stylegan2": Family(
            "stylegan2",
            "StyleGAN2",
            lambda config: (StyleGAN2Generator(config), StyleGAN2Discriminator(config)),
            StyleGAN2Config,
            _NARROW,
            _ZOO,
        ),
        "pathologygan": Family(
            "pathologygan",
            "PathologyGAN",
            lambda config: (PathologyGANGenerator(config), PathologyGANDiscriminator(config)),
            PathologyGANConfig,
            {"resolution": 112, "width": 0.125},
            {"resolution": 112, "width": 0.25, "dense_width": 0.0625, "variant": "intended"},
        ),
    }
)

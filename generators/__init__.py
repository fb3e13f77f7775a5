"""Make generated tissue: StyleGAN, StyleGAN2 and PathologyGAN, trained and sampled in plain PyTorch."""

from .checkpoints import LoadedGenerator, load_generator
from .config import Growth, TrainConfig
from .data import CropSource, open_source, slide_source
from .exporting import export_checkpoint
from .families import FAMILIES, Discriminator, Family, Generator, NetworkConfig
from .importing import import_checkpoint
from .info import NetworkInfo, describe
from .layers import NoiseMode
from .lite0 import EfficientNetLite0Features
from .packing import pack
from .presets import Preset, preset
from .sampling import sample, sample_patchset
from .training import TrainResult, fit
from .zoo import ZOO, shipped, zoo_card, zoo_folder

__all__ = [
    "FAMILIES",
    "ZOO",
    "CropSource",
    "Discriminator",
    "EfficientNetLite0Features",
    "Family",
    "Generator",
    "Growth",
    "LoadedGenerator",
    "NetworkConfig",
    "NetworkInfo",
    "NoiseMode",
    "Preset",
    "TrainConfig",
    "TrainResult",
    "describe",
    "export_checkpoint",
    "fit",
    "import_checkpoint",
    "load_generator",
    "open_source",
    "pack",
    "preset",
    "sample",
    "sample_patchset",
    "shipped",
    "slide_source",
    "zoo_card",
    "zoo_folder",
]

"""Make generated tissue: StyleGAN, StyleGAN2 and PathologyGAN, trained and sampled in plain PyTorch."""

from .checkpoints import LoadedGenerator, load_generator
from .config import Growth, TrainConfig
from .data import CropSource, open_source, slide_source
from .evaluation import Evaluation, evaluate
from .evaluation_files import evaluate_into
from .exporting import export_checkpoint
from .families import FAMILIES, Discriminator, Family, Generator, NetworkConfig
from .features import FEATURES, FeatureExtractor, feature_extractor
from .importing import import_checkpoint
from .info import NetworkInfo, describe
from .layers import NoiseMode
from .lite0 import EfficientNetLite0Features
from .packing import pack
from .presets import Preset, preset
from .sampling import sample, sample_patchset
from .sheets import interpolation_sheet, sample_sheet, truncation_sheet
from .training import TrainResult, fit
from .zoo import ZOO, shipped, zoo_card, zoo_folder

__all__ = [
    "FAMILIES",
    "FEATURES",
    "ZOO",
    "CropSource",
    "Discriminator",
    "EfficientNetLite0Features",
    "Evaluation",
    "Family",
    "FeatureExtractor",
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
    "evaluate",
    "evaluate_into",
    "export_checkpoint",
    "feature_extractor",
    "fit",
    "import_checkpoint",
    "interpolation_sheet",
    "load_generator",
    "open_source",
    "pack",
    "preset",
    "sample",
    "sample_patchset",
    "sample_sheet",
    "shipped",
    "slide_source",
    "truncation_sheet",
    "zoo_card",
    "zoo_folder",
]

"""Tiny networks and pictures: a training step takes a hundredth of a second."""

import numpy as np
import pytest

from histoforensics.generators import FAMILIES, CropSource, Growth, TrainConfig
from histoforensics.generators.data import Picture

NETWORKS = {
    "stylegan": {"resolution": 16, "z_dim": 8, "w_dim": 8, "fmap_base": 64, "fmap_max": 8, "mapping_layers": 2},
    "stylegan2": {"resolution": 16, "z_dim": 8, "w_dim": 8, "fmap_base": 64, "fmap_max": 8, "mapping_layers": 2},
    "pathologygan": {"resolution": 28, "z_dim": 8, "width": 0.016},
}
SETTINGS = {
    "stylegan": {"growth": Growth(initial_px=4, stable_kimg=0.016, fade_kimg=0.016, reread_steps=2), "r1_every": 1},
    "stylegan2": {"path_weight": 2.0, "path_every": 2, "r1_every": 3, "micro_batch": 4, "ema_ramp": 0.2,
        "growth": Growth(initial_px=8, stable_kimg=0.016, fade_kimg=0.0, reread_steps=1), "precision": "bf16",
    },
    "pathologygan": {
        "gradient_penalty": 0.65, "r1_gamma": 0.0, "g_every": 2, "betas": (0.5, 0.999), "style_mixing": 0.5,
    },
}  # fmt: skip


@pytest.fixture
def tiny_config():
    """Config of a tiny run of a family, with changes."""

    def make(family, **changes):
        network = FAMILIES[family].config(**NETWORKS[family])
        shared = {
            "batch": 8, "kimg": 0.048, "snapshot_kimg": 0.016, "grid_side": 2, "orientations": "dihedral",
            "diff_augment": ("translation", "cutout"),
        }  # fmt: skip
        return TrainConfig(family=family, network=network, **(shared | SETTINGS[family] | changes))

    return make


@pytest.fixture
def pictures():
    """Crops of a picture of random colours, at a side length."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 70, 3)).astype(np.uint8)

    def make(patch_px, digest="d"):
        return CropSource([Picture("noise", 70, 60, lambda: pixels)], patch_px, digest=digest, mpp=0.5, origin="noise")

    return make

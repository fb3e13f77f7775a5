"""Any timm backbone with one logit: the plain CNN that a frequency detector has to beat, and the other way round.

References: Wang et al. 2020, arXiv:1912.11035 (a ResNet with blur and JPEG augmentation); He et al. 2016,
arXiv:1512.03385; Gragnaniello et al. 2021, arXiv:2104.02617 (no stride in the stem: the finest traces are kept).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from histoforensics.slides import DetectorError, require

from .backbones import load_weights, normalisation, timm_network
from .cnn import CnnDetector, CnnRecipe

BACKBONE = "resnet10t"


class ResnetDetector(CnnDetector):
    """A timm backbone, global average pooling and one logit, on patches scaled to zero mean and unit variance.

    ``backbone`` is any name that ``timm.create_model`` knows for convolutional networks. ``stem_stride`` 1 lets the
    first convolution and the first pooling keep the full resolution, at 4 to 16 times the time.
    """

    name: ClassVar[str] = "resnet"
    recipe: ClassVar[CnnRecipe] = CnnRecipe(learning_rate=2e-3)

    mean: Tensor
    std: Tensor

    def __init__(self, patch_px: int, backbone: str = BACKBONE, stem_stride: int = 2) -> None:
        super().__init__(patch_px)
        require(stem_stride in (1, 2), "stem_stride", "1 or 2", stem_stride)
        self.backbone, self.stem_stride = backbone, stem_stride
        self.network = timm_network(self.name, backbone, 1)
        if stem_stride == 1:
            keep_resolution(self.network, backbone)
        for name, values in zip(("mean", "std"), normalisation(self.network), strict=True):
            self.register_buffer(name, values, persistent=False)
        self.network.to(memory_format=torch.channels_last)

    @classmethod
    def build(  # type: ignore[override]  # the base's options, spelled out
        cls,
        patch_px: int,
        *,
        backbone: str = BACKBONE,
        stem_stride: int = 2,
        pretrained: bool = False,
        weights: Path | str | None = None,
    ) -> Self:
        """An untrained detector, with a random or a pretrained backbone and a new head.

        Args:
            patch_px: Judged size.
            backbone: A name that timm knows.
            stem_stride: 1 for full resolution in the stem; 2 as the backbone was designed.
            pretrained: ImageNet weights, for backbones whose weights come with an installed package.
            weights: A file of timm-named tensors for the backbone instead; tensors of another head are left out.

        Raises:
            DetectorError: If no weights can be had, or they do not fit the backbone.
        """
        detector = cls(patch_px, backbone, stem_stride)
        load_weights(cls.name, detector.network, backbone, pretrained=pretrained, weights=weights)
        return detector

    def config(self) -> Mapping[str, Any]:
        """Judged size, backbone and the stem's stride."""
        return {"patch_px": self.patch_px, "backbone": self.backbone, "stem_stride": self.stem_stride}

    def images(self, pixels: Tensor) -> Tensor:
        """Normalised patches, float32 (n, 3, h, w)."""
        return (pixels.permute(0, 3, 1, 2).float() - self.mean) / self.std  # the view is channels last already

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits float32 (n,) of uint8 (n, h, w, 3)."""
        logits: Tensor = self.network(self.images(pixels)).squeeze(1)
        return logits.float()


def keep_resolution(network: nn.Module, backbone: str) -> None:
    """Set the stride of the first strided convolution, and of a pooling before any other, to 1; weights stay.

    Raises:
        DetectorError: If the network has no strided convolution.
    """
    strided = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.MaxPool2d) and _stride(m) > 1]
    if not strided or not isinstance(strided[0], nn.Conv2d):
        raise DetectorError(f"{backbone}: no strided convolution in the stem; stem_stride 1 changes nothing here.")
    strided[0].stride = (1, 1)
    if len(strided) > 1 and isinstance(strided[1], nn.MaxPool2d):
        strided[1].stride = 1


def _stride(module: nn.Conv2d | nn.MaxPool2d) -> int:
    return max(module.stride) if isinstance(module.stride, tuple) else int(module.stride)

"""Any timm backbone with one logit: the plain CNN that a frequency detector has to beat, and the other way round.

References: Wang et al. 2020, arXiv:1912.11035 (a ResNet with blur and JPEG augmentation); He et al. 2016,
arXiv:1512.03385.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from histoforensics.generators.lite0 import LITE0, lite0_state, read_tensors
from histoforensics.slides import DetectorError

from .cnn import CnnDetector, CnnRecipe

BACKBONE = "resnet10t"


class ResnetDetector(CnnDetector):
    """A timm backbone, global average pooling and one logit, on patches scaled to zero mean and unit variance.

    ``backbone`` is any name that ``timm.create_model`` knows for convolutional networks.
    """

    name: ClassVar[str] = "resnet"
    recipe: ClassVar[CnnRecipe] = CnnRecipe(learning_rate=2e-3)

    mean: Tensor
    std: Tensor

    def __init__(self, patch_px: int, backbone: str = BACKBONE) -> None:
        import timm  # 200 MB and seconds, which programs without a resnet are spared

        super().__init__(patch_px)
        if backbone not in timm.list_models():
            raise DetectorError(f"{self.name}: timm knows no backbone {backbone!r}; timm.list_models() names them all.")
        self.backbone = backbone
        self.network: nn.Module = timm.create_model(backbone, pretrained=False, num_classes=1)
        for name in ("mean", "std"):
            values = torch.tensor(self._pretraining(name))
            self.register_buffer(name, 255 * values.view(3, 1, 1), persistent=False)
        self.network.to(memory_format=torch.channels_last)

    @classmethod
    def build(  # type: ignore[override]  # the base's options, spelled out
        cls,
        patch_px: int,
        *,
        backbone: str = BACKBONE,
        pretrained: bool = False,
        weights: Path | str | None = None,
    ) -> Self:
        """An untrained detector, with a random or a pretrained backbone and a new head.

        Args:
            patch_px: Judged size.
            backbone: A name that timm knows.
            pretrained: ImageNet weights, for backbones whose weights come with an installed package.
            weights: A file of timm-named tensors for the backbone instead; tensors of another head are left out.

        Raises:
            DetectorError: If no weights can be had, or they do not fit the backbone.
        """
        detector = cls(patch_px, backbone)
        if pretrained and weights is not None:
            raise DetectorError(f"{cls.name}: give either pretrained or weights, not both.")
        if weights is not None:
            detector._load_backbone(read_tensors(weights), Path(weights).name)
        elif pretrained:
            if backbone != LITE0:
                raise DetectorError(
                    f"{cls.name}: no package brings pretrained weights of {backbone}; use {LITE0}, or give a file by "
                    "weights."
                )
            detector._load_backbone(lite0_state(), LITE0)
        return detector

    def _load_backbone(self, state: Mapping[str, Tensor], where: str) -> None:
        head = f"{self._pretraining('classifier')}."
        kept = {name: tensor for name, tensor in state.items() if not name.startswith(head)}
        try:
            loaded = self.network.load_state_dict(kept, strict=False)
        except RuntimeError as err:
            raise DetectorError(f"{where}: these weights do not fit {self.backbone} ({err}).") from err
        missing = [name for name in loaded.missing_keys if not name.startswith(head)]
        if missing or loaded.unexpected_keys:
            raise DetectorError(
                f"{where}: these weights do not fit {self.backbone}; {len(missing)} tensors are missing {missing[:3]} "
                f"and {len(loaded.unexpected_keys)} are unknown {loaded.unexpected_keys[:3]}."
            )

    def _pretraining(self, key: str) -> Any:
        return getattr(self.network, "pretrained_cfg")[key]  # noqa: B009 - timm sets it on the module it builds

    def config(self) -> Mapping[str, Any]:
        """Judged size and backbone."""
        return {"patch_px": self.patch_px, "backbone": self.backbone}

    def images(self, pixels: Tensor) -> Tensor:
        """Normalised patches, float32 (n, 3, h, w)."""
        return (pixels.permute(0, 3, 1, 2).float() - self.mean) / self.std  # the view is channels last already

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits float32 (n,) of uint8 (n, h, w, 3)."""
        logits: Tensor = self.network(self.images(pixels)).squeeze(1)
        return logits.float()

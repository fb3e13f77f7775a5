"""A frozen encoder and a linear head: what a network that was trained for something else already knows of synthesis.

References: Ojha et al. 2023, arXiv:2302.10174 (a linear layer on a frozen encoder carries over to unseen generators).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from histoforensics.generators.lite0 import LITE0

from .backbones import load_weights, normalisation, pretraining, timm_network
from .linear import LinearDetector, LinearModel


class EncoderDetector(LinearDetector):
    """Logistic regression on the features of any timm encoder, which stays as it is.

    Without weights of one's own the encoder is ImageNet's EfficientNet-Lite0, from an installed package. An encoder
    travels with its detector: a folder holds all that scoring needs.
    """

    name: ClassVar[str] = "encoder-linear"
    copies: ClassVar[int] = 1
    most_rows: ClassVar[int | None] = 4000  # an encoder takes milliseconds a patch
    weights: Tensor  # (d,)
    mean: Tensor
    std: Tensor

    def __init__(self, patch_px: int, backbone: str = LITE0) -> None:
        super().__init__(patch_px)
        self.backbone = backbone
        self.encoder = timm_network(self.name, backbone, 0).eval().requires_grad_(False)
        # a transformer's positions are tied to one size; a convolutional encoder takes patches as they are
        fixed = bool(pretraining(self.encoder, "fixed_input_size"))
        self.input_px = int(pretraining(self.encoder, "input_size")[-1]) if fixed else patch_px
        for name, values in zip(("mean", "std"), normalisation(self.encoder), strict=True):
            self.register_buffer(name, values, persistent=False)
        self.register_buffer("weights", torch.zeros(getattr(self.encoder, "num_features")))  # noqa: B009 - timm's

    @classmethod
    def build(  # type: ignore[override]  # the base's options, spelled out
        cls, patch_px: int, *, backbone: str = LITE0, weights: Path | str | None = None
    ) -> Self:
        """A detector whose encoder is filled and whose head is not.

        Args:
            patch_px: Judged size.
            backbone: A name that timm knows.
            weights: A file of timm-named tensors: safetensors, or torch's own read with ``weights_only=True``. None
                takes ImageNet's, for the one backbone whose weights come with an installed package.

        Raises:
            DetectorError: If no weights can be had, or they do not fit the backbone.
        """
        detector = cls(patch_px, backbone)
        load_weights(cls.name, detector.encoder, backbone, pretrained=weights is None, weights=weights)
        return detector

    def config(self) -> Mapping[str, Any]:
        """Judged size and encoder."""
        return {"patch_px": self.patch_px, "backbone": self.backbone}

    def train(self, mode: bool = True) -> Self:
        """As every module's, but the encoder keeps its own statistics."""
        super().train(mode)
        self.encoder.eval()
        return self

    def features(self, pixels: Tensor) -> Tensor:
        """The encoder's features, float32 (n, d)."""
        images = (pixels.permute(0, 3, 1, 2).float() - self.mean) / self.std
        if images.shape[-1] != self.input_px:
            images = interpolate(images, (self.input_px, self.input_px), mode="bilinear", antialias=True)
        features: Tensor = self.encoder(images)
        return features.float()

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits float32 (n,) of uint8 (n, h, w, 3)."""
        return self.features(pixels) @ self.weights + self.intercept

    def fold(self, model: LinearModel) -> None:
        """Take the weights as they are."""
        self.weights.copy_(torch.from_numpy(model.weights))
        self.intercept.fill_(model.bias)

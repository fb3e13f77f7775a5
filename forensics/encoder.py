"""A frozen encoder and a linear head: what a network that was trained for something else already knows of synthesis.

References: Ojha et al. 2023, arXiv:2302.10174 (a linear layer on a frozen encoder carries over to unseen generators).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from histoforensics.generators.lite0 import LITE0
from histoforensics.slides import DetectorError

from .backbones import load_weights, normalisation, pretraining, timm_network
from .linear import LinearDetector, LinearModel

FAINT = 1e-3  # added to a channel's deviation, so that a silent one stays finite


class EncoderDetector(LinearDetector):
    """Logistic regression on the features of any timm encoder, which stays as it is.

    Without weights of one's own the encoder is ImageNet's EfficientNet-Lite0, from an installed package. An encoder
    travels with its detector: a folder holds all that scoring needs.

    With ``stages`` the encoder is cut after the last of them, and the features are each channel's mean and log
    deviation over the patch at every stage named: texture instead of objects, from a tenth of the weights.
    """

    name: ClassVar[str] = "encoder-linear"
    copies: ClassVar[int] = 1
    most_rows: ClassVar[int | None] = 4000  # an encoder takes milliseconds a patch
    weights: Tensor  # (d,)
    mean: Tensor
    std: Tensor

    def __init__(self, patch_px: int, backbone: str = LITE0, stages: Sequence[int] = ()) -> None:
        super().__init__(patch_px)
        self.backbone, self.stages = backbone, tuple(stages)
        self.encoder = timm_network(self.name, backbone, 0).eval().requires_grad_(False)
        # a transformer's positions are tied to one size; a convolutional encoder takes patches as they are
        fixed = bool(pretraining(self.encoder, "fixed_input_size"))
        self.input_px = int(pretraining(self.encoder, "input_size")[-1]) if fixed else patch_px
        for name, values in zip(("mean", "std"), normalisation(self.encoder), strict=True):
            self.register_buffer(name, values, persistent=False)
        size = getattr(self.encoder, "num_features")  # noqa: B009 - timm's
        if self.stages:
            _cut(self.encoder, backbone, self.stages)
            with torch.inference_mode():
                size = self._textures(torch.zeros(1, 3, 64, 64)).shape[1]
        self.register_buffer("weights", torch.zeros(size))

    @classmethod
    def build(  # type: ignore[override]  # the base's options, spelled out
        cls, patch_px: int, *, backbone: str = LITE0, stages: Sequence[int] = (), weights: Path | str | None = None
    ) -> Self:
        """A detector whose encoder is filled and whose head is not.

        Args:
            patch_px: Judged size.
            backbone: A name that timm knows.
            stages: Stages whose textures are the features, from 0 on; none for the encoder's own features.
            weights: A file of timm-named tensors: safetensors, or torch's own read with ``weights_only=True``. None
                takes ImageNet's, for the one backbone whose weights come with an installed package.

        Raises:
            DetectorError: If no weights can be had, or they do not fit the backbone.
        """
        whole = cls(patch_px, backbone)
        load_weights(cls.name, whole.encoder, backbone, pretrained=weights is None, weights=weights)
        if not stages:
            return whole
        detector, tensors = cls(patch_px, backbone, stages), whole.encoder.state_dict()
        detector.encoder.load_state_dict({name: tensors[name] for name in detector.encoder.state_dict()})
        return detector

    def config(self) -> Mapping[str, Any]:
        """Judged size, encoder and the stages where it is read."""
        told = {"patch_px": self.patch_px, "backbone": self.backbone}
        return {**told, "stages": list(self.stages)} if self.stages else told

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
        features: Tensor = self._textures(images) if self.stages else self.encoder(images)
        return features.float()

    def _textures(self, images: Tensor) -> Tensor:
        """Mean and log deviation of each channel at every stage, (n, d), of normalised images (n, 3, h, w)."""
        x = self.encoder.get_submodule("bn1")(self.encoder.get_submodule("conv_stem")(images))
        told = []
        for number, block in enumerate(self.encoder.get_submodule("blocks").children()):
            x = block(x)
            if number in self.stages:
                mean = x.mean((2, 3), keepdim=True)
                deviation = (x - mean).square().mean((2, 3)).sqrt()
                told += [mean.flatten(1), (deviation + FAINT).log()]
        return torch.cat(told, dim=1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits float32 (n,) of uint8 (n, h, w, 3)."""
        return self.features(pixels) @ self.weights + self.intercept

    def fold(self, model: LinearModel) -> None:
        """Take the weights as they are."""
        self.weights.copy_(torch.from_numpy(model.weights))
        self.intercept.fill_(model.bias)


def _cut(encoder: nn.Module, backbone: str, stages: Sequence[int]) -> None:
    """Take away what comes after the last stage.

    Raises:
        DetectorError: If the network has no such stages; timm's EfficientNets and MobileNets have.
    """
    blocks = getattr(encoder, "blocks", None)
    if not isinstance(blocks, nn.Sequential) or not hasattr(encoder, "conv_stem"):
        raise DetectorError(f"encoder-linear: {backbone} has no stages to read; use an EfficientNet or a MobileNet.")
    if sorted(set(stages)) != list(stages) or not 0 <= stages[0] <= stages[-1] < len(blocks):
        raise DetectorError(
            f"encoder-linear: stages must be different ones from 0 to {len(blocks) - 1}, rising, got {tuple(stages)}."
        )
    kept = {"conv_stem", "bn1", "blocks"}
    for name, _ in list(encoder.named_children()):
        if name not in kept:
            setattr(encoder, name, nn.Identity())
    encoder.blocks = blocks[: stages[-1] + 1]

"""Neighbouring pixel relations: the residual that a generator's upsampling leaves in every 2 x 2 block, and a ResNet.

References: Tan et al. 2024, arXiv:2312.10461.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from histoforensics.slides import require

from .cnn import CnnDetector, CnnRecipe

MEAN = (0.485, 0.456, 0.406)  # ImageNet's, of values in [0, 1]
STD = (0.229, 0.224, 0.225)
EXPANSION = 4  # a bottleneck's output channels per inner channel


def neighbour_residual(images: Tensor) -> Tensor:
    """What is left of ``images`` (n, c, h, w) without the top left pixel of each 2 x 2 block: 2/3 (x - up2(down2(x))).

    Zero at (even, even) pixels by construction, and everywhere if the image was enlarged 2 x by nearest neighbour.
    A row or column left over by an odd size is compared with its own block's first pixel as well.
    """
    corner = images[..., ::2, ::2]
    enlarged = corner.repeat_interleave(2, -2)[..., : images.shape[-2], :].repeat_interleave(2, -1)
    return (images - enlarged[..., : images.shape[-1]]) * (2 / 3)


class Bottleneck(nn.Module):
    """1 x 1 down, 3 x 3 at ``stride``, 1 x 1 up, plus a shortcut (He et al. 2016, with the stride on the 3 x 3)."""

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        out_channels = EXPANSION * width
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut = (
            nn.Identity()
            if stride == 1 and in_channels == out_channels
            else nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, in_channels, h, w) to (n, 4 width, h / stride, w / stride)."""
        out: Tensor = torch.relu(self.body(x) + self.shortcut(x))
        return out


class NprDetector(CnnDetector):
    """ResNet-50 up to its second stage on the neighbour residual, trained from scratch.

    The published network has ``width`` 64 and 1,437,761 parameters; half of it learns as well here in a third of the
    time. It reads what the last upsampling left, so it is strong in domain and cheap, and breaks where patches are
    resized or compressed in another way than those it was trained on.
    """

    name: ClassVar[str] = "npr"
    recipe: ClassVar[CnnRecipe] = CnnRecipe()

    mean: Tensor
    std: Tensor

    def __init__(self, patch_px: int, width: int = 32) -> None:
        super().__init__(patch_px)
        require(isinstance(width, int) and width >= 4, "width", "a whole number of at least 4", width)
        self.width = width
        self.register_buffer("mean", 255 * torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(STD).view(3, 1, 1), persistent=False)
        stages = [Bottleneck(width, width)] + [Bottleneck(4 * width, width) for _ in range(2)]
        stages += [Bottleneck(4 * width, 2 * width, 2)] + [Bottleneck(8 * width, 2 * width) for _ in range(3)]
        self.network = nn.Sequential(
            nn.Conv2d(3, width, 3, 2, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
            *stages,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8 * width, 1),
        )
        for module in self.network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.network.to(memory_format=torch.channels_last)

    def config(self) -> Mapping[str, Any]:
        """Judged size and width."""
        return {"patch_px": self.patch_px, "width": self.width}

    def images(self, pixels: Tensor) -> Tensor:
        """Neighbour residual of the normalised patches, float32 (n, 3, h, w)."""
        x = pixels.permute(0, 3, 1, 2).float()  # the view is channels last already
        return neighbour_residual((x - self.mean) / self.std)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits float32 (n,) of uint8 (n, h, w, 3)."""
        logits: Tensor = self.network(self.images(pixels)).squeeze(1)
        return logits.float()

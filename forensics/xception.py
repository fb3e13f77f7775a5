"""Truncated Xception: a verdict on every small window of a patch, and so a native map of where it looks generated.

References: Chai et al. 2020, arXiv:2008.10588 (an Xception cut early and a loss on every location, so that it judges
texture and not content); Chollet 2017, arXiv:1610.02357.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from histoforensics.slides import require

from .cnn import CnnDetector, CnnRecipe
from .detector import Pixels, check_pixels

WIDTH = 16  # of the first layer; the published one has 32, four times the parameters and the time
BLOCKS = 2


class Separable(nn.Sequential):
    """A depthwise 3 x 3 and a pointwise convolution, without bias, then batch normalisation."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, inputs, 3, 1, 1, groups=inputs, bias=False),
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )


class Block(nn.Module):
    """Two separable convolutions and a pooling beside a strided shortcut; half the size goes out."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second = Separable(inputs, outputs), Separable(outputs, outputs)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, 2, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) to (n, outputs, ceil(h / 2), ceil(w / 2))."""
        # not in place: the shortcut needs what comes in
        result: Tensor = self.pool(self.second(relu(self.first(relu(x))))) + self.shortcut(x)
        return result


class XceptionDetector(CnnDetector):
    """An Xception cut after its second block, one logit a window of 43 px every 8 px; the patch gets their mean."""

    name: ClassVar[str] = "patch-xception"
    recipe: ClassVar[CnnRecipe] = CnnRecipe(learning_rate=4e-3)

    def __init__(self, patch_px: int, width: int = WIDTH, blocks: int = BLOCKS) -> None:
        super().__init__(patch_px)
        require(isinstance(width, int) and width >= 4, "width", "a whole number of at least 4", width)
        require(blocks in (1, 2), "blocks", "1 or 2", blocks)
        self.width, self.blocks = width, blocks
        widths = [width * 2 ** (k + 1) for k in range(blocks + 1)]
        self.network = nn.Sequential(
            nn.Conv2d(3, width, 3, 2, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, widths[0], 3, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
            *(Block(a, b) for a, b in itertools.pairwise(widths)),
            nn.Conv2d(widths[-1], 1, 1),
        )
        self.network.to(memory_format=torch.channels_last)

    def config(self) -> Mapping[str, Any]:
        """Judged size, width and where the network is cut."""
        return {"patch_px": self.patch_px, "width": self.width, "blocks": self.blocks}

    def images(self, pixels: Tensor) -> Tensor:
        """Patches from -1 to 1, float32 (n, 3, h, w)."""
        return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1  # the view is channels last already

    def maps(self, pixels: Tensor) -> Tensor:
        """Logits of every window, float32 (n, h', w'), of uint8 (n, h, w, 3)."""
        logits: Tensor = self.network(self.images(pixels)).squeeze(1)
        return logits.float()

    def place_logits(self, pixels: Tensor) -> Tensor:
        """The logit of every window, (n, h' * w'): each learns alone what its patch is."""
        return self.maps(pixels).flatten(1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits float32 (n,) of uint8 (n, h, w, 3): the mean over all windows."""
        return self.maps(pixels).mean((1, 2))

    def heatmap(self, pixels: Pixels, batch: int = 16) -> npt.NDArray[np.float32]:
        """P(fake) of every window, float32 (n, h', w') in [0, 1], of uint8 patches (n, patch_px, patch_px, 3).

        Neighbouring windows are 8 px apart (4 px with one block); the calibration is the patch's own.
        """
        check_pixels(pixels, self.patch_px, self.name)
        was_training = self.training
        self.eval()
        parts = []
        with torch.inference_mode():
            for i in range(0, max(1, len(pixels)), batch):
                chunk = torch.from_numpy(np.ascontiguousarray(pixels[i : i + batch])).to(self.scale.device)
                parts.append(torch.sigmoid(self.scale * self.maps(chunk) + self.bias).cpu().numpy())
        self.train(was_training)
        return np.concatenate(parts)

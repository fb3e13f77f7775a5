"""Walsh-Hadamard statistics: how loud, and how evenly loud, each of 64 patterns is over a patch's 8 x 8 blocks.

The 8 x 8 Walsh-Hadamard transform of disjoint blocks is the level-3 Haar wavelet packet of the patch.

References: Wolter et al. 2022, arXiv:2106.09369 (log-scaled wavelet packets); here each packet is pooled to its mean
and standard deviation, which is 128 numbers in place of 49,152.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from scipy.linalg import hadamard
from torch import Tensor

from .augment import Augmentation
from .detector import Pixels
from .linear import LinearDetector, LinearModel
from .luma import ROUNDING_VARIANCE, luma

BLOCK = 8


def wht_blocks(grey: Tensor) -> Tensor:
    """Orthonormal 8 x 8 Walsh-Hadamard transform of each block, (n, blocks, 64), for grey patches (n, h, w).

    Blocks start at the top left; a border narrower than a block is left out. The pattern of rows i and j of the
    Hadamard matrix is at 8 i + j.
    """
    n, rows, columns = grey.shape[0], grey.shape[1] // BLOCK, grey.shape[2] // BLOCK
    whole = grey[:, : rows * BLOCK, : columns * BLOCK]
    blocks = whole.reshape(n, rows, BLOCK, columns, BLOCK).transpose(2, 3).reshape(n, rows * columns, BLOCK * BLOCK)
    return blocks @ wht_matrix().to(grey)


@lru_cache(maxsize=1)
def wht_matrix() -> Tensor:
    """The orthonormal two-dimensional transform of a flattened block, float32 (64, 64), symmetric."""
    one = torch.from_numpy(hadamard(BLOCK)).float()
    return torch.kron(one, one) / BLOCK


def wht_statistics(grey: Tensor, floor: float = 1e-24) -> Tensor:
    """Mean and standard deviation over blocks of ln|c| for each of 64 patterns, (n, 128), for grey patches (n, h, w).

    Args:
        grey: float32.
        floor: Added to c^2, so that an empty pattern stays finite.
    """
    loudness = wht_blocks(grey).square_().add_(floor).log_()  # 2 ln|c|, (n, blocks, 64)
    mean = loudness.mean(1)
    variance = loudness.square_().mean(1) - mean.square()  # a fifth of the time of torch.std_mean
    return torch.cat([mean, variance.clamp_(min=0).sqrt_()], dim=1) / 2


class WHTDetector(LinearDetector):
    """Logistic regression on the pooled Walsh-Hadamard statistics of the luma, blind to turns and mirrors.

    Mirroring a patch flips signs and transposing it swaps (i, j) with (j, i), so patterns are taken in pairs.
    """

    name = "wht-lr"
    copies = 2  # with noise this strong: AUC under noise of 5 grey levels 0.98, and 0.28 with none (GlaS, stand-ins)
    recipe = Augmentation(noise_sigma=6.0)
    weights: Tensor  # (128,), means then deviations

    def __init__(self, patch_px: int) -> None:
        super().__init__(patch_px)
        self.register_buffer("weights", torch.zeros(2 * BLOCK**2))

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (n,) of uint8 patches (n, N, N, 3)."""
        return self.from_luma(luma(pixels))

    def from_luma(self, grey: Tensor) -> Tensor:
        """Logits (n,) of luma (n, N, N), for callers that share it."""
        return wht_statistics(grey, ROUNDING_VARIANCE) @ self.weights + self.intercept

    def features(self, pixels: Tensor) -> Tensor:
        """Paired statistics (n, 70): 35 pairs of patterns without the flat one, which is stain and not texture."""
        return wht_statistics(luma(pixels), ROUNDING_VARIANCE) @ _pairs().to(pixels.device)

    @classmethod
    def views(cls, pixels: Pixels, rng: np.random.Generator) -> list[Pixels]:
        """The patches, and the same cut one or more pixels later along either axis and along both.

        A patch cut off the blocks' grid puts an upsampler's period-2 trace into other patterns; a fit that never saw
        that takes such fakes for real (AUC near 0), one that did does not.
        """
        odd, even = 2 * rng.integers(0, BLOCK // 2, (3, 2)) + 1, 2 * rng.integers(0, BLOCK // 2, (3, 2))
        starts = [(odd[0, 0], even[0, 1]), (even[1, 0], odd[1, 1]), (odd[2, 0], odd[2, 1])]
        return [pixels] + [pixels[:, y:, x:] for y, x in starts]

    def fold(self, model: LinearModel) -> None:
        """Give each pattern and its mirror half of their common weight."""
        self.weights.copy_(_pairs().double() @ torch.from_numpy(model.weights))
        self.intercept.fill_(model.bias)


@lru_cache(maxsize=1)
def _pairs() -> Tensor:
    """Averaging matrix (128, 70) from patterns to their symmetric pairs, for the means and for the deviations."""
    rows, columns = torch.triu_indices(BLOCK, BLOCK)[:, 1:]
    pick = torch.zeros(2, BLOCK, BLOCK, 2, len(rows))
    index = torch.arange(len(rows))
    for part in (0, 1):
        pick[part, rows, columns, part, index] += 0.5
        pick[part, columns, rows, part, index] += 0.5
    return pick.reshape(2 * BLOCK**2, 2 * len(rows))

"""Cosine spectrum: the log-DCT of a patch, one feature a coefficient, under a strong ridge penalty.

References: Frank et al. 2020, arXiv:2003.08685 (log-DCT, standardised per coefficient, logistic regression with L2).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .detector import Labels
from .linear import Features, LinearDetector, LinearModel, fit_ridge
from .luma import ROUNDING_VARIANCE, luma


def dct2(grey: Tensor) -> Tensor:
    """Orthonormal two-dimensional DCT-II, (n, N, N), of grey patches (n, N, N); energy is kept."""
    size, packed = grey.shape[-1], packed_dct(grey)
    mirrored = packed.imag[..., 1 : size - size // 2].flip(-1).neg()
    return torch.cat([packed.real, mirrored], dim=-1)


def packed_dct(grey: Tensor) -> Tensor:
    """The DCT as complex (n, N, N // 2 + 1): column k of it in the real part, minus column N - k in the imaginary one.

    One real FFT of the patch with its even samples first and its odd ones reversed after them, then a twiddle: at
    256 px half the time of two matrix products.

    References: Makhoul 1980, doi:10.1109/TASSP.1980.1163351.
    """
    size = grey.shape[-1]
    order, opposite, straight, crossed = (t.to(grey.device) for t in _twiddles(size, grey.dtype))
    # one flat gather: gathering each axis apart takes ten times as long
    spectrum = torch.fft.rfft2(grey.flatten(1).index_select(1, order).view(-1, size, size))
    return torch.addcmul(spectrum * straight, spectrum.index_select(1, opposite), crossed)


@lru_cache(maxsize=8)
def _twiddles(size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    line = np.concatenate([np.arange(0, size, 2), np.arange(1, size, 2)[::-1]])
    order = (line[:, None] * size + line).ravel()
    opposite = -np.arange(size) % size
    quarter = np.exp(-0.5j * np.pi * np.arange(size) / size)
    norm = np.where(np.arange(size) == 0, np.sqrt(0.5), 1)
    columns = (quarter * norm)[: size // 2 + 1] / size
    straight, crossed = ((q * norm)[:, None] * columns for q in (quarter, quarter.conj()))
    first, second = (torch.from_numpy(t).to(dtype.to_complex()) for t in (straight, crossed))
    return torch.from_numpy(order), torch.from_numpy(opposite), first, second


def log_dct(grey: Tensor, floor: float = 1e-12) -> Tensor:
    """ln(D^2 + floor) / 2 of the DCT's coefficients D, (n, N, N), for grey patches (n, N, N)."""
    return dct2(grey).square_().add_(floor).log_().mul_(0.5)


class DCTDetector(LinearDetector):
    """Ridge on the log-DCT of the luma, blind to turns and mirrors.

    Mirroring a patch only flips signs of its DCT and transposing it transposes its DCT, so the mean of the log-DCT and
    its transpose is exactly the same for all eight views: no augmentation is needed, and half the weights go.
    """

    name = "dct-ridge"
    penalties = (1e6, 1e5, 1e4, 1e3, 1e2)
    most_rows = 4000  # a minute of one core at 112 px, and 3 GB at 256 px
    copies = 1  # on lossless stand-ins at any phase, JPEG, blur, noise: mean AUC 0.87, and 0.76 with none (GlaS)
    shift_px = 7  # without it augmentation makes mirror-symmetric fakes the only ones that are found
    weights: Tensor  # (N, N), symmetric, on ln(D^2 + floor)

    def __init__(self, patch_px: int) -> None:
        super().__init__(patch_px)
        self.register_buffer("weights", torch.zeros(patch_px, patch_px))

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (n,) of uint8 patches (n, N, N, 3)."""
        return self.from_luma(luma(pixels))

    def from_luma(self, grey: Tensor) -> Tensor:
        """Logits (n,) of luma (n, N, N), for callers that share it."""
        power = torch.view_as_real(packed_dct(grey)).square().add_(ROUNDING_VARIANCE).log_()
        return power.flatten(1) @ self._packed_weights().flatten() + self.intercept

    def _packed_weights(self) -> Tensor:
        """The weights in the order of :func:`packed_dct`, 0 where a place repeats another: (N, N // 2 + 1, 2)."""
        mirrored = torch.zeros(self.patch_px, self.patch_px // 2 + 1, device=self.weights.device)
        last = self.patch_px - self.patch_px // 2
        mirrored[:, 1:last] = self.weights[:, self.patch_px // 2 + 1 :].flip(1)
        return torch.stack([self.weights[:, : self.patch_px // 2 + 1], mirrored], dim=-1)

    def features(self, pixels: Tensor) -> Tensor:
        """The upper triangle of the symmetric log-DCT (n, N (N + 1) / 2 - 1), without DC: stain, not texture."""
        spectrum = log_dct(luma(pixels), ROUNDING_VARIANCE)
        rows, columns = _triangle(self.patch_px)
        return (spectrum[:, rows, columns] + spectrum[:, columns, rows]) / 2

    @staticmethod
    def regress(features: Features, labels: Labels, **options: Any) -> LinearModel:
        """Ridge on -1 and 1: thousands of features, hundreds of patches."""
        return fit_ridge(features, labels, **options)

    def fold(self, model: LinearModel) -> None:
        """Give each coefficient and its mirror half of their common weight."""
        rows, columns = _triangle(self.patch_px)
        full = torch.zeros(self.patch_px, self.patch_px, dtype=torch.float64)
        share = torch.from_numpy(model.weights) / 4  # ln D^2 is 2 ln|D|, and two places share the mean
        full.index_put_((rows, columns), share, accumulate=True)
        full.index_put_((columns, rows), share, accumulate=True)
        self.weights.copy_(full)
        self.intercept.fill_(model.bias)


def _triangle(size: int) -> tuple[Tensor, Tensor]:
    rows, columns = torch.triu_indices(size, size)[:, 1:]  # the first is DC
    return rows, columns

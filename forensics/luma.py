"""Luma: the one grey image that every frequency detector starts from."""

from __future__ import annotations

import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, which JPEG uses
# Rounding R, G and B to whole numbers leaves this variance in the luma: a floor for what a spectrum can tell.
ROUNDING_VARIANCE = sum(w * w for w in LUMA) / 12


def luma(pixels: Tensor) -> Tensor:
    """Luma, float32 (n, h, w) from 0 to 255, of uint8 RGB patches (n, h, w, 3)."""
    return pixels.to(torch.float32) @ torch.tensor(LUMA, dtype=torch.float32, device=pixels.device)

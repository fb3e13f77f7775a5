"""Luma: the one grey image that every frequency detector starts from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, which JPEG uses
# Rounding R, G and B to whole numbers leaves this variance in the luma: a floor for what a spectrum can tell.
ROUNDING_VARIANCE = sum(w * w for w in LUMA) / 12


def luma(pixels: Tensor) -> Tensor:
    """Luma, float32 (n, h, w) from 0 to 255, of uint8 RGB patches (n, h, w, 3)."""
    return pixels.to(torch.float32) @ torch.tensor(LUMA, dtype=torch.float32, device=pixels.device)


@runtime_checkable
class FromLuma(Protocol):
    """A detector that needs nothing of a patch but its luma."""

    def from_luma(self, grey: Tensor) -> Tensor:
        """Logits (n,) of luma (n, N, N)."""


def logits_together(detectors: Iterable[nn.Module], pixels: Tensor) -> Tensor:
    """Logits (n, detectors) of uint8 patches (n, N, N, 3), with the luma computed once for all that need it."""
    grey: Tensor | None = None
    columns = []
    for detector in detectors:
        if isinstance(detector, FromLuma):
            grey = luma(pixels) if grey is None else grey
            columns.append(detector.from_luma(grey))
        else:
            columns.append(detector(pixels))
    return torch.stack(columns, dim=1)

"""Detectors as graphs that every runtime has: matrix products where the torch modules use fast transforms.

ONNX runtimes seldom have an FFT, and a traced graph cannot choose its way by what it sees. The graphs here give the
same logits from the same weights.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.fft import dct
from torch import Tensor

from histoforensics.slides import DetectorError

from .cascade import CascadeDetector
from .cnn import CnnDetector
from .controls import BlockinessControl, ColourControl, SlopeControl
from .dct import DCTDetector
from .detector import Detector
from .encoder import EncoderDetector
from .fusion import FusionDetector, StackedDetector
from .luma import ROUNDING_VARIANCE, luma
from .radial import RadialDetector, radial_means
from .wht import WHTDetector

Logits = Callable[[Tensor], Tensor]  # uint8 (n, N, N, 3) to float32 (n,)


def portable_logits(detector: Detector) -> Logits:
    """The forward pass of a detector on the CPU, without the transforms and choices that a graph lacks.

    Raises:
        DetectorError: If it computes outside of torch, or counts pixels one by one.
    """
    match detector:
        case RadialDetector():
            return _fourier(detector.weights, detector.floor, detector.intercept)
        case SlopeControl():
            size = detector.patch_px
            return _fourier(slope_map(size) * detector.weights, ROUNDING_VARIANCE * size**2, detector.intercept)
        case DCTDetector():
            return _cosine(detector)
        case FusionDetector() | CascadeDetector():
            return _stacked(detector)
        case WHTDetector() | CnnDetector() | EncoderDetector() | ColourControl() | BlockinessControl():
            return detector.forward
        case _:
            raise DetectorError(
                f"{detector.name}: cannot be exported, it measures patches by means that no graph has; "
                "use it through load_detector."
            )


def fourier_waves(size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cosines and sines, float32 (N, N), and N^2 at DC in a half-spectrum (N, N // 2 + 1)."""
    turns = np.arange(size)
    angle = 2 * np.pi / size * (np.outer(turns, turns) % size)
    at_dc = np.zeros((size, size // 2 + 1))
    at_dc[0, 0] = size**2
    cosine, sine, dc = (torch.from_numpy(wave).float() for wave in (np.cos(angle), np.sin(angle), at_dc))
    return cosine, sine, dc


def fourier_power(grey: Tensor, waves: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """|F|^2 on the half-spectrum, float32 (n, N, N // 2 + 1), for grey patches (n, N, N), by matrix products.

    The mean is taken out first and put back into F(0): DC is a thousand times larger than what a detector looks at, and
    in single precision its rounding would drown that.
    """
    cosine, sine, at_dc = waves
    half = at_dc.shape[1]
    mean = grey.mean((1, 2), keepdim=True)
    centred = grey - mean
    by_cosine, by_sine = centred @ cosine[:, :half], centred @ sine[:, :half]
    real = cosine @ by_cosine - sine @ by_sine + mean * at_dc
    imaginary = sine @ by_cosine + cosine @ by_sine  # its sign goes with the square
    return real * real + imaginary * imaginary


def slope_map(size: int) -> Tensor:
    """What the spectrum's slope is made of: its weights on ln power, float32 (N, N // 2 + 1)."""
    radius = np.arange(2, size // 2 + 1)
    x = np.log(radius) - np.log(radius).mean()
    means = radial_means(size)[:, radius[0] : radius[-1] + 1]
    return (means @ torch.from_numpy(x / (x @ x)).float()).reshape(size, size // 2 + 1)


def _fourier(weights: Tensor, floor: float, intercept: Tensor) -> Logits:
    flat, waves = weights.flatten(), fourier_waves(len(weights))

    def logits(pixels: Tensor) -> Tensor:
        return (fourier_power(luma(pixels), waves) + floor).log().flatten(1) @ flat + intercept

    return logits


def _cosine(detector: DCTDetector) -> Logits:
    matrix = torch.from_numpy(dct(np.eye(detector.patch_px), axis=0, norm="ortho")).float()
    at_dc = torch.zeros_like(detector.weights)
    at_dc[0, 0] = detector.patch_px
    flat = detector.weights.flatten()

    def logits(pixels: Tensor) -> Tensor:
        grey = luma(pixels)
        mean = grey.mean((1, 2), keepdim=True)
        spectrum = matrix @ (grey - mean) @ matrix.T + mean * at_dc
        return (spectrum * spectrum + ROUNDING_VARIANCE).log().flatten(1) @ flat + detector.intercept

    return logits


def _stacked(detector: StackedDetector) -> Logits:
    members = [portable_logits(member) for member in detector.detectors]

    def logits(pixels: Tensor) -> Tensor:
        ratios = detector.llrs(torch.stack([member(pixels) for member in members], dim=1))
        together = ratios @ detector.weights + detector.intercept
        if not isinstance(detector, CascadeDetector):
            return together
        first = ratios[:, 0]  # a graph asks both members about every patch, and takes what the cascade would
        return torch.where(first.abs() < detector.margin, together, first)

    return logits

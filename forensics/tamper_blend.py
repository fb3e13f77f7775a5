"""How a splice meets the tissue around it: a hard cut, a feathered edge, or gradients continued by Poisson's equation.

References: Perez, Gangnet & Blake 2003 (Poisson image editing), of which the membrane form is used: the donor plus the
harmonic function that takes up the difference along the seam. Solved by conjugate gradients; the preconditioner is the
exact solution on the bounding rectangle by sine transforms, so a rectangle takes one step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, assert_never

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

Blend = Literal["feather", "poisson", "none"]
Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

FEATHER_PX = 12
MARGIN_PX = 1  # of target and donor all round the mask: where the seam's difference is taken
_TOLERANCE = 0.05  # grey levels
_MAX_STEPS = 500


def blend(donor: Pixels, target: Pixels, mask: Mask, how: Blend) -> Pixels:
    """``target`` with ``donor`` in place of the pixels of ``mask``; all others stay as they are.

    Args:
        donor: RGB (h, w, 3), uint8.
        target: The same shape.
        mask: bool (h, w), False in the outermost row and column of each side.
        how: "none" cuts hard, "feather" fades over ``FEATHER_PX`` inside the mask, "poisson" continues gradients.
    """
    assert donor.shape == target.shape == (*mask.shape, 3)
    assert not mask[[0, -1]].any()
    assert not mask[:, [0, -1]].any()
    match how:
        case "none":
            mixed = donor.astype(np.float64)
        case "feather":
            weight = feather_weights(mask, FEATHER_PX)[..., None]
            mixed = weight * donor + (1 - weight) * target
        case "poisson":
            mixed = donor + membrane(target.astype(np.float64) - donor, mask)
        case _:
            assert_never(how)
    out = target.copy()
    out[mask] = np.clip(np.rint(mixed[mask]), 0, 255).astype(np.uint8)
    return out


def feather_weights(mask: Mask, width_px: int) -> NDArray[np.float64]:
    """The donor's share of each pixel, 0 to 1, (h, w): 0 outside, rising over ``width_px`` inside the mask.

    >>> feather_weights(np.array([[0, 1, 1, 1, 1, 1, 0]], bool), 2).round(2).tolist()
    [[0.0, 0.33, 0.67, 1.0, 0.67, 0.33, 0.0]]
    """
    distance = ndimage.distance_transform_edt(mask)
    return np.asarray(np.minimum(distance / (width_px + 1), 1.0))


def membrane(difference: NDArray[np.float64], mask: Mask) -> NDArray[np.float64]:
    """The function that is harmonic inside ``mask`` and equals ``difference`` outside it, (h, w, c)."""
    inside = mask[..., None].astype(np.float64)
    right = inside * _neighbours(difference * (1 - inside))
    solve = _rectangle_solver(mask.shape)
    found = np.zeros_like(right)
    residual = right
    step = preconditioned = inside * solve(residual)
    energy = (residual * preconditioned).sum((0, 1))
    for _ in range(_MAX_STEPS):
        if np.abs(preconditioned).max() <= _TOLERANCE:
            break
        pushed = inside * (4 * step - _neighbours(step))
        length = energy / np.maximum((step * pushed).sum((0, 1)), 1e-300)
        found = found + length * step
        residual = residual - length * pushed
        preconditioned = inside * solve(residual)
        before, energy = energy, (residual * preconditioned).sum((0, 1))
        step = preconditioned + energy / np.maximum(before, 1e-300) * step
    return found + difference * (1 - inside)


def _neighbours(field: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum of the four neighbours of each pixel; beyond the edge lies zero."""
    total = np.zeros_like(field)
    total[1:] += field[:-1]
    total[:-1] += field[1:]
    total[:, 1:] += field[:, :-1]
    total[:, :-1] += field[:, 1:]
    return total


def _rectangle_solver(shape: tuple[int, ...]) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """A function that solves the discrete Poisson equation on the rectangle without its border, which is zero."""
    height, width = shape[0] - 2, shape[1] - 2
    rows = 2 - 2 * np.cos(np.pi * np.arange(1, height + 1) / (height + 1))
    columns = 2 - 2 * np.cos(np.pi * np.arange(1, width + 1) / (width + 1))
    eigenvalues = (rows[:, None] + columns[None])[..., None]

    def solve(field: NDArray[np.float64]) -> NDArray[np.float64]:
        out = np.zeros_like(field)
        waves = fft.dstn(field[1:-1, 1:-1], type=1, axes=(0, 1), norm="ortho")
        out[1:-1, 1:-1] = fft.idstn(waves / eigenvalues, type=1, axes=(0, 1), norm="ortho")
        return out

    return solve

"""Stains: how much haematoxylin and eosin each pixel holds, by Beer and Lambert's law.

References: Ruifrok & Johnston 2001, Anal. Quant. Cytol. Histol. 23 (colour deconvolution and the two vectors). Their
third vector is a brown dye that H&E lacks; ours is perpendicular to the two, so it holds what neither stain explains.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from histoforensics.slides import PatchError

HAEMATOXYLIN = (0.65, 0.70, 0.29)  # optical density in R, G, B
EOSIN = (0.07, 0.99, 0.11)
PALE = 0.22  # optical density of every channel below which nothing is stained: 80 % of the light passes

Floats = npt.NDArray[np.float32]


def stain_matrix() -> npt.NDArray[np.float64]:
    """Unit vectors of haematoxylin, eosin and the rest, (3, 3), one a row, in optical density of R, G, B."""
    both = np.array([HAEMATOXYLIN, EOSIN])
    both /= np.linalg.norm(both, axis=1, keepdims=True)
    rest = np.cross(*both)
    return np.vstack([both, rest / np.linalg.norm(rest)])


_DENSITY = (-np.log((np.arange(256) + 1) / 256)).astype(np.float32)
_UNMIX = np.linalg.inv(stain_matrix()).astype(np.float32)


def optical_density(pixels: npt.NDArray[Any]) -> Floats:
    """-ln of transmitted light, float32 from 0 (white) to 5.55 (black), of uint8 pixels of any shape.

    Raises:
        PatchError: If they are not uint8.
    """
    if pixels.dtype != np.uint8:
        raise PatchError(f"optical density is of uint8 pixels, got {pixels.dtype}.")
    density: Floats = _DENSITY[pixels]
    return density


def stain_densities(density: Floats) -> Floats:
    """Haematoxylin, eosin and the rest, float32 (..., 3), of optical densities (..., 3); noise may make one negative.

    >>> stain_densities(np.float32(2 * stain_matrix()[0] + 0.5 * stain_matrix()[1])).round(3).tolist()
    [2.0, 0.5, 0.0]
    """
    stains: Floats = density @ _UNMIX
    return stains


def is_pale(density: Floats) -> npt.NDArray[np.bool_]:
    """Where hardly anything is stained: glass, lumen, mucin, fat; bool (...) of optical densities (..., 3)."""
    pale: npt.NDArray[np.bool_] = density.max(-1) < PALE
    return pale

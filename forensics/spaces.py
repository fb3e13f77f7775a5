"""What lies between cells: the edge of pale spaces, steps in the background, red blood cells.

All on one patch; lengths in um. What a patch does not have is NaN.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from .nuclei import Regions, means, measure, part, rings
from .stains import Floats

SMOOTH_UM = 0.5
SPACE_UM2 = 15.0  # the least pale area that counts as a space
REACH_UM = 3.0  # to either side of an edge, where its height is read
COARSE_UM = 2.0  # dents and teeth smaller than this make an outline irregular
BACKGROUND_UM = 3.0
LEAST_BACKGROUND = 0.1  # share of a patch
LEAST_EOSIN = 1.0
RED_AREA_UM2 = (12.0, 80.0)  # 7 um across in life, 5 to 6 after fixation; cut off centre or swollen
RED_STEP = 0.3  # of eosin, to the ring around
RED_ROUNDNESS = 0.4  # below and beyond, it is a fibre or debris
RED_MISFIT = 0.15

Mask = npt.NDArray[np.bool_]


def spaces(pale: Mask, mpp: float) -> Mask:
    """The pale areas (h, w) that are large enough to be a space between cells."""
    framed = ndimage.binary_opening(np.pad(pale, 1, mode="edge"))  # else the picture's corners would go
    parts, _ = ndimage.label(framed[1:-1, 1:-1])
    large = np.bincount(parts.ravel()) * mpp**2 >= SPACE_UM2
    large[0] = False
    kept: Mask = large[parts]
    return kept


def edge_width_um(density: Floats, space: Mask, mpp: float) -> float:
    """Median width of the edge of ``space``: height over steepest slope, um; narrow is well delineated.

    An edge blurred by a Gaussian of standard deviation s measures sqrt(2 pi) times the root of s^2 and this
    measure's own smoothing squared. The height cancels, so that a pale stain is not taken for a soft edge.

    Args:
        density: Mean optical density (h, w).
        space: From :func:`spaces`.
        mpp: Micrometres per pixel.
    """
    border = space & ndimage.binary_dilation(~space, border_value=False)
    if not border.any():
        return np.nan
    smooth = ndimage.gaussian_filter(density, SMOOTH_UM / mpp)
    # by the Gaussian's own derivative: differences of neighbours make a sharp edge 8 % too wide
    slope = ndimage.gaussian_gradient_magnitude(density, SMOOTH_UM / mpp) / mpp
    reach = 2 * round(REACH_UM / mpp) + 1
    height = ndimage.maximum_filter(smooth, reach) - ndimage.minimum_filter(smooth, reach)
    steepest = ndimage.maximum_filter(slope, 2 * round(REACH_UM / 2 / mpp) + 1)
    seen = border & (steepest > 0)
    return float(np.median(height[seen] / steepest[seen])) if seen.any() else np.nan


def irregularity(space: Mask, mpp: float) -> float:
    """Share of the length of the edge of ``space`` that is gone when it is smoothed by 2 um: 0 smooth, 1 all slits."""
    length = edge_length(space)
    smooth = ndimage.gaussian_filter(space.astype(np.float32), COARSE_UM / mpp) > 0.5
    return max(0.0, 1 - edge_length(smooth) / length) if length else np.nan


def edge_length(mask: Mask) -> float:
    """Length in px of the edge between True and False inside the picture, by Cauchy and Crofton's formula.

    Crossings are counted on grid lines of four directions; the border of the picture is no edge.
    """
    straight = (mask[1:] != mask[:-1]).sum() + (mask[:, 1:] != mask[:, :-1]).sum()
    oblique = (mask[1:, 1:] != mask[:-1, :-1]).sum() + (mask[1:, :-1] != mask[:-1, 1:]).sum()
    return float(np.pi / 8 * (straight + oblique / np.sqrt(2)))  # the oblique lines lie closer together


def background_step(density: Floats, background: Mask, mpp: float) -> float:
    """Height, in optical density, of the sharpest step of colour in the background; a slow change counts little.

    The background is smoothed by a Gaussian over what it covers. A step of height s then has slope s / (sqrt(2 pi)
    3 um), and the 99th percentile of all slopes is read back as such a height.

    Args:
        density: Optical densities (h, w, 3).
        background: Tissue outside nuclei (h, w).
        mpp: Micrometres per pixel.
    """
    if background.mean() < LEAST_BACKGROUND:
        return np.nan
    sigma = BACKGROUND_UM / mpp
    weight = ndimage.gaussian_filter(background.astype(np.float32), sigma, truncate=3)
    covered = np.maximum(weight, 1e-3)[..., None]
    colour = ndimage.gaussian_filter(density * background[..., None], (sigma, sigma, 0), truncate=3) / covered
    down, across = np.gradient(colour, axis=(0, 1))
    slope = np.sqrt((down**2 + across**2).sum(-1))[background & (weight > 0.3)]
    return float(np.sqrt(2 * np.pi) * sigma * np.quantile(slope, 0.99)) if slope.size else np.nan


def red_cells(eosin: Floats, tissue: Mask, nuclei: Mask, mpp: float) -> Regions:
    """Round, eosin-bright objects without a nucleus, of a red blood cell's size, not cut by the border.

    Args:
        eosin: Of one patch (h, w).
        tissue: Where it is stained (h, w).
        nuclei: Where nuclei are (h, w).
        mpp: Micrometres per pixel.
    """
    from skimage.filters import threshold_otsu  # as in nuclei.py: only where it is needed

    free = tissue & ~nuclei
    smooth = ndimage.gaussian_filter(eosin, SMOOTH_UM / mpp)
    if not free.any():
        return measure(np.zeros(eosin.shape, np.int32), mpp)
    threshold = max(threshold_otsu(smooth[free]), LEAST_EOSIN)  # type: ignore[no-untyped-call]
    bright = ndimage.binary_opening((smooth > threshold) & free)
    parts = part(bright)
    found = measure(parts, mpp)
    step = means(smooth, parts, len(found)) - means(smooth, rings(parts, mpp)[0], len(found))
    smallest, largest = RED_AREA_UM2
    is_red = found.whole & (found.area_um2 >= smallest) & (found.area_um2 <= largest) & (step >= RED_STEP)
    is_red &= (found.roundness >= RED_ROUNDNESS) & (found.misfit <= RED_MISFIT)
    return found.only(is_red)

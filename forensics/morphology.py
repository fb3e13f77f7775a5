"""Morphology: what a pathologist says of a generated patch, measured.

Each reason that the reader of the 2020 study gave for calling a patch fake has one or more numbers here. A number
stands for a reason; it is not the reason: she saw cells, this sees stained areas. What a patch does not have (a red
cell, a nucleus that is not cut by the border) is NaN and never 0.

References: Alrasheed et al. 2020, IEEE AIPR (the reasons).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from histoforensics.slides import PatchError, require

from . import spaces
from .nuclei import Regions, Values, find_nuclei, means, measure, rings, touching
from .stains import Floats, is_pale, optical_density, stain_densities

REASONS: dict[str, str] = {
    "cell-size": "Size variation of cells",
    "nuclear-lobulation": "Unusual nuclear lobulation",
    "nuclear-shape": "Unusual nuclear shape",
    "naked-nuclei": "Naked nuclei within extracellular mucin",
    "red-cells": "Unusual red-blood-cell shape",
    "extracellular-space": "Irregular or poorly delineated extracellular space",
    "nuclear-separation": "Ill-defined separation between nuclei",
    "missing-features": "Missing morphological features",
    "background": "Abrupt background change",
    "pleomorphism": "Pleomorphism",
}
MPP_RANGE = (0.1, 1.0)  # finer, a patch holds no nucleus; coarser, a nucleus has too few pixels for a shape
FAR_UM = 15.0  # from the nearest nucleus: two cells without one
LEAST_TISSUE_UM2 = 100.0
FEW = 3  # nuclei that a spread needs
LEAST_INSIDE_PX = 9  # of a nucleus without its edge, for its texture


class Patch:
    """One patch with its stains and nuclei, each computed when first asked for."""

    def __init__(self, pixels: npt.NDArray[np.uint8], mpp: float) -> None:
        self.mpp = mpp
        self.density = optical_density(pixels)

    @cached_property
    def stains(self) -> Floats:
        """Haematoxylin, eosin and the rest (h, w, 3)."""
        return stain_densities(self.density)

    @cached_property
    def pale(self) -> npt.NDArray[np.bool_]:
        """Where nothing is stained (h, w)."""
        return is_pale(self.density)

    @cached_property
    def nuclei(self) -> Regions:
        """All nuclei, those cut by the border too."""
        found = find_nuclei(self.stains[..., 0], self.stains[..., 1], ~self.pale, self.mpp)
        return measure(found, self.mpp)

    @cached_property
    def around(self) -> tuple[npt.NDArray[np.int32], Floats]:
        """The nuclei's rings and each pixel's distance to the nearest nucleus in um."""
        return rings(self.nuclei.labels, self.mpp)

    @cached_property
    def space(self) -> npt.NDArray[np.bool_]:
        """Pale areas between cells (h, w)."""
        return spaces.spaces(self.pale, self.mpp)

    @cached_property
    def cores(self) -> npt.NDArray[np.int32]:
        """The nuclei's labels without a pixel of edge, (h, w)."""
        labels = self.nuclei.labels
        inside = ndimage.minimum_filter(labels, 3) == ndimage.maximum_filter(labels, 3)
        return np.where(inside, labels, 0).astype(np.int32)

    def of_cores(self, values: npt.NDArray[Any]) -> Values:
        """Mean of ``values`` (h, w) inside each nucleus, (k,); NaN where it is all edge."""
        return means(values, self.cores, len(self.nuclei))

    def of_rings(self, values: npt.NDArray[Any]) -> Values:
        """Mean of ``values`` (h, w) over the ring around each nucleus, (k,); NaN where it has none."""
        return means(values, self.around[0], len(self.nuclei))


@dataclass(frozen=True)
class Feature:
    """One number of a patch, and the reason that it stands for."""

    name: str
    reason: str  # a key of REASONS
    unit: str
    formula: str
    of: Callable[[Patch], float]


def _variation(values: Values) -> float:
    """Standard deviation over mean."""
    return _spread(values) / _mean(values)


def _spread(values: Values) -> float:
    known = values[~np.isnan(values)]
    return float(known.std(ddof=1)) if len(known) >= FEW else np.nan


def _mean(values: Values) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan


def _tissue_um2(patch: Patch) -> float:
    area = float((~patch.pale).sum()) * patch.mpp**2
    return area if area >= LEAST_TISSUE_UM2 else np.nan


def _bare_nuclei(patch: Patch) -> float:
    return _mean(patch.of_rings(patch.pale))


def _red_cell_roundness(patch: Patch) -> float:
    found = spaces.red_cells(patch.stains[..., 1], ~patch.pale, patch.nuclei.labels > 0, patch.mpp)
    return _mean(found.roundness)


def _rim_contrast(patch: Patch) -> float:
    inside, outside = patch.of_cores(patch.stains[..., 0]), patch.of_rings(patch.stains[..., 0])
    return _mean((inside - outside) / inside)


def _density(patch: Patch) -> float:
    # a nucleus cut by the border belongs by half to the next patch
    return float((patch.nuclei.whole + 1).sum() / 2 / _tissue_um2(patch) * 1e6)


def _bare_tissue(patch: Patch) -> float:
    far = patch.around[1] > FAR_UM
    return float(far[~patch.pale].mean()) if _tissue_um2(patch) > 0 else np.nan


def _chromatin(patch: Patch) -> float:
    haematoxylin = patch.stains[..., 0].astype(np.float64)
    mean, square = patch.of_cores(haematoxylin), patch.of_cores(haematoxylin**2)
    spread = np.sqrt(np.maximum(square - mean**2, 0)) / mean
    pixels = np.bincount(patch.cores.ravel(), minlength=len(patch.nuclei) + 1)[1:]
    return _mean(spread[pixels >= LEAST_INSIDE_PX])


def _background(patch: Patch) -> float:
    off_nuclei = patch.around[1] > 1.0  # their blurred edge is not background
    return spaces.background_step(patch.density, ~patch.pale & off_nuclei, patch.mpp)


FEATURES: tuple[Feature, ...] = (
    Feature("nuclear_size_variation", "cell-size", "",
            "standard deviation over mean of the area of uncut nuclei",
            lambda p: _variation(p.nuclei.area_um2[p.nuclei.whole])),
    Feature("lobulation", "nuclear-lobulation", "",
            "1 - solidity (area over that of the convex hull), mean of uncut nuclei",
            lambda p: _mean(1 - p.nuclei.solidity[p.nuclei.whole])),
    Feature("eccentricity", "nuclear-shape", "",
            "sqrt(1 - (minor / major axis)^2), mean of uncut nuclei",
            lambda p: _mean(p.nuclei.eccentricity[p.nuclei.whole])),
    Feature("outline_misfit", "nuclear-shape", "",
            "share of the area outside the ellipse of equal second moments, mean of uncut nuclei",
            lambda p: _mean(p.nuclei.misfit[p.nuclei.whole])),
    Feature("bare_nuclei", "naked-nuclei", "",
            "share of the ring 0.5 to 2 um around a nucleus that is pale, mean of nuclei", _bare_nuclei),
    Feature("red_cell_roundness", "red-cells", "",
            "area over that of the circle across the major axis, mean of red cells", _red_cell_roundness),
    Feature("space_edge_width", "extracellular-space", "um",
            "height over steepest slope of mean optical density, median along the edge of pale spaces",
            lambda p: spaces.edge_width_um(p.density.mean(-1), p.space, p.mpp)),
    Feature("space_irregularity", "extracellular-space", "",
            "share of the length of the edge of pale spaces that is gone when it is smoothed by 2 um",
            lambda p: spaces.irregularity(p.space, p.mpp)),
    Feature("touching_nuclei", "nuclear-separation", "",
            "share of nuclei that share an edge with another",
            lambda p: _mean(touching(p.nuclei.labels).astype(float))),
    Feature("rim_contrast", "nuclear-separation", "",
            "1 - haematoxylin of the ring 0.5 to 2 um around a nucleus over its own, mean of nuclei", _rim_contrast),
    Feature("nuclear_density", "missing-features", "per mm2",
            "nuclei, cut ones by half, per area of tissue", _density),
    Feature("bare_tissue", "missing-features", "",
            "share of tissue more than 15 um from any nucleus", _bare_tissue),
    Feature("chromatin_contrast", "missing-features", "",
            "standard deviation over mean of haematoxylin inside a nucleus, mean of nuclei", _chromatin),
    Feature("background_step", "background", "optical density",
            "height of the sharpest step of colour between nuclei, at a scale of 3 um", _background),
    Feature("shape_variation", "pleomorphism", "",
            "standard deviation of the eccentricity of uncut nuclei",
            lambda p: _spread(p.nuclei.eccentricity[p.nuclei.whole])),
    Feature("stain_variation", "pleomorphism", "",
            "standard deviation over mean of the nuclei's mean haematoxylin",
            lambda p: _variation(p.of_cores(p.stains[..., 0]))),
)  # fmt: skip
NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)


def morphology(pixels: npt.NDArray[np.uint8], mpp: float) -> Floats:
    """Every feature of :data:`FEATURES`, float32 (n, features), of patches (n, h, w, 3); NaN where there is none.

    Args:
        pixels: uint8 RGB, H&E.
        mpp: Micrometres per pixel, 0.1 to 1.

    Raises:
        PatchError: If these are no patches.
        ConfigError: If the resolution is out of range.
    """
    require(MPP_RANGE[0] <= mpp <= MPP_RANGE[1], "mpp", f"from {MPP_RANGE[0]} to {MPP_RANGE[1]} um per pixel", mpp)
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
        got = f"{pixels.dtype} {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise PatchError(f"morphology is measured on uint8 patches (n, h, w, 3), got {got}.")
    out = np.empty((len(pixels), len(FEATURES)), np.float32)
    for row, one in zip(out, pixels, strict=True):
        patch = Patch(one, mpp)
        row[:] = [feature.of(patch) for feature in FEATURES]
    return out

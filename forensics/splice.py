"""One splice: patches laid into a mosaic, stained like the tissue that they replace, blended into it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from histoforensics.slides import require

from .tamper_blend import MARGIN_PX, Blend, blend
from .tamper_regions import Region
from .tamper_stain import match_stain

Pixels = NDArray[np.uint8]

OVERLAP_PX = 16  # over which neighbouring patches of a mosaic fade into each other


def mosaic_places(height: int, width: int, patch_px: int) -> list[tuple[int, int]]:
    """Top left corners (x, y) of the patches that cover a canvas, raster order.

    They overlap by ``OVERLAP_PX``, no more: what two patches share is a blur. The last ones stand out of the canvas.

    >>> mosaic_places(100, 210, 112)
    [(0, 0), (96, 0), (192, 0)]
    """
    require(patch_px > OVERLAP_PX, "patch_px", f"above {OVERLAP_PX}", patch_px)
    return [(x, y) for y in _starts(height, patch_px) for x in _starts(width, patch_px)]


def mosaic(patches: Pixels, height: int, width: int) -> Pixels:
    """A canvas (height, width, 3) covered with patches (n, p, p, 3) at ``mosaic_places``, faded into each other."""
    patch_px = patches.shape[1]
    places = mosaic_places(height, width, patch_px)
    assert len(places) == len(patches)
    if len(patches) == 1:
        return patches[0, :height, :width].copy()
    total, weight = np.zeros((height, width, 3)), np.zeros((height, width, 1))
    ramp = np.minimum(np.minimum(np.arange(1, patch_px + 1), np.arange(patch_px, 0, -1)), OVERLAP_PX)
    share = np.minimum.outer(ramp, ramp).astype(np.float64)[..., None]
    for (x, y), patch in zip(places, patches, strict=True):
        part = slice(y, y + patch_px), slice(x, x + patch_px)
        part_height, part_width = total[part].shape[:2]
        total[part] += (share * patch)[:part_height, :part_width]
        weight[part] += share[:part_height, :part_width]
    return np.rint(total / weight).astype(np.uint8)


def padded_box(region: Region) -> tuple[int, int, int, int]:
    """x, y, width, height of what a splice reads: the region's box and the margin that blending looks at."""
    x, y, width, height = region.box
    return x - MARGIN_PX, y - MARGIN_PX, width + 2 * MARGIN_PX, height + 2 * MARGIN_PX


def patches_needed(region: Region, patch_px: int) -> int:
    """How many patches the mosaic of a region takes."""
    _, _, width, height = padded_box(region)
    return len(mosaic_places(height, width, patch_px))


def splice(target: Pixels, patches: Pixels, region: Region, *, how: Blend, stain: bool) -> Pixels:
    """The pixels of a region's box after tampering, RGB (h, w, 3), uint8; outside the mask as they were.

    Args:
        target: The slide's pixels of ``padded_box``.
        patches: As many as ``patches_needed``, (n, p, p, 3), uint8.
        region: What is replaced.
        how: How the edge is blended.
        stain: Whether each patch takes the stain of the tissue that is replaced.
    """
    donor = patches
    if stain:
        donor = np.stack([match_stain(patch, target) for patch in patches])
    mask = np.pad(region.mask, MARGIN_PX)
    mixed = blend(mosaic(donor, *target.shape[:2]), target, mask, how)
    return mixed[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]


def _starts(extent: int, patch_px: int) -> list[int]:
    return list(range(0, max(1, extent - OVERLAP_PX), patch_px - OVERLAP_PX))

"""Nuclei: found by their haematoxylin, parted where they touch, each with its area, axes and outline.

A threshold on the smoothed haematoxylin (Otsu's, but never below a floor, so that a patch without nuclei has none),
then a watershed on the distance to the outline. Two peaks of that distance are two nuclei if the neck between them is
narrower than a share of the thinner one; else they are lobes of one.

References: Otsu 1979, IEEE Trans. SMC 9; Vincent 1993, IEEE Trans. Image Processing 2 (reconstruction).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from .stains import Floats

SMOOTH_UM = 0.5
LEAST_HAEMATOXYLIN = 0.5  # the palest nuclei of the sample slide and of GlaS are above, their stroma is below
LEAST_CONTRAST = 0.1  # of haematoxylin, with the ring around: a dark area without an edge is no nucleus
MOST_EOSIN = 0.7  # of the step from the ring, against haematoxylin's: a red fibre on white is no nucleus
RING_UM = (0.5, 2.0)  # around a nucleus, clear of its blurred edge
AREA_UM2 = (9.0, 400.0)  # a lymphocyte cut off centre; beyond, it is a smear or a fold
NECK = 0.75

Labels = npt.NDArray[np.int32]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Regions:
    """Labelled objects of one patch and their measures, each (k,); label i stands at place i - 1."""

    labels: Labels  # (h, w), 0 is none
    whole: npt.NDArray[np.bool_]  # inside the patch, not cut by its border
    area_um2: Values
    major_um: Values  # full axes of the ellipse with the same second moments
    minor_um: Values
    misfit: Values  # share of the area that lies outside that ellipse
    solidity: Values  # area over that of its convex hull; NaN where cut

    @property
    def eccentricity(self) -> Values:
        """0 for a circle, towards 1 for a line."""
        return np.sqrt(np.maximum(0.0, 1 - (self.minor_um / self.major_um) ** 2))

    @property
    def roundness(self) -> Values:
        """Area over that of the circle across the major axis: 1 for a disc, minor over major for an ellipse."""
        return self.area_um2 / (np.pi / 4 * self.major_um**2)

    def __len__(self) -> int:
        return len(self.whole)

    def only(self, kept: npt.NDArray[np.bool_]) -> Regions:
        """The objects where ``kept`` (k,) is true, numbered anew."""
        chosen = {field.name: getattr(self, field.name)[kept] for field in fields(self) if field.name != "labels"}
        return Regions(labels=_relabelled(self.labels, kept), **chosen)


def find_nuclei(haematoxylin: Floats, eosin: Floats, tissue: npt.NDArray[np.bool_], mpp: float) -> Labels:
    """Labels (h, w) of the nuclei, 1 to k.

    Args:
        haematoxylin: Of one patch (h, w).
        eosin: As much.
        tissue: Where it is stained (h, w).
        mpp: Micrometres per pixel.
    """
    from skimage.filters import threshold_otsu  # 40 MB, which those who do not measure are spared

    smooth = ndimage.gaussian_filter(haematoxylin, SMOOTH_UM / mpp)
    inside = smooth[tissue]
    if inside.size < AREA_UM2[0] / mpp**2:
        return np.zeros(smooth.shape, np.int32)
    threshold = max(threshold_otsu(inside), LEAST_HAEMATOXYLIN)  # type: ignore[no-untyped-call]
    dark = (smooth > threshold) & tissue
    dark = ndimage.binary_fill_holes(ndimage.binary_opening(dark))
    parts = part(dark)
    return _relabelled(parts, _is_nucleus(parts, smooth, eosin, mpp))


def part(mask: npt.NDArray[np.bool_]) -> Labels:
    """Labels (h, w) of the objects of ``mask`` (h, w), parted at necks below ``NECK`` of the thinner side."""
    from skimage.morphology import local_maxima, reconstruction
    from skimage.segmentation import watershed

    depth = ndimage.distance_transform_edt(mask)
    merged = reconstruction(NECK * depth, depth)  # type: ignore[no-untyped-call]
    peaks = local_maxima(merged, allow_borders=True) & mask  # type: ignore[no-untyped-call]
    markers, _ = ndimage.label(peaks, np.ones((3, 3)))
    parts: Labels = watershed(-depth, markers, mask=mask).astype(np.int32)  # type: ignore[no-untyped-call]
    return parts


def measure(labels: Labels, mpp: float) -> Regions:
    """Area, axes, misfit and solidity of every label, 1 to k."""
    k = int(labels.max())
    y, x = (axis.astype(float) for axis in np.nonzero(labels))
    which = labels[labels > 0] - 1
    count = np.bincount(which, minlength=k).astype(float)
    y, x = y - _mean(y, which, count)[which], x - _mean(x, which, count)[which]
    # a pixel is a square and not a point: its own variance is 1 / 12
    yy, xx = (_mean(v * v, which, count) + 1 / 12 for v in (y, x))
    xy = _mean(x * y, which, count)
    spread = np.sqrt((yy - xx) ** 2 / 4 + xy**2)
    large, small = (yy + xx) / 2 + spread, (yy + xx) / 2 - spread
    away = (xx[which] * y**2 - 2 * xy[which] * x * y + yy[which] * x**2) / (yy * xx - xy**2)[which]
    cut = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    whole = ~np.isin(np.arange(1, k + 1), cut)
    return Regions(
        labels=labels,
        whole=whole,
        area_um2=count * mpp**2,
        major_um=4 * np.sqrt(large) * mpp,
        minor_um=4 * np.sqrt(small) * mpp,
        misfit=_mean((away > 4).astype(float), which, count),  # the ellipse is at twice the standard deviation
        solidity=_solidity(labels, count, whole),
    )


def rings(labels: Labels, mpp: float, reach_um: tuple[float, float] = RING_UM) -> tuple[Labels, Floats]:
    """The nearest label of each pixel that is ``reach_um`` (above, up to) from it, (h, w); all distances.

    Distances are float32 (h, w) in um, 0 inside a label and infinite where there is none.
    """
    if not labels.any():
        return np.zeros_like(labels), np.full(labels.shape, np.inf, np.float32)
    far, nearest = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    distance = far * mpp
    ring = np.where((distance > reach_um[0]) & (distance <= reach_um[1]), labels[tuple(nearest)], 0)
    return ring.astype(np.int32), distance.astype(np.float32)


def means(values: npt.NDArray[Any], labels: Labels, k: int) -> Values:
    """Mean of ``values`` (h, w) over each label, (k,); NaN where it has no pixel."""
    at = labels > 0
    which = labels[at] - 1
    count = np.bincount(which, minlength=k)
    total = np.bincount(which, values[at], minlength=k)
    mean: Values = np.divide(total, count, out=np.full(k, np.nan), where=count > 0)
    return mean


def touching(labels: Labels) -> npt.NDArray[np.bool_]:
    """Whether each label shares an edge with another, (k,)."""
    k = int(labels.max())
    met = np.zeros(k + 1, dtype=bool)
    for a, b in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        pair = (a != b) & (a > 0) & (b > 0)
        met[a[pair]] = met[b[pair]] = True
    return met[1:]


def _is_nucleus(parts: Labels, haematoxylin: Floats, eosin: Floats, mpp: float) -> npt.NDArray[np.bool_]:
    k = int(parts.max())
    area = np.bincount(parts.ravel(), minlength=k + 1)[1:] * mpp**2
    around, _ = rings(parts, mpp)
    blue, red = (means(stain, parts, k) - means(stain, around, k) for stain in (haematoxylin, eosin))
    # one that is hemmed in by others has no ring, and is kept: NaN is not below anything
    apart = ~(blue < LEAST_CONTRAST) & ~(red > MOST_EOSIN * blue)
    return (area >= AREA_UM2[0]) & (area <= AREA_UM2[1]) & apart


def _relabelled(labels: Labels, kept: npt.NDArray[np.bool_]) -> Labels:
    new = np.concatenate([[0], np.cumsum(kept) * kept]).astype(np.int32)
    result: Labels = new[labels]
    return result


def _mean(values: npt.NDArray[Any], which: npt.NDArray[np.integer[Any]], count: Values) -> Values:
    mean: Values = np.bincount(which, values, minlength=len(count)) / count
    return mean


def _solidity(labels: Labels, count: Values, whole: npt.NDArray[np.bool_]) -> Values:
    """Pixels over those of the convex hull, (k,), NaN where cut: exactly 1 where no pixel of the hull is missing."""
    out = np.full(len(count), np.nan)
    for i, box in enumerate(ndimage.find_objects(labels, len(count))):
        if whole[i] and box is not None:
            mask = labels[box] == i + 1
            rows = np.flatnonzero(mask.any(1))
            left, right = mask[rows].argmax(1), mask.shape[1] - 1 - mask[rows][:, ::-1].argmax(1)
            out[i] = count[i] / hull_pixels(rows.tolist(), left.tolist(), right.tolist())
    return out


def hull_pixels(rows: list[int], left: list[int], right: list[int]) -> float:
    """How many pixels the convex hull of some pixels' centres holds, from the first and last of each row.

    Pick's theorem: A + B / 2 + 1 of a polygon of area A with B lattice points on its sides.

    References: Andrew 1979, Inf. Proc. Letters 9 (the hull); Pick 1899.

    >>> hull_pixels([0, 1, 2], [1, 0, 1], [1, 2, 1])
    5.0
    """
    # up one side of the rows and down the other: each chain turns one way only
    loop = _chain([*zip(rows, left, strict=True)], 1) + _chain([*zip(rows, right, strict=True)], -1)[::-1]
    twice_area, sides = 0, 0
    for (y0, x0), (y1, x1) in zip(loop, loop[1:] + loop[:1], strict=True):
        twice_area += x0 * y1 - x1 * y0
        sides += math.gcd(y1 - y0, x1 - x0)
    return (abs(twice_area) + sides) / 2 + 1


def _chain(points: list[tuple[int, int]], turn: int) -> list[tuple[int, int]]:
    chain: list[tuple[int, int]] = []
    for y, x in points:
        while len(chain) > 1:
            (y0, x0), (y1, x1) = chain[-2:]
            if turn * ((y1 - y0) * (x - x0) - (x1 - x0) * (y - y0)) > 0:
                break
            chain.pop()
        chain.append((y, x))
    return chain

"""How well a score map finds what was replaced: by pixels, by regions, and at the frozen threshold.

Everything is read from the map's stride cells, each of which has the mean score of the patches that cover it; what no
patch judged is counted apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoforensics.slides import PatchError, require

from .metrics import auc
from .scoremap import ScoreMap
from .tamper_regions import Region

LEAST_JUDGED = 0.5  # of a region's pixels, for the region to have a score
NEGATIVES = 20  # untouched places a region, at most

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class RegionScore:
    """One replaced region.

    Attributes:
        size_px: The size that was asked for.
        area_px: Pixels that were replaced.
        score: Its mean score; ``None`` if less than half of it was judged.
        is_hit: Whether one of its cells is above the threshold.
        untouched: How many places of this shape on untouched tissue it is compared with.
        untouched_hits: How many of these have a cell above the threshold.
    """

    size_px: int
    area_px: int
    score: float | None
    is_hit: bool
    untouched: int
    untouched_hits: int


@dataclass(frozen=True)
class Localisation:
    """What one detector's map says of the truth.

    Attributes:
        pixel_auc: Chance that a replaced pixel scores above an untouched one, among judged pixels.
        region_auc: Chance that a replaced region scores above an equally large and equally shaped place on untouched
            tissue, the mean over regions; ``None`` if no region has a score and such a place.
        iou: Area above the threshold and replaced, over the area that is either; 0 to 1.
        judged_share: Of the replaced pixels, how many lie in a judged cell.
        threshold: P(fake) above which a cell counts as found.
        regions: One for each replaced region, in their order.
    """

    pixel_auc: float | None
    region_auc: float | None
    iou: float
    judged_share: float
    threshold: float
    regions: tuple[RegionScore, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values, and hits by region size."""
        return asdict(self) | {"hits_by_size": hits_by_size(self.regions)}


def localise(scores: ScoreMap, label: str, truth: Sequence[Region], threshold: float, *, seed: int = 0) -> Localisation:
    """Compare one detector's score map with the truth.

    Args:
        scores: Of the tampered slide.
        label: Which detector.
        truth: What was replaced.
        threshold: The detector's frozen one.
        seed: Of the draw of untouched places.

    Raises:
        PatchError: If nothing was replaced.
    """
    if not truth:
        raise PatchError("localisation needs at least one replaced region, got none.")
    if not scores.status.size:
        raise PatchError("localisation needs a slide that is at least a patch large.")
    cells, areas = scores.cells(label), cell_areas(scores)
    replaced, truth_px = replaced_pixels(scores, truth), sum(region.area_px for region in truth)
    rng, clean = np.random.default_rng(seed), ~touched_cells(scores, truth)
    found, against = [], []
    for region in truth:
        mean, peak = region_score(cells, scores, region)
        others = [region_score(cells, scores, place) for place in untouched_places(scores, cells, region, clean, rng)]
        hits = sum(other_peak > threshold for _, other_peak in others)
        found.append(RegionScore(region.size_px, region.area_px, mean, peak > threshold, len(others), hits))
        if mean is not None and others:
            against.append(auc(np.repeat([1, 0], [1, len(others)]), np.array([mean, *(one for one, _ in others)])))
    return Localisation(
        pixel_auc(cells, replaced, areas),
        float(np.mean(against)) if against else None,
        iou(cells, replaced, areas, threshold, truth_px),
        float(replaced[np.isfinite(cells)].sum() / truth_px),
        threshold,
        tuple(found),
    )


def pixel_auc(cells: Floats, replaced: NDArray[np.int64], areas: NDArray[np.int64]) -> float | None:
    """AUC over all judged pixels, each with its cell's score; ``None`` if one kind is missing.

    Args:
        cells: Score of each cell, (r, c); NaN where it was not judged.
        replaced: Replaced pixels in each cell, (r, c).
        areas: Pixels of each cell, (r, c).

    >>> pixel_auc(np.array([[0.1, 0.9]]), np.array([[0, 2]]), np.array([[4, 4]]))
    0.8333333333333334
    """
    judged = np.isfinite(cells)
    values, inverse = np.unique(cells[judged], return_inverse=True)
    fake = np.bincount(inverse, replaced[judged], len(values))
    real = np.bincount(inverse, (areas - replaced)[judged], len(values))
    if not fake.sum() or not real.sum():
        return None
    below = np.cumsum(real) - real / 2
    return float((fake * below).sum() / (fake.sum() * real.sum()))


def iou(cells: Floats, replaced: NDArray[np.int64], areas: NDArray[np.int64], threshold: float, truth_px: int) -> float:
    """Intersection over union of what is above the threshold and what was replaced, by pixels.

    >>> iou(np.array([[0.9, 0.1]]), np.array([[3, 1]]), np.array([[4, 4]]), 0.5, 4)
    0.6
    """
    called = np.isfinite(cells) & (np.nan_to_num(cells) > threshold)
    both = int(replaced[called].sum())
    either = int(areas[called].sum()) + truth_px - both
    return both / either


def hits_by_size(regions: Sequence[RegionScore]) -> list[dict[str, Any]]:
    """Hits and false hits, one row a size: size_px, regions, hits, untouched, untouched_hits."""
    rows = []
    for size_px in sorted({region.size_px for region in regions}):
        same = [region for region in regions if region.size_px == size_px]
        rows.append(
            {
                "size_px": size_px,
                "regions": len(same),
                "hits": sum(region.is_hit for region in same),
                "untouched": sum(region.untouched for region in same),
                "untouched_hits": sum(region.untouched_hits for region in same),
            }
        )
    return rows


def region_score(cells: Floats, scores: ScoreMap, region: Region) -> tuple[float | None, float]:
    """The mean score of a region's judged pixels, and the largest of its judged cells (-1 where there is none).

    The mean is ``None`` where less than ``LEAST_JUDGED`` of the region was judged.
    """
    rows, columns, counts = _counts(scores, region, cells.shape)
    part = cells[rows, columns]
    judged = np.isfinite(part) & (counts > 0)
    weight = counts[judged].sum()
    peak = float(part[judged].max()) if judged.any() else -1.0
    if weight < LEAST_JUDGED * region.area_px:
        return None, peak
    return float((part[judged] * counts[judged]).sum() / weight), peak


def replaced_pixels(scores: ScoreMap, truth: Sequence[Region]) -> NDArray[np.int64]:
    """How many pixels of each cell were replaced, int64 (cell rows, cell columns)."""
    total = np.zeros(_cell_shape(scores), np.int64)
    for region in truth:
        rows, columns, counts = _counts(scores, region, total.shape)
        total[rows, columns] += counts
    return total


def cell_areas(scores: ScoreMap) -> NDArray[np.int64]:
    """Pixels of each cell, int64 (cell rows, cell columns)."""
    shape, stride = _cell_shape(scores), scores.lattice.stride_px
    down, across = (
        np.minimum(stride, extent - np.arange(count) * stride)
        for extent, count in zip(scores.extent, shape, strict=True)
    )
    return np.asarray(np.multiply.outer(down, across), np.int64)


def touched_cells(scores: ScoreMap, truth: Sequence[Region]) -> NDArray[np.bool_]:
    """Cells whose score may come from a patch that holds a replaced pixel, bool (cell rows, cell columns)."""
    shape, stride = _cell_shape(scores), scores.lattice.stride_px
    reach = scores.lattice.patch_px
    out = np.zeros(shape, bool)
    for region in truth:
        x, y, width, height = region.box
        rows = slice(max(0, (y - reach) // stride), (y + height + reach) // stride + 1)
        columns = slice(max(0, (x - reach) // stride), (x + width + reach) // stride + 1)
        out[rows, columns] = True
    return out


def untouched_places(
    scores: ScoreMap, cells: Floats, region: Region, clean: NDArray[np.bool_], rng: np.random.Generator
) -> list[Region]:
    """The region's shape on untouched, judged tissue, at most ``NEGATIVES`` times, disjoint; drawn by ``rng``.

    Places lie as the region lies on the grid of cells, so that both are averaged alike.
    """
    stride = scores.lattice.stride_px
    _, _, width, height = region.box
    phase_x, phase_y = region.x % stride, region.y % stride
    bottom, right = scores.extent
    corners = [
        (x, y) for y in range(phase_y, bottom - height + 1, stride) for x in range(phase_x, right - width + 1, stride)
    ]
    found: list[Region] = []
    for x, y in (corners[i] for i in rng.permutation(len(corners))):
        place = region.moved(x, y)
        rows = slice(y // stride, (y + height - 1) // stride + 1)
        columns = slice(x // stride, (x + width - 1) // stride + 1)
        is_free = clean[rows, columns].all() and not any(place.is_near(other, 0) for other in found)
        if is_free and region_score(cells, scores, place)[0] is not None:
            found.append(place)
        if len(found) == NEGATIVES:
            break
    return found


def _counts(scores: ScoreMap, region: Region, shape: tuple[int, ...]) -> tuple[slice, slice, NDArray[np.int64]]:
    """Which cells a region's box meets, and how many of its pixels lie in each of them."""
    stride, (bottom, right) = scores.lattice.stride_px, scores.extent
    x, y, width, height = region.box
    require(x >= 0 and y >= 0, "a region", "on the slide", (x, y))
    mask = region.mask[: max(0, bottom - y), : max(0, right - x)]
    rows = slice(y // stride, min(shape[0], (y + height - 1) // stride + 1))
    columns = slice(x // stride, min(shape[1], (x + width - 1) // stride + 1))
    if not mask.size:
        return slice(0, 0), slice(0, 0), np.zeros((0, 0), np.int64)
    edges_y = np.maximum(np.arange(rows.start, rows.stop) * stride - y, 0)
    edges_x = np.maximum(np.arange(columns.start, columns.stop) * stride - x, 0)
    counts = np.add.reduceat(np.add.reduceat(mask.astype(np.int64), edges_y, axis=0), edges_x, axis=1)
    return rows, columns, counts


def _cell_shape(scores: ScoreMap) -> tuple[int, int]:
    """Rows and columns of ``ScoreMap.cells``."""
    bottom, right = scores.extent
    stride = scores.lattice.stride_px
    return -(-bottom // stride), -(-right // stride)

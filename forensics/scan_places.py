"""The places of a slide that a reader should look at first: its most suspicious regions, at full resolution."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from histoforensics.slides import Slide

from .detector import Pixels
from .geojson import ScoredRegion, scored_regions
from .scoremap import OK, ScoreMap
from .windows import Rect, read_parts

MAX_PLACES = 12
MAX_PATCHES = 4  # of a detector that raised no region
LEAST_PX, MOST_PX = 256, 512  # of a picture's side


@dataclass(frozen=True, eq=False)
class Place:
    """Somewhere to look.

    Attributes:
        label: The detector that points there.
        is_region: A region above its threshold; else one of the highest-scored patches, since there is no region.
        box: What is meant: x, y, width, height, level-0 pixels.
        mean: P(fake), the mean of its cells, or the score of the patch.
        highest: P(fake) of its highest cell, or the score of the patch.
        area_um2: Of the region or patch.
        view: What the picture shows: x, y, width, height, level-0 pixels.
        picture: RGB (h, w, 3), uint8, at full resolution; grey where it cannot be decoded.
    """

    label: str
    is_region: bool
    box: Rect
    mean: float
    highest: float
    area_um2: float
    view: Rect
    picture: Pixels


def suspicious_places(slide: Slide, scores: ScoreMap, fake_above: Mapping[str, float]) -> list[Place]:
    """At most ``MAX_PLACES``, each detector's share of them, the most suspicious of each first.

    A detector without any region above its threshold gives its highest-scored patches that share no pixel.

    Args:
        slide: An open slide; pixels are read from level 0 alone.
        scores: Its score map.
        fake_above: Detector -> its frozen threshold.
    """
    found = []
    share = max(1, MAX_PLACES // max(1, len(fake_above)))
    for label, threshold in fake_above.items():
        ranked = scored_regions(scores, {label: threshold})[:share]
        found += [_region_place(slide, scores, region) for region in ranked]
        if not ranked:
            found += [
                _patch_place(slide, scores, label, row, column)
                for row, column in best_patches(scores, label, min(share, MAX_PATCHES))
            ]
    return found[:MAX_PLACES]


def best_patches(scores: ScoreMap, label: str, count: int) -> Iterator[tuple[int, int]]:
    """Row and column of the highest-scored patches that share no pixel, highest first."""
    grid = np.where(scores.status == OK, scores.scores[label], -np.inf)
    reach = -(-scores.lattice.patch_px // scores.lattice.stride_px)
    for _ in range(count if grid.size else 0):
        row, column = (int(index) for index in np.unravel_index(int(grid.argmax()), grid.shape))
        if grid[row, column] == -np.inf:
            return
        yield row, column
        grid[max(0, row - reach + 1) : row + reach, max(0, column - reach + 1) : column + reach] = -np.inf


def view_around(x: float, y: float, side_px: int, extent: tuple[int, int]) -> Rect:
    """A square of ``side_px`` around a point, moved and cut so that it lies on a slide of ``extent`` (width, height).

    >>> view_around(10, 500, 256, (1000, 600))
    (0, 344, 256, 256)
    """
    (left, width), (top, height) = (
        (max(0, min(round(middle - side_px / 2), size - side_px)), min(side_px, size))
        for middle, size in zip((x, y), extent, strict=True)
    )
    return left, top, width, height


def _region_place(slide: Slide, scores: ScoreMap, region: ScoredRegion) -> Place:
    hottest = int(region.values.argmax())
    x, y, width, height = scores.cell_box(int(region.rows[hottest]), int(region.columns[hottest]))
    corners = np.array(region.rings[0])
    (left, top), (right, bottom) = corners.min(0).tolist(), corners.max(0).tolist()
    box = (left, top, right - left, bottom - top)
    view = _view(slide, scores, (x, y, width, height))
    mean, highest = float(region.values.mean()), float(region.values.max())
    return Place(region.label, True, box, mean, highest, region.area_um2, view, _picture(slide, view))


def _patch_place(slide: Slide, scores: ScoreMap, label: str, row: int, column: int) -> Place:
    side, stride = scores.lattice.patch_px, scores.lattice.stride_px
    score, box = float(scores.scores[label][row, column]), (column * stride, row * stride, side, side)
    view = _view(slide, scores, box)
    return Place(label, False, box, score, score, (side * scores.mpp) ** 2, view, _picture(slide, view))


def _view(slide: Slide, scores: ScoreMap, box: Rect) -> Rect:
    side_px = min(max(scores.lattice.patch_px, LEAST_PX), MOST_PX)
    return view_around(box[0] + box[2] / 2, box[1] + box[3] / 2, side_px, slide.dimensions)


def _picture(slide: Slide, view: Rect) -> Pixels:
    pixels, _ = read_parts(slide, view, (64, 64))
    return pixels

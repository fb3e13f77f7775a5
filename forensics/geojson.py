"""Score maps for QuPath: drag the file onto an open slide; coordinates are level-0 pixels from its top left corner.

Reference: QuPath's GeoJSON, https://qupath.readthedocs.io/en/stable/docs/advanced/exporting_annotations.html: features
whose ``properties`` hold ``objectType``, ``classification`` (name, color) and a map of ``measurements``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .outlines import Ring, regions
from .scoremap import OK, ScoreMap

SUSPICIOUS_COLOUR = (220, 50, 47)
_DIGITS = 4

Feature = dict[str, Any]


def cell_features(scores: ScoreMap) -> Iterator[Feature]:
    """One tile a judged stride cell, raster order; its measurements are the mean P(fake) of each detector."""
    cells = {label: scores.cells(label) for label in scores.scores}
    for row, judged in enumerate(scores.cell_status() == OK):  # row by row: a list of millions of places takes memory
        for column in np.flatnonzero(judged).tolist():
            measured = {f"P(fake) {label}": round(float(grid[row, column]), _DIGITS) for label, grid in cells.items()}
            yield _feature("tile", [_box_ring(*scores.cell_box(row, column))], {"measurements": measured})


@dataclass(frozen=True, eq=False)
class ScoredRegion:
    """Touching cells above a detector's threshold.

    Attributes:
        label: Which detector's.
        rings: The outline, then holes; level-0 pixels.
        rows: Of each cell, (n,).
        columns: Of each cell, (n,).
        values: The mean P(fake) of each cell, float64 (n,).
        area_um2: Of the outline without its holes.
    """

    label: str
    rings: list[Ring]
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    values: NDArray[np.float64]
    area_um2: float

    @property
    def rank(self) -> float:
        """Mean score times the square root of the cells, higher is more suspicious: one loud cell is often chance."""
        return float(self.values.mean() * len(self.values) ** 0.5)


def scored_regions(scores: ScoreMap, fake_above: Mapping[str, float]) -> list[ScoredRegion]:
    """The regions of touching cells above a detector's threshold, the most suspicious first.

    Args:
        scores: The score map.
        fake_above: Detector -> its frozen threshold.

    A cell's mean takes in patches that reach beyond a splice, so one that is hardly larger than a patch may raise no
    region although a patch in ``scores.parquet`` is called fake.
    """
    found = []
    for label, threshold in fake_above.items():
        grid = scores.cells(label)
        for region in regions(np.nan_to_num(grid, nan=-1.0) > threshold):
            values = grid[region.rows, region.columns].astype(np.float64)
            rings = [_level0_ring(scores, ring) for ring in region.rings]
            area_um2 = sum(_signed_area(ring) for ring in rings) * scores.mpp**2
            found.append(ScoredRegion(label, rings, region.rows, region.columns, values, area_um2))
    return sorted(found, key=lambda region: -region.rank)


def region_features(scores: ScoreMap, fake_above: Mapping[str, float]) -> list[Feature]:
    """One annotation a region, as :func:`scored_regions` finds and ranks them."""
    return [
        _feature("annotation", region.rings, {
            "name": f"suspicious {rank} ({region.label})",
            "classification": {"name": f"Suspicious: {region.label}", "color": list(SUSPICIOUS_COLOUR)},
            "measurements": {
                "mean P(fake)": round(float(region.values.mean()), _DIGITS),
                "max P(fake)": round(float(region.values.max()), _DIGITS),
                "cells": len(region.values),
                "area um2": round(region.area_um2, 1),
            },
        })
        for rank, region in enumerate(scored_regions(scores, fake_above), start=1)
    ]  # fmt: skip


def write_geojson(path: Path, features: Iterable[Feature]) -> int:
    """Write a FeatureCollection, one feature a line as they come; how many there were."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        file.write('{"type":"FeatureCollection","features":[')
        for count, feature in enumerate(features, start=1):
            file.write(",\n" if count > 1 else "\n")
            file.write(json.dumps(feature, separators=(",", ":")))
        file.write("\n]}\n")
    return count


def _feature(kind: str, rings: list[Ring], properties: Mapping[str, Any]) -> Feature:
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [[list(point) for point in ring] for ring in rings]},
        "properties": {"objectType": kind, **properties},
    }


def _box_ring(x: int, y: int, width: int, height: int) -> Ring:
    return [(x, y), (x + width, y), (x + width, y + height), (x, y + height), (x, y)]


def _level0_ring(scores: ScoreMap, ring: Ring) -> Ring:
    """Corners of cells as level-0 pixels; the last cells end where the last patch ends."""
    stride, (bottom, right) = scores.lattice.stride_px, scores.extent
    return [(min(column * stride, right), min(row * stride, bottom)) for column, row in ring]


def _signed_area(ring: Ring) -> float:
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairwise(ring)) / 2

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from histoforensics.forensics.geojson import cell_features, region_features, write_geojson
from histoforensics.forensics.scoremap import CORRUPT, OK, ScoreMap
from histoforensics.forensics.windows import Lattice


@pytest.fixture
def scores() -> ScoreMap:
    """4 x 5 disjoint patches of 32 px, so that cells are patches; one broken, three fake, two of them side by side."""
    values = np.full((4, 5), 0.1, np.float32)
    values[1, 1] = values[1, 2] = 0.9
    values[3, 4] = 0.95
    status = np.full((4, 5), OK, np.uint8)
    status[0, 0], values[0, 0] = CORRUPT, np.nan
    return ScoreMap(Lattice(165, 140, 32, 32), 0.5, status, {"wht-lr": values, "npr": 1 - values})


def test_each_judged_cell_is_a_tile_with_its_scores(scores: ScoreMap) -> None:
    features = list(cell_features(scores))
    assert len(features) == 19
    first = features[0]
    assert first["geometry"] == {
        "type": "Polygon", "coordinates": [[[32, 0], [64, 0], [64, 32], [32, 32], [32, 0]]],
    }  # fmt: skip
    assert first["properties"] == {
        "objectType": "tile", "measurements": {"P(fake) wht-lr": 0.1, "P(fake) npr": 0.9},
    }  # fmt: skip


def test_touching_cells_above_the_threshold_are_one_region_and_the_largest_comes_first(scores: ScoreMap) -> None:
    pair, single = region_features(scores, {"wht-lr": 0.5})
    assert pair["geometry"]["coordinates"] == [[[32, 32], [96, 32], [96, 64], [32, 64], [32, 32]]]
    assert pair["properties"]["objectType"] == "annotation"
    assert pair["properties"]["name"] == "suspicious 1 (wht-lr)"
    assert pair["properties"]["classification"] == {"name": "Suspicious: wht-lr", "color": [220, 50, 47]}
    assert pair["properties"]["measurements"] == {
        "mean P(fake)": 0.9, "max P(fake)": 0.9, "cells": 2, "area um2": 64 * 32 * 0.25,
    }  # fmt: skip
    assert single["geometry"]["coordinates"][0][0] == [128, 96]


def test_every_detector_has_its_own_regions(scores: ScoreMap) -> None:
    features = region_features(scores, {"wht-lr": 0.5, "npr": 0.5})
    names = {feature["properties"]["classification"]["name"] for feature in features}
    assert names == {"Suspicious: wht-lr", "Suspicious: npr"}
    assert region_features(scores, {"wht-lr": 0.99}) == []


def test_a_region_in_the_last_cells_ends_where_the_last_patch_ends() -> None:
    grid = ScoreMap(Lattice(48, 48, 32, 20), 0.5, np.zeros((1, 1), np.uint8), {"a": np.ones((1, 1), np.float32)})
    (region,) = region_features(grid, {"a": 0.5})
    assert region["geometry"]["coordinates"] == [[[0, 0], [32, 0], [32, 32], [0, 32], [0, 0]]]
    assert [feature["geometry"]["coordinates"][0][2] for feature in cell_features(grid)] == [
        [20, 20], [32, 20], [20, 32], [32, 32],
    ]  # fmt: skip


def test_the_file_is_a_feature_collection(tmp_path: Path, scores: ScoreMap) -> None:
    assert write_geojson(tmp_path / "a.geojson", cell_features(scores)) == 19
    data = json.loads((tmp_path / "a.geojson").read_text())
    assert data["type"] == "FeatureCollection"
    assert data["features"] == list(cell_features(scores))
    assert write_geojson(tmp_path / "b.geojson", []) == 0
    assert json.loads((tmp_path / "b.geojson").read_text()) == {"type": "FeatureCollection", "features": []}


def read_as_qupath(text: str) -> list[dict[str, Any]]:
    """The features of a file, by what QuPath's importer takes (0.4 and later) and does not repair or guess.

    From its documentation and the published behaviour of its reader: a FeatureCollection; a known ``objectType``, since
    others silently become annotations; an ``id``, if any, is a UUID; ``measurements`` is a map of names to numbers;
    a class has a name of one line and three bytes of colour; polygons are closed rings of numbers, not NaN.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    data = json.loads(text, parse_constant=refuse)
    assert data["type"] == "FeatureCollection"
    for feature in data["features"]:
        assert set(feature) <= {"type", "id", "geometry", "properties"}
        assert feature["type"] == "Feature"
        assert "id" not in feature or UUID(feature["id"])
        properties = feature["properties"]
        known = {"objectType", "name", "color", "classification", "isLocked", "measurements", "metadata"}
        assert set(properties) <= known
        assert properties["objectType"] in {"annotation", "detection", "tile"}
        for name, value in properties.get("measurements", {}).items():
            assert name.strip() == name != ""
            assert type(value) in (int, float)
            assert math.isfinite(value)
        if "classification" in properties:
            called = properties["classification"]
            assert set(called) == {"name", "color"}
            assert called["name"].splitlines() == [called["name"]]
            assert len(called["color"]) == 3
            assert all(type(part) is int and 0 <= part <= 255 for part in called["color"])
        assert feature["geometry"]["type"] == "Polygon"
        for ring in feature["geometry"]["coordinates"]:
            assert len(ring) >= 4
            assert ring[0] == ring[-1]
            assert all(len(point) == 2 and all(type(value) is int for value in point) for point in ring)
            assert all(a != b for a, b in pairwise(ring))
    return list(data["features"])


def ring_area(ring: list[list[int]]) -> float:
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairwise(ring)) / 2


def filled(features: Iterable[dict[str, Any]], shape: tuple[int, int]) -> np.ndarray:
    """How many features cover each pixel, by counting the edges of their rings left of its middle."""
    covered, (y, x) = np.zeros(shape, int), np.indices(shape) + 0.5
    for feature in features:
        inside = np.zeros(shape, bool)
        for ring in feature["geometry"]["coordinates"]:
            for (x0, y0), (x1, y1) in pairwise(ring):
                if x0 == x1:
                    inside ^= (x > x0) & (y > min(y0, y1)) & (y < max(y0, y1))
        covered += inside
    return covered


@pytest.mark.parametrize("seed", range(6))
def test_both_files_are_what_qupath_reads_and_cover_each_cell_once_to_the_pixel(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, columns, patch, stride = 9, 11, 12, int(rng.integers(5, 13))
    status = rng.choice([OK, OK, OK, CORRUPT], (rows, columns)).astype(np.uint8)
    values = np.where(status == OK, rng.random((rows, columns)), np.nan).astype(np.float32)
    lattice = Lattice((columns - 1) * stride + patch + 3, (rows - 1) * stride + patch + 4, patch, stride)
    found = ScoreMap(lattice, 0.25, status, {"wht-lr": values})
    write_geojson(tmp_path / "tiles.geojson", cell_features(found))
    write_geojson(tmp_path / "regions.geojson", region_features(found, {"wht-lr": 0.5}))
    tiles, regions = (read_as_qupath((tmp_path / f"{name}.geojson").read_text()) for name in ("tiles", "regions"))
    cells = found.cells("wht-lr")
    judged, above = np.zeros((2, lattice.height, lattice.width), int)
    for row, column in np.ndindex(cells.shape):
        x, y, width, height = found.cell_box(row, column)
        judged[y : y + height, x : x + width] = found.cell_status()[row, column] == OK
        above[y : y + height, x : x + width] = np.nan_to_num(cells[row, column]) > 0.5
    assert np.array_equal(filled(tiles, judged.shape), judged)
    assert np.array_equal(filled(regions, above.shape), above)
    for region in regions:
        outline, *holes = region["geometry"]["coordinates"]
        assert ring_area(outline) > 0
        assert all(ring_area(hole) < 0 for hole in holes)
        area_um2 = sum(map(ring_area, (outline, *holes))) * 0.25**2
        assert region["properties"]["measurements"]["area um2"] == pytest.approx(area_um2, abs=0.06)


def test_the_check_of_qupaths_form_can_fail() -> None:
    bad = '{"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": null, "properties": %s}]}'
    for properties, error in (
        ('{"objectType": "square"}', AssertionError),
        ('{"objectType": "tile", "measurements": {"P(fake)": NaN}}', ValueError),
        ('{"objectType": "tile", "measurements": {"P(fake)": null}}', AssertionError),
        ('{"objectType": "tile", "classification": {"name": "a", "color": [0, 0, 300]}}', AssertionError),
    ):
        with pytest.raises(error):
            read_as_qupath(bad % properties)

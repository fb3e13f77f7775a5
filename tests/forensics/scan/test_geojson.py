from __future__ import annotations

import json
from pathlib import Path

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

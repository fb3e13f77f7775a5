"""Localisation on maps whose answers follow from counting."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from histoforensics.forensics.localisation import (
    cell_areas,
    iou,
    localise,
    pixel_auc,
    region_score,
    replaced_pixels,
    touched_cells,
    untouched_places,
)
from histoforensics.forensics.scoremap import BACKGROUND, OK, ScoreMap
from histoforensics.forensics.tamper_regions import Region, draw_mask
from histoforensics.forensics.windows import Lattice
from histoforensics.slides import PatchError


def _map(scores: np.ndarray, patch_px: int = 8, stride_px: int = 8) -> ScoreMap:
    """A score map of these patches; NaN is background."""
    rows, columns = scores.shape
    extent = [(count - 1) * stride_px + patch_px for count in (columns, rows)]
    status = np.where(np.isnan(scores), BACKGROUND, OK).astype(np.uint8)
    return ScoreMap(Lattice(*extent, patch_px, stride_px), 0.5, status, {"a": scores.astype(np.float32)})


def _square(x: int, y: int, edge: int) -> Region:
    return Region(x, y, np.ones((edge, edge), bool), edge)


def test_a_perfect_map_scores_one_everywhere() -> None:
    scores = np.zeros((20, 20))
    scores[4:6, 4:6] = 0.9
    found = localise(_map(scores), "a", [_square(32, 32, 16)], 0.5)
    assert (found.pixel_auc, found.region_auc, found.iou, found.judged_share) == (1, 1, 1, 1)
    assert found.to_json()["hits_by_size"] == [
        {"size_px": 16, "regions": 1, "hits": 1, "untouched": 20, "untouched_hits": 0}
    ]


def test_an_inverted_map_scores_zero() -> None:
    scores = np.full((20, 20), 0.9)
    scores[4:6, 4:6] = 0
    found = localise(_map(scores), "a", [_square(32, 32, 16)], 0.5)
    assert (found.pixel_auc, found.region_auc, found.iou) == (0, 0, 0)
    assert not found.regions[0].is_hit
    assert found.regions[0].untouched_hits == found.regions[0].untouched


def test_a_flat_map_is_chance() -> None:
    found = localise(_map(np.full((20, 20), 0.3)), "a", [_square(32, 32, 16)], 0.5)
    assert (found.pixel_auc, found.region_auc, found.iou) == (0.5, 0.5, 0)


@pytest.mark.parametrize(("patch_px", "stride_px"), [(8, 8), (16, 8), (20, 8)])
def test_the_pixel_auc_is_that_of_all_pixels_one_by_one(patch_px: int, stride_px: int) -> None:
    rng = np.random.default_rng(0)
    scores = rng.random((12, 15)).round(1)  # with ties
    scores[2, 3:7] = np.nan
    score_map = _map(scores, patch_px, stride_px)
    regions = [Region(11, 21, draw_mask("irregular", 40, rng), 40), _square(80, 50, 19)]
    cells, (bottom, right) = score_map.cells("a"), score_map.extent
    pixels = np.repeat(np.repeat(cells, stride_px, 0), stride_px, 1)[:bottom, :right]
    truth = np.zeros((bottom, right), bool)
    for region in regions:
        x, y, width, height = region.box
        truth[y : y + height, x : x + width] |= region.mask
    judged, called = np.isfinite(pixels), np.nan_to_num(pixels) > 0.55
    replaced, areas = replaced_pixels(score_map, regions), cell_areas(score_map)
    assert areas.sum() == truth.size
    assert replaced.sum() == truth.sum()
    assert pixel_auc(cells, replaced, areas) == pytest.approx(roc_auc_score(truth[judged], pixels[judged]))
    wanted = (truth & called).sum() / (truth | called).sum()
    assert iou(cells, replaced, areas, 0.55, int(truth.sum())) == pytest.approx(wanted)
    x, y, width, height = regions[0].box
    part = pixels[y : y + height, x : x + width][regions[0].mask]
    assert region_score(cells, score_map, regions[0])[0] == pytest.approx(np.nanmean(part), abs=1e-6)


def test_untouched_places_are_judged_disjoint_and_out_of_reach_of_every_splice() -> None:
    scores = np.random.default_rng(1).random((40, 40))
    scores[:, :10] = np.nan
    score_map = _map(scores, 16, 8)
    region = _square(150, 150, 30)
    clean = ~touched_cells(score_map, [region])
    places = untouched_places(score_map, score_map.cells("a"), region, clean, np.random.default_rng(0))
    assert len(places) == 20
    for number, place in enumerate(places):
        assert not place.is_near(region, 16)
        assert not any(place.is_near(other, 0) for other in places[:number])
        assert place.x + 15 >= 80  # at least half of it is judged
        assert (place.x % 8, place.y % 8) == (150 % 8, 150 % 8)


def test_a_region_that_nobody_judged_has_no_score() -> None:
    scores = np.zeros((20, 20))
    scores[:10] = np.nan
    found = localise(_map(scores), "a", [_square(32, 32, 16)], 0.5)
    assert found.regions[0].score is None
    assert found.region_auc is None
    assert found.pixel_auc is None
    assert found.judged_share == 0


def test_a_region_that_hangs_over_the_last_patch_counts_what_is_covered() -> None:
    score_map = _map(np.ones((4, 4)))
    region = _square(24, 24, 16)  # patches end at 32
    assert region_score(score_map.cells("a"), score_map, region) == (None, 1.0)
    assert replaced_pixels(score_map, [region]).sum() == 64


def test_no_truth_and_no_patches_are_refused() -> None:
    with pytest.raises(PatchError, match="needs at least one replaced region, got none"):
        localise(_map(np.zeros((4, 4))), "a", [], 0.5)
    empty = ScoreMap(Lattice(4, 4, 8, 8), 0.5, np.zeros((0, 0), np.uint8), {"a": np.zeros((0, 0), np.float32)})
    with pytest.raises(PatchError, match="at least a patch large"):
        localise(empty, "a", [_square(0, 0, 2)], 0.5)

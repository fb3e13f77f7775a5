"""Shapes, blending, stain and mosaics: the parts of one splice."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from histoforensics.forensics.splice import OVERLAP_PX, mosaic, mosaic_places, padded_box, patches_needed, splice
from histoforensics.forensics.tamper_blend import blend, feather_weights, membrane
from histoforensics.forensics.tamper_regions import Region, draw_mask
from histoforensics.forensics.tamper_stain import match_stain, optical_density
from histoforensics.forensics.tamper_truth import outline_features, read_outlines, write_mask
from histoforensics.slides import ConfigError, PatchError, tissue_mask
from histoforensics.slides.synthetic import GLASS, purple_tissue


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _rectangle(x: int, y: int, width: int, height: int) -> Region:
    return Region(x, y, np.ones((height, width), bool), max(width, height))


@pytest.mark.parametrize("seed", range(5))
def test_an_irregular_region_hangs_together_fills_its_box_and_fits_its_size(seed: int) -> None:
    mask = draw_mask("irregular", 120, _rng(seed))
    assert max(mask.shape) <= 120
    assert all(edge.any() for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1]))
    assert ndimage.label(mask)[1] == 1
    assert ndimage.binary_fill_holes(mask).sum() == mask.sum()
    assert 0.2 < mask.sum() / 120**2 < 0.9


def test_shapes_and_sizes_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ConfigError, match="shape must be one of rectangle, irregular, got 'star'"):
        draw_mask("star", 100, _rng())  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="size_px must be at least 16, got 3"):
        draw_mask("rectangle", 3, _rng())


def test_two_regions_are_near_if_their_gap_is_smaller_than_the_margin() -> None:
    left, right = _rectangle(0, 0, 10, 10), _rectangle(15, 0, 10, 10)
    assert left.is_near(right, 6)
    assert not left.is_near(right, 5)


@pytest.mark.parametrize("shape", ["rectangle", "irregular"])
def test_a_membrane_over_a_plane_is_the_plane(shape: str) -> None:
    mask = np.pad(draw_mask(shape, 60, _rng(1)), 1)  # type: ignore[arg-type]
    y, x = np.indices(mask.shape)
    plane = np.stack([3 + 0.5 * x - 0.25 * y, -0.1 * x + 0 * y, 7.0 + 0 * x], axis=-1)  # harmonic
    broken = np.where(mask[..., None], 1000.0, plane)
    np.testing.assert_allclose(membrane(broken, mask), plane, atol=0.2)


def test_a_poisson_blend_of_a_shifted_donor_restores_the_target() -> None:
    target = purple_tissue((70, 70), _rng(2))
    target = np.clip(target, 40, 215)
    mask = np.pad(draw_mask("irregular", 60, _rng(3)), 1)
    mask = np.pad(mask, ((0, 70 - mask.shape[0]), (0, 70 - mask.shape[1])))
    np.testing.assert_allclose(blend(target + 30, target, mask, "poisson"), target, atol=1)
    hard = blend(target + 30, target, mask, "none")
    np.testing.assert_array_equal(hard[mask], (target + 30)[mask])
    np.testing.assert_array_equal(hard[~mask], target[~mask])


def test_a_feathered_edge_lies_between_target_and_donor() -> None:
    target, donor = np.full((40, 40, 3), 100, np.uint8), np.full((40, 40, 3), 200, np.uint8)
    mask = np.pad(np.ones((38, 38), bool), 1)
    row = blend(donor, target, mask, "feather")[20, :, 0].astype(int)
    assert row[0] == 100
    assert row[1] == round(100 + 100 / 13)
    assert row[20] == 200
    assert (np.diff(row[:20]) >= 0).all()
    assert feather_weights(mask, 12).max() == 1


def test_stain_matching_reaches_the_mean_density_and_leaves_glass_white() -> None:
    donor, like = purple_tissue((64, 64), _rng(4)), purple_tissue((64, 64), _rng(5)) // 2 + 60
    donor[:20] = GLASS
    matched = match_stain(donor, like)
    ours, wanted = optical_density(matched[tissue_mask(donor)]), optical_density(like[tissue_mask(like)])
    np.testing.assert_allclose(ours.mean(0), wanted.mean(0), rtol=0.02)
    assert matched[:20].min() > 225
    np.testing.assert_array_equal(match_stain(donor, donor), donor)


def test_without_tissue_there_is_no_stain_to_match() -> None:
    donor, glass = purple_tissue((32, 32), _rng(6)), np.full((32, 32, 3), 243, np.uint8)
    np.testing.assert_array_equal(match_stain(donor, glass), donor)


@pytest.mark.parametrize("extent", [50, 112, 113, 208, 209, 400])
def test_a_mosaic_leaves_no_gap_and_its_patches_overlap(extent: int) -> None:
    starts = sorted({x for x, _ in mosaic_places(40, extent, 112)})
    assert starts[0] == 0
    assert starts[-1] + 112 >= extent
    assert all(after - before <= 112 - OVERLAP_PX for before, after in pairwise(starts))


def test_a_mosaic_of_one_colour_has_no_seams() -> None:
    patches = np.full((4, 112, 112, 3), (120, 50, 200), np.uint8)
    assert (mosaic(patches, 200, 150) == (120, 50, 200)).all()


def test_a_mosaic_shows_each_patch_where_it_lies_alone() -> None:
    patches = np.stack([np.full((112, 112, 3), value, np.uint8) for value in (10, 200)])
    canvas = mosaic(patches, 100, 208)
    assert (canvas[:, :96] == 10).all()
    assert (canvas[:, 112:] == 200).all()
    assert (np.diff(canvas[50, 90:118, 0].astype(int)) >= 0).all()


def test_a_splice_changes_nothing_outside_its_mask() -> None:
    region = Region(40, 30, draw_mask("irregular", 100, _rng(7)), 100)
    x, y, width, height = padded_box(region)
    assert (x, y) == (39, 29)
    target = purple_tissue((height, width), _rng(8))
    patches = purple_tissue((64 * patches_needed(region, 64), 64), _rng(9)).reshape(-1, 64, 64, 3)
    for how in ("feather", "poisson", "none"):
        out = splice(target, patches, region, how=how, stain=True)  # type: ignore[arg-type]
        inner = target[1:-1, 1:-1]
        np.testing.assert_array_equal(out[~region.mask], inner[~region.mask])
        assert (out != inner)[region.mask].mean() > 0.8


def test_outlines_give_the_masks_back_to_the_pixel(tmp_path: Path) -> None:
    ring = np.ones((9, 11), bool)
    ring[3:5, 4:8] = False  # a hole
    regions = [Region(7, 900, draw_mask("irregular", 90, _rng(10)), 90), Region(100, 5, ring, 11)]
    (tmp_path / "r.geojson").write_text(json.dumps(outline_features(regions)))
    for region, back in zip(regions, read_outlines(tmp_path / "r.geojson"), strict=True):
        assert (back.box, back.size_px) == (region.box, region.size_px)
        np.testing.assert_array_equal(back.mask, region.mask)
    (tmp_path / "bad.geojson").write_text("{}")
    with pytest.raises(PatchError, match=r"bad\.geojson: not the outlines that `tamper` wrote"):
        read_outlines(tmp_path / "bad.geojson")


@pytest.mark.parametrize("downsample", [1, 4])
def test_a_mask_is_one_bit_and_holds_every_nth_pixel(tmp_path: Path, downsample: int) -> None:
    regions = [Region(7, 13, draw_mask("irregular", 90, _rng(11)), 90), _rectangle(130, 3, 21, 40)]
    whole = np.zeros((150, 203), bool)
    for region in regions:
        x, y, width, height = region.box
        whole[y : y + height, x : x + width] |= region.mask
    write_mask(tmp_path / "mask.png", regions, (203, 150), downsample)
    with Image.open(tmp_path / "mask.png") as picture:
        assert picture.mode == "1"
        np.testing.assert_array_equal(np.array(picture), whole[::downsample, ::downsample])

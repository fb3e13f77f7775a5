from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import ndimage

from histoforensics.forensics.morphology import FEATURES, NAMES, REASONS, morphology
from histoforensics.forensics.stains import stain_matrix
from histoforensics.slides import ConfigError, PatchError

PX, MPP = 112, 0.5
Y, X = np.mgrid[:PX, :PX]


def disc(y, x, a, b=None):
    return ((X - x) / a) ** 2 + ((Y - y) / (b or a)) ** 2 <= 1


def painted(nuclei, *, eosin=0.6, haematoxylin=1.2):
    """A patch of eosin with blue nuclei, one drawn mask each, seen through a little blur; arrays paint pixelwise."""
    blue = np.zeros((PX, PX))
    for mask, amount in zip(nuclei, np.broadcast_to(haematoxylin, len(nuclei)), strict=True):
        blue[mask] = amount
    blue = ndimage.gaussian_filter(blue, 0.5)
    density = blue[..., None] * stain_matrix()[0] + np.asarray(eosin * np.ones((PX, PX)))[..., None] * stain_matrix()[1]
    return np.clip(np.rint(256 * np.exp(-density) - 1), 0, 255).astype(np.uint8)


def measured(patch):
    return dict(zip(NAMES, morphology(patch[None], MPP)[0].astype(float), strict=True))


GRID = [(y, x) for y in (20, 56, 92) for x in (20, 56, 92)]


def test_each_reason_of_the_paper_has_a_number_and_no_other_is_invented():
    page = Path(__file__).parents[2] / "benchmarks" / "reasons.yaml"
    assert yaml.safe_load(page.read_text(encoding="utf-8")) == REASONS
    assert {feature.reason for feature in FEATURES} == set(REASONS)
    assert len(set(NAMES)) == len(NAMES)


def test_equal_round_nuclei_vary_in_nothing():
    found = measured(painted([disc(y, x, 8) for y, x in GRID]))
    for name in ("nuclear_size_variation", "stain_variation", "touching_nuclei", "bare_nuclei"):
        assert found[name] == pytest.approx(0, abs=0.02), name
    assert found["lobulation"] < 0.04
    assert found["outline_misfit"] < 0.04
    assert found["eccentricity"] < 0.2
    assert found["background_step"] == pytest.approx(0, abs=0.03)
    assert found["nuclear_density"] == pytest.approx(9 / (56e-3**2))


def test_two_sizes_of_nuclei_vary_as_two_numbers_do():
    radii = [6, 10] * 4 + [6]
    found = measured(painted([disc(y, x, r) for (y, x), r in zip(GRID, radii, strict=True)]))
    areas = np.pi * np.square(radii) * 1.0
    assert found["nuclear_size_variation"] == pytest.approx(areas.std(ddof=1) / areas.mean(), rel=0.1)


def test_ellipses_are_as_eccentric_as_they_are_drawn_and_mixed_with_discs_they_vary():
    long = [disc(y, x, 12, 6) for y, x in GRID]
    found = measured(painted(long))
    assert found["eccentricity"] == pytest.approx(np.sqrt(0.75), abs=0.03)
    assert found["shape_variation"] == pytest.approx(0, abs=0.02)
    mixed = [disc(y, x, 8) if i % 2 else long[i] for i, (y, x) in enumerate(GRID)]
    assert measured(painted(mixed))["shape_variation"] > 0.2


def test_nuclei_stained_unequally_vary_as_their_stain_does():
    amounts = np.array([1.0, 1.4] * 4 + [1.0])
    found = measured(painted([disc(y, x, 8) for y, x in GRID], haematoxylin=amounts))
    assert found["stain_variation"] == pytest.approx(amounts.std(ddof=1) / amounts.mean(), rel=0.15)


def test_pairs_that_touch_are_a_share_of_all():
    pair = disc(30, 30, 8) | disc(30, 45, 8)
    assert measured(painted([pair, disc(80, 30, 8), disc(80, 80, 8)]))["touching_nuclei"] == pytest.approx(0.5)


def test_nuclei_in_mucin_are_bare_and_half_of_them_by_half():
    nuclei = [disc(y, x, 8) for y, x in GRID]
    assert measured(painted(nuclei, eosin=0.0))["bare_nuclei"] > 0.8  # the blurred edge is stained a little
    half = measured(painted(nuclei, eosin=0.6 * (X > 56)))
    assert half["bare_nuclei"] == pytest.approx(0.5, abs=0.08)


def test_a_nucleus_twice_as_dark_as_its_ring_has_half_the_contrast_of_one_alone():
    def contrast(background):
        density = np.where(disc(56, 56, 10), 1.6, background)[..., None] * stain_matrix()[0] + 0.3 * stain_matrix()[1]
        return measured(np.clip(np.rint(256 * np.exp(-density) - 1), 0, 255).astype(np.uint8))["rim_contrast"]

    assert contrast(0.0) == pytest.approx(1, abs=0.03)
    assert contrast(0.8) == pytest.approx(0.5, abs=0.03)


def test_texture_inside_a_nucleus_is_read_as_its_contrast():
    def patch(amplitude):
        chequer = 1 + amplitude * np.where((X // 3 + Y // 3) % 2, 1, -1)
        density = (1.2 * chequer * disc(56, 56, 14))[..., None] * stain_matrix()[0] + 0.4 * stain_matrix()[1]
        return measured(np.clip(np.rint(256 * np.exp(-density) - 1), 0, 255).astype(np.uint8))["chromatin_contrast"]

    assert patch(0.0) == pytest.approx(0, abs=0.01)
    assert patch(0.1) == pytest.approx(0.1, rel=0.1)


def test_tissue_without_nuclei_is_bare_and_has_density_0_but_no_shape():
    found = measured(painted([]))
    assert found["nuclear_density"] == 0
    assert found["bare_tissue"] == 1
    shapes = ("nuclear_size_variation", "lobulation", "eccentricity", "touching_nuclei", "rim_contrast", "bare_nuclei")
    assert all(np.isnan(found[name]) for name in shapes)


def test_one_nucleus_leaves_bare_what_is_outside_its_reach():
    reach = (8 * MPP + 15) / MPP
    assert measured(painted([disc(56, 56, 8)]))["bare_tissue"] == pytest.approx(1 - np.pi * reach**2 / PX**2, abs=0.02)


def test_a_white_patch_has_nothing_to_measure():
    assert np.isnan(morphology(np.full((1, PX, PX, 3), 255, np.uint8), MPP)).all()


def test_black_white_noise_and_one_colour_are_measured_without_a_warning():
    rng = np.random.default_rng(0)
    odd = [np.zeros((PX, PX, 3)), np.full((PX, PX, 3), 128), rng.integers(0, 256, (PX, PX, 3))]
    assert morphology(np.stack(odd).astype(np.uint8), MPP).shape == (3, len(NAMES))


def test_blur_of_a_space_makes_its_edge_wider_and_nothing_else_of_it():
    sharp = np.where(X > 56, 0.6, 0.0)
    widths = [measured(painted([], eosin=ndimage.gaussian_filter(sharp, s)))["space_edge_width"] for s in (0.5, 2, 3)]
    assert widths == sorted(widths)
    assert widths[2] > 1.5 * widths[0]


def test_no_patches_give_no_rows():
    assert morphology(np.zeros((0, PX, PX, 3), np.uint8), MPP).shape == (0, len(NAMES))


@pytest.mark.parametrize("mpp", [0.05, 1.5, float("nan")])
def test_a_resolution_at_which_nuclei_have_no_shape_is_refused(mpp):
    with pytest.raises(ConfigError, match=r"mpp must be from 0.1 to 1.0 um per pixel, got"):
        morphology(np.zeros((1, PX, PX, 3), np.uint8), mpp)


def test_what_is_no_patch_is_refused():
    with pytest.raises(PatchError, match=r"uint8 patches \(n, h, w, 3\), got float32 \(1, 8, 8, 3\)"):
        morphology(np.zeros((1, 8, 8, 3), np.float32), MPP)

import numpy as np
import pytest
from scipy import ndimage
from skimage.morphology import convex_hull_image

from histoforensics.forensics.nuclei import find_nuclei, hull_pixels, means, measure, part, rings, touching

PX = 112
Y, X = np.mgrid[:PX, :PX]


def ellipse(y, x, a, b, degrees=0.0):
    turn = np.deg2rad(degrees)
    u, v = (X - x) * np.cos(turn) + (Y - y) * np.sin(turn), (Y - y) * np.cos(turn) - (X - x) * np.sin(turn)
    return (u / a) ** 2 + (v / b) ** 2 <= 1


def found(mask, mpp=0.5, haematoxylin=1.5):
    """Labels of nuclei that are drawn dark, with a soft edge, on eosin."""
    soft = ndimage.gaussian_filter(mask.astype(np.float32), 0.5)
    return find_nuclei(0.2 + haematoxylin * soft, np.full_like(soft, 0.5), np.ones_like(mask), mpp)


@pytest.mark.parametrize(("a", "b", "degrees"), [(12, 12, 0), (16, 8, 0), (16, 8, 30), (20, 7, 75)])
def test_an_ellipse_has_the_area_the_axes_and_the_solidity_of_geometry(a, b, degrees):
    one = measure(ellipse(56.3, 55.4, a, b, degrees).astype(np.int32), 0.5)
    assert one.area_um2 == pytest.approx([np.pi * a * b / 4], rel=0.03)
    assert one.major_um == pytest.approx([a], rel=0.02)  # 2 a px of half a micrometre
    assert one.minor_um == pytest.approx([b], rel=0.02)
    assert one.eccentricity == pytest.approx([np.sqrt(1 - (b / a) ** 2)], abs=0.1 if a == b else 0.01)
    assert one.roundness == pytest.approx([b / a], rel=0.02)
    assert one.misfit[0] < 0.03  # pixels on the outline
    assert one.solidity[0] > 0.96
    assert one.whole.all()


def test_a_square_leaves_its_corners_outside_the_ellipse_of_its_moments():
    square = np.zeros((PX, PX), np.int32)
    square[20:80, 30:90] = 1
    # half side 1: the circle of equal moments has radius 2 / sqrt(3) and loses four segments to the sides
    r = 2 / np.sqrt(3)
    inside = np.pi * r**2 - 4 * (r**2 * np.arccos(1 / r) - np.sqrt(r**2 - 1))
    one = measure(square, 0.5)
    assert one.misfit == pytest.approx([1 - inside / 4], abs=0.005)
    assert one.eccentricity == pytest.approx([0], abs=1e-6)
    assert one.solidity == pytest.approx([1], abs=0.01)


def test_an_l_has_the_solidity_of_geometry():
    shape = np.zeros((PX, PX), np.int32)
    shape[20:60, 20:60] = 1
    shape[20:40, 40:60] = 0
    assert measure(shape, 0.5).solidity == pytest.approx([6 / 7], abs=0.02)  # three quarters over seven eighths


def test_drawn_nuclei_are_counted_and_measured_through_blur_and_threshold():
    spots = [(20, 20, 8, 8), (20, 60, 10, 6), (60, 30, 7, 7), (70, 80, 12, 7), (95, 40, 9, 9)]
    regions = measure(found(np.logical_or.reduce([ellipse(*spot) for spot in spots])), 0.5)
    assert len(regions) == 5
    order = np.argsort(regions.area_um2)
    wanted = np.sort([np.pi * a * b / 4 for *_, a, b in spots])
    assert regions.area_um2[order] == pytest.approx(wanted, rel=0.15)
    assert regions.whole.all()


@pytest.mark.parametrize("gap", [15, 16])
def test_two_discs_that_overlap_a_little_are_two_touching_nuclei(gap):
    labels = found(ellipse(56, 40, 8, 8) | ellipse(56, 40 + gap, 8, 8))
    assert touching(labels).tolist() == [True, True]
    assert np.bincount(labels.ravel())[1:] == pytest.approx([200, 200], rel=0.1)


def test_two_discs_apart_do_not_touch():
    assert touching(found(ellipse(56, 30, 8, 8) | ellipse(56, 60, 8, 8))).tolist() == [False, False]


def test_two_discs_that_overlap_by_much_are_one_nucleus_with_two_lobes():
    r, gap = 12, 13
    regions = measure(found(ellipse(56, 40, r, r) | ellipse(56, 40 + gap, r, r)), 0.5)
    lens = 2 * r**2 * np.arccos(gap / 2 / r) - gap / 2 * np.sqrt(4 * r**2 - gap**2)
    assert len(regions) == 1
    assert regions.area_um2 == pytest.approx([(2 * np.pi * r**2 - lens) / 4], rel=0.1)
    wanted = (2 * np.pi * r**2 - lens) / (np.pi * r**2 + 2 * r * gap)  # the hull is a stadium
    assert regions.solidity == pytest.approx([wanted], abs=0.03)


def test_the_pixels_of_a_hull_are_those_that_skimage_counts_inside_it():
    rng = np.random.default_rng(0)
    for _ in range(20):
        size = int(rng.integers(2, 12))
        left = rng.integers(0, 10, size)
        right = left + rng.integers(1, 10, size)
        mask = np.zeros((size, 20), bool)
        for row, (a, b) in enumerate(zip(left, right, strict=True)):
            mask[row, a : b + 1] = True
        wanted = convex_hull_image(mask, offset_coordinates=False).sum()
        assert hull_pixels(list(range(size)), left.tolist(), right.tolist()) == wanted


def test_a_single_line_of_pixels_is_its_own_hull():
    assert hull_pixels([3], [2], [8]) == 7
    assert hull_pixels([0, 1, 2], [0, 1, 2], [0, 1, 2]) == 3


def test_deeper_lobes_have_lower_solidity():
    def flower(depth):
        angle = np.arctan2(Y - 56, X - 56)
        return measure((np.hypot(Y - 56, X - 56) <= 20 * (1 + depth * np.cos(3 * angle))).astype(np.int32), 0.5)

    solid = [flower(depth).solidity[0] for depth in (0.0, 0.15, 0.3)]
    assert solid == sorted(solid, reverse=True)
    assert solid[0] - solid[-1] > 0.07


def test_tissue_without_nuclei_has_none_though_otsu_always_finds_a_threshold():
    noise = np.random.default_rng(0).normal(0.2, 0.05, (PX, PX)).astype(np.float32)
    labels = find_nuclei(noise, np.full_like(noise, 0.8), np.ones((PX, PX), bool), 0.5)
    assert not labels.any()
    assert len(measure(labels, 0.5)) == 0
    assert touching(labels).shape == (0,)


def test_a_red_fibre_on_white_is_no_nucleus_and_a_blue_one_is():
    mask = ellipse(56, 56, 14, 6)
    soft, tissue = ndimage.gaussian_filter(mask.astype(np.float32), 0.5), np.ones_like(mask)
    assert not find_nuclei(0.9 * soft, 0.9 * soft, tissue, 0.5).any()
    assert find_nuclei(0.9 * soft, 0.3 * soft, tissue, 0.5).max() == 1


def test_a_nucleus_cut_by_the_border_is_known_as_cut_and_has_no_solidity():
    regions = measure(found(ellipse(0, 56, 9, 9) | ellipse(56, 56, 9, 9)), 0.5)
    assert regions.whole.tolist() == [False, True]
    assert np.isnan(regions.solidity).tolist() == [True, False]


def test_sizes_are_in_micrometres_whatever_the_resolution():
    fine, coarse = (measure(part(ellipse(56, 56, 4 / m, 4 / m)), m) for m in (0.25, 0.5))
    assert fine.area_um2 == pytest.approx(coarse.area_um2, rel=0.03)


def test_a_ring_has_the_area_of_an_annulus_and_the_mean_of_what_is_there():
    labels = ellipse(56, 56, 10, 10).astype(np.int32)
    ring, distance = rings(labels, 0.5, (0.0, 1.5))
    assert (ring == 1).sum() == pytest.approx(np.pi * (13**2 - 10**2), rel=0.1)
    assert distance[56, 56 + 20] == pytest.approx(5, abs=0.3)
    assert means(np.full((PX, PX), 3, np.float32), ring, 1) == pytest.approx([3])
    nothing, far = rings(np.zeros_like(labels), 0.5)
    assert not nothing.any()
    assert np.isinf(far).all()


def test_choosing_objects_numbers_them_anew():
    labels = np.zeros((PX, PX), np.int32)
    labels[5:10, 5:10], labels[20:40, 20:40], labels[60:70, 60:90] = 1, 2, 3
    chosen = measure(labels, 0.5).only(np.array([False, True, True]))
    assert chosen.area_um2.tolist() == [100, 75]
    assert chosen.labels[65, 65] == 2
    assert chosen.labels[7, 7] == 0

import numpy as np
import pytest
from scipy import ndimage
from scipy.special import ndtr

from histoforensics.forensics.spaces import (
    SMOOTH_UM,
    background_step,
    edge_length,
    edge_width_um,
    irregularity,
    red_cells,
    spaces,
)

PX, MPP = 112, 0.5
Y, X = np.mgrid[:PX, :PX]


def disc(y, x, a, b=None):
    return ((X - x) / a) ** 2 + ((Y - y) / (b or a)) ** 2 <= 1


@pytest.mark.parametrize("blur_um", [0.5, 0.8, 1.0])
@pytest.mark.parametrize("height", [0.6, 1.5])
def test_the_width_of_a_blurred_edge_is_its_blur_whatever_the_stain(blur_um, height):
    density = (height * ndtr((X - 56) * MPP / blur_um)).astype(np.float32)
    wanted = np.sqrt(2 * np.pi * (blur_um**2 + SMOOTH_UM**2))
    assert edge_width_um(density, spaces(density < height / 4, MPP), MPP) == pytest.approx(wanted, rel=0.05)


def test_no_space_has_neither_width_nor_irregularity():
    nowhere = np.zeros((PX, PX), bool)
    assert np.isnan(edge_width_um(np.ones((PX, PX), np.float32), nowhere, MPP))
    assert np.isnan(irregularity(nowhere, MPP))
    assert np.isnan(irregularity(~nowhere, MPP))  # all glass: no edge


def test_specks_are_no_space():
    pale = disc(30, 30, 2) | disc(70, 70, 10)
    assert spaces(pale, MPP).sum() == pytest.approx(np.pi * 100, rel=0.05)


def test_the_edge_of_a_disc_is_as_long_as_its_circumference_and_a_border_is_no_edge():
    assert edge_length(disc(56, 56, 30)) == pytest.approx(2 * np.pi * 30, rel=0.03)
    assert edge_length(np.ones((PX, PX), bool)) == 0


def test_teeth_at_45_degrees_lose_what_a_straight_line_is_shorter_and_a_disc_loses_nothing():
    teeth = np.abs((X % 8) - 4) + 54 > Y
    assert irregularity(teeth, MPP) == pytest.approx(1 - edge_length(Y < 56) / edge_length(teeth), abs=0.02)
    assert irregularity(teeth, MPP) == pytest.approx(1 - 1 / np.sqrt(2), abs=0.08)
    assert irregularity(disc(56, 56, 30), MPP) < 0.03


def test_a_slit_is_all_gone_when_smoothed():
    assert irregularity((Y > 50) & (Y < 54) & (X > 10) & (X < 90), MPP) == 1


@pytest.mark.parametrize("step", [0.1, 0.4])
def test_a_step_in_the_background_is_measured_at_its_height(step):
    density = np.full((PX, PX, 3), 0.5, np.float32)
    density[:, 60:, 1] += step
    assert background_step(density, np.ones((PX, PX), bool), MPP) == pytest.approx(step, rel=0.03)


def test_the_same_change_spread_over_the_patch_counts_for_less():
    ramp = np.full((PX, PX, 3), 0.5, np.float32)
    ramp[..., 1] += 0.4 * X / (PX - 1)
    wanted = 0.4 / (PX - 1) * np.sqrt(2 * np.pi) * 3 / MPP
    assert background_step(ramp, np.ones((PX, PX), bool), MPP) == pytest.approx(wanted, rel=0.05)


def test_nuclei_are_not_background_and_too_little_of_it_is_not_judged():
    density = np.full((PX, PX, 3), 0.5, np.float32)
    nuclei = disc(40, 40, 9) | disc(70, 80, 9)
    density[nuclei] = 2
    assert background_step(density, ~nuclei, MPP) == pytest.approx(0, abs=1e-5)
    assert np.isnan(background_step(density, disc(56, 56, 5), MPP))


def test_red_cells_are_found_by_size_and_measured_by_shape():
    cells = disc(25, 25, 6) | disc(25, 80, 8, 4.8)  # 6 um across; an ellipse of 8 x 4.8 um
    strand, lake = (Y > 60) & (Y < 66), disc(92, 56, 17)
    eosin = ndimage.gaussian_filter(0.5 + 1.5 * (cells | strand | lake).astype(np.float32), 0.5)
    found = red_cells(eosin, np.ones((PX, PX), bool), np.zeros((PX, PX), bool), MPP)
    assert sorted(found.roundness) == pytest.approx([0.6, 1.0], abs=0.06)
    assert found.area_um2 == pytest.approx(np.array([np.pi * 36, np.pi * 8 * 4.8]) * MPP**2, rel=0.15)


def test_a_cell_with_a_nucleus_is_no_red_cell_and_empty_tissue_has_none():
    eosin = ndimage.gaussian_filter(0.5 + 1.5 * disc(56, 56, 6).astype(np.float32), 0.5)
    everywhere = np.ones((PX, PX), bool)
    assert len(red_cells(eosin, everywhere, disc(56, 56, 6), MPP)) == 0
    assert len(red_cells(eosin, ~everywhere, ~everywhere, MPP)) == 0

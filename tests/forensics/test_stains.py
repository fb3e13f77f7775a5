import numpy as np
import pytest

from histoforensics.forensics.stains import is_pale, optical_density, stain_densities, stain_matrix
from histoforensics.slides import PatchError


def test_amounts_of_stain_come_back_from_pixels_mixed_by_beer_and_lambert():
    rng = np.random.default_rng(0)
    amounts = rng.uniform(0, 1.2, (40, 2))
    light = 256 * np.exp(-(amounts @ stain_matrix()[:2])) - 1
    found = stain_densities(optical_density(np.rint(light).astype(np.uint8)))
    # half a grey level is 1 % of the density at 50, the darkest that is drawn here
    assert found[:, :2] == pytest.approx(amounts, abs=0.03)
    assert found[:, 2] == pytest.approx(0, abs=0.03)


def test_the_two_vectors_and_the_rest_have_unit_length_and_the_rest_is_perpendicular():
    matrix = stain_matrix()
    assert np.linalg.norm(matrix, axis=1) == pytest.approx(1)
    assert matrix[:2] @ matrix[2] == pytest.approx(0, abs=1e-12)


def test_white_is_pale_and_eosin_is_not():
    colours = np.array([[255, 255, 255], [235, 230, 238], [230, 150, 180]], np.uint8)
    assert is_pale(optical_density(colours)).tolist() == [True, True, False]


def test_other_numbers_than_bytes_are_refused():
    with pytest.raises(PatchError, match="uint8 pixels, got float64"):
        optical_density(np.zeros((2, 3)))

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from scipy.linalg import hadamard

from histoforensics.forensics.controls import SlopeControl
from histoforensics.forensics.dct import DCTDetector
from histoforensics.forensics.linear import LinearModel
from histoforensics.forensics.luma import LUMA, ROUNDING_VARIANCE
from histoforensics.forensics.radial import RadialDetector
from histoforensics.forensics.weightmaps import sequency_order, weight_maps
from histoforensics.forensics.wht import WHTDetector
from histoforensics.slides import DetectorError

PX = 32


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (3, PX, PX, 3), dtype=np.uint8)


def folded(kind):
    detector = kind(PX)
    width = detector.features(torch.zeros(1, PX, PX, 3, dtype=torch.uint8)).shape[1]
    weights = np.random.default_rng(1).normal(size=width) / width
    detector.fold(LinearModel(weights=weights, bias=0.3, penalty=1.0))
    return detector


@pytest.mark.parametrize("compat", [None, "durall"])
def test_the_fourier_map_times_the_log_power_of_numpy_is_the_logit(pixels, compat):
    detector = RadialDetector(PX, compat)
    width = detector.features(torch.from_numpy(pixels)).shape[1]
    detector.fold(LinearModel(weights=np.linspace(-1, 1, width), bias=0.3, penalty=1.0))
    power = np.abs(np.fft.fftshift(np.fft.fft2(pixels @ np.array(LUMA)), axes=(1, 2))) ** 2
    wanted = (weight_maps(detector)["fourier"] * np.log(power + detector.floor)).sum((1, 2)) + 0.3
    assert detector.logits(pixels) == pytest.approx(wanted, rel=1e-3, abs=1e-2)


def test_a_radius_has_one_weight_all_round():
    detector = RadialDetector(PX)
    weights = np.zeros(detector.features(torch.zeros(1, PX, PX, 3, dtype=torch.uint8)).shape[1])
    weights[4] = 1.0  # radius 5: radius 0 is no feature
    detector.fold(LinearModel(weights=weights, bias=0.0, penalty=1.0))
    shown = weight_maps(detector)["fourier"]
    y, x = np.indices((PX, PX)) - PX // 2
    at = np.floor(np.hypot(y, x)) == 5
    assert shown[at] == pytest.approx(10 / at.sum())
    assert not shown[~at].any()


def test_the_cosine_map_times_the_log_dct_of_scipy_is_the_logit(pixels):
    detector = folded(DCTDetector)
    spectrum = dctn(pixels @ np.array(LUMA), norm="ortho", axes=(1, 2))
    wanted = (weight_maps(detector)["cosine"] * np.log(spectrum**2 + ROUNDING_VARIANCE)).sum((1, 2)) + 0.3
    assert detector.logits(pixels) == pytest.approx(wanted, rel=1e-3, abs=1e-3)


def test_the_walsh_maps_times_the_statistics_of_ordered_patterns_are_the_logit(pixels):
    detector = folded(WHTDetector)
    rows = hadamard(8) / np.sqrt(8)
    rows = rows[np.argsort([(np.diff(row) != 0).sum() for row in rows])]
    blocks = (pixels @ np.array(LUMA)).reshape(3, PX // 8, 8, PX // 8, 8).swapaxes(2, 3)
    loud = np.log((rows @ blocks @ rows.T) ** 2 + ROUNDING_VARIANCE) / 2
    maps = weight_maps(detector)
    wanted = (maps["mean"] * loud.mean((1, 2)) + maps["deviation"] * loud.std((1, 2))).sum((1, 2)) + 0.3
    assert detector.logits(pixels) == pytest.approx(wanted, rel=1e-3, abs=1e-3)


def test_patterns_come_in_the_order_of_their_changes_of_sign():
    ordered = hadamard(8)[sequency_order()]
    assert (np.diff(ordered, axis=1) != 0).sum(1).tolist() == list(range(8))


def test_a_detector_without_a_spectrum_is_refused():
    with pytest.raises(DetectorError, match="slope: no weights on a spectrum; radial-lr, dct-ridge and wht-lr have"):
        weight_maps(SlopeControl(PX))

"""Where in the spectrum a linear detector looks: its folded weights, unfolded to a picture.

The logit is the sum over the picture of weight times log power (see each function), plus a constant: the picture is
the whole detector and no approximation of it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.linalg import hadamard
from torch import Tensor

from histoforensics.slides import DetectorError

from .dct import DCTDetector
from .detector import Detector
from .radial import RadialDetector
from .wht import BLOCK, WHTDetector

Map = npt.NDArray[np.float64]


def weight_maps(detector: Detector) -> dict[str, Map]:
    """The weights of a linear frequency detector as pictures by name; above 0 where more power speaks for fake.

    ``radial-lr``: ``fourier`` (N, N) on ln(|F|^2 + floor), frequency zero at (N // 2, N // 2). ``dct-ridge``:
    ``cosine`` (N, N) on ln(D^2 + floor), frequency zero at (0, 0). ``wht-lr``: ``mean`` and ``deviation`` (8, 8) over
    blocks of ln(c^2 + floor) / 2, ordered by how often a pattern changes sign down and across.

    Raises:
        DetectorError: If the detector is none of these.
    """
    if isinstance(detector, RadialDetector):
        return {"fourier": fourier_map(_array(detector.weights))}
    if isinstance(detector, DCTDetector):
        return {"cosine": _array(detector.weights)}
    if isinstance(detector, WHTDetector):
        order = sequency_order()
        means, deviations = _array(detector.weights).reshape(2, BLOCK, BLOCK)
        return {"mean": means[np.ix_(order, order)], "deviation": deviations[np.ix_(order, order)]}
    raise DetectorError(
        f"{detector.name}: no weights on a spectrum; radial-lr, dct-ridge and wht-lr have them, and heatmap() shows "
        "where on a patch a network looks."
    )


def fourier_map(half: Map) -> Map:
    """Weights on the whole spectrum (N, N), frequency zero in the middle, from those on the half (N, N // 2 + 1).

    A weight there stands for a frequency and its mirror image, and is shared between the two.
    """
    size = len(half)
    full = np.zeros((size, size))
    rows, columns = np.indices(half.shape)
    np.add.at(full, (rows, columns), half / 2)
    np.add.at(full, (-rows % size, -columns % size), half / 2)
    return np.asarray(np.fft.fftshift(full))


def sequency_order() -> npt.NDArray[np.intp]:
    """The rows of the 8 x 8 Hadamard matrix by how often they change sign, 0 to 7 times."""
    changes = (np.diff(hadamard(BLOCK), axis=1) != 0).sum(1)
    return np.argsort(changes)


def _array(weights: Tensor) -> Map:
    array: Map = weights.detach().cpu().double().numpy()
    return array

"""Attribution: which of the known generators made a fake, or none of them.

The closed question is a multinomial logistic regression on the frequency features; the open one is how far a patch lies
from the nearest known generator, and from what distance on it is called unknown is frozen on a calibration split.

References: Marra et al. 2019, arXiv:1812.11842 (generators leave fingerprints); Lee et al. 2018, arXiv:1807.03888
(Mahalanobis distance to the nearest class); Ledoit & Wolf 2004 (a covariance of many features from few patches).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy
import torch
from scipy import special
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression

from histoforensics.slides import DetectorError, PatchError, require
from histoforensics.slides.atomic import write_atomic
from histoforensics.slides.runcard import package_version

from .detector import Pixels, check_pixels
from .leaks import refuse_overlap, sha256_of_patches
from .luma import ROUNDING_VARIANCE, luma
from .radial import radial_profile
from .wht import wht_statistics

UNKNOWN = "unknown"
WEIGHTS, CARD = "attributor.safetensors", "card.json"
FORMAT = 1
PENALTY = 10.0  # of the logistic regression's weights; 1 / C in scikit-learn's words
REJECTED = 0.05  # of the calibration patches of known generators that may be called unknown
Names = npt.NDArray[np.str_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """What an attributor says of n patches."""

    generators: tuple[str, ...]
    probabilities: Floats  # (n, generators), if it was one of these
    distances: Floats  # (n,) from the nearest of them, in standard deviations
    verdicts: Names  # (n,) a generator, or "unknown"


def frequency_features(pixels: Pixels, batch: int = 64) -> Floats:
    """The radial profile and the Walsh-Hadamard statistics of each patch (n, d), without the mean brightness."""
    parts = []
    with torch.inference_mode():
        for i in range(0, max(1, len(pixels)), batch):
            grey = luma(torch.from_numpy(np.ascontiguousarray(pixels[i : i + batch])))
            radial = radial_profile(grey, floor=ROUNDING_VARIANCE * grey.shape[-1] ** 2)[:, 1:]
            blocks = wht_statistics(grey, ROUNDING_VARIANCE)
            kept = [k for k in range(blocks.shape[1]) if k % 64]  # the flat pattern is stain, not texture
            parts.append(torch.cat([radial, blocks[:, kept]], dim=1).double().numpy())
    features: Floats = np.concatenate(parts)
    return features


class Attributor:
    """Names the generator of fakes; :meth:`fit` makes one, :meth:`load` reads one."""

    def __init__(
        self,
        generators: tuple[str, ...],
        patch_px: int,
        threshold: float,
        tensors: dict[str, Floats],
        facts: dict[str, Any],
    ) -> None:
        self.generators, self.patch_px, self.threshold = generators, patch_px, threshold
        self.tensors = tensors  # mean, std, weights (d, g), bias (g,), centres (g, d), precision (d, d)
        self.facts = facts  # how many patches of each generator fitted and calibrated, and what was rejected

    @classmethod
    def fit(
        cls,
        pixels: Pixels,
        generators: Names,
        calibration_pixels: Pixels,
        calibration_generators: Names,
        *,
        penalty: float = PENALTY,
    ) -> Attributor:
        """An attributor of fakes of two or more generators; nothing in it is drawn at random.

        Args:
            pixels: Fakes, uint8 (n, h, w, 3), of one codec history.
            generators: Who made each, (n,).
            calibration_pixels: Other fakes of the same generators, for the distance from which one is unknown.
            calibration_generators: Who made those.
            penalty: Of the regression's weights.

        Raises:
            PatchError: If there are fewer than two generators, one has fewer than 5 patches or none to calibrate with,
                one is called "unknown", or a patch is in both splits.
        """
        require(penalty > 0, "penalty", "above 0", penalty)
        names = _checked(pixels, generators, calibration_pixels, calibration_generators)
        features = frequency_features(pixels)
        mean, std = features.mean(0), features.std(0)
        std = np.where(std < 1e-9 * (1 + np.abs(mean)), 1.0, std)
        x = (features - mean) / std
        which = np.searchsorted(names, generators)
        model = LogisticRegression(C=1 / penalty, class_weight="balanced", max_iter=5000).fit(x, which)
        weights, bias = model.coef_, model.intercept_
        if len(names) == 2:  # scikit-learn keeps one row of two
            weights, bias = np.vstack([0 * weights, weights]), np.append(0 * bias, bias)
        centres = np.stack([x[which == k].mean(0) for k in range(len(names))])
        precision = np.linalg.inv(LedoitWolf(assume_centered=True).fit(x - centres[which]).covariance_)
        tensors = {
            "mean": mean,
            "std": std,
            "weights": np.ascontiguousarray(weights.T),
            "bias": bias,
            "centres": centres,
            "precision": precision,
        }
        attributor = cls(tuple(names.tolist()), pixels.shape[1], np.inf, tensors, {})
        distances = attributor.score(calibration_pixels).distances
        above = int(np.floor(REJECTED * len(distances)))
        attributor.threshold = float(np.sort(distances)[::-1][above])
        known = attributor.score(calibration_pixels)
        attributor.facts = {
            "fitted_on": {name: int((generators == name).sum()) for name in attributor.generators},
            "calibrated_on": {name: int((calibration_generators == name).sum()) for name in attributor.generators},
            "rejected": float((known.verdicts == UNKNOWN).mean()),
            "accuracy": float((known.probabilities.argmax(1) == np.searchsorted(names, calibration_generators)).mean()),
        }
        return attributor

    def score(self, pixels: Pixels) -> Attribution:
        """Who made each patch, uint8 (n, patch_px, patch_px, 3)."""
        check_pixels(pixels, self.patch_px, "attribution")
        t = self.tensors
        x = (frequency_features(pixels) - t["mean"]) / t["std"]
        probabilities = special.softmax(x @ t["weights"] + t["bias"], axis=1)
        off = x[:, None] - t["centres"]  # (n, generators, d)
        squared = np.einsum("ngd,de,nge->ng", off, t["precision"], off, optimize=True)
        distances = np.sqrt(np.maximum(squared.min(1), 0) / x.shape[1])
        named = np.asarray(self.generators)[probabilities.argmax(1)]
        verdicts = np.where(distances > self.threshold, UNKNOWN, named)
        return Attribution(
            generators=self.generators, probabilities=probabilities, distances=distances, verdicts=verdicts
        )

    def save(self, folder: Path | str) -> Path:
        """Write attributor.safetensors and card.json; the card comes last and holds the digest of the other.

        Raises:
            DetectorError: If the folder holds other files.
        """
        folder = Path(folder)
        if folder.is_file() or (folder.is_dir() and {p.name for p in folder.iterdir()} - {WEIGHTS, CARD}):
            raise DetectorError(f"{folder.name}: the folder holds other files; save the attributor in one of its own.")
        weights = safetensors.numpy.save(self.tensors)
        card = _Card(
            generators=list(self.generators),
            patch_px=self.patch_px,
            threshold=self.threshold,
            facts=self.facts,
            weights_sha256=hashlib.sha256(weights).hexdigest(),
            version=package_version(),
        )
        write_atomic(folder / WEIGHTS, weights)
        write_atomic(folder / CARD, json.dumps(asdict(card), indent=2) + "\n")
        return folder

    @classmethod
    def load(cls, folder: Path | str) -> Attributor:
        """The attributor that :meth:`save` wrote.

        Raises:
            DetectorError: If a file is missing, broken, or not the one that the card was written for.
        """
        folder = Path(folder)
        try:
            weights, text = (folder / WEIGHTS).read_bytes(), (folder / CARD).read_text(encoding="utf-8")
            card = _Card(**json.loads(text))
            tensors = safetensors.numpy.load(weights)
        except (OSError, ValueError, TypeError, safetensors.SafetensorError) as err:
            raise DetectorError(f"{folder.name}: not an attributor's folder ({type(err).__name__}: {err}).") from err
        if card.format != FORMAT or hashlib.sha256(weights).hexdigest() != card.weights_sha256:
            raise DetectorError(f"{folder.name}: {WEIGHTS} is not the file that the card was written for; fit again.")
        return cls(tuple(card.generators), card.patch_px, card.threshold, tensors, card.facts)


@dataclass(frozen=True, kw_only=True)
class _Card:
    generators: list[str]
    patch_px: int
    threshold: float
    facts: dict[str, Any]
    weights_sha256: str
    version: str
    kind: str = "attributor"
    format: int = FORMAT


def _checked(pixels: Pixels, generators: Names, calibration_pixels: Pixels, calibration_generators: Names) -> Names:
    """The generators' names, sorted, if the two splits can fit and calibrate."""
    check_pixels(pixels, None, "attribution")
    check_pixels(calibration_pixels, pixels.shape[1], "attribution")
    for patches, names in ((pixels, generators), (calibration_pixels, calibration_generators)):
        if names.shape != (len(patches),):
            raise PatchError(f"attribution: {len(patches)} patches need one generator each, got shape {names.shape}.")
    names, counts = np.unique(generators.astype(str), return_counts=True)
    if len(names) < 2 or UNKNOWN in names:
        raise PatchError(f"attribution needs two or more generators, none called {UNKNOWN!r}, got {names.tolist()}.")
    if counts.min() < 5:
        few = names[counts.argmin()]
        raise PatchError(f"attribution: at least 5 patches of each generator are wanted, got {counts.min()} of {few}.")
    if set(names.tolist()) != set(calibration_generators.tolist()):
        raise PatchError(
            f"attribution: the calibration split has {sorted(set(calibration_generators.tolist()))}, "
            f"but {names.tolist()} are fitted; both need the same generators."
        )
    refuse_overlap("training", sha256_of_patches(pixels), "calibration", sha256_of_patches(calibration_pixels))
    known: Names = names
    return known

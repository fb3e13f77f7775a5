"""Detectors as scikit-learn classifiers, for cross-validation, searches and pipelines."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from histoforensics.slides import PatchError

from .detector import FAKE, REAL, Detector, Groups, Pixels
from .registry import detector_class

NAMES = ("real", "fake")  # in the order of REAL and FAKE


class DetectorClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """A detector that scikit-learn can clone, fit and score.

    Patches X are uint8, (n, h, h, 3) or flattened to (n, h * h * 3); labels y are 0 and 1, or "real" and "fake".
    Probabilities are not calibrated, for ``fit`` has no other patches to calibrate on: wrap it in scikit-learn's
    CalibratedClassifierCV, or use ``train_detector``, which sets groups apart for that.

    Split by slide or patient: ``cross_val_score(DetectorClassifier(), X, y, groups=slides, cv=GroupKFold())``.

    Args:
        name: One of DETECTORS or CONTROLS.
        seed: Of every random draw.
        budget_seconds: Of one fit, where training is iterative.
        device: Where to train and score.
        options: More of the detector's own ``fit``, such as ``{"copies": 0}``.

    Attributes:
        detector_: The fitted detector.
        classes_: The labels, sorted; the columns of ``predict_proba``.
        n_features_in_: Numbers a patch.
    """

    def __init__(
        self,
        name: str = "wht-lr",
        *,
        seed: int = 0,
        budget_seconds: float | None = None,
        device: str = "cpu",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.seed = seed
        self.budget_seconds = budget_seconds
        self.device = device
        self.options = options

    def fit(self, X: Pixels, y: npt.ArrayLike, groups: Groups | None = None) -> Self:
        """Train on patches ``X`` with labels ``y`` (n,).

        Args:
            X: uint8, (n, h, h, 3) or (n, h * h * 3).
            y: 0 and 1, or "real" and "fake".
            groups: (n,), what patches have in common, for the detector's own folds; ``params={"groups": slides}`` of
                ``cross_val_score`` passes them on.

        Raises:
            DetectorError: If there is no such detector.
            PatchError: If these are no patches, or a class is missing.
        """
        kind = detector_class(self.name)
        pixels = as_patches(X, self.name)
        labels, classes = as_labels(y, self.name)
        self.detector_: Detector = kind.fit(
            pixels,
            labels,
            seed=self.seed,
            groups=None if groups is None else np.asarray(groups),
            budget_seconds=self.budget_seconds,
            device=self.device,
            **dict(self.options or {}),
        )
        self.classes_ = classes
        self.n_features_in_ = int(np.prod(pixels.shape[1:]))
        return self

    def decision_function(self, X: Pixels) -> npt.NDArray[np.float32]:
        """The detector's logits, float32 (n,), of patches ``X``; above 0 speaks for ``classes_[1]``."""
        check_is_fitted(self)
        logits = self.detector_.logits(as_patches(X, self.name))
        return logits if self._fake == 1 else -logits

    def predict_proba(self, X: Pixels) -> npt.NDArray[np.float64]:
        """Uncalibrated probabilities, float64 (n, 2), of ``classes_``, for patches ``X``."""
        check_is_fitted(self)
        fake = self.detector_.score(as_patches(X, self.name)).astype(np.float64)
        return np.stack([1 - fake, fake] if self._fake == 1 else [fake, 1 - fake], axis=1)

    def predict(self, X: Pixels) -> npt.NDArray[Any]:
        """The more probable class (n,) of patches ``X``."""
        column = (self.decision_function(X) > 0).astype(int)
        found: npt.NDArray[Any] = self.classes_[column]
        return found

    @property
    def _fake(self) -> int:
        """The column of the fakes: sorted, "fake" comes before "real"."""
        return 0 if self.classes_.dtype.kind in "UO" else 1


def as_patches(X: npt.NDArray[Any], name: str) -> Pixels:
    """uint8 patches (n, h, h, 3) of an array (n, h, h, 3) or (n, h * h * 3).

    Raises:
        PatchError: If rows are not whole square RGB patches; the detector checks the rest.
    """
    pixels = np.asarray(X)
    if pixels.ndim != 2:
        return pixels
    size = isqrt(pixels.shape[1] // 3)
    if 3 * size**2 != pixels.shape[1]:
        raise PatchError(f"{name}: rows must be flattened square RGB patches of 3 h^2 values, got {pixels.shape[1]}.")
    return pixels.reshape(-1, size, size, 3)


def as_labels(y: npt.ArrayLike, name: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
    """REAL or FAKE (n,) of labels, and the sorted labels there are.

    Raises:
        PatchError: If the labels are others than 0 and 1, or "real" and "fake".
    """
    given = np.asarray(y)
    classes = np.unique(given)
    if classes.tolist() not in ([REAL, FAKE], sorted(NAMES)):
        raise PatchError(f"{name}: labels must be 0 and 1, or 'real' and 'fake', both present; got {classes.tolist()}.")
    is_fake = given == (NAMES[FAKE] if classes.dtype.kind in "UO" else FAKE)
    return is_fake.astype(np.int64), classes

"""A detector that gives reasons: logistic regression on measured morphology, whose logit is a sum over reasons.

It is weaker than a detector of traces, and that is not its use: it tells which of a pathologist's reasons speak for
fake on this patch, and by how much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from histoforensics.slides import require

from .detector import Labels, Pixels, check_pixels
from .linear import Features, LinearDetector, LinearModel, fit_logistic
from .morphology import FEATURES, MPP_RANGE, NAMES, REASONS, morphology

if TYPE_CHECKING:
    import pandas as pd

MPP = 0.5  # of a 20x scan
BASELINE = "baseline"


@dataclass(frozen=True, kw_only=True)
class CentredModel(LinearModel):
    """A model with the values that stand for what a patch does not have."""

    centre: npt.NDArray[np.float64]  # (d,), halfway between the classes' means


class MorphologyDetector(LinearDetector):
    """Logistic regression on :func:`morphology`; what a patch does not have speaks for neither side.

    Runs in numpy on the processor, so it exports to no other runtime.
    """

    name: ClassVar[str] = "morphology-lr"
    penalties: ClassVar[tuple[float, ...]] = (1e3, 1e2, 1e1, 1.0)
    most_rows: ClassVar[int | None] = 3000  # two minutes of one core
    weights: Tensor  # (features,)
    centre: Tensor

    def __init__(self, patch_px: int, mpp: float = MPP) -> None:
        super().__init__(patch_px)
        lowest, highest = MPP_RANGE
        require(lowest <= mpp <= highest, "mpp", f"from {lowest} to {highest} um per pixel", mpp)
        self.mpp = mpp
        self.register_buffer("weights", torch.zeros(len(FEATURES)))
        self.register_buffer("centre", torch.zeros(len(FEATURES)))

    def config(self) -> Mapping[str, Any]:
        """Judged size and resolution."""
        return {"patch_px": self.patch_px, "mpp": self.mpp}

    def features(self, pixels: Tensor) -> Tensor:
        """The features (n, d), NaN where a patch has nothing to measure."""
        return torch.from_numpy(morphology(pixels.cpu().numpy(), self.mpp)).to(pixels.device)

    def contributions(self, features: Tensor) -> Tensor:
        """What each feature adds to the logit, (n, d), of features (n, d); 0 where a feature is NaN."""
        return (features - self.centre).nan_to_num(nan=0.0) * self.weights

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (n,) of uint8 patches (n, N, N, 3)."""
        return self.contributions(self.features(pixels)).sum(1) + self.intercept

    def reasons(self, pixels: Pixels, by: Literal["reason", "feature"] = "reason") -> pd.DataFrame:
        """What each reason adds to the logit of each patch, (n, reasons + 1); a row's sum is the patch's logit.

        Above 0 speaks for fake, below for real, against a patch halfway between what was learned of both; the last
        column, ``baseline``, is that patch's logit and the same for all.

        Args:
            pixels: uint8 (n, patch_px, patch_px, 3).
            by: Columns are the ids of ``REASONS``, or the features one by one.

        Raises:
            PatchError: If these are not patches of the judged size.
        """
        import pandas as pd  # 100 MB with pyarrow, which detectors that only judge are spared

        check_pixels(pixels, self.patch_px, self.name)
        require(by in ("reason", "feature"), "by", '"reason" or "feature"', by)
        with torch.inference_mode():
            parts = self.contributions(self.features(torch.from_numpy(pixels))).double().numpy()
        table = pd.DataFrame(parts, columns=list(NAMES))
        if by == "reason":
            chosen = {name: [f.name for f in FEATURES if f.reason == name] for name in REASONS}
            table = pd.DataFrame({name: table[columns].sum(axis=1) for name, columns in chosen.items()})
        table[BASELINE] = float(self.intercept)
        return table

    @staticmethod
    def regress(features: Features, labels: Labels, **options: Any) -> LinearModel:
        """Logistic regression, with what is missing put halfway between the means of both classes."""
        centre = _centre(features, labels)
        filled = np.where(np.isnan(features), centre, features)
        model = fit_logistic(filled, labels, **options)
        return CentredModel(**asdict(model), centre=centre)

    def fold(self, model: LinearModel) -> None:
        """Move the bias to the centre, so that contributions are told from there."""
        assert isinstance(model, CentredModel)
        self.weights.copy_(torch.from_numpy(model.weights))
        self.centre.copy_(torch.from_numpy(model.centre))
        self.intercept.fill_(model.bias + float(model.weights @ model.centre))


def _centre(features: Features, labels: Labels) -> npt.NDArray[np.float64]:
    """Halfway between the classes' means (d,), of what was measured; the one there is, or 0 where there is none."""
    known = ~np.isnan(features)
    means = []
    for label in np.unique(labels):
        rows = labels == label
        count = known[rows].sum(0)
        total = np.where(known, features, 0)[rows].sum(0, dtype=np.float64)
        means.append(np.divide(total, count, out=np.full(features.shape[1], np.nan), where=count > 0))
    found = np.array(means)
    there = ~np.isnan(found)
    centre: npt.NDArray[np.float64] = np.where(there, found, 0).sum(0) / np.maximum(there.sum(0), 1)
    return centre

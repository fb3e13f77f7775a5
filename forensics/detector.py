"""The detector: uint8 patches in, calibrated probabilities of fakeness out, verdicts from frozen thresholds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from histoforensics.slides import DetectorError, PatchError, require
from histoforensics.slides.progress import Progress

from .calibration import Calibration
from .card import DetectorCard
from .conformal import Conformal
from .leaks import refuse_overlap, sha256_of_patches
from .ood import as_mpps, mpp_doubt, size_doubt

REAL, FAKE = 0, 1  # scores rise with fakeness, everywhere

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.integer[Any]]
Groups = npt.NDArray[Any]


class Verdict(StrEnum):
    """What a reader says of a patch."""

    REAL = "real"
    FAKE = "fake"
    UNSURE = "unsure"


class Detector(torch.nn.Module, ABC):
    """Tells generated tissue from real tissue. A torch module, so that it exports and runs wherever torch does.

    A subclass sets ``name`` (and ``kind``), computes logits in :meth:`forward`, learns in :meth:`fit`, and returns from
    :meth:`config` the keyword arguments that build it again empty; everything learned is a parameter or a buffer.
    """

    name: ClassVar[str]
    kind: ClassVar[str] = "detector"  # or "control": a trivial cue, reported beside the detectors

    scale: Tensor  # P(fake) = sigmoid(scale * logit + bias)
    bias: Tensor
    real_below: Tensor  # NaN until calibrated
    fake_above: Tensor

    def __init__(self, patch_px: int) -> None:
        super().__init__()
        require(isinstance(patch_px, int) and patch_px >= 16, "patch_px", "a whole number of at least 16", patch_px)
        self.patch_px = patch_px
        self.card = DetectorCard(name=self.name, kind=self.kind, patch_px=patch_px)
        self.seen: dict[str, tuple[str, ...]] = {}  # split -> sha256 of every patch in it
        for name, value in (("scale", 1.0), ("bias", 0.0), ("real_below", np.nan), ("fake_above", np.nan)):
            self.register_buffer(name, torch.tensor(value, dtype=torch.float32))

    @abstractmethod
    def forward(self, pixels: Tensor) -> Tensor:
        """Uncalibrated logits, float32 (n,), higher is more fake, of uint8 patches (n, patch_px, patch_px, 3)."""

    @classmethod
    @abstractmethod
    def fit(
        cls,
        pixels: Pixels,
        labels: Labels,
        *,
        seed: int,
        groups: Groups | None = None,
        budget_seconds: float | None = None,
        progress: Progress | None = None,
        device: str = "cpu",
        **options: Any,
    ) -> Self:
        """A trained, uncalibrated detector.

        Args:
            pixels: uint8 (n, h, w, 3), square; their size becomes the judged size.
            labels: REAL or FAKE (n,), both present.
            seed: Of every random draw.
            groups: What patches have in common (slide, block, patient, generator), (n,); folds never cut through one.
            budget_seconds: Stop training after this long, where training is iterative.
            progress: Told as work gets done.
            device: Where to train; the detector comes back there.
            options: Of the subclass; unknown ones are refused.
        """

    def config(self) -> Mapping[str, Any]:
        """Keyword arguments, JSON-ready, that rebuild this module before its tensors are loaded."""
        return {"patch_px": self.patch_px}

    @property
    def is_calibrated(self) -> bool:
        """Whether thresholds have been frozen on a calibration split."""
        return not bool(torch.isnan(self.fake_above))

    def score(self, pixels: Pixels, batch: int = 16) -> npt.NDArray[np.float32]:
        """P(fake), float32 (n,) in [0, 1], of uint8 patches (n, patch_px, patch_px, 3); 0 patches give 0 scores.

        The probability is for a world with as many fakes as reals; :meth:`logits` has what it was made from.
        """
        logits = torch.from_numpy(self.logits(pixels, batch))
        scores: npt.NDArray[np.float32] = torch.sigmoid(self.scale.cpu() * logits + self.bias.cpu()).numpy()
        return scores

    def logits(self, pixels: Pixels, batch: int = 16) -> npt.NDArray[np.float32]:
        """Uncalibrated logits, float32 (n,), of uint8 patches (n, patch_px, patch_px, 3)."""
        check_pixels(pixels, self.patch_px, self.name)
        was_training = self.training
        self.eval()
        out = np.empty(len(pixels), dtype=np.float32)
        with torch.inference_mode():
            for i in range(0, len(pixels), batch):
                chunk = torch.from_numpy(np.ascontiguousarray(pixels[i : i + batch])).to(self.scale.device)
                out[i : i + batch] = self(chunk).float().cpu().numpy()
        self.train(was_training)
        if not np.isfinite(out).all():
            raise DetectorError(f"{self.name}: {int((~np.isfinite(out)).sum())} of {len(out)} logits are not finite.")
        return out

    def verdicts(
        self,
        scores: npt.NDArray[np.floating[Any]],
        *,
        doubtful: Sequence[bool | str | None] | npt.NDArray[Any] | None = None,
        alpha: float | None = None,
    ) -> npt.NDArray[np.str_]:
        """``real``, ``fake`` or ``unsure`` (n,) for P(fake) (n,), by what was frozen on the calibration split.

        Args:
            scores: P(fake), from 0 to 1.
            doubtful: What :meth:`reasons_to_doubt` returned, or a mask (n,): these patches become unsure.
            alpha: Error rate of each class: verdicts by class-conditional conformal sets, unsure where a set holds both
                classes or none. By the two frozen thresholds if None.

        Raises:
            DetectorError: If the detector has no thresholds yet, none for this alpha, or a score is not from 0 to 1.
            PatchError: If the doubts are not one a score.
        """
        if not self.is_calibrated:
            raise DetectorError(f"{self.name}: no thresholds yet; train_detector freezes them on a calibration split.")
        p = np.asarray(scores, dtype=np.float32)
        if not ((p >= 0) & (p <= 1)).all():
            raise DetectorError(f"{self.name}: scores must be from 0 to 1, got {p[~((p >= 0) & (p <= 1))][0]!r}.")
        if alpha is not None:
            conformal = self.conformal
            if alpha < conformal.least_alpha:
                raise DetectorError(
                    f"{self.name}: alpha {alpha:g} is more than its calibration supports, with "
                    f"{conformal.real.observations} independent reals and {conformal.fake.observations} fakes; "
                    f"{conformal.least_alpha:.2g} is the smallest."
                )
            out = conformal.verdicts(p, alpha)
        else:
            out = np.full(p.shape, Verdict.UNSURE.value)
            out[p < self.real_below.item()] = Verdict.REAL.value
            out[p > self.fake_above.item()] = Verdict.FAKE.value
        if doubtful is not None:
            mask = np.array([bool(doubt) for doubt in doubtful], dtype=bool)
            if mask.shape != p.shape:
                raise PatchError(f"{self.name}: {len(p)} scores need one doubt each, got {len(mask)}.")
            out[mask] = Verdict.UNSURE.value
        return out

    @property
    def conformal(self) -> Conformal:
        """The class-conditional p values of the calibration split.

        Raises:
            DetectorError: If there are none: not calibrated, or saved by a version that did not keep them.
        """
        calibration = self.card.calibration
        if calibration is None or calibration.conformal is None:
            raise DetectorError(f"{self.name}: no conformal scores in its card; train it again to have them.")
        return calibration.conformal

    def reasons_to_doubt(self, pixels: Pixels, mpp: float | Sequence[float | None] | None = None) -> list[str | None]:
        """Why this detector should not be trusted on each patch, or None: size, resolution, sharpness, looks.

        Args:
            pixels: uint8 (n, h, w, 3), any one size.
            mpp: Micrometres per pixel, one for all or one a patch, where they are known.

        Raises:
            PatchError: If these are no patches, or the resolutions are not one each.
        """
        check_rgb_patches(pixels, self.name)
        mpps = as_mpps(mpp, len(pixels))
        size = size_doubt(pixels.shape[1], pixels.shape[2], self.patch_px)
        if size is not None:
            return [size] * len(pixels)
        domain = self.card.domain
        looks = [None] * len(pixels) if domain is None or not len(pixels) else domain.doubts(pixels)
        return [mpp_doubt(one, self.card.mpp) or look for one, look in zip(mpps, looks, strict=True)]

    def calibrate(self, calibration: Calibration) -> None:
        """Take over scale, bias and thresholds; they are saved with the weights."""
        for name in ("scale", "bias", "real_below", "fake_above"):
            getattr(self, name).fill_(getattr(calibration, name))

    def refuse_seen(self, pixels: Pixels, what: str = "test") -> None:
        """Raise if any of ``pixels`` (n, h, w, 3) was in the training or the calibration split, byte for byte.

        Raises:
            PatchError: The sentence counts the patches and names the split.
        """
        digests = sha256_of_patches(pixels)
        for split, known in self.seen.items():
            refuse_overlap(split, known, what, digests)

    def save(self, folder: Path | str) -> Path:
        """Write detector.safetensors, card.json and split.json into ``folder``; an older detector there is replaced."""
        from .store import write_detector

        return write_detector(self, Path(folder))


def check_rgb_patches(pixels: npt.NDArray[Any], name: str) -> None:
    """Raise unless ``pixels`` is uint8 (n, h, w, 3).

    Raises:
        PatchError: The sentence says what they are.
    """
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
        got = f"{pixels.dtype} {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise PatchError(f"{name}: patches must be a uint8 array (n, h, w, 3), got {got}.")


def check_pixels(pixels: npt.NDArray[Any], patch_px: int | None, name: str) -> None:
    """Raise unless ``pixels`` is uint8 (n, patch_px, patch_px, 3); any square size if ``patch_px`` is None.

    Raises:
        PatchError: The sentence says what they are and what was wanted.
    """
    check_rgb_patches(pixels, name)
    height, width = pixels.shape[1:3]
    if patch_px is None and height != width:
        raise PatchError(f"{name}: patches must be square, got {width} x {height} px.")
    if patch_px is not None and (height, width) != (patch_px, patch_px):
        raise PatchError(
            f"{name}: patches are {width} x {height} px, but this detector judges {patch_px} x {patch_px} px; "
            "crop them on the 16-px grid, never resize."
        )


def check_training(pixels: npt.NDArray[Any], labels: Labels, groups: Groups | None, name: str) -> None:
    """Raise unless the patches can train: square uint8, one label and one group each, both classes there.

    Raises:
        PatchError: The sentence says what is missing.
    """
    check_pixels(pixels, None, name)
    if labels.shape != (len(pixels),) or (groups is not None and groups.shape != (len(pixels),)):
        got = labels.shape if groups is None else (labels.shape, groups.shape)
        raise PatchError(f"{name}: {len(pixels)} patches need one label and one group each, got shapes {got}.")
    counts = {"real": int((labels == REAL).sum()), "fake": int((labels == FAKE).sum())}
    if sum(counts.values()) != len(labels):
        raise PatchError(f"{name}: labels must be {REAL} (real) or {FAKE} (fake), got {sorted(set(labels.tolist()))}.")
    for which, count in counts.items():
        if count < 2:
            raise PatchError(f"{name}: at least 2 {which} patches are needed to train, got {count}.")

"""Training a detector: fit on one split, calibrate on another, and write down what was done."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from histoforensics.slides import ConfigError, PatchError
from histoforensics.slides.progress import Progress
from histoforensics.slides.runcard import public, run_card

from .card import DetectorCard
from .detector import FAKE, REAL, Detector, Groups, Labels, Pixels, check_pixels, check_training
from .freezing import freeze
from .leaks import as_groups, refuse_overlap, sha256_of_patches
from .registry import detector_class


@dataclass(frozen=True, kw_only=True)
class TrainingSet:
    """Real and fake patches to learn from, and others, from other groups, to calibrate on. All uint8 (n, h, w, 3).

    Groups say what patches have in common: the slide, block or patient of real ones, the generator of fakes. Without
    groups each patch is its own, and the card counts it as independent, so give them where they are known.
    """

    real: Pixels
    fake: Pixels
    calibration_real: Pixels
    calibration_fake: Pixels
    real_groups: Groups | None = None
    fake_groups: Groups | None = None
    calibration_real_groups: Groups | None = None
    calibration_fake_groups: Groups | None = None
    provenance: Mapping[str, Any] = field(
        default_factory=dict
    )  # of the card: codec_policy, replay_rounds, mpp, licence ...

    def splits(self) -> dict[str, tuple[str, ...]]:
        """The sha256 of every patch of the training and of the calibration split."""
        return {
            "training": sha256_of_patches(self.real) + sha256_of_patches(self.fake),
            "calibration": sha256_of_patches(self.calibration_real) + sha256_of_patches(self.calibration_fake),
        }


def train_detector(
    name: str,
    data: TrainingSet,
    *,
    seed: int = 0,
    budget_seconds: float | None = None,
    progress: Progress | None = None,
    device: str = "cpu",
    options: Mapping[str, Any] | None = None,
) -> Detector:
    """A fitted detector, calibrated and with its thresholds frozen, on the splits of ``data``.

    Args:
        name: One of DETECTORS or CONTROLS.
        data: Its training split fits, its calibration split calibrates; the test split is nowhere near.
        seed: Of every random draw.
        budget_seconds: For iterative training.
        progress: Told as work gets done.
        device: A torch device, to train on.
        options: Of the detector's ``fit``.

    Raises:
        DetectorError: If no detector has that name.
        PatchError: If a class is missing, sizes differ, a patch is in both classes or splits, or a real group in both.
    """
    started = time.time()
    kind = detector_class(name)
    pixels, labels, groups = _stack(name, data.real, data.fake, data.real_groups, data.fake_groups)
    for part in (data.calibration_real, data.calibration_fake):
        check_pixels(part, pixels.shape[1], name)
    refuse_overlap("real", sha256_of_patches(data.real), "fake", sha256_of_patches(data.fake))
    splits = data.splits()
    refuse_overlap("training", splits["training"], "calibration", splits["calibration"])
    _refuse_shared_groups(data.real_groups, data.calibration_real_groups)
    options = dict(options or {})
    detector = kind.fit(
        pixels,
        labels,
        seed=seed,
        groups=groups,
        budget_seconds=budget_seconds,
        progress=progress,
        device=check_device(device),
        **options,
    )
    detector.seen = {"training": splits["training"]}
    calibration = freeze(
        detector,
        data.calibration_real,
        data.calibration_fake,
        real_groups=data.calibration_real_groups,
        fake_groups=data.calibration_fake_groups,
    )
    known = dict(data.provenance)
    detector.card = DetectorCard(
        name=name,
        kind=kind.kind,
        patch_px=detector.patch_px,
        config=dict(detector.config()),
        seed=seed,
        options=public(options),
        splits=detector.card.splits,
        calibration=calibration,
        domain=detector.card.domain,
        promise=calibration.promise,
        codec_policy=known.pop("codec_policy", "not told"),
        replay_rounds=known.pop("replay_rounds", 0),
        mpp=known.pop("mpp", None),
        licence=known.pop("licence", "not told"),
        limits=tuple(known.pop("limits", ())),
        trained_on={
            "real": len(data.real),
            "fake": len(data.fake),
            "real_groups": _count(data.real_groups, len(data.real)),
            "fake_groups": _count(data.fake_groups, len(data.fake)),
            **public(known),
        },
        run={**run_card({"detector": name, "seed": seed, "device": device}, {}, started=started), **detector.card.run},
    )
    return detector


def check_device(device: str) -> str:
    """The device, if torch can compute on it here.

    Raises:
        ConfigError: If torch does not know it, or this machine lacks it.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as err:
        raise ConfigError(f"device {device!r} cannot be used here; cpu always can.") from err
    return device


def _stack(
    name: str, real: Pixels, fake: Pixels, real_groups: Groups | None, fake_groups: Groups | None
) -> tuple[Pixels, Labels, npt.NDArray[np.str_]]:
    """One array of patches, labels, and groups that tell real from fake ones apart."""
    for part in (real, fake):
        check_pixels(part, None, name)
    if real.shape[1:] != fake.shape[1:]:
        raise PatchError(
            f"{name}: real patches are {real.shape[2]} px wide and fake ones {fake.shape[2]} px; "
            "crop both to one size on the 16-px grid, never resize one class."
        )
    groups = np.array(
        [f"real {g}" for g in as_groups(real_groups, len(real))]
        + [f"fake {g}" for g in as_groups(fake_groups, len(fake))]
    )
    labels = np.repeat([REAL, FAKE], [len(real), len(fake)])
    pixels = np.concatenate([real, fake])
    check_training(pixels, labels, groups, name)
    return pixels, labels, groups


def _refuse_shared_groups(training: Groups | None, calibration: Groups | None) -> None:
    """Real tissue of one slide, block or patient must not both train and calibrate; a generator may."""
    if training is None or calibration is None:
        return
    shared = sorted({str(g) for g in training} & {str(g) for g in calibration})
    if shared:
        raise PatchError(
            f"real patches of {shared[0]!r}{' and others' if len(shared) > 1 else ''} are in both the training and the "
            "calibration split; split by slide, block or patient."
        )


def _count(groups: Groups | None, n: int) -> int:
    return n if groups is None else len(np.unique(groups))

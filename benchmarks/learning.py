"""What a benchmark learns: every detector it needs, trained once, kept as a stage, and judged on held-out patches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoforensics.forensics import CONTROLS, DETECTORS, Detector, TrainingSet, load_detector, train_detector
from histoforensics.forensics.cnn import CnnDetector
from histoforensics.slides import SETTLING_ROUNDS, Progress

from .config import BenchmarkConfig
from .material import Material
from .stages import digest, stage
from .tissue import Role, Tissue

Narrator = Callable[[str], AbstractContextManager[Progress]]  # title of a stage -> its progress

CODEC_POLICY = (
    "Both classes were put through every compression that their source is known to have had, on its own grid, oldest "
    "first, until nothing told how often a patch had been through them: what is judged has one codec history."
)
RAW_POLICY = "none: patches as they were cut and sampled, so that the codec itself tells the classes apart"


def is_cnn(name: str) -> bool:
    """Whether the detector or control is a network that trains for a time."""
    return issubclass({**DETECTORS, **CONTROLS}[name], CnnDetector)


@dataclass(frozen=True)
class School:
    """Trains the detectors of one run from one material.

    Attributes:
        config: The run.
        tissue: Where the real patches come from.
        material: What detectors learn from.
        homes: Folder of the detectors that learned from every generator, and folder of the others.
        policy: The codec policy, for the cards.
        narrate: Gives a progress callback for each stage, by title.
    """

    config: BenchmarkConfig
    tissue: Tissue
    material: Material
    homes: tuple[Path, Path]
    policy: str
    narrate: Narrator

    def train(self, name: str, learn_from: Sequence[str]) -> Detector:
        """The detector or control ``name``, trained and calibrated on the fakes of these generators alone."""
        left_out = sorted(set(self.material.fakes) - set(learn_from))
        title = f"{name} without {', '.join(left_out)}" if left_out else name
        budget = self.config.cnn_seconds if is_cnn(name) else None
        data = self.training_set(learn_from)
        seed, device = self.config.seed, self.config.device

        def make(folder: Path) -> None:
            with self.narrate(f"Training {title}") as progress:
                train_detector(name, data, seed=seed, budget_seconds=budget, progress=progress, device=device).save(
                    folder
                )

        fields = {"name": name, "data": digest(data.splits()), "seed": seed, "budget": budget, "policy": self.policy}
        home = self.homes[1] / f"{name}-without-{'-'.join(left_out)}" if left_out else self.homes[0] / name
        return load_detector(stage(home, fields, make)).to(device)

    def training_set(self, learn_from: Sequence[str]) -> TrainingSet:
        """The training and calibration patches of the real tissue and of these generators."""
        real, calibration_real = (self.material.real[role] for role in ("train", "calibration"))
        return TrainingSet(
            real=real.pixels(),
            fake=self._fakes(learn_from, "train"),
            real_groups=_blocks(real),
            calibration_real=calibration_real.pixels(),
            calibration_fake=self._fakes(learn_from, "calibration"),
            calibration_real_groups=_blocks(calibration_real),
            provenance={
                "tissue": self.tissue.name,
                "generators": list(learn_from),
                "mpp": self.tissue.mpp,
                "codec_policy": self.policy,
                "replay_rounds": SETTLING_ROUNDS if self.policy == CODEC_POLICY else 0,
                "split_sha256": digest(self.tissue.facts()["split"]),
            },
        )

    def _fakes(self, learn_from: Sequence[str], role: Role) -> NDArray[np.uint8]:
        return np.concatenate([self.material.fakes[name][role].pixels() for name in learn_from])


def _blocks(patches: Any) -> NDArray[np.str_]:
    return np.asarray(patches.table["block"], dtype=str)

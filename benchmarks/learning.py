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

from .config import FUSION, BenchmarkConfig
from .fusing import WEIGHING, fuse
from .material import Material
from .splits import Role
from .stages import digest, stage
from .tissue import Tissue

Narrator = Callable[[str], AbstractContextManager[Progress]]  # title of a stage -> its progress

CODEC_POLICY = (
    "Both classes were put through every compression that their source is known to have had, on its own grid, oldest "
    "first, until nothing told how often a patch had been through them: what is judged has one codec history."
)
LOSSLESS_POLICY = "both classes alike: lossless, since no compression is known of the source and none was added"
RAW_POLICY = "none: patches as they were cut and sampled, so that the codec itself tells the classes apart"


def is_cnn(name: str) -> bool:
    """Whether the detector or control is a network that trains for a time."""
    return issubclass({**DETECTORS, **CONTROLS}[name], CnnDetector)


def fit_options(config: BenchmarkConfig, name: str) -> dict[str, Any]:
    """What a gate asks of a detector's ``fit``: a fusion stacks the frequency detectors that stand beside it."""
    if name != FUSION:
        return {}
    return {"members": config.fused, "member_options": dict.fromkeys(config.fused, WEIGHING)}


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

    def train(self, name: str, learn_from: Sequence[str], seed: int | None = None) -> Detector:
        """The detector or control ``name``, trained and calibrated on the fakes of these generators alone.

        Args:
            name: Of a detector or control.
            learn_from: Names of generators.
            seed: Of a network, beside the first of the run's seeds; those of a seed stand in a folder of their own.
        """
        left_out = sorted(set(self.material.fakes) - set(learn_from))
        title = f"{name} without {', '.join(left_out)}" if left_out else name
        budget = self.config.cnn_seconds if is_cnn(name) else None
        data, device = self.training_set(learn_from), self.config.device
        folder_name = name if seed is None else f"{name}-seed-{seed}"
        first = self.config.cnn_seeds[0] if is_cnn(name) and self.config.cnn_seeds else self.config.seed
        chosen = first if seed is None else seed

        def make(folder: Path) -> None:
            members = [self.train(member, learn_from) for member in self.config.fused] if name == FUSION else []
            with self.narrate(f"Training {title}" + ("" if seed is None else f", seed {seed}")) as progress:
                if members:
                    trained = fuse(members, data, seed=chosen, progress=progress)
                else:
                    trained = train_detector(
                        name, data, seed=chosen, budget_seconds=budget, progress=progress, device=device
                    )
            trained.save(folder)

        fields = {"name": name, "data": digest(data.splits()), "seed": chosen, "budget": budget, "policy": self.policy}
        fields |= {"members": self.config.fused if name == FUSION else ()}
        is_main = not left_out and seed is None
        home = self.homes[0] / name if is_main else self.homes[1] / "-without-".join([folder_name, *left_out])
        return load_detector(stage(home, fields, make)).to(device)

    def training_set(self, learn_from: Sequence[str]) -> TrainingSet:
        """The training and calibration patches of the real tissue and of these generators."""
        real, calibration_real = (self.material.real[role] for role in ("train", "calibration"))
        return TrainingSet(
            real=real.pixels(),
            fake=self._fakes(learn_from, "train"),
            real_groups=_blocks(real),
            fake_groups=self._fake_groups(learn_from, "train"),
            calibration_real=calibration_real.pixels(),
            calibration_fake=self._fakes(learn_from, "calibration"),
            calibration_real_groups=_blocks(calibration_real),
            calibration_fake_groups=self._fake_groups(learn_from, "calibration"),
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

    def _fake_groups(self, learn_from: Sequence[str], role: Role) -> NDArray[np.str_] | None:
        """What fakes have in common where they were made from real tissue; a GAN's are each their own."""
        sets = [self.material.fakes[name][role] for name in learn_from]
        if not all(patches.table["block"].notna().all() for patches in sets):
            return None
        return np.concatenate([_blocks(patches) for patches in sets])


def _blocks(patches: Any) -> NDArray[np.str_]:
    return np.asarray(patches.table["block"], dtype=str)

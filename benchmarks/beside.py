"""Generators beside a study: fakes of other tissue, judged by detectors that never learned from any of them.

Two questions that must not be mixed. Against the study's own real tissue the comparison is not fair: the fakes show
another organ at another scale, and whatever tells the tissues apart tells the classes apart; the audit says so. Against
real tissue of the generators' own source, through one codec, it is fair, and asks whether what a detector learned on
one tissue holds on a generator, an organ, a scanner and a codec that it never saw.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from histoforensics.forensics import Detector
from histoforensics.slides import PatchSet

from .generalization import HeldOut, auc_matrix
from .learning import Narrator
from .material import COUNTS, Material, write_cut, write_role
from .probes import Probe
from .splits import Role
from .stages import digest, stage
from .tissue import Tissue, random_grid_crops

EXAM: Role = "exam"
VERDICTS = ("real", "fake", "unsure")


@dataclass(frozen=True)
class Beside:
    """What stands beside a run.

    Attributes:
        work: Folder of its stages.
        sampled: Fakes by generator, as they were sampled.
        foreign: The run's tissue, which the generators never saw.
        own: The tissue that they learned from.
        seed: Of crops, codec positions and resampling.
        narrate: Gives a progress callback for each stage, by title.
    """

    work: Path
    sampled: Mapping[str, PatchSet]
    foreign: Tissue
    own: Tissue
    seed: int
    narrate: Narrator

    def judged(self, reals: PatchSet, judges: Mapping[str, Detector]) -> tuple[dict[str, Any], list[pd.DataFrame]]:
        """The key ``beside`` of results.json, and the scores behind it.

        Args:
            reals: The run's held-out real patches.
            judges: Detectors and controls of the run, calibrated, by name.
        """
        against = {"foreign": (self.foreign, reals, False), "own": (self.own, self._own_reals(), True)}
        told: dict[str, Any] = {"tissue": self.own.name, "mpp": self.own.mpp}
        tables = []
        for name, (tissue, real, same_source) in against.items():
            fakes = {generator: self._fakes(name, generator, tissue) for generator in self.sampled}
            material = Material({EXAM: real}, {generator: {EXAM: part} for generator, part in fakes.items()})
            audit = Probe(self.work / name, self.seed, self.narrate).audit(material, tissue, same_source=same_source)
            test = HeldOut.of(real, fakes)
            with self.narrate(f"Judging generators beside, against {tissue.name}"):
                scores = pd.concat([test.score(judge, one) for one, judge in judges.items()], ignore_index=True)
            cells = auc_matrix(scores, seed=self.seed)
            told[name] = {
                "audit": audit,
                "auc": {one: {g: cell.to_json() for g, cell in row.items()} for one, row in cells.items()},
                "called": called(scores),
            }
            tables.append(scores.assign(detector=scores["detector"] + f", beside, {name}"))
        return told, tables

    def _own_reals(self) -> PatchSet:
        def make(to: Path) -> None:
            rng = np.random.default_rng([self.seed, 2])
            cut = self.own.cut(EXAM, disjoint=False, limit=COUNTS[EXAM], rng=rng)
            write_cut(self.own, cut, to / EXAM, True)

        fields = {"tissue": digest(self.own.facts()), "seed": self.seed}
        return PatchSet.open(stage(self.work / "own" / "real", fields, make) / EXAM)

    def _fakes(self, where: str, name: str, tissue: Tissue) -> PatchSet:
        patches = self.sampled[name]

        def make(to: Path) -> None:
            rng = np.random.default_rng([self.seed, 61])
            crops = [
                random_grid_crops(patches.pixels([row]), tissue.patch_px, rng) for row in range(len(patches))
            ]  # fmt: skip
            pixels = tissue.like_real(np.concatenate(crops), rng)
            write_role(name, pixels, patches.table, self.own.mpp, to / EXAM)

        fields = {"tissue": digest(tissue.facts()), "fakes": digest(list(patches.table["sha256"])), "seed": self.seed}
        return PatchSet.open(stage(self.work / where / "fakes" / name, fields, make) / EXAM)


def called(scores: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """Judge to "real" or generator to the share of its patches that got each verdict, by frozen thresholds."""
    source = scores["generator"].where(scores["label"] == "fake", "real")
    told: dict[str, dict[str, dict[str, float]]] = {}
    for (judge, name), rows in scores.groupby([scores["detector"], source], sort=False):
        shares = {verdict: float((rows["verdict"] == verdict).mean()) for verdict in VERDICTS}
        told.setdefault(str(judge), {})[str(name)] = shares
    return told

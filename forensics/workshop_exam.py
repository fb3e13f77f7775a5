"""What the card of a shipped detector measures: in domain, without each generator, after JPEG, on unseen tissue.

Every figure is of exam blocks and of fakes that nothing was trained or calibrated on, at thresholds that were frozen
before. A detector is judged on a generator by the copy of it that never saw that generator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from histoforensics.slides import PatchSet, tissue_fraction

from .augment import jpeg, resize
from .calibration import FALSE_POSITIVE_RATE, probabilities
from .detector import FAKE, REAL, Detector, Pixels, Verdict
from .fusion import StackedDetector
from .metrics import auc, cluster_bootstrap_auc, tpr_at_fpr
from .mixture import STAND_IN, Mixture, Part
from .registry import CONTROLS
from .workshop import Workshop

CUBIC = 1
VARIANTS: Mapping[str, Callable[[Pixels], Pixels]] = {
    "clean": lambda pixels: pixels,
    "jpeg_70": lambda pixels: jpeg(pixels, 70),
    "resize_0.75": lambda pixels: resize(pixels, 0.75, CUBIC),
}
UNSEEN_PER_IMAGE = 4
RESAMPLES = 500
Scores = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Unseen:
    """Real tissue of a kind that no shipped detector learned from: uint8 (n, p, p, 3), and the image of each."""

    name: str
    pixels: Pixels
    images: npt.NDArray[np.str_]

    @classmethod
    def of(cls, patches: PatchSet, patch_px: int, seed: int = 0) -> Unseen:
        """A few crops at random places of every image, each at least half tissue."""
        rng = np.random.default_rng(seed)
        found: list[Pixels] = []
        names: list[str] = []
        for row, file in enumerate(patches.table["file"].astype(str)):
            image = patches.pixels([row])[0]
            spare = np.array(image.shape[:2]) - patch_px
            if spare.min() < 0:
                continue
            crops = [
                image[y : y + patch_px, x : x + patch_px]
                for y, x in rng.integers(0, spare + 1, (5 * UNSEEN_PER_IMAGE, 2))
            ]
            kept = [crop for crop in crops if tissue_fraction(crop) >= 0.5][:UNSEEN_PER_IMAGE]
            found += kept
            names += [file] * len(kept)
        pixels = np.stack(found) if found else np.empty((0, patch_px, patch_px, 3), np.uint8)
        return cls("/".join(patches.root.resolve().parts[-2:]), pixels, np.array(names, dtype=str))


@dataclass(frozen=True, eq=False)
class Examiner:
    """Judges detectors of a workshop on its mixture's exam parts; logits are computed once for all that share them.

    Attributes:
        workshop: Its trainings.
        unseen: Real tissue from elsewhere, if there is any.
    """

    workshop: Workshop
    unseen: Unseen | None = None
    _patches: dict[tuple[str, str], Pixels] = field(default_factory=dict, repr=False)
    _logits: dict[tuple[str, str, str], npt.NDArray[np.float32]] = field(default_factory=dict, repr=False)
    _doubts: dict[tuple[str, str, str], npt.NDArray[np.bool_]] = field(default_factory=dict, repr=False)

    @property
    def mixture(self) -> Mixture:
        """What there is to be judged on."""
        return self.workshop.mixture

    def measure(self, name: str, full: Detector) -> dict[str, Any]:
        """Every figure of the card of ``name``, whose copy that learned from all generators is ``full``, calibrated."""
        generators = self.mixture.generators
        without = {g: self.workshop.trained(name, tuple(o for o in generators if o != g)) for g in generators}
        found: dict[str, Any] = {
            "nominal_false_positive_rate": FALSE_POSITIVE_RATE,
            "in_domain": {v: self._cell(full, "all", generators, v) for v in VARIANTS},
            "leave_one_out": {
                v: self._over({g: self._cell(judge, g, [g], v) for g, judge in without.items()}) for v in VARIANTS
            },
            "unseen_stand_ins": self._stand_ins(full),
        }
        if len(self.mixture.slides) > 1:
            found["other_slides"] = {s: self._other(full, s) for s in self.mixture.slides[1:]}
        if self.unseen is not None and len(self.unseen.pixels):
            found["unseen_tissue"] = self._on_unseen(full, self.unseen)
        return found

    def controls(self) -> dict[str, dict[str, float]]:
        """AUC of each trivial cue, in domain and on the average and the worst of the generators left out."""
        generators = self.mixture.generators
        found = {}
        for name in CONTROLS:
            full = self._cell(self.workshop.trained(name, generators), "all", generators, "clean")["auc"]
            each = [
                self._cell(self.workshop.trained(name, tuple(o for o in generators if o != g)), g, [g], "clean")["auc"]
                for g in generators
            ]
            found[name] = {"in_domain": full, "mean": _short(np.mean(each)), "worst": min(each)}
        return found

    def _cell(self, judge: Detector, which: str, generators: Sequence[str], variant: str) -> dict[str, Any]:
        """Reals of the home slide's exam blocks against fakes of ``generators``, all through the home history."""
        home = self.mixture.home
        chosen = [
            part
            for part in self._exam()
            if part.history == home and part.origin in (home, *generators) and not part.origin.startswith(STAND_IN)
        ]
        return self._judged(judge, which, chosen, variant)

    def _judged(self, judge: Detector, which: str, parts: Sequence[Part], variant: str) -> dict[str, Any]:
        scores = np.concatenate([self._scores(judge, which, part, variant) for part in parts])
        labels = np.repeat([part.label for part in parts], [len(part) for part in parts])
        groups = np.concatenate(
            [p.groups if p.label == REAL else np.char.add(f"{p.origin} ", np.arange(len(p)).astype(str)) for p in parts]
        )
        doubts = np.concatenate([self._doubted(judge, which, _key(part, variant)) for part in parts])
        verdicts = judge.verdicts(scores, doubtful=doubts)
        interval = cluster_bootstrap_auc(labels, scores, groups, RESAMPLES)
        assert judge.card.calibration is not None
        above = scores > judge.card.calibration.fake_above
        ranked = tpr_at_fpr(labels, scores, FALSE_POSITIVE_RATE)
        return {
            "auc": _short(interval.auc), "ci95": [_short(end) for end in interval.ci95],
            "n_real": int((labels == REAL).sum()), "n_fake": int((labels == FAKE).sum()),
            "tpr_at_5_percent_fpr": None if ranked is None else _short(ranked),
            "false_positive_rate": _short(above[labels == REAL].mean()),
            "true_positive_rate": _short(above[labels == FAKE].mean()),
            "unsure": _short((verdicts == Verdict.UNSURE.value).mean()), "doubted": _short(doubts.mean()),
        }  # fmt: skip

    @staticmethod
    def _over(each: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Cells of the generators left out, with the mean and the worst AUC and the means of the rates."""
        aucs = [cell["auc"] for cell in each.values()]
        told = ("tpr_at_5_percent_fpr", "true_positive_rate", "false_positive_rate", "unsure")
        known = {key: [cell[key] for cell in each.values() if cell[key] is not None] for key in told}
        means = {key: _short(np.mean(values)) if values else None for key, values in known.items()}
        return {"mean": _short(np.mean(aucs)), "worst": min(aucs), **means, "each": dict(each)}

    def _stand_ins(self, judge: Detector) -> dict[str, Any]:
        """AUC of stand-ins by kernels that were never trained on, against the home slide's reals."""
        home = self.mixture.home
        wanted = (home, STAND_IN + home)
        return self._judged(
            judge, "all", [p for p in self._exam() if p.history == home and p.origin in wanted], "clean"
        )

    def _other(self, judge: Detector, slide: str) -> dict[str, Any]:
        """Another slide's exam blocks in their own history, against all generators' fakes in the same."""
        wanted = (slide, *self.mixture.generators)
        return self._judged(
            judge, "all", [p for p in self._exam() if p.history == slide and p.origin in wanted], "clean"
        )

    def _on_unseen(self, judge: Detector, unseen: Unseen) -> dict[str, Any]:
        """False positives on tissue from elsewhere, as it is and after JPEG."""
        assert judge.card.calibration is not None
        found: dict[str, Any] = {
            "name": unseen.name, "patches": len(unseen.pixels), "images": len(set(unseen.images.tolist())),
        }  # fmt: skip
        fakes = [p for p in self._exam() if p.history == self.mixture.home and p.origin in self.mixture.generators]
        for variant, change in VARIANTS.items():
            key = (unseen.name, variant)
            if key not in self._patches:
                self._patches[key] = change(unseen.pixels)
            scores = self._of(judge, "all", key)
            doubts = self._doubted(judge, "all", key)
            fake = np.concatenate([self._scores(judge, "all", part, variant) for part in fakes])
            labels = np.repeat([REAL, FAKE], [len(scores), len(fake)])
            found[variant] = {
                "false_positive_rate": _short((scores > judge.card.calibration.fake_above).mean()),
                "called_fake": _short((judge.verdicts(scores, doubtful=doubts) == Verdict.FAKE.value).mean()),
                "unsure": _short((judge.verdicts(scores, doubtful=doubts) == Verdict.UNSURE.value).mean()),
                "auc": _short(auc(labels, np.concatenate([scores, fake]))),
            }
        return found

    def _exam(self) -> list[Part]:
        return [part for part in self.mixture.parts if part.role == "exam"]

    def _scores(self, judge: Detector, which: str, part: Part, variant: str) -> Scores:
        key = _key(part, variant)
        if key not in self._patches:
            self._patches[key] = VARIANTS[variant](part.pixels)
        return self._of(judge, which, key)

    def _doubted(self, judge: Detector, which: str, key: tuple[str, str]) -> npt.NDArray[np.bool_]:
        """Which patches are doubted. All detectors that never saw ``which`` were calibrated on the same patches."""
        name = (which, *key)
        if name not in self._doubts:
            reasons = judge.reasons_to_doubt(self._patches[key])
            self._doubts[name] = np.array([reason is not None for reason in reasons], dtype=bool)
        return self._doubts[name]

    def _of(self, judge: Detector, which: str, key: tuple[str, str]) -> Scores:
        """P(fake) by the copy of a detector that never saw the generator ``which``."""
        pixels = self._patches[key]
        if isinstance(judge, StackedDetector):
            columns = [self._cached(member, which, key, pixels) for member in judge.detectors]
            logits: Scores = _fused(judge, np.stack(columns, axis=1))
        else:
            logits = self._cached(judge, which, key, pixels)
        return probabilities(logits, judge.scale.item(), judge.bias.item())

    def _cached(self, judge: Detector, which: str, key: tuple[str, str], pixels: Pixels) -> npt.NDArray[np.float32]:
        name = (f"{judge.name} without {which}", *key)
        if name not in self._logits:
            self._logits[name] = self.workshop.logits(judge, pixels)
        return self._logits[name]


def _key(part: Part, variant: str) -> tuple[str, str]:
    return f"{part.origin} {part.history}", variant


def _fused(judge: StackedDetector, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """What a fusion makes of its members' logits (n, members)."""
    fused: npt.NDArray[np.float64] = (judge.llrs(torch.from_numpy(logits)).double() @ judge.weights.double()).numpy()
    return fused + judge.intercept.item()


def _short(value: Any) -> float:
    return round(float(value), 4)

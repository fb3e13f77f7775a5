"""The workshop: detectors trained on the widest mixture, and a fusion that weighs what they say of the unknown.

A fusion's weights are learned from members that were trained without a generator, on that generator's fakes and on real
blocks set apart: what is rewarded is finding fakes of an unknown origin. To judge the fusion itself on a generator that
nothing in it has seen, the same is done once more without it.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from histoforensics.slides import write_atomic
from histoforensics.slides.runcard import package_version, public, run_card

from .augment import Augmentation
from .calibration import FALSE_POSITIVE_RATE, STRICT_RATE, Calibration, exceeded_by
from .card import CARD
from .cnn import CnnRecipe
from .detector import FAKE, REAL, Detector, Pixels
from .encoder import EncoderDetector
from .freezing import freeze
from .fusion import FusionDetector
from .leaks import sha256_of_patches, split_digest
from .mixture import STAND_IN, Mixture, Part
from .registry import CONTROLS, DETECTORS, detector_class
from .splits import held_out
from .stacking import fit_stack
from .store import read_detector

MEMBERS = ("radial-lr", "dct-ridge", "wht-lr", "encoder-linear")  # of the fusion; each is shipped on its own as well
STACK_SHARE = 0.25  # of the training blocks of real tissue that no member learns from: the fusion's weights do
LICENCE = "Apache-2.0, as the package; the encoder's weights are EfficientNet-Lite0's, Apache-2.0"
TURNED = Augmentation(jpeg=0, blur=0, noise=0, stain=0)  # the mixture holds augmented copies already
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "radial-lr": {"copies": 0},
    "wht-lr": {"copies": 0},
    "dct-ridge": {"copies": 0, "penalties": (1e5, 1e4, 1e3)},
    # texture of 8 to 16 px, as later stages take unknown tissue for fake; its folds would choose too strong a penalty
    "encoder-linear": {"stages": (2, 3), "penalties": (3e2,)},
    "npr": {"recipe": CnnRecipe(steps=400, check_every=50, patience=8, good_enough=0.002, augmentation=TURNED)},
}
WARY = (
    "known fakes lie apart from the calibration reals, so the thresholds follow the reals and their augmented copies: "
    "fake above the smallest score that at most 1 % of them exceed, real below the smallest that at most 5 % exceed, "
    "unsure between"
)
CHUNK = 32  # patches that an encoder sees at once


@dataclass(frozen=True, eq=False)
class Workshop:
    """Trains detectors from one mixture; each training is kept in a folder and used again.

    Attributes:
        mixture: What there is to learn from.
        work: Folder of the kept trainings.
        seed: Of every random draw.
        members: Of a fusion.
        options: Of each detector's ``fit``.
    """

    mixture: Mixture
    work: Path
    seed: int = 0
    members: Sequence[str] = MEMBERS
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: OPTIONS)

    @cached_property
    def stack_groups(self) -> frozenset[str]:
        """Blocks of real training tissue, of every slide, that only fusions learn from."""
        rng = np.random.default_rng(self.seed)
        chosen: set[str] = set()
        for slide in self.mixture.slides:
            _, groups = self.mixture.where(lambda p, s=slide: _is_real(p, "train") and p.origin == s)  # type: ignore[misc]
            chosen |= set(groups[held_out(groups, STACK_SHARE, rng, slide)].tolist())
        return frozenset(chosen)

    def member(self, name: str, learn_from: Sequence[str]) -> Detector:
        """A fitted, uncalibrated detector or control that saw these generators' fakes and the stand-ins."""
        folder = self._folder(name, learn_from)
        if (folder / CARD).is_file():
            return read_detector(folder, DETECTORS | CONTROLS)
        kind, options = detector_class(name), self._options(name)
        parts = [p for p in self.mixture.parts if _is_real(p, "train") or self._teaches(p, learn_from)]
        sizes = [len(part) for part in parts]
        labels, groups = np.repeat([p.label for p in parts], sizes), np.concatenate([p.groups for p in parts])
        kept = ~np.isin(groups, sorted(self.stack_groups))
        pixels = np.concatenate([part.pixels for part in parts])
        common: dict[str, Any] = {"seed": self.seed, "groups": groups[kept], **options}
        if issubclass(kind, EncoderDetector):
            built = {key: value for key, value in options.items() if key != "penalties"}
            blank = kind.build(self.mixture.config.patch_px, **built)
            features = np.concatenate([self._features(blank, part.pixels) for part in parts])[kept]
            detector: Detector = kind.fit_measured(features, labels[kept], patch_px=blank.patch_px, **common)
        else:
            detector = kind.fit(pixels[kept], labels[kept], **common)
        clean = np.repeat([part.kind == "clean" for part in parts], sizes)
        seen = sha256_of_patches(pixels[kept & clean])
        detector.seen = {"training": seen}
        detector.card = replace(detector.card, splits={"training": split_digest(seen)})
        detector.save(folder)
        return read_detector(folder, DETECTORS | CONTROLS)

    def logits(self, detector: Detector, pixels: Pixels) -> npt.NDArray[np.float32]:
        """As :meth:`Detector.logits`; what a frozen encoder makes of a patch is measured once for all heads."""
        if not isinstance(detector, EncoderDetector):
            return detector.logits(pixels, CHUNK)
        features = self._features(detector, pixels)
        out: npt.NDArray[np.float32] = features @ detector.weights.numpy() + np.float32(detector.intercept.item())
        return out

    def fusion(self, learn_from: Sequence[str]) -> FusionDetector:
        """A fitted, uncalibrated fusion of the members."""
        real, groups = self.mixture.where(lambda p: _is_real(p, "train"))
        real = real[np.isin(groups, sorted(self.stack_groups))]
        columns, labels = [], []
        for unseen in learn_from:
            known = tuple(name for name in learn_from if name != unseen)
            fake, _ = self.mixture.where(lambda p, g=unseen: p.label == FAKE and p.role == "train" and p.origin == g)  # type: ignore[misc]
            judges = [self.member(name, known) for name in self.members]
            both = [np.concatenate([self.logits(judge, part) for part in (real, fake)]) for judge in judges]
            columns.append(np.stack(both, axis=1))
            labels.append(np.repeat([REAL, FAKE], [len(real), len(fake)]))
        members = [self.member(name, learn_from) for name in self.members]
        fused = FusionDetector.assembled(members, fit_stack(np.concatenate(columns), np.concatenate(labels)))
        clean, groups = self.mixture.where(lambda p: _is_real(p, "train") and p.kind == "clean")
        own = sha256_of_patches(clean[np.isin(groups, sorted(self.stack_groups))])
        fused.seen = {"training": tuple(dict.fromkeys([*(d for m in members for d in m.seen["training"]), *own]))}
        return fused

    def trained(self, name: str, learn_from: Sequence[str]) -> Detector:
        """A detector, fusion or control, calibrated with thresholds frozen on the calibration blocks."""
        started = time.time()
        fitted = self.fusion(learn_from) if name == FusionDetector.name else self.member(name, learn_from)
        real, real_groups = self.mixture.where(lambda p: _is_real(p, "calibration") and p.kind == "clean")
        fake, fake_groups = self.mixture.where(
            lambda p: p.label == FAKE and p.role == "calibration" and p.kind == "clean" and p.origin in learn_from
        )
        calibration = freeze(fitted, real, fake, real_groups=real_groups, fake_groups=fake_groups)
        copies, _ = self.mixture.where(lambda p: _is_real(p, "calibration") and p.kind == "augmented")
        calibration = wary(calibration, fitted.score(np.concatenate([real, copies])), fitted.score(fake))
        fitted.calibrate(calibration)
        clean = self.mixture.where(lambda p: _is_real(p, "train") and p.kind == "clean")
        fakes = self.mixture.where(lambda p: self._teaches(p, learn_from) and p.kind == "clean")
        facts, config = self.mixture.facts, self.mixture.config
        fitted.card = replace(
            fitted.card,
            name=name,
            kind=fitted.kind,
            seed=self.seed,
            options=public({**self._options(name), "augmentation": asdict(config.augmentation)}),
            calibration=calibration,
            promise=calibration.promise,
            codec_policy=self._policy(),
            replay_rounds=config.rounds,
            mpp=facts["slides"][self.mixture.home]["mpp"],
            licence=LICENCE,
            trained_on=public({
                "real": len(clean[0]), "fake": len(fakes[0]), "augmented_copies": config.copies,
                "real_groups": len(set(clean[1].tolist())), "fake_groups": len(set(fakes[1].tolist())),
                "generators": {g: facts["generators"][g] for g in learn_from}, "slides": facts["slides"],
                "stand_ins": sorted(set(fakes[1].tolist()) - set(learn_from)),
            }),
            run={**run_card({"detector": name, "seed": self.seed}, {}, started=started), **fitted.card.run},
        )  # fmt: skip
        return fitted

    def _features(self, encoder: EncoderDetector, pixels: Pixels) -> npt.NDArray[np.float32]:
        """Features (n, d) of patches; kept by what the patches and the encoder are."""
        told = [encoder.backbone, encoder.stages, pixels.shape, hashlib.sha256(pixels.tobytes()).hexdigest()]
        name = hashlib.sha256(json.dumps([package_version(), *told]).encode()).hexdigest()[:24]
        file = self.work / "features" / f"{name}.npy"
        if not file.is_file():
            with torch.inference_mode():
                chunks = [torch.from_numpy(pixels[i : i + CHUNK]) for i in range(0, len(pixels), CHUNK)]
                measured = [encoder.features(chunk).numpy() for chunk in chunks]
            buffer = io.BytesIO()
            np.save(buffer, np.concatenate(measured))
            write_atomic(file, buffer.getvalue())
        found: npt.NDArray[np.float32] = np.load(file, allow_pickle=False)
        return found

    @staticmethod
    def _teaches(part: Part, learn_from: Sequence[str]) -> bool:
        known = part.origin in learn_from or part.origin.startswith(STAND_IN)
        return part.label == FAKE and part.role == "train" and known

    def _options(self, name: str) -> Mapping[str, Any]:
        return self.options.get(name, {})

    def _folder(self, name: str, learn_from: Sequence[str]) -> Path:
        told = {
            "version": package_version(), "name": name, "learn_from": sorted(learn_from), "seed": self.seed,
            "options": repr(self._options(name)), "facts": self.mixture.facts, "config": asdict(self.mixture.config),
        }  # fmt: skip
        digest = hashlib.sha256(json.dumps(public(told), sort_keys=True).encode()).hexdigest()
        return self.work / f"{name}-{digest[:16]}"

    def _policy(self) -> str:
        config = self.mixture.config
        told = f"both classes through every known compression of {self.mixture.home}, {config.rounds} times"
        if len(self.mixture.slides) > 1:
            told += f"; a part of both through that of {', '.join(self.mixture.slides[1:])}, {config.away_rounds} times"
        return f"{told}, on the slide's own grid, and copies of both through random JPEG, resizing, blur and noise"


def wary(calibration: Calibration, real: npt.NDArray[np.float32], fake: npt.NDArray[np.float32]) -> Calibration:
    """The calibration with thresholds for fakes of unknown origin, where it tells the known ones apart without fail.

    Between classes that lie far apart any cut serves the fakes that are known, and an unknown generator's lie in
    between. So the thresholds follow the reals alone, those led through JPEG, blur and resizing among them.

    Args:
        calibration: As it was frozen.
        real: P(fake) of the calibration's reals and of their augmented copies (n,).
        fake: P(fake) of its fakes (m,).
    """
    if calibration.real_below != calibration.fake_above:
        return calibration
    low, high = (exceeded_by(real, share) for share in (FALSE_POSITIVE_RATE, STRICT_RATE))
    return replace(
        calibration,
        real_below=low,
        fake_above=high,
        false_positive_rate=float((real > high).mean()),
        miss_rate=float((fake < low).mean()),
        unsure_rate=float(np.mean([((p >= low) & (p <= high)).mean() for p in (real, fake)])),
        rule=WARY,
    )


def _is_real(part: Part, role: str) -> bool:
    return part.label == REAL and part.role == role

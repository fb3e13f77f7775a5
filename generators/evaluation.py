"""Evaluation: a generator beside real tissue, and real tissue beside other real tissue as the ruler.

Every figure depends on the features, on the number of patches and on the tissue: compare only figures that agree in all
three. What is measured are raw pixels of both sides, untruncated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoforensics.slides import Progress, require

from .augment import orient
from .checkpoints import LoadedGenerator
from .data import CropSource
from .features import DEFAULT_FEATURES, FeatureExtractor, feature_extractor
from .fidelity import (
    NEIGHBOURS,
    SUBSETS,
    frechet_distance,
    frechet_is_singular,
    kernel_distance,
    precision_recall,
)
from .neighbours import Memorisation, all_orientations, memorisation
from .reals import Reals, open_reals
from .sampling import sample, stream

TRAINING_CROPS = 400  # looked through for copies, each in eight orientations
PAIRS = 10  # closest pairs kept
LEAST = 20  # patches of each kind, below which no figure means anything
_BATCH = 64
_TRAINING, _OTHER, _HALF, _COPIES, _SUBSETS = 20, 21, 22, 23, 24  # streams of random numbers

Pixels = NDArray[np.uint8]
Features = NDArray[np.float32]


@dataclass(frozen=True)
class Pair:
    """A fake and the training patch nearest to it, turned as it fits best."""

    fake: Pixels
    real: Pixels
    distance: float
    number: int  # of the fake


@dataclass(frozen=True)
class Evaluation:
    """What was measured, and what its figures show.

    Attributes:
        results: The figures, ready for JSON.
        pairs: The fakes nearest to training patches, nearest first.
        checks: One check for copies a fold of the reals.
        reals: Some real patches to look at beside the samples.
    """

    results: dict[str, Any]
    pairs: list[Pair] = field(repr=False)
    checks: list[Memorisation] = field(repr=False)
    reals: Pixels = field(repr=False)


def evaluate(
    generator: LoadedGenerator,
    data: Sequence[Path | str],
    *,
    count: int = 1000,
    seed: int = 0,
    features: FeatureExtractor | str = DEFAULT_FEATURES,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure a generator against the tissue that it was trained on.

    Args:
        generator: From `load_generator`.
        data: Slides, or folders, PatchSets and zips; of a slide the training blocks are the generator's, the others
            the ruler's.
        count: Patches of each kind; fewer where the data are single patches and have no more.
        seed: Fixes fakes, crops and subsets.
        features: A name of `FEATURES`, or an extractor.
        progress: Called with (patches done, patches in all, what).

    Raises:
        ConfigError: ``count`` below 20, or an unknown extractor.
        PatchError: Too few real patches, or none.
    """
    require(count >= LEAST, "count", f"at least {LEAST}", count)
    extractor = feature_extractor(features) if isinstance(features, str) else features
    reals = open_reals(data, generator.config.resolution, seed)
    return _Evaluator(generator, reals, count, seed, extractor, progress).evaluation()


class _Evaluator:
    """One evaluation: draws patches, keeps count, and puts the figures together."""

    def __init__(
        self, generator: LoadedGenerator, reals: Reals, count: int, seed: int, extractor: FeatureExtractor,
        progress: Progress | None,
    ) -> None:  # fmt: skip
        self.generator, self.reals, self.count, self.seed = generator, reals, count, seed
        self.extractor, self.progress = extractor, progress
        self.copies = [min(self._size(source), TRAINING_CROPS) for source, _ in reals.folds]
        sources = [reals.training, *([] if reals.other is None else [reals.other])]
        halves = [] if reals.halves is None else list(reals.halves)
        self.total = count + sum(map(self._size, sources)) + sum(map(self._half_size, halves)) + 8 * sum(self.copies)
        self.done = 0

    def evaluation(self) -> Evaluation:
        reals = self.reals
        fake_pixels = np.concatenate(list(sample(self.generator, self.count, seed=self.seed)))
        fake = self._features(fake_pixels, "fakes")
        shown = self._draw(reals.training, self._size(reals.training), _TRAINING)
        training = self._features(shown, "training tissue")
        other = None
        if reals.other is not None:
            other = self._features(self._draw(reals.other, self._size(reals.other), _OTHER), "other tissue")
        halves = self._halves()
        checks, pairs = self._copies(fake_pixels, fake, other, halves)
        results = {
            "generator": self._about_generator(),
            "data": self._about_data(),
            "features": {
                "name": self.extractor.name, "dimensions": self.extractor.dimensions, "resize": self.extractor.resize,
            },
            "count": {"fake": len(fake), "training": len(training), "other": None if other is None else len(other)},
            "seed": self.seed,
            "kid": self._kid(fake, training, other, halves),
            "frechet": self._frechet(fake, training, other),
            "precision_recall": self._precision_recall(fake, training, other, halves),
            "memorisation": self._about_copies(checks),
        }  # fmt: skip
        return Evaluation(results, pairs, checks, shown[:64])

    def _kid(
        self, fake: Features, training: Features, other: Features | None, halves: tuple[Features, Features] | None
    ) -> dict[str, Any]:
        kid = self._measure(lambda a, b, rng: kernel_distance(a, b, rng)._asdict())
        found: dict[str, Any] = {"subsets": SUBSETS, "fake_to_training": kid(fake, training)}
        found["training_to_other"] = None if other is None else kid(training, other)
        found["fake_to_other"] = None if other is None else kid(fake, other)
        found["halves"] = None if halves is None else kid(*halves)
        ruler = "halves" if other is None else "training_to_other"
        return found | _ratio(found["fake_to_training"]["mean"], found[ruler], ruler)

    def _frechet(self, fake: Features, training: Features, other: Features | None) -> dict[str, Any]:
        samples = [one for one in (fake, training, other) if one is not None]
        smallest = min(map(len, samples))
        why_not = frechet_is_singular(smallest, smallest, self.extractor.dimensions)
        if why_not:
            return {"fake_to_training": None, "training_to_other": None, "why_not": why_not}
        return {
            "fake_to_training": frechet_distance(fake, training),
            "training_to_other": None if other is None else frechet_distance(training, other), "why_not": None,
        }  # fmt: skip

    def _precision_recall(
        self, fake: Features, training: Features, other: Features | None, halves: tuple[Features, Features] | None
    ) -> dict[str, Any]:
        found: dict[str, Any] = {"k": NEIGHBOURS, "fake": precision_recall(training, fake)._asdict()}
        if other is not None:
            found["other"] = precision_recall(training, other)._asdict()
        elif halves is not None:
            found["halves"] = precision_recall(*halves)._asdict()
        return found

    def _halves(self) -> tuple[Features, Features] | None:
        if self.reals.halves is None:
            return None
        first, second = (
            self._features(self._draw(half, self._half_size(half), _HALF), "half of the training tissue")
            for half in self.reals.halves
        )
        return first, second

    def _copies(
        self, fake_pixels: Pixels, fake: Features, other: Features | None, halves: tuple[Features, Features] | None
    ) -> tuple[list[Memorisation], list[Pair]]:
        swapped = [] if halves is None else [halves[1], halves[0]]
        held_out = swapped if other is None else [other]
        checks, pairs = [], []
        for (source, _), size, reference in zip(self.reals.folds, self.copies, held_out, strict=True):
            crops = source.draw(stream(self.seed, _COPIES), 0, size)
            check = memorisation(fake, reference, self._features(all_orientations(crops), "orientations"))
            checks.append(check)
            near = check.fake
            pairs += [
                Pair(fake_pixels[n], orient(crops[near.index[n]], int(near.orientation[n])), float(near.distance[n]), n)
                for n in np.argsort(near.distance)[:PAIRS].tolist()
            ]
        return checks, sorted(pairs, key=lambda pair: pair.distance)[:PAIRS]

    def _about_copies(self, checks: Sequence[Memorisation]) -> dict[str, Any]:
        if not checks:
            return {"share_below": None, "why_not": "the data are one picture, so no real patch is held out"}
        return {
            "share_below": float(np.mean([check.share_below for check in checks])), "expected": 0.05,
            "training_crops": sum(self.copies), "orientations": 8, "folds": [check.to_json() for check in checks],
            "is_of_training_data": self._is_trained_on(), "why_not": None,
        }  # fmt: skip

    def _about_generator(self) -> dict[str, Any]:
        one = self.generator
        images = one.card["images"]
        return {
            "name": one.name, "family": one.config.family, "sha256": one.sha256, "px": one.config.resolution,
            "kimg": None if images is None else images / 1000, "lod": one.lod, "psi": 1.0, "noise": "random",
        }  # fmt: skip

    def _about_data(self) -> dict[str, Any]:
        training = self.reals.training
        trained_mpp = self.generator.card["data"].get("mpp")
        differ = None not in (training.mpp, trained_mpp) and abs(training.mpp / trained_mpp - 1) > 0.05
        return training.to_json() | {
            "orientations": self.generator.config.orientations, "codec": self.reals.codec_note,
            "is_training_data": self._is_trained_on(),
            "scale_note": f"the generator draws {trained_mpp} um/px, the data have {training.mpp}" if differ else None,
        }  # fmt: skip

    def _is_trained_on(self) -> bool:
        return bool(self.reals.training.digest == self.generator.card["data"].get("digest"))

    def _measure(
        self, figure: Callable[[Features, Features, np.random.Generator], dict[str, Any]]
    ) -> Callable[[Features, Features], dict[str, Any]]:
        """``figure`` with random numbers of its own: every pair of samples sees the same subsets."""
        return lambda a, b: figure(a, b, np.random.default_rng(stream(self.seed, _SUBSETS)))

    def _size(self, source: CropSource) -> int:
        """Patches to draw: no more than there are where the pictures are single patches."""
        return self.count if source.order == "random" else min(self.count, len(source))

    def _half_size(self, source: CropSource) -> int:
        return max(self._size(source) // 2, 1) if source.order == "random" else self._size(source)

    def _draw(self, source: CropSource, count: int, role: int) -> Pixels:
        return source.draw(stream(self.seed, role), 0, count, self.generator.config.orientations)

    def _features(self, pixels: Pixels, note: str) -> Features:
        out = np.empty((len(pixels), self.extractor.dimensions), np.float32)
        for i in range(0, len(pixels), _BATCH):
            out[i : i + _BATCH] = self.extractor.features(pixels[i : i + _BATCH])
            self.done += len(pixels[i : i + _BATCH])
            if self.progress is not None:
                self.progress(self.done, self.total, note)
        return out


def _ratio(fake: float, real: dict[str, Any] | None, ruler: str) -> dict[str, Any]:
    """The fakes' distance over the reals' own, where that is a distance at all."""
    if real is None:
        return {"ratio": None, "ratio_to": None, "ratio_note": "the data are one picture: no other real tissue"}
    if real["mean"] <= 0:
        return {"ratio": None, "ratio_to": ruler, "ratio_note": "the reals' own KID is not above 0"}
    return {"ratio": fake / real["mean"], "ratio_to": ruler, "ratio_note": None}

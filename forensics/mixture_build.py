"""Building the mixture: patches are cut, sampled, compressed and augmented once, and kept while nothing changed."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from histoforensics.generators.checkpoints import LoadedGenerator
from histoforensics.generators.sampling import sample
from histoforensics.slides import BlockSplit, Slide, block_split, matched_codec, replay, require, write_atomic
from histoforensics.slides.blocks import Role
from histoforensics.slides.progress import Progress
from histoforensics.slides.runcard import package_version

from .augment import Pixels, augment
from .detector import FAKE, REAL
from .linear import shifted
from .mixture import GRID_PX, STAND_IN, Counts, Mixture, MixtureConfig, Part
from .standins import HELD_OUT_KERNELS, TRAIN_KERNELS, stand_ins

ROLES: tuple[Role, ...] = get_args(Role)
STRIDE_PX = 8  # of real patches: the phase in which a scan and an exam cut them
HOME_SHARE = 0.4  # of another slide's training and calibration tissue that goes through the home slide's history
AWAY_SHARE = 0.2  # of each generator's fakes that go through another slide's


def build_mixture(
    slides: Sequence[Slide],
    generators: Mapping[str, LoadedGenerator],
    config: MixtureConfig,
    work: Path,
    progress: Progress | None = None,
) -> Mixture:
    """Cut, sample, compress and augment; every part is kept in ``work`` and used again while nothing of it changed.

    Args:
        slides: The home slide first; blocks of each are split by :func:`block_split`.
        generators: By name.
        config: How much of what.
        work: Folder of the kept parts.
        progress: Told after each part.

    Raises:
        CodecError: If a slide's compressions cannot be replayed.
    """
    require(len(slides) > 0, "slides", "at least one", 0)
    require(len(generators) > 0, "generators", "at least one", 0)
    cutter = _Cutter(list(slides), [block_split(s, config.patch_px) for s in slides], config)
    plan = [*_real_plan(cutter), *_fake_plan(cutter, generators), *_stand_in_plan(cutter)]
    parts: list[Part] = []
    for number, (made, key, make) in enumerate(plan):
        clean = _kept(work, made, key, config, make)
        parts.append(clean)
        copies = {"train": config.copies, "calibration": 1, "exam": 0}[clean.role]
        for copy in range(copies):
            changed = {**key, "copy": copy, "augmentation": asdict(config.augmentation)}
            rng = _rng(config, changed)
            parts.append(
                _kept(work, replace(made, kind="augmented"), changed, config,
                      lambda c=clean, r=rng: (_augmented(c.pixels, config, r), c.groups))  # type: ignore[misc]
            )  # fmt: skip
        if progress is not None:
            progress(number + 1, len(plan), f"{clean.origin}, {clean.role}")
    return Mixture(
        parts=tuple(part for part in parts if len(part)),
        slides=tuple(slide.name for slide in slides),
        generators=tuple(generators),
        config=config,
        facts={
            "slides": {s.name: {"sha256": s.digest, "mpp": s.mpp_or_none, "codec": s.codec.kind} for s in slides},
            "generators": {
                name: {"sha256": g.sha256, "kimg": g.card["images"] / 1000} for name, g in generators.items()
            },
        },
    )


Make = Callable[[], tuple[Pixels, npt.NDArray[np.str_]]]
_Plan = list[tuple[Part, dict[str, Any], Make]]


@dataclass(frozen=True, eq=False)
class _Cutter:
    """Cuts patches of a role, and takes patches along a slide's history."""

    slides: list[Slide]
    splits: list[BlockSplit]
    config: MixtureConfig

    def rounds(self, number: int) -> int:
        return self.config.rounds if number == 0 else self.config.away_rounds

    def places(self, number: int, role: Role, count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        found = self.splits[number].positions(role, self.config.patch_px, STRIDE_PX)
        return found[np.sort(rng.permutation(len(found))[:count])]

    def cut(self, number: int, places: npt.NDArray[np.int64]) -> Pixels:
        px = self.config.patch_px
        read = [self.slides[number].read(int(x), int(y), px, px) for x, y in places]
        return np.stack(read) if read else np.empty((0, px, px, 3), np.uint8)

    def through(self, number: int, pixels: Pixels, places: npt.NDArray[np.int64]) -> Pixels:
        codec = matched_codec(self.slides[number].codec)
        return replay(codec, pixels, places[:, 0], places[:, 1], rounds=self.rounds(number))

    def like(self, number: int, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        """Patches from elsewhere along a slide's history, at places where its own tissue lies."""
        known = self.splits[number].positions("train", self.config.patch_px, STRIDE_PX)
        return self.through(number, pixels, known[rng.integers(len(known), size=len(pixels))])

    def counts(self, number: int) -> Counts:
        return self.config.home if number == 0 else self.config.away

    def key(self, number: int, **told: Any) -> dict[str, Any]:
        slide = self.slides[number]
        return {"slide": slide.digest, "codec": slide.codec.digest, "rounds": self.rounds(number), **told}


def _real_plan(cutter: _Cutter) -> _Plan:
    home = cutter.slides[0].name
    plan: _Plan = []
    for number, slide in enumerate(cutter.slides):
        for role in ROLES:
            count = cutter.counts(number).of(role)
            key = cutter.key(number, what="real", role=role, count=count)
            rng = _rng(cutter.config, key)
            places = cutter.places(number, role, count, rng)
            names = np.array([f"{slide.name}/{b}" for b in cutter.splits[number].block_names(places)], dtype=str)
            moved = 0 if number == 0 or role == "exam" else round(HOME_SHARE * len(places))
            order = rng.permutation(len(places))
            for rows, history in ((np.sort(order[moved:]), slide.name), (np.sort(order[:moved]), home)):
                if not len(rows):
                    continue

                def make(
                    number: int = number,
                    places: npt.NDArray[np.int64] = places[rows],
                    names: npt.NDArray[np.str_] = names[rows],
                    moved: bool = history != slide.name,
                    key: dict[str, Any] = key,
                ) -> tuple[Pixels, npt.NDArray[np.str_]]:
                    raw = cutter.cut(number, places)
                    if moved:
                        return cutter.like(0, raw, _rng(cutter.config, {**key, "moved": True})), names
                    return cutter.through(number, raw, places), names

                empty = _empty(REAL, slide.name, role, history)
                plan.append((empty, {**key, "history": history, "home": cutter.key(0)}, make))
    return plan


def _fake_plan(cutter: _Cutter, generators: Mapping[str, LoadedGenerator]) -> _Plan:
    plan: _Plan = []
    for name, generator in generators.items():
        start = 0
        for role in ROLES:
            count = cutter.config.fakes.of(role)
            for number, slide in enumerate(cutter.slides):
                share = count if number == 0 else round(AWAY_SHARE * count)
                key = cutter.key(number, what="fake", generator=generator.sha256, role=role, start=start, count=share)

                def make(
                    generator: LoadedGenerator = generator,
                    name: str = name,
                    number: int = number,
                    first: int = start,
                    share: int = share,
                    key: dict[str, Any] = key,
                ) -> tuple[Pixels, npt.NDArray[np.str_]]:
                    rng = _rng(cutter.config, key)
                    drawn = sample(generator, share, seed=cutter.config.seed, start=first)
                    images = np.concatenate([_crops(some, cutter.config.patch_px, rng) for some in drawn])
                    names = np.full(share, name)
                    return cutter.like(number, images, rng), names

                plan.append((_empty(FAKE, name, role, slide.name), key, make))
                start += share
    return plan


def _stand_in_plan(cutter: _Cutter) -> _Plan:
    plan: _Plan = []
    for number, slide in enumerate(cutter.slides):
        for role in ROLES:
            kernels = HELD_OUT_KERNELS if role == "exam" else TRAIN_KERNELS
            count = cutter.config.stand_ins.of(role)
            if count == 0:
                continue
            key = cutter.key(number, what="stand-in", role=role, count=count, kernels=list(kernels))

            def make(
                number: int = number,
                role: Role = role,
                count: int = count,
                kernels: tuple[str, ...] = kernels,
                key: dict[str, Any] = key,
            ) -> tuple[Pixels, npt.NDArray[np.str_]]:
                rng = _rng(cutter.config, key)
                places = cutter.places(number, role, count, rng)
                raw, drawn = cutter.cut(number, places), np.resize(np.array(kernels), len(places))
                made = np.empty_like(raw)
                for name in kernels:
                    made[drawn == name] = stand_ins(raw[drawn == name], [name], rng)
                return cutter.through(number, made, places), np.array([f"{STAND_IN}{name}" for name in drawn])

            plan.append((_empty(FAKE, STAND_IN + slide.name, role, slide.name), key, make))
    return plan


def _empty(label: int, origin: str, role: Role, history: str) -> Part:
    return Part(label, origin, role, history, "clean", np.empty(0, np.uint8), np.empty(0, dtype=str))


def _crops(images: Pixels, px: int, rng: np.random.Generator) -> Pixels:
    """One crop of ``px`` of each image (n, h, w, 3), its corner drawn from the 16-px grid."""
    spare = (min(images.shape[1:3]) - px) // GRID_PX
    require(spare >= 0, "patch_px", f"at most the generators' {min(images.shape[1:3])} px", px)
    corners = GRID_PX * rng.integers(spare + 1, size=(len(images), 2))
    return np.stack([image[y : y + px, x : x + px] for image, (y, x) in zip(images, corners, strict=True)])


def _augmented(pixels: Pixels, config: MixtureConfig, rng: np.random.Generator) -> Pixels:
    """A copy of each patch, cut at another phase of every grid and led through a random life."""
    moved = shifted(pixels, rng.integers(0, 8, (len(pixels), 2)))
    return augment(moved, rng, config.augmentation)


def _kept(work: Path, part: Part, key: Mapping[str, Any], config: MixtureConfig, make: Make) -> Part:
    """The part with its patches: from ``work`` if they were made before under the same key."""
    text = json.dumps({"version": package_version(), "px": config.patch_px, "seed": config.seed, **key}, sort_keys=True)
    file = work / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.npz"
    if not file.is_file():
        pixels, groups = make()
        buffer = io.BytesIO()
        np.savez(buffer, pixels=pixels, groups=groups.astype(str))
        write_atomic(file, buffer.getvalue())
    with np.load(file, allow_pickle=False) as kept:
        return replace(part, pixels=kept["pixels"], groups=kept["groups"])


def _rng(config: MixtureConfig, key: Mapping[str, Any]) -> np.random.Generator:
    """Random numbers that depend on the seed and on what is made, and on nothing that was made before."""
    digest = hashlib.sha256(json.dumps({"seed": config.seed, **key}, sort_keys=True).encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))

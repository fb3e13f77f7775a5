"""Where the patches of a splice come from: a patch set, a folder of images, or a generator that makes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from histoforensics.generators import LoadedGenerator, load_generator, sample
from histoforensics.generators.zoo import ZOO
from histoforensics.slides import PatchSet, pixel_digest

Pixels = NDArray[np.uint8]
Facts = dict[str, Any]


class Donor(Protocol):
    """Gives patches of one size, and tells of each where it came from."""

    name: str
    patch_px: int

    def take(self, count: int) -> tuple[Pixels, list[Facts]]:
        """The next ``count`` patches, (n, p, p, 3), uint8, and what is known of each."""


class PatchDonor:
    """Patches of a patch set in random order; none comes twice before all have come."""

    def __init__(self, patches: PatchSet, rng: np.random.Generator) -> None:
        self.name = patches.root.name
        self.patch_px = patches.size_px
        self._patches = patches
        self._rows = _endless(len(patches), rng)

    def take(self, count: int) -> tuple[Pixels, list[Facts]]:
        rows = [next(self._rows) for _ in range(count)]
        return self._patches.pixels(rows), [self._facts(row) for row in rows]

    def _facts(self, row: int) -> Facts:
        values = self._patches.table.iloc[row]
        wanted = ("id", "sha256", "label", "generator", "checkpoint_sha256", "seed")
        return {name: _plain(values[name]) for name in wanted if pd.notna(values[name])}


class GeneratorDonor:
    """Images of a generator, number 0, 1, 2 ... of a seed."""

    def __init__(self, generator: LoadedGenerator, seed: int) -> None:
        self.name = generator.name
        self.patch_px = generator.config.resolution
        self._generator, self._seed, self._next = generator, seed, 0

    def take(self, count: int) -> tuple[Pixels, list[Facts]]:
        images = np.concatenate(list(sample(self._generator, count, seed=self._seed, start=self._next)))
        numbers = range(self._next, self._next + count)
        self._next += count
        known = {"generator": self._generator.config.family, "checkpoint_sha256": self._generator.sha256}
        return images, [
            {"image": number, "seed": self._seed, "sha256": pixel_digest(image), **known}
            for number, image in zip(numbers, images, strict=True)
        ]


def open_donor(source: Path | str, *, seed: int = 0, device: str = "cpu") -> Donor:
    """The donor at a path: a generator's folder, weights or shipped name, a patch set, or a folder of images.

    Raises:
        PatchError, CheckpointError: If nothing usable is there, or the patches differ in size.
    """
    path = Path(source)
    is_shipped = str(source) in ZOO and not path.exists()
    if is_shipped or path.suffix == ".safetensors" or (path / "generator.safetensors").is_file():
        return GeneratorDonor(load_generator(source, device), seed)
    return PatchDonor(PatchSet.open(path), np.random.default_rng(seed))


def _endless(count: int, rng: np.random.Generator) -> Iterator[int]:
    while True:
        yield from rng.permutation(count).tolist()


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value

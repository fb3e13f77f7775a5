"""The material of a benchmark: real patches and fakes of every role, cut, matched and written as patch sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from histoforensics.slides import PatchError, PatchSet, PatchSetWriter

from .splits import ROLES, Role
from .tissue import Cut, Pixels, Tissue, random_grid_crops

EXAM_REALS = "exam_disjoint"  # no two share a pixel; the other patches of the exam's tissue may, and are clustered
COUNTS: Mapping[Role, int] = {"train": 300, "calibration": 120, "exam": 200}  # of a class or generator, at most
SAMPLES = sum(COUNTS.values())  # of each generator

_PASSED_ON = ("checkpoint_sha256", "seed", "psi", "noise_mode")


@dataclass(frozen=True)
class Material:
    """What detectors learn from and are judged on, read from the folders that the functions below write.

    Attributes:
        real: Role, or `EXAM_REALS`, to real patches.
        fakes: Generator to role to fakes.
    """

    real: Mapping[str, PatchSet]
    fakes: Mapping[str, Mapping[Role, PatchSet]]

    @classmethod
    def open(cls, real: Path, fakes: Mapping[str, Path]) -> Material:
        """The material in these folders."""
        return cls(
            {role: PatchSet.open(real / role) for role in (*ROLES, EXAM_REALS)},
            {name: {role: PatchSet.open(folder / role) for role in ROLES} for name, folder in fakes.items()},
        )


def write_real(tissue: Tissue, out: Path, seed: int, *, matched: bool = True) -> None:
    """Cut the real patches of every role into ``out/<role>``; matched ones after every known codec generation."""
    for number, role in enumerate(ROLES):
        rng = np.random.default_rng([seed, number])
        write_cut(tissue, tissue.cut(role, disjoint=False, limit=COUNTS[role], rng=rng), out / role, matched)
    rng = np.random.default_rng([seed, len(ROLES)])
    disjoint = tissue.cut("exam", disjoint=True, limit=COUNTS["exam"], rng=rng)
    write_cut(tissue, disjoint, out / EXAM_REALS, matched)


def write_fakes(name: str, sampled: PatchSet, tissue: Tissue, out: Path, seed: int, *, matched: bool = True) -> None:
    """Deal fakes to the roles and write a crop of each into ``out/<role>``; no image serves two roles.

    Raises:
        PatchError: If there are too few, or they are smaller than the judged size.
    """
    order = np.random.default_rng([seed, 7]).permutation(len(sampled))
    ends = np.cumsum([COUNTS[role] for role in ROLES])[:-1] * len(order) // SAMPLES
    parts = np.split(order, ends)
    if min(len(part) for part in parts) < 2:
        raise PatchError(
            f"{name}: {len(sampled)} fakes are too few to train, calibrate and examine on; give 12 or more."
        )
    for number, (role, part) in enumerate(zip(ROLES, parts, strict=True)):
        rng = np.random.default_rng([seed, 8 + number])
        rows = np.sort(part[: COUNTS[role]])
        crops = np.concatenate([random_grid_crops(sampled.pixels([int(row)]), tissue.patch_px, rng) for row in rows])
        pixels = tissue.like_real(crops, rng) if matched else crops
        write_role(name, pixels, sampled.table.iloc[rows], tissue.mpp, out / role)


def fake_path(pixels: Pixels, tissue: Tissue, rng: np.random.Generator) -> Pixels:
    """All that happens to sampled images (n, s, s, 3) before they are judged: a crop on the 16-px grid, the codec."""
    return tissue.like_real(random_grid_crops(pixels, tissue.patch_px, rng), rng)


def write_cut(tissue: Tissue, cut: Cut, out: Path, matched: bool) -> None:
    """Write real patches into the folder ``out``; matched ones after every known codec generation."""
    pixels = tissue.replay(cut) if matched else cut.pixels
    with PatchSetWriter(out, card={"kind": "real", "tissue": tissue.facts()}, overwrite=True) as writer:
        for patch, x, y, source, group in zip(pixels, cut.x, cut.y, cut.sources, cut.groups, strict=True):
            place: dict[str, Any] = {"x_level0": int(x), "y_level0": int(y), "mpp": tissue.mpp, "level": 0}
            writer.add(patch, label="real", **belonging(cut, str(source), str(group)), **place)


def belonging(cut: Cut, source: str, group: str) -> dict[str, Any]:
    """The manifest's columns that say what a patch has in common with others: its source, and the cut's group."""
    told = {"source_slide": source, "block": group}
    return told | ({cut.level: group} if cut.level in ("patient", "source_slide") else {})


def write_role(name: str, pixels: Pixels, rows: pd.DataFrame, mpp: float | None, out: Path) -> None:
    """Write fakes of a generator into the folder ``out``, with what the manifest ``rows`` says of their making."""
    with PatchSetWriter(out, card={"kind": "fake", "generator": name}, overwrite=True) as writer:
        for patch, (_, row) in zip(pixels, rows.iterrows(), strict=True):
            known = {column: row[column] for column in _PASSED_ON if pd.notna(row[column])}
            writer.add(patch, label="fake", generator=name, mpp=mpp, **known)

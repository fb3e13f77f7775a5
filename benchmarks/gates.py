"""Gates of a benchmark: the retrained placebo must find nothing, its positive control must find a codec."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from histoforensics.forensics.placebo import Placebo, placebo_auc
from histoforensics.slides import Codec, JpegGeneration, Progress, replay, write_atomic
from histoforensics.slides.codec import standard_table
from histoforensics.slides.synthetic import purple_tissue

from .material import fake_path
from .splits import ROLES
from .tissue import Tissue

PATCHES_PER_ROLE = 120
SYNTHETIC_SLIDES, PATCHES_PER_SLIDE = 16, 9
SYNTHETIC_QUALITY = 30  # as coarse as the sample slide

_GATE = "gate.json"


def path_placebo(
    tissue: Tissue,
    name: str,
    *,
    seed: int,
    budget_seconds: float | None = None,
    progress: Progress | None = None,
    options: Mapping[str, Any] | None = None,
) -> Placebo:
    """A detector retrained on real patches as they enter against other real ones that took the fakes' whole path.

    Its interval must hold 0.5: the path that fakes take to be judged leaves nothing that this detector finds.
    """
    rng = np.random.default_rng([seed, 11])
    cuts = [tissue.cut(role, disjoint=False, limit=PATCHES_PER_ROLE, rng=rng) for role in ROLES]
    entered = np.concatenate([tissue.replay(cut) for cut in cuts])
    through_path = np.concatenate([fake_path(cut.pixels, tissue, rng) for cut in cuts])
    groups = np.concatenate([cut.groups for cut in cuts])
    return placebo_auc(
        name, entered, through_path, groups, seed=seed, budget_seconds=budget_seconds, progress=progress,
        options=options,
    )  # fmt: skip


def codec_gate(
    patch_px: int,
    name: str,
    *,
    seed: int,
    budget_seconds: float | None = None,
    progress: Progress | None = None,
    options: Mapping[str, Any] | None = None,
) -> Placebo:
    """The same where it must fail: lossless synthetic tissue, one class of it JPEG. Wanted: 0.95 or more."""
    rng = np.random.default_rng([seed, 12])
    side = int(PATCHES_PER_SLIDE**0.5)
    slides = [purple_tissue((side * patch_px, side * patch_px), rng) for _ in range(SYNTHETIC_SLIDES)]
    lossless = np.stack([
        slide[y : y + patch_px, x : x + patch_px]
        for slide in slides
        for y in range(0, side * patch_px, patch_px)
        for x in range(0, side * patch_px, patch_px)
    ])  # fmt: skip
    generation = JpegGeneration((standard_table(SYNTHETIC_QUALITY),) * 3, "4:4:4", "rgb")
    compressed = replay(Codec("jpeg", (generation,), 240, 240), lossless)
    groups = np.repeat(np.arange(SYNTHETIC_SLIDES), side * side)
    return placebo_auc(
        name, lossless, compressed, groups, seed=seed, budget_seconds=budget_seconds, progress=progress,
        options=options,
    )  # fmt: skip


def write_gate(folder: Path, found: Placebo) -> None:
    """Keep what a gate measured."""
    write_atomic(folder / _GATE, json.dumps(asdict(found)) + "\n")


def read_gate(folder: Path) -> Placebo:
    """What `write_gate` kept."""
    values = json.loads((folder / _GATE).read_text("utf-8"))
    return Placebo(**values | {"ci95": tuple(values["ci95"])})

"""From patch sets on disk to a training set: one judged size, and a calibration split of whole groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from histoforensics.slides import PatchError, PatchSet, require

from .detector import Pixels
from .scoring import grid_crops
from .training import TrainingSet

CALIBRATION_SHARE = 0.25
LEVELS = (("patient",), ("source_slide",), ("source_slide", "block"))  # coarsest first
LOSSLESS = "both classes alike: lossless"  # the codec policy where nothing was ever compressed
UNMATCHED = "The codecs of real and fake patches differ or are not told, so this may be a codec detector."
FEWEST_GROUPS = 4  # that a level needs before it is used to split


def training_set(
    reals: Sequence[PatchSet],
    fakes: Sequence[PatchSet],
    *,
    seed: int = 0,
    patch_px: int | None = None,
    calibration_share: float = CALIBRATION_SHARE,
) -> TrainingSet:
    """Real and fake patches, split into a training and a calibration part.

    Real patches are split by the coarsest of patient, slide and block that has at least 4 groups, fakes patch by patch
    within each generator (they come from independent seeds). Patches larger than the judged size are cropped on the
    16-px grid; the judged size is the smallest of all sets' unless ``patch_px`` says otherwise.

    Args:
        reals: Real patches, one set or several.
        fakes: One patch set a generator, or several generators in one by the manifest's column.
        seed: Which groups calibrate.
        patch_px: The judged size.
        calibration_share: Of the groups, and of the fakes; at least one of each calibrates and one trains.

    Raises:
        PatchError: If sets have several sizes, or too few patches to split.
    """
    require(0 < calibration_share < 1, "calibration_share", "between 0 and 1", calibration_share)
    if not reals or not fakes:
        raise PatchError(f"{len(reals)} real and {len(fakes)} fake patch sets; a detector is trained on both classes.")
    rng = np.random.default_rng(seed)
    px = patch_px or min(patches.size_px for patches in (*reals, *fakes))
    level, groups = real_groups(pd.concat([patches.table for patches in reals], ignore_index=True))
    real_parts = [_crops(patches, px) for patches in reals]
    real_pixels = np.concatenate([pixels for pixels, _ in real_parts])
    first_rows = np.cumsum([0, *(len(patches) for patches in reals[:-1])])
    real_rows = np.concatenate([first + rows for first, (_, rows) in zip(first_rows, real_parts, strict=True)])
    fake_parts = [_crops(patches, px) for patches in fakes]
    generators = np.concatenate([_generators(s)[rows] for s, (_, rows) in zip(fakes, fake_parts, strict=True)])
    units = np.concatenate([np.char.add(f"{i} ", rows.astype(str)) for i, (_, rows) in enumerate(fake_parts)])
    fake_pixels = np.concatenate([pixels for pixels, _ in fake_parts])
    real_held = held_out(groups[real_rows], calibration_share, rng, f"{reals[0].root.name}: real")
    fake_held = np.zeros(len(units), dtype=bool)
    for name in np.unique(generators):
        own = generators == name
        fake_held[own] = held_out(units[own], calibration_share, rng, f"{name}: fake")
    return TrainingSet(
        real=real_pixels[~real_held],
        fake=fake_pixels[~fake_held],
        calibration_real=real_pixels[real_held],
        calibration_fake=fake_pixels[fake_held],
        real_groups=groups[real_rows][~real_held],
        fake_groups=generators[~fake_held],
        calibration_real_groups=groups[real_rows][real_held],
        calibration_fake_groups=generators[fake_held],
        provenance=_provenance(reals, fakes, level),
    )


def real_groups(table: pd.DataFrame) -> tuple[str, npt.NDArray[np.str_]]:
    """The level that real patches are split by, and each patch's group (n,), from a manifest."""
    for columns in LEVELS:
        known = table[list(columns)]
        if known.notna().all(axis=None) and len(known.drop_duplicates()) >= FEWEST_GROUPS:
            return columns[-1], known.astype(str).agg(" ".join, axis=1).to_numpy(dtype=str)
    return "patch", np.arange(len(table)).astype(str)


def held_out(
    groups: npt.NDArray[np.str_], share: float, rng: np.random.Generator, name: str = "patches"
) -> npt.NDArray[np.bool_]:
    """True for the patches (n,) of about ``share`` of the groups, drawn at random; at least one group each way.

    Raises:
        PatchError: If there are fewer than 2 groups.
    """
    names = np.unique(groups)
    if len(names) < 2:
        raise PatchError(f"{name} patches of only {len(names)} group cannot be split into training and calibration.")
    count = int(np.clip(round(share * len(names)), 1, len(names) - 1))
    return np.isin(groups, rng.permutation(names)[:count])


def _crops(patches: PatchSet, px: int) -> tuple[Pixels, npt.NDArray[np.intp]]:
    """Crops of a set's patches, and the row that each came from."""
    per_patch = [grid_crops(image, px, patches.root.name) for batch in patches.batches(64) for image in batch]
    rows = np.repeat(np.arange(len(per_patch)), [len(crops) for crops in per_patch])
    return np.concatenate(per_patch), rows


def _generators(patches: PatchSet) -> npt.NDArray[np.str_]:
    named = patches.table["generator"].fillna(patches.table["source_slide"]).fillna(patches.root.name)
    return named.to_numpy(dtype=str)


def _provenance(reals: Sequence[PatchSet], fakes: Sequence[PatchSet], level: str) -> dict[str, Any]:
    histories = [_codecs(patches) for patches in (*reals, *fakes)]
    matched = all(h == histories[0] and h != ["not told"] for h in histories)
    limits = []
    if not matched:
        limits.append(UNMATCHED)
    if level == "patch":
        limits.append("The manifest names no slides, blocks or patients, so patches were split one by one: the "
                      "calibration may be too good.")  # fmt: skip
    mpps = np.unique([mpp for patches in reals for mpp in patches.table["mpp"].dropna()])
    return {
        "codec_policy": f"both classes alike: {', '.join(histories[0])}" if matched else f"as found: {histories}",
        "mpp": float(mpps[0]) if len(mpps) == 1 else None,
        "limits": limits,
        "reals": [patches.root.name for patches in reals],
        "fakes": sorted({str(g) for patches in fakes for g in _generators(patches)}),
        "split_by": level,
    }


def _codecs(patches: PatchSet) -> list[str]:
    return sorted(patches.table["codec"].fillna("not told").astype(str).unique())

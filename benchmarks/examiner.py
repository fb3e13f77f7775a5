"""The examiner: draws the patches of an exam, matches fakes to reals, and freezes them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from histoforensics.slides import ExamError, PatchSet, atomic_folder, require

from .draw import draw
from .exam import ITEMS, KEY, KEY_COLUMNS, ORDER, Exam
from .matching import Features, colour_and_texture, match, standardise


@dataclass
class _Item:
    """One patch on its way into the exam; ``match`` is the place of its counterpart in the list."""

    truth: str
    generator: str | None
    source: pd.Series[Any]
    match: int | None = None
    distance: float | None = None


def build_exam(
    real: PatchSet,
    fakes: Mapping[str, PatchSet],
    out: Path | str,
    *,
    n_real: int = 30,
    n_per_generator: int = 10,
    seed: int = 0,
    features: Features = colour_and_texture,
    matched_on: str = "colour and texture",
    allow_overlap: bool = False,
    overwrite: bool = False,
) -> Exam:
    """Freeze an exam into the folder ``out``, which appears whole or not at all.

    The reals are drawn by ``seed``, one patch a block as far as the blocks go, and dealt to the generators by ``seed``;
    then each generator's fakes are chosen from all of its candidates so that the sum of distances to its reals is
    least. No generator picks its tissue first.

    Args:
        real: Disjoint real patches of the judged size, at least ``n_real``.
        fakes: Candidates by generator, codec-matched, of the same size, many more than ``n_per_generator``.
        out: The exam's folder.
        n_real: Real patches.
        n_per_generator: Fake patches of each generator; all together at most ``n_real``, as each has its own match.
        seed: Of the draw, the names and the order.
        features: Where resemblance is measured: uint8 (n, h, w, 3) to numbers (n, d).
        matched_on: What ``features`` are, in words for the report.
        allow_overlap: Whether reals may share tissue where there is too little; exam.json then says how many pairs do.
        overwrite: Whether an exam that stands there may be replaced.

    Raises:
        ExamError: If reals are too few or overlap, sizes differ, a class is mislabelled, or a patch comes twice.
    """
    _check_sizes(real, fakes, n_real, n_per_generator)
    rng = np.random.default_rng(seed)
    drawn, overlaps = draw(real.table, n_real, rng)
    if overlaps and not allow_overlap:
        raise ExamError(
            f"The real patches {overlaps[0][0]} and {overlaps[0][1]} of {real.root.name} overlap and there are too few "
            "others; tile with a stride of at least the patch size."
        )
    chosen = real.table.iloc[drawn].reset_index(drop=True)
    pixels = [real.pixels(drawn)]
    reference = features(pixels[0])
    items = [_Item("real", None, source) for _, source in chosen.iterrows()]
    for number, (generator, candidates) in enumerate(fakes.items()):
        dealt = np.arange(number * n_per_generator, (number + 1) * n_per_generator)  # `drawn` is already shuffled
        every = candidates.pixels()
        matches = match(standardise(reference[dealt], reference), standardise(features(every), reference))
        for target, row, distance in zip(dealt, matches.rows, matches.distances, strict=True):
            items[target].match, items[target].distance = len(items), float(distance)
            items.append(_Item("fake", generator, candidates.table.iloc[int(row)], int(target), float(distance)))
        pixels.append(every[matches.rows])
    told = {"matched_on": matched_on, "overlapping_pairs": len(overlaps)}
    return _freeze(Path(out), items, np.concatenate(pixels), rng, told, overwrite)


def _check_sizes(real: PatchSet, fakes: Mapping[str, PatchSet], n_real: int, n_per_generator: int) -> None:
    require(n_real >= 1, "n_real", "at least 1", n_real)
    require(n_per_generator >= 1, "n_per_generator", "at least 1", n_per_generator)
    if not fakes:
        raise ExamError("An exam needs fakes of at least one generator, got none.")
    if len(real) < n_real:
        raise ExamError(
            f"An exam with {n_real} real patches was asked for, but there are only {len(real)} to draw from."
        )
    n_fake = n_per_generator * len(fakes)
    if n_fake > n_real:
        raise ExamError(
            f"{n_per_generator} fakes of each of {len(fakes)} generators are {n_fake}, but each wants a real patch of "
            f"its own to stand against and there are {n_real}; ask for fewer fakes or more reals."
        )
    for name, patches, wrong in [("real", real, "fake"), *((name, fake, "real") for name, fake in fakes.items())]:
        if (patches.table["label"] == wrong).any():
            raise ExamError(f"{name}: some of these patches are labelled {wrong} in their manifest.")
        if patches.size_px != real.size_px:
            raise ExamError(
                f"{name}: the patches are {patches.size_px} px wide, but the real ones are {real.size_px} px; "
                "crop both to one judged size, never resize."
            )
        if wrong == "real" and len(patches) < n_per_generator:
            raise ExamError(f"{name}: {n_per_generator} fakes were asked for, but there are only {len(patches)}.")


def _freeze(
    out: Path,
    items: Sequence[_Item],
    pixels: NDArray[np.uint8],
    rng: np.random.Generator,
    told: Mapping[str, object],
    overwrite: bool,
) -> Exam:
    ids = [rng.bytes(8).hex() for _ in items]
    assert len(set(ids)) == len(ids)
    order = rng.permutation(len(items)) + 1
    served = [encode_item(patch) for patch in pixels]
    digests = [hashlib.sha256(png).hexdigest() for png in served]
    if len(set(digests)) < len(digests):
        raise ExamError(f"{len(digests) - len(set(digests))} of the {len(digests)} patches drawn come twice; keep one.")
    rows = [
        {
            "order": int(place),
            "id": name,
            "file": f"{name}.png",
            "sha256": digest,
            "truth": item.truth,
            "generator": item.generator,
            "matched_id": None if item.match is None else ids[item.match],
            "distance": item.distance,
            "source_id": str(item.source["id"]),
            "source_slide": _known(item.source["source_slide"]),
            "block": _known(item.source["block"]),
        }
        for item, name, place, digest in zip(items, ids, order, digests, strict=True)
    ]
    key = pd.DataFrame(rows, columns=list(KEY_COLUMNS)).sort_values("order", ignore_index=True)
    with atomic_folder(out, overwrite=overwrite) as work:
        write_items(work / ITEMS, dict(zip(ids, served, strict=True)))
        key.to_parquet(work / KEY, index=False)
        public = {"patch_px": int(pixels.shape[1]), **told, "items": list(key["file"])}
        (work / ORDER).write_text(json.dumps(public, indent=2) + "\n", "utf-8")
    return Exam(out, key)


def _known(value: Any) -> str | None:
    return None if pd.isna(value) else str(value)


def write_items(folder: Path, served: Mapping[str, bytes]) -> None:
    """Write encoded items, ``name`` to bytes, so that neither their times nor their order on disk tells the class.

    They are made class by class; in the order of their random names, and with one time for all, that is gone.
    """
    folder.mkdir()
    now = time.time_ns()
    for name, png in sorted(served.items()):
        path = folder / f"{name}.png"
        path.write_bytes(png)
        os.utime(path, ns=(now, now))


def encode_item(patch: NDArray[np.uint8]) -> bytes:
    """PNG without compression or metadata: equal sizes give equal lengths, so that no file's length tells its class."""
    buffer = io.BytesIO()
    Image.fromarray(patch).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()

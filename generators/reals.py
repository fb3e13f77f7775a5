"""The real patches that a generator is measured against: training tissue, other tissue, and two halves that differ.

Two samples of one piece of tissue hardly differ, so the reals' own distance is taken between *different* tissue: of a
slide between its training blocks and the others, of a folder between two halves of its pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from histoforensics.slides import PatchError, Slide, block_split

from .data import (
    IMAGE_ENDINGS,
    PAPER_JUDGED_PX,
    SAMPLE_JUDGED_PX,
    SMALL_PX,
    CropSource,
    block_rectangles,
    open_source,
    slide_source,
)

RAW_SLIDE = (
    "raw slide pixels as decoded, with the traces of the slide's compression; the fakes are raw too, and have such "
    "traces only as far as they were learnt"
)
RAW_FILES = "pixels of the files as they are; their compression history is not known, and the fakes have none"


@dataclass(frozen=True)
class Reals:
    """Where real patches come from.

    Attributes:
        training: What the generator learnt, or should have.
        other: A slide's other blocks; None where the data are no slide, or have no other block with tissue.
        halves: Two disjoint sets of the training pictures; None where there is only one picture.
        codec_note: What the pixels went through, a sentence.
    """

    training: CropSource
    other: CropSource | None
    halves: tuple[CropSource, CropSource] | None
    codec_note: str

    @property
    def folds(self) -> list[tuple[CropSource, CropSource]]:
        """(patches to copy from, patches of other tissue): what a check for copies compares."""
        if self.other is not None:
            return [(self.training, self.other)]
        return [] if self.halves is None else [self.halves, (self.halves[1], self.halves[0])]


def open_reals(data: Sequence[Path | str], patch_px: int, seed: int) -> Reals:
    """The real patches of slides, or of folders, PatchSets and zips.

    Args:
        data: What the generator was trained on.
        patch_px: Side of the generator's images, pixels.
        seed: Of the halves.

    Raises:
        PatchError: Nothing to cut from, a picture that is too small, or slides and folders together.
        SlideError: A slide that cannot be read.
    """
    paths = [Path(path) for path in data]
    are_slides = {_is_slide(path) for path in paths}
    if len(are_slides) > 1:
        raise PatchError("the real patches must come from slides or from folders of images, got both; give one kind.")
    training = open_source(paths, patch_px)
    is_slide = are_slides == {True}
    return Reals(
        training,
        _other_blocks(paths, patch_px) if is_slide else None,
        _halves(training, seed),
        RAW_SLIDE if is_slide else RAW_FILES,
    )


def _is_slide(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() not in IMAGE_ENDINGS | {".zip"}


def _other_blocks(paths: Sequence[Path], patch_px: int) -> CropSource | None:
    judged_px = PAPER_JUDGED_PX if patch_px > SMALL_PX else SAMPLE_JUDGED_PX
    parts: list[CropSource] = []
    for path in paths:
        slide = Slide.open(path)
        split = block_split(slide, judged_px)
        roles = (block_rectangles(split, role, patch_px) for role in ("calibration", "exam"))
        rectangles = [rectangle for found in roles for rectangle in found]
        if rectangles:
            parts.append(slide_source(slide, patch_px, rectangles))
    return _joined(parts, "other blocks") if parts else None


def _halves(whole: CropSource, seed: int) -> tuple[CropSource, CropSource] | None:
    if len(whole) < 2:
        return None
    order = np.random.default_rng(seed).permutation(len(whole))
    first, second = order[: len(order) // 2], order[len(order) // 2 :]
    return _part(whole, first.tolist(), "one half"), _part(whole, second.tolist(), "the other half")


def _part(whole: CropSource, numbers: Sequence[int], origin: str) -> CropSource:
    return CropSource(
        [whole.pictures[n] for n in sorted(numbers)], whole.patch_px, digest=whole.digest, min_tissue=whole.min_tissue,
        order=whole.order, mpp=whole.mpp, origin=f"{origin} of {whole.origin}",
    )  # fmt: skip


def _joined(parts: Sequence[CropSource], origin: str) -> CropSource:
    first = parts[0]
    return CropSource(
        [picture for part in parts for picture in part.pictures], first.patch_px, digest=first.digest,
        min_tissue=first.min_tissue, mpp=first.mpp, order="random", origin=origin,
    )  # fmt: skip

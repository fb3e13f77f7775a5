"""How patches lie on a slide that is scanned, and of what size they are."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from histoforensics.slides import DetectorError, Slide, require

from .history import History
from .windows import Lattice

if TYPE_CHECKING:
    from .card import DetectorCard
    from .detector import Detector


@dataclass(frozen=True, kw_only=True)
class ScanGrid:
    """How patches lie on a slide. They are always cut from level 0, at the detectors' judged size, never resampled.

    Attributes:
        stride_px: From one patch to the next, level-0 pixels; default half a patch. A multiple of 8 keeps the codec's
            blocks alike in all patches.
        min_tissue: Share of tissue that a patch needs to be judged, 0 to 1.
        mpp: Micrometres per level-0 pixel, for slides that do not say or are wrong.
        batch: Patches that a detector sees at once.
        history: "card" puts patches through the slide's own compressions as often as a detector's card says that its
            training patches went (see :mod:`histoforensics.forensics.history`); "as-is" judges what the slide holds.
    """

    stride_px: int | None = None
    min_tissue: float = 0.5
    mpp: float | None = None
    batch: int = 32
    history: History = "card"

    def __post_init__(self) -> None:
        require(self.stride_px is None or self.stride_px >= 1, "stride_px", "at least 1", self.stride_px)
        require(0 <= self.min_tissue <= 1, "min_tissue", "from 0 to 1", self.min_tissue)
        require(self.mpp is None or (math.isfinite(self.mpp) and self.mpp > 0), "mpp", "above 0", self.mpp)
        require(self.batch >= 1, "batch", "at least 1", self.batch)
        require(self.history in get_args(History), "history", "card or as-is", self.history)

    def lattice(self, slide: Slide, patch_px: int) -> Lattice:
        """The patches of ``patch_px`` on a slide."""
        return Lattice(*slide.dimensions, patch_px, self.stride_px or max(1, patch_px // 2))


def common_patch_px(detectors: Iterable[Detector | DetectorCard]) -> int:
    """The judged size that all detectors share.

    Raises:
        DetectorError: If there is none, they differ, or one has no thresholds.
    """
    judges = list(detectors)
    if not judges:
        raise DetectorError("a scan needs at least one detector.")
    for judge in judges:
        if not judge.is_calibrated:
            raise DetectorError(f"{judge.name}: no thresholds yet; train_detector freezes them on a calibration split.")
    sizes = {judge.patch_px: judge.name for judge in judges}
    if len(sizes) > 1:
        told = ", ".join(f"{name} {size} px" for size, name in sizes.items())
        raise DetectorError(f"the detectors judge patches of different sizes ({told}); scan with one size at a time.")
    return judges[0].patch_px

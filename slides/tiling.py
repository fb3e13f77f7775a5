"""Cut slides into a patch set, with an audit of what each filter kept and dropped."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .codec import Codec
from .errors import CodecError, PatchError, SlideUnreadable, require
from .grids import Grid, Layout
from .images import encode_png
from .patchset import Label
from .progress import Progress
from .runcard import public, run_card
from .slide import Slide
from .tissue import tissue_fraction
from .writer import PatchSetWriter

FILTERS = ("border", "unreadable", "tissue", "png bytes")  # in the order in which a patch meets them

_NOTHING: NDArray[np.uint8] = np.zeros((0, 0, 3), np.uint8)
_TCGA_PATIENT = re.compile(r"TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}")


@dataclass(frozen=True)
class Step:
    """What one filter did."""

    name: str
    kept: int
    dropped: int


@dataclass(frozen=True)
class TileReport:
    """The audit of one tiling run.

    Attributes:
        funnel: One step a filter, in order; ``kept`` of one is what the next one saw.
        slides: Per slide: name, sha256, mpp, level, factor, patches kept, unreadable places.
        card: The run card with all of this, as stored in card.json.
    """

    funnel: tuple[Step, ...]
    slides: tuple[dict[str, Any], ...]
    card: dict[str, Any]

    @property
    def kept(self) -> int:
        """Patches that passed every filter."""
        return self.funnel[-1].kept


def tile(
    slides: Sequence[Path | str],
    grid: Grid,
    out: Path | str | None,
    *,
    min_tissue: float = 0.0,
    min_png_bytes: int = 0,
    label: Label | None = "real",
    mpp: float | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> TileReport:
    """Cut every slide by ``grid`` into one patch set at ``out``; each region is read once.

    Args:
        slides: Slide files. Those with equal names are told apart by their digest.
        grid: ``PaperGrid`` or ``MppGrid``.
        out: Folder of the patch set; not touched by a dry run.
        min_tissue: Share of tissue that a patch needs, 0 to 1.
        min_png_bytes: Size that a patch needs as PNG at Pillow's default level, bytes; the paper's 100 kB is 100,000.
        label: What the manifest calls the patches.
        mpp: Micrometres per level-0 pixel, for slides that do not say or are wrong.
        dry_run: Count only. Patches are read and filtered as usual.
        overwrite: Replace what stands at ``out``.
        progress: Called after every patch.

    Raises:
        SlideError: If a slide cannot be opened or laid out; nothing is written then.
        PatchError: If no patch is left.
        ConfigError: If a setting is out of range, or ``out`` is not empty.
    """
    require(len(slides) > 0, "slides", "at least one file", len(slides))
    require(0 <= min_tissue <= 1, "min_tissue", "from 0 to 1", min_tissue)
    require(min_png_bytes >= 0, "min_png_bytes", "at least 0", min_png_bytes)
    require(dry_run or out is not None, "out", "a folder", out)
    config = {"grid": type(grid).__name__, **public(grid), "min_tissue": min_tissue, "min_png_bytes": min_png_bytes}
    started = time.time()
    with ExitStack() as stack:
        opened = [stack.enter_context(Slide.open(path, mpp)) for path in slides]
        names = _names(opened)
        cuts = [_Cut(slide, grid.layout(slide), name) for slide, name in zip(opened, names, strict=True)]
        writer = None if dry_run or out is None else stack.enter_context(PatchSetWriter(out, overwrite=overwrite))
        counts: Counter[str] = Counter(border=sum(cut.layout.border for cut in cuts))
        cells = counts["border"] + sum(len(cut.layout) for cut in cuts)
        for cut, before in zip(cuts, np.cumsum([0] + [len(cut.layout) for cut in cuts]), strict=False):
            for index in range(len(cut.layout)):
                verdict, pixels, png = cut.judge(index, min_tissue, min_png_bytes)
                counts[verdict] += 1
                if verdict == "kept" and writer is not None:
                    writer.add(pixels, label=label, png=png or None, **cut.fields(index))
                if progress is not None:
                    progress(int(before) + index + 1, cells - sum(c.layout.border for c in cuts), cut.name)
        funnel = _funnel(counts, cells)
        if not counts["kept"]:
            steps = ", ".join(f"{step.name} dropped {step.dropped}" for step in funnel if step.dropped)
            raise PatchError(f"no patch is left of {cells} grid cells: {steps or 'the grid is empty'}.")
        rows = tuple(cut.summary() for cut in cuts)
        card = {"made_by": "tile", "slides": list(rows), "funnel": [public(step) for step in funnel]}
        card |= run_card(config, {cut.name: cut.slide.digest for cut in cuts}, started=started)
        if writer is not None:
            writer.card.update(card)
    return TileReport(funnel, rows, card)


class _Cut:
    """One slide with its layout: judges patches and says what the manifest needs."""

    def __init__(self, slide: Slide, layout: Layout, name: str) -> None:
        self.slide, self.layout, self.name = slide, layout, name
        self.kept = 0
        self.unreadable: list[list[int]] = []
        self._codec = _known_codec(slide)
        patient = _TCGA_PATIENT.match(slide.name)
        mpp = slide.mpp_or_none
        self._common = {
            "source_slide": name, "patient": patient.group() if patient else None, "level": layout.level,
            "mpp": None if mpp is None else mpp * layout.factor,
            "resample_factor": layout.factor, "resample_kernel": layout.kernel,
        }  # fmt: skip

    def judge(self, index: int, min_tissue: float, min_png_bytes: int) -> tuple[str, NDArray[np.uint8], bytes]:
        """The filter that drops the patch, or "kept"; its pixels; its PNG if that had to be made."""
        try:
            pixels = self.layout.read(self.slide, index)
        except SlideUnreadable:  # counted and listed in the report: a broken tile costs itself alone
            self.unreadable.append(self.layout.positions[index].tolist())
            return "unreadable", _NOTHING, b""
        if pixels is None:
            return "border", _NOTHING, b""
        if min_tissue > 0 and tissue_fraction(pixels) < min_tissue:
            return "tissue", pixels, b""
        png = encode_png(pixels) if min_png_bytes else b""
        if len(png) < min_png_bytes:
            return "png bytes", pixels, png
        self.kept += 1
        return "kept", pixels, png

    def fields(self, index: int) -> dict[str, Any]:
        """The manifest's columns for a patch. Resampled pixels lie on no block grid any more."""
        x, y = (int(v) for v in self.layout.positions[index])
        codec: dict[str, Any] = {}
        if self._codec is not None:
            is_whole = self.layout.factor == 1.0
            codec = self._codec.manifest_fields(x, y) if is_whole else {"codec": self._codec.kind}
        return {**self._common, "x_level0": x, "y_level0": y, **codec}

    def summary(self) -> dict[str, Any]:
        """The slide's row in the report."""
        return {
            "name": self.name, "sha256": self.slide.digest, "mpp": self._common["mpp"], "level": self.layout.level,
            "factor": self.layout.factor, "patches": self.kept, "unreadable": self.unreadable,
        }  # fmt: skip


def _known_codec(slide: Slide) -> Codec | None:
    """The codec, or ``None`` for files whose streams we cannot read (not TIFF-based): the columns then stay empty."""
    try:
        return slide.codec
    except CodecError:
        return None


def _funnel(counts: Counter[str], cells: int) -> tuple[Step, ...]:
    steps, left = [], cells
    for name in FILTERS:
        left -= counts[name]
        steps.append(Step(name, left, counts[name]))
    return tuple(steps)


def _names(slides: Sequence[Slide]) -> list[str]:
    """Slide names, with the start of the digest where two files share one."""
    times = Counter(slide.name for slide in slides)
    return [slide.name if times[slide.name] == 1 else f"{slide.name}-{slide.digest[:8]}" for slide in slides]

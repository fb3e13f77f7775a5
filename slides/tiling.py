"""Cut slides into a patch set, with an audit of what each filter kept and dropped."""

from __future__ import annotations

import re
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .codec import Codec
from .errors import CodecError, PatchError, SlideUnreadable, require
from .executor import cores
from .grids import Grid, Layout
from .images import encode_png
from .patchset import Label
from .progress import Progress
from .runcard import public, run_card
from .slide import Slide
from .tissue import has_tissue
from .writer import PatchSetWriter

FILTERS = ("border", "unreadable", "tissue", "png bytes")  # in the order in which a patch meets them

AHEAD = 4  # patches a thread that are read before the first of them is judged

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
    threads: int | None = None,
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
        threads: That compress patches while the next ones are read; default one a core. The patch set is the same.
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
    require(threads is None or threads >= 1, "threads", "at least 1", threads)
    config = {"grid": type(grid).__name__, **public(grid), "min_tissue": min_tissue, "min_png_bytes": min_png_bytes}
    started = time.time()
    with ExitStack() as stack:
        opened = [stack.enter_context(Slide.open(path, mpp)) for path in slides]
        names = _names(opened)
        cuts = [_Cut(slide, grid.layout(slide), name) for slide, name in zip(opened, names, strict=True)]
        writer = None if dry_run or out is None else stack.enter_context(PatchSetWriter(out, overwrite=overwrite))
        counts: Counter[str] = Counter(border=sum(cut.layout.border for cut in cuts))
        cells = counts["border"] + sum(len(cut.layout) for cut in cuts)
        scales = _Scales(min_tissue, min_png_bytes, writer is not None)
        total = sum(len(cut.layout) for cut in cuts)
        for done, (cut, index, pixels, found) in enumerate(_weighed(cuts, scales, threads or cores()), start=1):
            verdict, png = found
            counts[verdict] += 1
            if verdict == "kept":
                cut.kept += 1
                if writer is not None:
                    writer.add(pixels, label=label, png=png, **cut.fields(index))
            if progress is not None:
                progress(done, total, cut.name)
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


@dataclass(frozen=True)
class _Scales:
    """The filters that look at pixels, and the PNG of what they keep."""

    min_tissue: float
    min_png_bytes: int
    is_written: bool

    @property
    def makes_png(self) -> bool:
        return self.is_written or self.min_png_bytes > 0

    def weigh(self, pixels: NDArray[np.uint8]) -> tuple[str, bytes]:
        """The filter that drops the patch, or "kept", and its PNG if that was needed."""
        if self.min_tissue > 0 and not has_tissue(pixels, self.min_tissue):
            return "tissue", b""
        png = encode_png(pixels) if self.makes_png else b""
        return ("kept" if len(png) >= self.min_png_bytes else "png bytes"), png


_Read = tuple["_Cut", int, NDArray[np.uint8], str]
_Weighed = tuple["_Cut", int, NDArray[np.uint8], tuple[str, bytes]]


def _weighed(cuts: Sequence[_Cut], scales: _Scales, threads: int) -> Iterator[_Weighed]:
    """Every patch in order: its cut, index, pixels, verdict and PNG.

    One thread reads; where there is something to compress others weigh what was read, a few patches ahead at most.
    """
    read = (found for cut in cuts for found in cut.read())
    if not scales.makes_png:  # quicker than handing it to a thread
        for cut, index, pixels, failed in read:
            yield cut, index, pixels, (failed, b"") if failed else scales.weigh(pixels)
        return
    waiting: deque[tuple[_Cut, int, NDArray[np.uint8], str, Future[tuple[str, bytes]] | None]] = deque()

    def first() -> _Weighed:
        cut, index, pixels, failed, found = waiting.popleft()
        return cut, index, pixels, (failed, b"") if found is None else found.result()

    with ThreadPoolExecutor(threads) as pool:
        for cut, index, pixels, failed in read:
            waiting.append((cut, index, pixels, failed, None if failed else pool.submit(scales.weigh, pixels)))
            if len(waiting) > AHEAD * threads:
                yield first()
        while waiting:
            yield first()


class _Cut:
    """One slide with its layout: reads patches and says what the manifest needs."""

    def __init__(self, slide: Slide, layout: Layout, name: str) -> None:
        self.slide, self.layout, self.name = slide, layout, name
        self.kept = 0
        self.unreadable: list[list[int]] = []
        patient = _TCGA_PATIENT.match(slide.name)
        mpp = slide.mpp_or_none
        self._common = {
            "source_slide": name, "patient": patient.group() if patient else None, "level": layout.level,
            "mpp": None if mpp is None else mpp * layout.factor,
            "resample_factor": layout.factor, "resample_kernel": layout.kernel,
        }  # fmt: skip

    @cached_property
    def _codec(self) -> Codec | None:
        """The codec, or ``None`` where its streams cannot be read (not TIFF-based): the columns then stay empty."""
        try:
            return self.slide.codec
        except CodecError:
            return None

    def read(self) -> Iterator[_Read]:
        """Every patch in order and "", or no pixels and why there are none."""
        for run in self.layout.runs(self.slide):
            yield from self._read_run(run)

    def _read_run(self, run: range) -> Iterator[_Read]:
        try:
            patches = self.layout.read_run(self.slide, run)
        except SlideUnreadable:  # counted and listed in the report: a broken tile costs no patch beside it
            if len(run) > 1:
                for index in run:
                    yield from self._read_run(range(index, index + 1))
                return
            self.unreadable.append(self.layout.positions[run.start].tolist())
            yield self, run.start, _NOTHING, "unreadable"
            return
        for index, pixels in zip(run, patches, strict=True):
            yield (self, index, _NOTHING, "border") if pixels is None else (self, index, pixels, "")

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

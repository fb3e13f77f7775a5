"""The tamper benchmark: are spliced fakes found, and is it the fake that is found or the splicing?

Regions of the exam's blocks are replaced by fakes, and the same regions once more by real tissue from other exam
blocks of the same slide, through the same mosaic, stain matching, blending and codec. The scores of either are compared
with those of equally drawn regions in blocks that stay untouched. A detector that finds the real splices as well finds
seams.

That comparison is one of blocks: a slide with five of them leaves a wide interval, and more draws do not narrow it,
since they come back to the same five. So the same is asked at the same place as well: how often a region scores higher
than what stood there before. There the tissue of a block weighs on both sides alike, and 0.5 is a splice that nobody
sees.

Nothing here chooses: the headline is the mean of all detectors' P(fake), and thresholds come from the cards. Tampered
blocks are read from the same JPEG streams that a tampered file would hold (``TamperedView``), and patches are judged as
a scan judges them, within a block.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from histoforensics.forensics import FAKE, REAL, Detector, cluster_bootstrap_auc
from histoforensics.forensics.history import Panel, slide_panel
from histoforensics.forensics.localisation import region_score
from histoforensics.forensics.scan_grid import common_patch_px
from histoforensics.forensics.scoremap import BACKGROUND, OK, ScoreMap
from histoforensics.forensics.splice import OVERLAP_PX, mosaic_places, padded_box, splice
from histoforensics.forensics.tamper_blend import MARGIN_PX, Blend
from histoforensics.forensics.tamper_regions import Region, Shape, draw_mask
from histoforensics.forensics.tamper_view import Splice, TamperedView, jpeg_tiles
from histoforensics.forensics.windows import Lattice
from histoforensics.slides import BlockSplit, PatchError, PatchSet, Progress, Slide, require, tissue_fraction

from .tissue import SlideTissue, Tissue

Pixels = NDArray[np.uint8]
Places = NDArray[np.int64]

FUSED = "mean of all detectors"
FILE = "tampering.json"
ARMS = ("fake", "real_control")
GRID_PX = 16  # real donors keep their place on the codec's grid, so that no second grid gives them away
LEAST_BLOCKS = 4  # two to tamper with and two to leave alone: fewer give no interval
MIN_TISSUE = 0.5


@dataclass(frozen=True, kw_only=True)
class TamperTest:
    """What a tamper benchmark does.

    Attributes:
        seeds: Draws of blocks, regions and patches; in each, half of the blocks are tampered with.
        mosaic: Patches along a region's edge: a region is as large as a square mosaic of these.
        shape: Of the regions.
        blend: Of their edges.
        match_stain: Whether patches take the stain of the tissue that they replace.
        seed: Of everything drawn.
    """

    seeds: int = 20
    mosaic: int = 2
    shape: Shape = "irregular"
    blend: Blend = "feather"
    match_stain: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.seeds >= 1, "seeds", "at least 1", self.seeds)
        require(self.mosaic >= 1, "mosaic", "at least 1", self.mosaic)

    def size_px(self, patch_px: int) -> int:
        """Edge of a region, pixels."""
        return self.mosaic * (patch_px - OVERLAP_PX) + OVERLAP_PX - 2 * MARGIN_PX


Scene = tuple[Slide, BlockSplit]


def tampered_slide(tissue: Tissue) -> Scene:
    """The slide of a benchmark that can be tampered with, and its blocks.

    Raises:
        ConfigError: If the tissue is not exactly one slide.
        CodecError: If it is not made of JPEG tiles.
    """
    parts = tissue.parts if isinstance(tissue, SlideTissue) else []
    require(len(parts) == 1, "the tissue to tamper with", "one slide", f"{len(parts)} slides")
    jpeg_tiles(parts[0][0])
    return parts[0]


class Reader(Protocol):
    """A slide, tampered with or not."""

    def read(self, x_level0: int, y_level0: int, width: int, height: int) -> Pixels:
        """A region of level 0."""


def tamper_benchmark(
    slide: Slide,
    split: BlockSplit,
    fakes: Mapping[str, PatchSet],
    detectors: Mapping[str, Detector],
    test: TamperTest | None = None,
    *,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Region AUC of spliced fakes and of equally spliced real tissue, against untouched tissue.

    Args:
        slide: An open JPEG slide.
        split: Its blocks; only the exam's are read.
        fakes: Generator -> fakes that no detector has seen, as they were sampled, of the judged size or larger. Each
            region is filled by one generator, in turn.
        detectors: Name -> calibrated detector, trained on other blocks.
        test: What is done.
        progress: Told after each seed.

    Returns:
        ``fake`` and ``real_control`` of the headline, each with ``region_auc`` {auc, ci95, ...}, ``raised`` {share,
        ci95, ...}, how often a splice scores above what stood there before, and ``hits``;
        ``detectors``, the same of each; ``generators``, the headline's AUC of each; ``untouched_hits`` and facts.
        Intervals resample whole blocks.

    Raises:
        PatchError: If fewer than four exam blocks have room for a region on tissue.
        CodecError: If the slide is not made of JPEG tiles.
    """
    test, started = test or TamperTest(), time.monotonic()
    arena = _Arena(slide, split, detectors, test)
    rows: list[dict[str, Any]] = []
    for number in range(test.seeds):
        rows += [row | {"seed": number} for row in arena.round(number, fakes)]
        if progress is not None:
            progress(number + 1, test.seeds, slide.name)
    table = pd.DataFrame(rows).dropna(subset=[FUSED])
    told = {name: _told(table, name, test.seed) for name in (*detectors, FUSED)}
    return {
        **{arm: told[FUSED][arm] for arm in ARMS},
        "untouched_hits": told[FUSED]["untouched_hits"],
        "headline": FUSED,
        "detectors": {name: told[name] for name in detectors},
        "generators": {
            name: _auc(table[(table["arm"] == "untouched") | (table["generator"] == name)], FUSED, "fake", test.seed)
            for name in fakes
        },
        "test": asdict(test) | {"size_px": arena.size_px, "patch_px": arena.patch_px, "stride_px": arena.stride_px},
        "blocks": len(arena.blocks),
        "unjudged": sum(row[FUSED] is None for row in rows if row["arm"] != "before"),
        "not_replayed": arena.not_replayed,
        "seconds": round(time.monotonic() - started, 1),
    }


@dataclass
class _Arena:
    """The exam's blocks of a slide, and what detectors say of regions in them."""

    slide: Slide
    split: BlockSplit
    detectors: Mapping[str, Detector]
    test: TamperTest
    patch_px: int = field(init=False)
    size_px: int = field(init=False)
    stride_px: int = field(init=False)
    blocks: dict[str, Places] = field(init=False)  # name -> corners where a region with its margin lies on tissue

    def __post_init__(self) -> None:
        self.patch_px = common_patch_px(self.detectors.values())
        self.size_px = self.test.size_px(self.patch_px)
        self.stride_px = self.patch_px // 2
        edge = self.size_px + 2 * MARGIN_PX
        self.blocks = _by_block(self.split, self.split.positions("exam", edge, 1, MIN_TISSUE))
        if len(self.blocks) < LEAST_BLOCKS:
            raise PatchError(
                f"{self.slide.name}: {len(self.blocks)} exam blocks have room for a region of {self.size_px} px on "
                f"tissue; the tamper benchmark needs {LEAST_BLOCKS}."
            )
        self._donors = _by_block(
            self.split, self.split.positions("exam", self.patch_px + GRID_PX - 1, GRID_PX, MIN_TISSUE)
        )
        self._panel, self.not_replayed = slide_panel(self.slide, self.detectors)
        self._untouched: dict[str, ScoreMap] = {}

    def round(self, number: int, fakes: Mapping[str, PatchSet]) -> list[dict[str, Any]]:
        """One draw: the scores of every region, one row each."""
        rng = np.random.default_rng([self.test.seed, number])
        names = [list(self.blocks)[i] for i in rng.permutation(len(self.blocks))]
        half = len(names) // 2
        rows = [self._row(name, "untouched", None, self._plain(name), self._region(name, rng)) for name in names[half:]]
        for place, name in enumerate(names[:half]):
            region = self._region(name, rng)
            generator = list(fakes)[(number + place) % len(fakes)]
            rows.append(self._row(name, "before", None, self._plain(name), region))
            donors = {"fake": self._fakes(fakes[generator], region, rng), "real_control": self._real(name, region, rng)}
            for arm, patches in donors.items():
                view = TamperedView(self.slide, [self._splice(region, patches)])
                source = generator if arm == "fake" else None
                rows.append(self._row(name, arm, source, self._judge(view, name), region))
        return rows

    def _region(self, block: str, rng: np.random.Generator) -> Region:
        mask = draw_mask(self.test.shape, self.size_px, rng)
        corners = self.blocks[block]
        x, y = corners[rng.integers(len(corners))]
        return Region(int(x) + MARGIN_PX, int(y) + MARGIN_PX, mask, self.size_px)

    def _splice(self, region: Region, patches: Pixels) -> Splice:
        target = self.slide.read(*padded_box(region))
        pixels = splice(target, patches, region, how=self.test.blend, stain=self.test.match_stain)
        return Splice(region, pixels, {})

    def _fakes(self, fakes: PatchSet, region: Region, rng: np.random.Generator) -> Pixels:
        count = len(self._mosaic(region))
        rows = rng.choice(len(fakes), count, replace=len(fakes) < count)
        pixels = fakes.pixels(rows)
        top, left = ((extent - self.patch_px) // 2 // GRID_PX * GRID_PX for extent in pixels.shape[1:3])
        if min(pixels.shape[1:3]) < self.patch_px:
            raise PatchError(f"{fakes.root.name}: fakes of at least {self.patch_px} px are wanted for splices.")
        return pixels[:, top : top + self.patch_px, left : left + self.patch_px]

    def _real(self, block: str, region: Region, rng: np.random.Generator) -> Pixels:
        """Real patches from other exam blocks, each on the codec's grid as its new place is."""
        others = np.concatenate([corners for name, corners in self._donors.items() if name != block])
        cut = []
        for x, y in self._mosaic(region):
            base_x, base_y = others[rng.integers(len(others))]
            from_x, from_y = base_x + (x - base_x) % GRID_PX, base_y + (y - base_y) % GRID_PX
            cut.append(self.slide.read(int(from_x), int(from_y), self.patch_px, self.patch_px))
        return np.stack(cut)

    def _mosaic(self, region: Region) -> list[tuple[int, int]]:
        """Level-0 corners of the patches that fill a region."""
        x, y, width, height = padded_box(region)
        return [(x + left, y + top) for left, top in mosaic_places(height, width, self.patch_px)]

    def _plain(self, block: str) -> ScoreMap:
        if block not in self._untouched:
            self._untouched[block] = self._judge(self.slide, block)
        return self._untouched[block]

    def _judge(self, reader: Reader, block: str) -> ScoreMap:
        return judge_block(reader, _box(self.split, block), self._panel, self.patch_px, self.stride_px)

    def _row(self, block: str, arm: str, generator: str | None, scores: ScoreMap, region: Region) -> dict[str, Any]:
        x, y, _, _ = _box(self.split, block)
        local = region.moved(region.x - x, region.y - y)
        found: dict[str, Any] = {"block": block, "arm": arm, "generator": generator, "place": (region.x, region.y)}
        means = []
        for name, judge in self.detectors.items():
            mean, peak = region_score(scores.cells(name), scores, local)
            found |= {name: mean, f"hit {name}": peak > judge.fake_above.item()}
            means.append(mean)
        known = [mean for mean in means if mean is not None]
        return found | {FUSED: float(np.mean(known)) if len(known) == len(means) else None}


def write_tampering(folder: Path, found: Mapping[str, Any]) -> None:
    """Keep what ``tamper_benchmark`` returned."""
    (folder / FILE).write_text(json.dumps(found, indent=2, allow_nan=False) + "\n")


def read_tampering(folder: Path) -> dict[str, Any]:
    """What ``write_tampering`` kept."""
    found: dict[str, Any] = json.loads((folder / FILE).read_text())
    return found


def judge_block(
    reader: Reader, box: tuple[int, int, int, int], panel: Panel, patch_px: int, stride_px: int
) -> ScoreMap:
    """The score map of a part of a slide, from patches that lie wholly in it; its coordinates begin at its corner.

    Args:
        reader: The slide.
        box: x, y, width, height, level-0 pixels.
        panel: The detectors.
        patch_px: Their judged size.
        stride_px: From one patch to the next.
    """
    x, y, width, height = box
    pixels = reader.read(x, y, width, height)
    lattice = Lattice(width, height, patch_px, stride_px)
    view = np.lib.stride_tricks.sliding_window_view(pixels, (patch_px, patch_px), axis=(0, 1))
    patches = view[::stride_px, ::stride_px].transpose(0, 1, 3, 4, 2)
    rows, columns = np.nonzero(tissue_fraction(patches) >= MIN_TISSUE)
    status = np.full(lattice.shape, BACKGROUND, np.uint8)
    status[rows, columns] = OK
    scores = {name: np.full(lattice.shape, np.nan, np.float32) for name in panel.judges}
    if len(rows):
        judged = panel.score(patches[rows, columns], x + columns * stride_px, y + rows * stride_px)
        for name, found in judged.items():
            scores[name][rows, columns] = found
    return ScoreMap(lattice, 1.0, status, scores)


def _told(table: pd.DataFrame, name: str, seed: int) -> dict[str, Any]:
    """One detector's AUC and hits, by arm."""
    said: dict[str, Any] = {}
    for arm in ARMS:
        rows = table[table["arm"].isin([arm, "untouched"])]
        said[arm] = {
            "region_auc": _auc(rows, name, arm, seed),
            "raised": _raised(table, name, arm),
            "hits": _hits(table, name, arm),
        }
    return said | {"untouched_hits": _hits(table, name, "untouched")}


def _auc(rows: pd.DataFrame, name: str, arm: str, seed: int) -> dict[str, Any]:
    labels = np.where(rows["arm"] == "untouched", REAL, FAKE)
    counts = {"spliced": int(labels.sum()), "untouched": int((labels == REAL).sum()), "arm": arm}
    blocks = rows["block"].to_numpy(object)
    if min(len(set(blocks[labels == label])) for label in (0, 1)) < 2:
        return {"auc": None, "ci95": None, **counts, "reason": "fewer than two blocks of a kind"}
    found = cluster_bootstrap_auc(labels, rows[name].to_numpy(float), blocks, seed=seed)
    return {"auc": found.auc, "ci95": list(found.ci95), **counts, "blocks": found.n_groups}


def _raised(table: pd.DataFrame, name: str, arm: str) -> dict[str, Any]:
    """How often a splice scores above what stood there before, ties half; the mean over blocks, its t interval."""
    before = table[table["arm"] == "before"].set_index(["seed", "place"])[name]
    spliced = table[table["arm"] == arm].set_index(["seed", "place"])
    both = spliced.join(before.rename("before"), how="inner")
    wins = (both[name] > both["before"]) + 0.5 * (both[name] == both["before"])
    by_block = wins.groupby(both["block"]).mean().to_numpy(float)
    counts = {"regions": len(both), "blocks": len(by_block)}
    if len(by_block) < 2:
        return {"share": None, "ci95": None, **counts, "reason": "fewer than two blocks"}
    mean, half = float(by_block.mean()), float(by_block.std(ddof=1) / np.sqrt(len(by_block)))
    half *= float(special.stdtrit(len(by_block) - 1, 0.975))
    return {"share": mean, "ci95": [max(0.0, mean - half), min(1.0, mean + half)], **counts}


def _hits(table: pd.DataFrame, name: str, arm: str) -> dict[str, int] | None:
    """Regions with a cell above the detector's frozen threshold; the mean of several has no threshold."""
    if name == FUSED:
        return None
    hits = table.loc[table["arm"] == arm, f"hit {name}"]
    return {"hits": int(hits.sum()), "regions": len(hits)}


def _by_block(split: BlockSplit, corners: Places) -> dict[str, Places]:
    names = np.array(split.block_names(corners)) if len(corners) else np.zeros(0, str)
    return {str(name): corners[names == name] for name in np.unique(names)}


def _box(split: BlockSplit, name: str) -> tuple[int, int, int, int]:
    """x, y, width, height of a block, cut by the slide's edge."""
    row, column = (int(part) for part in name.split("-"))
    x, y = column * split.pitch_px, row * split.pitch_px
    return x, y, min(split.block_px, split.width - x), min(split.block_px, split.height - y)

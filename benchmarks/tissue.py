"""Real tissue of a benchmark: cut once for training, calibration and exam, and the codec path that fakes share with it.

Two sources, one interface: a whole slide is split by blocks, a folder of images by patient, slide or file. Every patch
lies on the 16-px grid of its source, and both classes end in the same codec history (every known generation, replayed).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from histoforensics.generators.data import CropSource, Picture, block_rectangles, slide_source
from histoforensics.slides import (
    SETTLING_ROUNDS,
    BlockSplit,
    Codec,
    MppError,
    PatchError,
    PatchSet,
    Progress,
    Slide,
    block_split,
    replay,
    require,
    tissue_fraction,
)

from .splits import COLUMNS, ROLES, Role, SplitRule

Pixels = NDArray[np.uint8]

GRID_PX = 16  # an MCU of 4:2:0 JPEG; whole patches on this grid share one phase
OVERLAP_STRIDE_PX = 32
MIN_TISSUE = 0.5


@dataclass(frozen=True, eq=False)
class Cut:
    """Patches of one role: pixels uint8 (n, p, p, 3), level-0 corners x, y (n,), source and group names (n,).

    ``level`` is the manifest's column that the groups belong to: "block", "patient", "source_slide" or "file".
    """

    pixels: Pixels
    x: NDArray[np.int64]
    y: NDArray[np.int64]
    sources: NDArray[np.str_]
    groups: NDArray[np.str_]
    level: str = "block"

    def __len__(self) -> int:
        return len(self.pixels)


class Tissue(Protocol):
    """Where a benchmark's real patches come from."""

    name: str
    patch_px: int
    mpp: float | None

    def cut(self, role: Role, *, disjoint: bool, limit: int, rng: np.random.Generator) -> Cut:
        """At most ``limit`` patches of a role as their source holds them, drawn by ``rng``."""

    def replay(self, cut: Cut) -> Pixels:
        """The patches of ``cut`` after every known codec generation of their source, at their own position."""

    def like_real(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        """Fakes (n, p, p, 3) after the codec of positions that ``rng`` draws from the real tissue."""

    def crop_source(self, patch_px: int) -> CropSource:
        """Crops of the training tissue, for a generator of this resolution."""

    @property
    def is_lossless(self) -> bool:
        """Whether no compression is known of any source, so that there is nothing to replay."""

    def facts(self) -> dict[str, Any]:
        """What results.json tells of the tissue and its split."""


class SlideTissue:
    """Whole slides of one resolution, each split by blocks: see `histoforensics.slides.block_split`."""

    def __init__(self, slides: Sequence[Slide], patch_px: int, progress: Progress | None = None) -> None:
        self.name = ", ".join(slide.name for slide in slides)
        self.patch_px = patch_px
        self.mpp = _one_mpp(slides)
        self._slides = list(slides)
        self._splits = [block_split(slide, patch_px, progress) for slide in slides]

    def cut(self, role: Role, *, disjoint: bool, limit: int, rng: np.random.Generator) -> Cut:
        edge = self.patch_px
        places = self._places(role, edge, edge if disjoint else OVERLAP_STRIDE_PX)
        places = places[np.sort(rng.permutation(len(places))[:limit])]
        pixels = np.stack([self._slides[i].read(int(x), int(y), edge, edge) for i, x, y in places])
        names = np.array([self._slides[i].name for i in places[:, 0]])
        blocks = [self._splits[i].block_names(np.array([[x, y]]))[0] for i, x, y in places]
        groups = np.array([f"{name}/{block}" for name, block in zip(names, blocks, strict=True)])
        return Cut(pixels, places[:, 1], places[:, 2], names, groups)

    def replay(self, cut: Cut) -> Pixels:
        out = cut.pixels.copy()
        for slide in self._slides:
            mine = cut.sources == slide.name
            out[mine] = _settled(slide.codec, cut.pixels[mine], cut.x[mine], cut.y[mine])
        return out

    def like_real(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        places = self._places("train", self.patch_px, GRID_PX)
        places = places[rng.integers(len(places), size=len(pixels))]
        sources = np.array([self._slides[i].name for i in places[:, 0]])
        return self.replay(Cut(pixels, places[:, 1], places[:, 2], sources, sources))

    @property
    def parts(self) -> list[tuple[Slide, BlockSplit]]:
        """Each slide with its blocks."""
        return list(zip(self._slides, self._splits, strict=True))

    @property
    def is_lossless(self) -> bool:
        return all(slide.codec.kind == "lossless" for slide in self._slides)

    def crop_source(self, patch_px: int) -> CropSource:
        pairs = zip(self._slides, self._splits, strict=True)
        parts = [slide_source(slide, patch_px, block_rectangles(split, "train", patch_px)) for slide, split in pairs]
        if len(parts) == 1:
            return parts[0]
        digest = hashlib.sha256("".join(part.digest for part in parts).encode()).hexdigest()
        pictures = [picture for part in parts for picture in part.pictures]
        return CropSource(
            pictures, patch_px, digest=digest, min_tissue=MIN_TISSUE, mpp=self.mpp, origin=self.name, order="random"
        )

    def facts(self) -> dict[str, Any]:
        slides = zip(self._slides, self._splits, strict=True)
        return {
            "name": self.name,
            "kind": "slide",
            "mpp": self.mpp,
            "patch_px": self.patch_px,
            "split": {"by": "block", "slides": [split.to_json() for split in self._splits]},
            "codec": {slide.name: slide.codec.to_json() for slide in self._slides},
            "disjoint_patches": {
                f"{slide.name}: {role}": len(split.positions(role, self.patch_px, self.patch_px))
                for slide, split in slides
                for role in ROLES
            },
        }

    def _places(self, role: Role, edge_px: int, stride_px: int) -> NDArray[np.int64]:
        """(slide, x, y) of every patch of a role: (n, 3)."""
        found = [split.positions(role, edge_px, stride_px) for split in self._splits]
        numbers = np.repeat(np.arange(len(found)), [len(places) for places in found])
        if not len(numbers):
            raise PatchError(f"{self.name}: its {role} blocks hold no patch of {edge_px} px that is half tissue.")
        return np.concatenate([numbers[:, None], np.concatenate(found)], axis=1)


class FolderTissue:
    """Folders of images or patch sets, split by patient, else slide, else file; crops on the 16-px grid of each image.

    Args:
        sets: Patch sets of real images.
        patch_px: The judged size; every image is at least as large.
        codecs: One codec an image where its file was compressed, else ``None``; aligned with the sets' rows.
        rule: Of the split.
        mpp: Micrometres per pixel of images that do not say.

    Raises:
        PatchError: If an image has no group of the kind that the rule wants, or groups and rule do not fit.
    """

    def __init__(
        self,
        sets: Sequence[PatchSet],
        patch_px: int,
        codecs: Sequence[Codec | None],
        rule: SplitRule | None = None,
        mpp: float | None = None,
    ) -> None:
        require(patch_px % GRID_PX == 0, "patch_px", f"a multiple of {GRID_PX}", patch_px)
        self.name = ", ".join(patches.root.name for patches in sets)
        self.patch_px = patch_px
        self._images = [(patches, row) for patches in sets for row in range(len(patches))]
        assert len(codecs) == len(self._images)
        self._codecs = list(codecs)
        rule = rule or SplitRule()
        known = rule.read_table()
        self._by = rule.by or "patient, slide or file"
        found = [_group(patches, row, rule, known) for patches, row in self._images]
        self._groups = np.array([group for _, group in found])
        levels = {level for level, _ in found}
        self._level = levels.pop() if len(levels) == 1 else "file"
        self._roles = rule.deal(sorted(set(self._groups)))
        scales = {float(v) for patches in sets for v in patches.table["mpp"].dropna()}
        self.mpp = mpp if not scales else scales.pop() if len(scales) == 1 else None

    def cut(self, role: Role, *, disjoint: bool, limit: int, rng: np.random.Generator) -> Cut:
        edge = self.patch_px
        stride = edge if disjoint else min(edge, 2 * OVERLAP_STRIDE_PX)
        mine = [i for i, group in enumerate(self._groups) if self._roles[group] == role]
        found: list[tuple[int, int, int, Pixels]] = []
        for i in rng.permutation(mine):
            patches, row = self._images[i]
            crops = grid_crops(patches.pixels([row])[0], edge, stride)
            if len(mine) * len(crops) > 4 * limit:  # a few crops of every image rather than every crop of a few
                crops = [crops[j] for j in rng.permutation(len(crops))[: max(1, 4 * limit // len(mine))]]
            found += [(int(i), x, y, crop) for x, y, crop in crops if tissue_fraction(crop) >= MIN_TISSUE]
        if not found:
            raise PatchError(f"{self.name}: the {role} split holds no patch of {edge} px that is half tissue.")
        found = [found[j] for j in np.sort(rng.permutation(len(found))[:limit])]
        rows = [row for row, *_ in found]
        sources = np.array([f"{self._images[row][0].table['file'].iloc[self._images[row][1]]}" for row in rows])
        x, y = (np.array([place[axis] for place in found], np.int64) for axis in (1, 2))
        return Cut(np.stack([crop for *_, crop in found]), x, y, sources, self._groups[rows], self._level)

    def replay(self, cut: Cut) -> Pixels:
        by_file = {
            f"{p.table['file'].iloc[row]}": codec for (p, row), codec in zip(self._images, self._codecs, strict=True)
        }
        return self._apply(cut.pixels, cut.x, cut.y, [by_file[str(name)] for name in cut.sources])

    def like_real(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        drawn = rng.integers(len(self._codecs), size=len(pixels))
        zeros = np.zeros(len(pixels), np.int64)
        return self._apply(pixels, zeros, zeros, [self._codecs[i] for i in drawn])

    @property
    def is_lossless(self) -> bool:
        return all(codec is None for codec in self._codecs)

    def crop_source(self, patch_px: int) -> CropSource:
        mine = [i for i, group in enumerate(self._groups) if self._roles[group] == "train"]
        rows = [(patches, row, patches.table.iloc[row]) for patches, row in (self._images[i] for i in mine)]
        return CropSource(
            [
                Picture(str(r["id"]), int(r["width"]), int(r["height"]), lambda p=p, i=i: p.pixels([i])[0])  # type: ignore[misc]
                for p, i, r in rows
                if min(r["width"], r["height"]) >= patch_px
            ],
            patch_px,
            digest=hashlib.sha256("".join(str(r["sha256"]) for *_, r in rows).encode()).hexdigest(),
            min_tissue=MIN_TISSUE,
            mpp=self.mpp,
            origin=self.name,
        )

    def facts(self) -> dict[str, Any]:
        kinds = sorted({"lossless" if codec is None else codec.kind for codec in self._codecs})
        listing = "\n".join(f"{group} {role}" for group, role in sorted(self._roles.items()))
        return {
            "name": self.name,
            "kind": "images",
            "mpp": self.mpp,
            "patch_px": self.patch_px,
            "split": {"by": self._by, "sha256": hashlib.sha256(listing.encode()).hexdigest()},
            "groups": {role: sum(r == role for r in self._roles.values()) for role in ROLES},
            "codec": {"kinds": kinds},
        }

    @staticmethod
    def _apply(pixels: Pixels, x: NDArray[np.int64], y: NDArray[np.int64], codecs: list[Codec | None]) -> Pixels:
        out = pixels.copy()
        for codec in {c for c in codecs if c is not None}:
            mine = np.array([c == codec for c in codecs])
            out[mine] = _settled(codec, pixels[mine], x[mine], y[mine])
        return out


def grid_crops(image: Pixels, edge_px: int, stride_px: int) -> list[tuple[int, int, Pixels]]:
    """(x, y, crop) of every square of ``edge_px`` that fits, ``stride_px`` apart, rounded down to the 16-px grid."""
    step = max(GRID_PX, stride_px // GRID_PX * GRID_PX) if stride_px < edge_px else -(-edge_px // GRID_PX) * GRID_PX
    height, width = image.shape[:2]
    return [
        (x, y, image[y : y + edge_px, x : x + edge_px])
        for y in range(0, height - edge_px + 1, step)
        for x in range(0, width - edge_px + 1, step)
    ]


def judged_size(paths_px: Sequence[int], largest_px: int = 224) -> int:
    """The judged size for images of these edges: the largest multiple of 16 that all have, at most ``largest_px``.

    >>> judged_size([128, 128, 112])
    112
    """
    smallest = min(*paths_px, largest_px) if paths_px else largest_px
    if smallest < GRID_PX:
        raise PatchError(f"An image is {smallest} px wide; at least {GRID_PX} px are wanted.")
    return smallest // GRID_PX * GRID_PX


def random_grid_crops(pixels: Pixels, edge_px: int, rng: np.random.Generator) -> Pixels:
    """One crop of ``edge_px`` of each image (n, h, w, 3), its corner drawn from the 16-px grid."""
    n, height, width = pixels.shape[:3]
    if min(height, width) < edge_px:
        raise PatchError(
            f"the fakes are {width} x {height} px, smaller than the judged {edge_px} px; make larger ones."
        )
    y = GRID_PX * rng.integers((height - edge_px) // GRID_PX + 1, size=n)
    x = GRID_PX * rng.integers((width - edge_px) // GRID_PX + 1, size=n)
    return np.stack([p[j : j + edge_px, i : i + edge_px] for p, i, j in zip(pixels, x, y, strict=True)])


def _settled(codec: Codec, pixels: Pixels, x: NDArray[np.int64], y: NDArray[np.int64]) -> Pixels:
    """Every generation, as often as it takes until nothing tells how often a patch had been through them before."""
    return replay(codec, pixels, x, y, rounds=SETTLING_ROUNDS)


def _one_mpp(slides: Sequence[Slide]) -> float | None:
    scales = [slide.mpp_or_none for slide in slides]
    known = [scale for scale in scales if scale is not None]
    if len(known) != len(scales):
        return None
    if max(known) > 1.05 * min(known):
        told = ", ".join(f"{slide.name} {scale:.3f}" for slide, scale in zip(slides, known, strict=True))
        raise MppError(f"slides of one resolution are wanted, got {told} um/px; run them apart.")
    return known[0]


def _group(patches: PatchSet, row: int, rule: SplitRule, known: Mapping[str, str]) -> tuple[str, str]:
    """What an image has in common with others: the manifest's column, and its value."""
    values = patches.table.iloc[row]
    file = str(values["file"])
    if rule.table is not None:
        if file not in known:
            raise PatchError(f"{patches.root.name}/{file}: not in the table {rule.table.name} of the split.")
        assert rule.by is not None  # the rule refuses a table without it
        return COLUMNS[rule.by], known[file]
    for column in COLUMNS.values() if rule.by is None else (COLUMNS[rule.by],):
        if values.notna()[column]:
            return column, str(values[column])
    raise PatchError(f"{patches.root.name}/{file}: nothing says its {rule.by or 'patient, slide or file'}.")

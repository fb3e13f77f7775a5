"""Tampering: a copy of a slide in which some tissue is generated or foreign, with the truth of what was replaced.

For measuring detectors: the copy is marked as synthetic in its metadata and in its log.

::

    out/
    ├── <slide>-tampered.tif   a pyramid; untouched tiles byte for byte
    ├── mask.png               1 bit: white where a pixel was replaced, at the downsample that tamper.json states
    ├── regions.geojson        outlines, level-0 pixels, for QuPath
    └── tamper.json            what was put where, from which patches, how, and the run card
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from histoforensics.slides import PatchError, Progress, Slide, atomic_folder, require, run_card, tissue_fraction

from .splice import mosaic_places, padded_box, patches_needed, splice
from .tamper_blend import MARGIN_PX, Blend
from .tamper_donors import Donor
from .tamper_file import write_tampered
from .tamper_regions import Region, Shape, draw_mask
from .tamper_truth import mask_downsample, outline_features, write_mask
from .tamper_view import Splice, TamperedView, jpeg_tiles

LOG, MASK, OUTLINES = "tamper.json", "mask.png", "regions.geojson"
LEAST_TISSUE = 0.7  # of the box of a region: a splice belongs into tissue
GAP_PX = 224  # between regions, so that no patch of a scan sees two
TRIES = 400  # places tried for each region


@dataclass(frozen=True, kw_only=True)
class TamperConfig:
    """What is replaced and how.

    Attributes:
        regions: How many.
        sizes_px: Sizes that are dealt to them in turn: edge of a rectangle, and the square an irregular one fits.
        shape: "rectangle" or "irregular".
        blend: "feather", "poisson" or "none".
        match_stain: Whether patches take the stain of the tissue that they replace.
        seed: Of shapes, places and patches.
    """

    regions: int = 4
    sizes_px: tuple[int, ...] = (224,)
    shape: Shape = "irregular"
    blend: Blend = "feather"
    match_stain: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.regions >= 1, "regions", "at least 1", self.regions)
        require(len(self.sizes_px) > 0, "sizes_px", "at least one size", self.sizes_px)
        require(self.shape in get_args(Shape), "shape", f"one of {', '.join(get_args(Shape))}", self.shape)
        require(self.blend in get_args(Blend), "blend", f"one of {', '.join(get_args(Blend))}", self.blend)
        require(self.seed >= 0, "seed", "0 or more", self.seed)


@dataclass(frozen=True)
class TamperReport:
    """What was made.

    Attributes:
        slide: The tampered slide.
        regions: What was replaced.
        log: As tamper.json holds it.
    """

    slide: Path
    regions: tuple[Region, ...]
    log: dict[str, Any]


def tamper(
    path: Path | str,
    donor: Donor,
    config: TamperConfig,
    out: Path | str,
    *,
    mpp: float | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> TamperReport:
    """Write a tampered copy of a slide, and its truth, into the folder ``out``.

    Args:
        path: The slide; it is not changed.
        donor: Where the patches come from.
        config: What is replaced and how.
        out: The folder.
        mpp: Micrometres per level-0 pixel, for slides that do not say.
        overwrite: Whether a folder that is not empty is replaced.
        progress: Told as tiles are written.

    Raises:
        CodecError: If the slide is not made of JPEG tiles.
        PatchError: If the slide has too little tissue for so many regions of that size.
    """
    started = time.time()
    with Slide.open(path, mpp) as slide:
        jpeg_tiles(slide)
        regions = place_regions(slide, config)
        splices = [make_splice(slide, region, donor, config) for region in regions]
        view = TamperedView(slide, splices)
        name = f"{slide.name}-tampered.tif"
        with atomic_folder(out, overwrite=overwrite) as work:
            write_tampered(view, work / name, progress=progress)
            downsample = mask_downsample(*slide.dimensions)
            write_mask(work / MASK, regions, slide.dimensions, downsample)
            (work / OUTLINES).write_text(json.dumps(outline_features(regions)) + "\n", encoding="utf-8")
            log = {
                "synthetic": True,
                "slide": name,
                "original": {"name": slide.name, "sha256": slide.digest, "codec": slide.codec.to_json()},
                "mask": {"file": MASK, "downsample": downsample},
                "recoded_tiles": sorted(view.touched),
                "donor": donor.name,
                "regions": [one.facts for one in splices],
                **run_card(asdict(config), {}, started=started),
            }
            (work / LOG).write_text(json.dumps(log, indent=2) + "\n", encoding="utf-8")
    return TamperReport(Path(out) / name, tuple(regions), log)


def place_regions(slide: Slide, config: TamperConfig) -> list[Region]:
    """Regions on tissue, apart from each other, drawn by the config's seed.

    Raises:
        PatchError: If not all find a place.
    """
    rng = np.random.default_rng([config.seed, 0])
    placed: list[Region] = []
    for number in range(config.regions):
        size_px = config.sizes_px[number % len(config.sizes_px)]
        mask = draw_mask(config.shape, size_px, rng)
        found = next(_places(slide, mask, size_px, placed, rng), None)
        if found is None:
            raise PatchError(
                f"{slide.name}: no place on tissue for region {number + 1} of {config.regions} ({size_px} px); "
                "ask for fewer or smaller ones."
            )
        placed.append(found)
    return placed


def make_splice(slide: Slide, region: Region, donor: Donor, config: TamperConfig) -> Splice:
    """A region's finished pixels, and what was done."""
    box = padded_box(region)
    patches, sources = donor.take(patches_needed(region, donor.patch_px))
    pixels = splice(slide.read(*box), patches, region, how=config.blend, stain=config.match_stain)
    places = mosaic_places(box[3], box[2], donor.patch_px)
    x, y, width, height = region.box
    facts = {
        "x": x, "y": y, "width": width, "height": height, "size_px": region.size_px, "area_px": region.area_px,
        "shape": config.shape, "blend": config.blend, "match_stain": config.match_stain,
        "patches": [
            {"x": box[0] + left, "y": box[1] + top, **source}
            for (left, top), source in zip(places, sources, strict=True)
        ],
    }  # fmt: skip
    return Splice(region, pixels, facts)


def _places(
    slide: Slide, mask: Any, size_px: int, taken: Sequence[Region], rng: np.random.Generator
) -> Iterator[Region]:
    """Places where a region may lie, best first come: random ones on tissue."""
    width, height = slide.dimensions
    room_x, room_y = width - mask.shape[1] - 2 * MARGIN_PX, height - mask.shape[0] - 2 * MARGIN_PX
    if min(room_x, room_y) < 1:
        return
    for _ in range(TRIES):
        x, y = MARGIN_PX + int(rng.integers(room_x)), MARGIN_PX + int(rng.integers(room_y))
        region = Region(x, y, mask, size_px)
        if any(region.is_near(other, GAP_PX) for other in taken):
            continue
        if tissue_fraction(slide.read(*region.box)) >= LEAST_TISSUE:
            yield region

"""`histoforensics tamper`: a test slide with spliced patches, its truth, and how well detectors find them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import out, progress

if TYPE_CHECKING:
    from histoforensics.forensics.tamper_blend import Blend
    from histoforensics.forensics.tamper_regions import Shape


def tamper(
    slide: Annotated[Path, typer.Argument(help="A slide of JPEG tiles; it is not changed.")],
    fake: Annotated[
        str, typer.Option(help="What is spliced in: patch set, folder of images, generator's folder or its name.")
    ],
    destination: Annotated[Path, typer.Option("--out", help="Folder of the tampered slide and its truth.")],
    regions: Annotated[int, typer.Option(help="How many regions are replaced.")] = 4,
    size: Annotated[
        list[int] | None,
        typer.Option(help="Edge of a region, level-0 pixels; repeatable, dealt in turn. Default: 224."),
    ] = None,
    shape: Annotated[str, typer.Option(help="irregular or rectangle.")] = "irregular",
    blend: Annotated[str, typer.Option(help="feather, poisson or none.")] = "feather",
    match_stain: Annotated[bool, typer.Option(help="Give patches the stain of the tissue they replace.")] = True,
    detector: Annotated[
        list[str] | None,
        typer.Option(help="A trained detector that scans the result: its folder, or a shipped name; repeatable."),
    ] = None,
    mpp: Annotated[float | None, typer.Option(help="Micrometres per level-0 pixel, where the slide says none.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a folder that is not empty.")] = False,
    seed: Annotated[int, typer.Option(help="Of shapes, places and patches.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")] = "cpu",
) -> None:
    """Replace tissue in a copy of a slide by generated or foreign patches, to measure what a scan finds.

    The copy is compressed as the slide was, opens in QuPath and OpenSlide, and says in its metadata that it is
    synthetic. Beside it: mask.png, regions.geojson and tamper.json, the truth and the log. Label and macro images are
    not copied.

    Example: histoforensics tamper slide.svs --fake fakes/ --out results/tampered

    Example: histoforensics tamper slide.svs --fake generators/stylegan2 --regions 6 --size 112 --size 336
    --detector detectors/wht-lr --out results/tampered
    """
    from histoforensics.forensics.registry import load_detector
    from histoforensics.forensics.scan_grid import ScanGrid, common_patch_px
    from histoforensics.forensics.tamper import TamperConfig
    from histoforensics.forensics.tamper import tamper as make
    from histoforensics.forensics.tamper_donors import open_donor
    from histoforensics.forensics.tamper_scan import scan_tampered
    from histoforensics.forensics.training import check_device

    check_device(device)
    config = TamperConfig(
        regions=regions,
        sizes_px=tuple(size or (224,)),
        shape=_shape(shape),
        blend=_blend(blend),
        match_stain=match_stain,
        seed=seed,
    )
    judges = _named([load_detector(folder).to(device) for folder in detector or ()])
    if judges:
        common_patch_px(judges.values())  # before any work
    donor = open_donor(fake, seed=seed, device=device)
    with progress("writing the slide") as advance:
        report = make(slide, donor, config, destination, mpp=mpp, overwrite=overwrite, progress=advance)
    recoded = len(report.log["recoded_tiles"])
    out.print(f"{report.slide.name}: {len(report.regions)} regions replaced, {recoded} tiles coded anew.", markup=False)
    if judges:
        with progress("scanning") as advance:
            found = scan_tampered(report, judges, ScanGrid(mpp=mpp), progress=advance)
        for label, said in found.items():
            out.print(f"{label}: {_sentence(said)}", markup=False, soft_wrap=True)


def _sentence(said: dict[str, Any]) -> str:
    hits = ", ".join(f"{row['hits']} of {row['regions']} at {row['size_px']} px" for row in said["hits_by_size"])
    false = sum(row["untouched_hits"] for row in said["hits_by_size"])
    places = sum(row["untouched"] for row in said["hits_by_size"])
    return (
        f"region AUC {_known(said['region_auc'])}, pixel AUC {_known(said['pixel_auc'])}, IoU {said['iou']:.2f}; hits: "
        f"{hits}; false hits: {false} of {places} equally large places of untouched tissue."
    )


def _known(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"


def _named(detectors: list[Any]) -> dict[str, Any]:
    """Name -> detector; a second one of a name gets a number."""
    from histoforensics.forensics.scanner import labels

    return dict(zip(labels([detector.name for detector in detectors]), detectors, strict=True))


def _shape(text: str) -> Shape:
    from histoforensics.slides import require

    require(text in ("rectangle", "irregular"), "shape", "irregular or rectangle", text)
    return "rectangle" if text == "rectangle" else "irregular"


def _blend(text: str) -> Blend:
    from histoforensics.slides import require

    require(text in ("feather", "poisson", "none"), "blend", "feather, poisson or none", text)
    return "poisson" if text == "poisson" else "none" if text == "none" else "feather"

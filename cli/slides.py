"""`histoforensics slides`: fetch slides, say what a slide is, cut slides into patches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from histoforensics.slides import ConfigError

from .console import err, out, progress

if TYPE_CHECKING:
    from histoforensics.slides import Codec, Grid, TileReport
    from histoforensics.slides.fetch import Choice
    from histoforensics.slides.gdc import Kind

PRESETS = ("paper", "mpp")
PAPER_MIN_PNG_BYTES = 100_000  # "at least 100 kB", 1 kB = 1000 bytes

app = typer.Typer(no_args_is_help=True, help="Whole slides in, patch sets out.")

Mpp = Annotated[float | None, typer.Option("--mpp", help="Micrometres per level-0 pixel, where the slide says none.")]


@app.command()
def sample(
    cache: Annotated[Path | None, typer.Option(help="Folder to keep it in. Default: the user's cache folder.")] = None,
) -> None:
    """Fetch the sample slide (2 MB, a real skin section, CC0) and print where it is.

    Example: histoforensics slides info "$(histoforensics slides sample)"
    """
    from histoforensics.slides import sample_slide

    typer.echo(str(sample_slide(cache)))


@app.command()
def info(
    slide: Annotated[Path, typer.Argument(help="A slide file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    phi: Annotated[
        bool,
        typer.Option("--phi", help="Say instead what in it may name a person, a place or a day; values are not shown."),
    ] = False,
    mpp: Mpp = None,
) -> None:
    """Say how large a slide is, at which resolution, and everything known of how it was compressed.

    Example: histoforensics slides info CMU-1-Small-Region.svs --json

    histoforensics slides info CMU-1-Small-Region.svs --phi
    """
    from histoforensics.slides import CodecError, Slide

    if phi:
        _print_phi(slide, as_json)
        return

    with Slide.open(slide, mpp) as opened:
        facts = opened.describe()
        try:
            codec = opened.codec
        except CodecError as err:  # an answer too: the slide can be read, but not matched
            facts |= {"codec": None, "codec_unknown": str(err)}
            lines = [f"codec       unknown: {err}"]
        else:
            facts |= {"codec": codec.to_json()}
            lines = _codec_lines(codec)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    for line in _fact_lines(facts) + lines:
        out.print(line, markup=False, soft_wrap=True)


def _print_phi(slide: Path, as_json: bool) -> None:
    from histoforensics.slides.phi import phi_report

    found = phi_report(slide)
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
        return
    rows = {"images": found.images, **found.properties, "TIFF tags": found.tags}
    for name, held in rows.items():
        if held:
            out.print(f"{name:17}{', '.join(held)}", markup=False, soft_wrap=True)
    if found.others:
        out.print(f"{'not known':17}{found.others} properties whose names are not shown", soft_wrap=True)
    if found.is_clean:
        out.print("Nothing was found but pixels and measures.")
    public = ", ".join(found.in_outputs) or "none"
    out.print(f"Values are not shown. Outputs carry the file's name ({found.slide}) and these properties: {public}.")


@app.command()
def tile(
    slides: Annotated[list[Path], typer.Argument(help="Slide files.")],
    out_folder: Annotated[Path | None, typer.Option("--out", help="Folder of the patch set; new or empty.")] = None,
    preset: Annotated[
        str, typer.Option(help="paper: the published grid (py-wsi). mpp: a grid in physical size.")
    ] = "paper",
    level: Annotated[str, typer.Option(help="paper: Deep Zoom level, or max for full resolution.")] = "17",
    overlap_px: Annotated[int, typer.Option(help="paper: overlap on each side, pixels.")] = 50,
    patch_px: Annotated[int, typer.Option(help="Edge of a patch, pixels.")] = 256,
    target_mpp: Annotated[
        float | None, typer.Option(help="mpp: micrometres per pixel of the patches. Default: the first slide's own.")
    ] = None,
    stride_px: Annotated[
        int | None, typer.Option(help="mpp: from one patch to the next, pixels of patches. Default: --patch-px.")
    ] = None,
    min_tissue: Annotated[
        float | None, typer.Option(help="Share of tissue a patch needs. Default: paper 0, mpp 0.5.")
    ] = None,
    min_png_bytes: Annotated[
        int | None,
        typer.Option(help="Bytes a patch needs as PNG at Pillow's default level. Default: paper 100000, mpp 0."),
    ] = None,
    mpp: Mpp = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would be kept, and write nothing.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a patch set that is there.")] = False,
) -> None:
    """Cut slides into a patch set, and say what each filter kept and dropped.

    Example: histoforensics slides tile a.svs b.svs c.svs --out patches

    histoforensics slides tile CMU-1-Small-Region.svs --level max --dry-run

    histoforensics slides tile *.svs --preset mpp --target-mpp 0.5 --patch-px 224 --out patches
    """
    from histoforensics.slides import require
    from histoforensics.slides import tile as cut

    require(preset in PRESETS, "preset", " or ".join(PRESETS), preset)
    if out_folder is None and not dry_run:
        raise ConfigError("--out is missing: name a folder for the patch set, or pass --dry-run.")
    is_paper = preset == "paper"
    grid = (
        _paper(patch_px, overlap_px, level) if is_paper else _physical(slides[0], target_mpp, patch_px, stride_px, mpp)
    )
    with progress("tiling") as advance:
        report = cut(
            slides,
            grid,
            out_folder,
            min_tissue=(0.0 if is_paper else 0.5) if min_tissue is None else min_tissue,
            min_png_bytes=(PAPER_MIN_PNG_BYTES if is_paper else 0) if min_png_bytes is None else min_png_bytes,
            mpp=mpp,
            dry_run=dry_run,
            overwrite=overwrite,
            progress=advance,
        )
    _print_report(report, out_folder, dry_run)


@app.command()
def fetch(
    destination: Annotated[Path, typer.Option("--out", help="Folder; a second run goes on where the first ended.")],
    project: Annotated[str | None, typer.Option(help="A GDC project, such as TCGA-COAD.")] = None,
    count: Annotated[int, typer.Option(help="Slides of the project, the first by UUID.")] = 3,
    manifest: Annotated[
        Path | None, typer.Option(help="A manifest from the GDC portal or of an earlier run, in place of --project.")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(help="diagnostic (formalin, DX) or tissue (frozen, TS, BS). Default: diagnostic for a project."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be fetched, and write nothing.")] = False,
    parallel: Annotated[int, typer.Option(help="Files at a time.")] = 4,
    endpoint: Annotated[
        str, typer.Option(help="Address of the API.", envvar="HISTOFORENSICS_GDC_ENDPOINT")
    ] = "https://api.gdc.cancer.gov",
) -> None:
    """Fetch slides of the Genomic Data Commons: pinned by UUID, md5 and size, and resumed where a download broke off.

    Every slide is attempted; the exit code is 1 if any failed.

    Example: histoforensics slides fetch --project TCGA-COAD --count 3 --out slides

    histoforensics slides fetch --manifest gdc_manifest.txt --kind diagnostic --out slides --dry-run
    """
    from histoforensics.slides.fetch import choose_slides, fetch_slides
    from histoforensics.slides.web import Web

    with Web(endpoint) as web:
        choice = choose_slides(web, project=project, count=count, manifest=manifest, kind=_kind(kind))
        if choice.left_out:
            out.print(f"{choice.left_out} slides of the manifest are of another kind and are left out.")
        if dry_run:
            _print_plan(choice, destination)
            return
        with progress("fetching") as advance:
            fetched = fetch_slides(web, choice, destination, parallel=parallel, progress=advance)
    failures = [one.error for one in fetched if one.error is not None]
    for message in failures:
        err.print(message, markup=False, soft_wrap=True)
    kept = sum(one.kept for one in fetched)
    new = len(fetched) - kept - len(failures)
    out.print(f"{new} slides fetched, {kept} were here already, {len(failures)} failed.")
    if failures:
        raise typer.Exit(1)


def _kind(name: str | None) -> Kind | None:
    from histoforensics.slides import require

    require(name in (None, "diagnostic", "tissue"), "kind", "diagnostic or tissue", name)
    return None if name is None else "diagnostic" if name == "diagnostic" else "tissue"


def _print_plan(choice: Choice, destination: Path) -> None:
    from histoforensics.slides.download import free_bytes, missing_bytes

    for slide in choice.slides:
        line = f"{slide.file.uuid}  {slide.file.name}  {slide.kind}  {slide.file.size / 1e6:,.1f} MB"
        out.print(line, markup=False, soft_wrap=True)
    files = [slide.file for slide in choice.slides]
    missing, free = missing_bytes(files, destination), free_bytes(destination)
    out.print(
        f"{len(files)} slides, {choice.size / 1e9:.3f} GB, of which {missing / 1e9:.3f} GB are to come; "
        f"{free / 1e9:.1f} GB are free. Dry run: nothing written."
    )


def _paper(patch_px: int, overlap_px: int, level: str) -> Grid:
    from histoforensics.slides import PaperGrid

    if level != "max" and not level.lstrip("-").isdigit():
        raise ConfigError(f"level must be a number or max, got {level!r}.")
    return PaperGrid(patch_px=patch_px, overlap_px=overlap_px, level="max" if level == "max" else int(level))


def _physical(first: Path, target: float | None, patch_px: int, stride_px: int | None, mpp: float | None) -> Grid:
    from histoforensics.slides import MppGrid, Slide

    if target is None:
        with Slide.open(first, mpp) as slide:
            target = slide.mpp
    return MppGrid(mpp=target, patch_px=patch_px, stride_px=stride_px)


def _print_report(report: TileReport, out_folder: Path | None, dry_run: bool) -> None:
    from rich.table import Table

    table = Table("filter", "kept", "dropped", box=None)
    for step in report.funnel:
        table.add_row(step.name, f"{step.kept:,}", f"{step.dropped:,}")
    out.print(table)
    for slide in report.slides:
        mpp = "unknown" if slide["mpp"] is None else f"{slide['mpp']:.4g}"
        shrunk = "full resolution" if slide["factor"] == 1 else f"shrunk {slide['factor']:g} times (Lanczos)"
        lost = f", {len(slide['unreadable'])} places unreadable" if slide["unreadable"] else ""
        line = f"{slide['name']}: {slide['patches']:,} patches, {mpp} um per pixel, {shrunk}{lost}"
        out.print(line, markup=False, soft_wrap=True)
    where = "dry run: nothing written" if dry_run or out_folder is None else f"written to {out_folder}"
    out.print(f"{report.kept:,} patches; {where}", markup=False, soft_wrap=True)


def _fact_lines(facts: dict[str, Any]) -> list[str]:
    mpp = "unknown, pass it with --mpp" if facts["mpp"] is None else f"{facts['mpp']:g} um per pixel"
    levels = ", ".join(f"{level['width']} x {level['height']}" for level in facts["levels"])
    return [
        f"name        {facts['name']}",
        f"sha256      {facts['sha256']}",
        f"levels      {levels} px",
        f"resolution  {mpp}",
        f"vendor      {facts['properties'].get('openslide.vendor', 'unknown')}",
    ]


def _codec_lines(codec: Codec) -> list[str]:
    lines = [f"codec       {codec.kind}, tiles of {codec.tile_width} x {codec.tile_height} px"]
    for number, generation in enumerate(codec.generations, 1):
        quality = "own tables" if generation.quality is None else f"quality {generation.quality}"
        source = "the JPEG streams" if generation.evidence == "stream" else "the ImageDescription"
        lines.append(
            f"            generation {number}: {generation.transform} {generation.sampling}, {quality}, "
            f"grid phase {generation.phase}, known from {source}"
        )
    if codec.jpeg2000 is not None:
        wavelet = "9-7 (lossy)" if codec.jpeg2000.irreversible else "5-3"
        lines.append(
            f"            wavelet {wavelet}, {codec.jpeg2000.resolutions} resolutions, "
            f"{codec.jpeg2000.layers} layer, at most {codec.jpeg2000.tile_bytes:,} bytes a tile"
        )
    return lines + [f"            {note}" for note in codec.notes]

"""`histoforensics detectors`: train, score, audit, export, list."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .console import out, progress

app = typer.Typer(
    no_args_is_help=True,
    help="Find generated tissue: train detectors, score images, audit comparisons, export, list what there is.",
)


@app.callback()
def _group() -> None: ...


@app.command()
def train(
    name: Annotated[str, typer.Argument(help="radial-lr, dct-ridge, wht-lr, ... (see `detectors list`).")],
    real: Annotated[list[Path], typer.Option(help="Patch set or folder of real patches.")],
    fake: Annotated[list[Path], typer.Option(help="Patch set or folder of fakes, one a generator; repeatable.")],
    destination: Annotated[Path, typer.Option("--out", help="Folder for the detector.")],
    patch_px: Annotated[int | None, typer.Option(help="Judged size; the smallest patches' size if not given.")] = None,
    full: Annotated[
        bool, typer.Option("--full", help="By its recipe: stand-in fakes, all augmentations, a long schedule.")
    ] = False,
    codec: Annotated[
        str | None, typer.Option(help="Slide whose codec all patches are put through; 'lossless' if none is needed.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Train so often, from --seed on, into seed-N below --out.")] = 1,
    budget_seconds: Annotated[float | None, typer.Option(help="Stop an iterative training after this long.")] = None,
    seed: Annotated[int, typer.Option(help="Of the split and the training.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")] = "cpu",
) -> None:
    """Train a detector, calibrate it on groups set apart, and freeze its thresholds.

    Patches are taken as they are: give both classes one codec history first, or name the slide by --codec, or you train
    a codec detector.

    Example: histoforensics detectors train wht-lr --real tissue --fake gan1 --fake gan2 --out detectors/wht-lr

    Example: histoforensics detectors train fusion --real tissue --fake gan1 --full --codec slide.svs --out fusion
    """
    from histoforensics.forensics.recipes import codec_path, matched_set, recipe_of, train_by_recipe
    from histoforensics.forensics.registry import detector_class
    from histoforensics.forensics.splits import LOSSLESS, training_set
    from histoforensics.forensics.store import refuse_foreign
    from histoforensics.forensics.training import check_device, train_detector
    from histoforensics.slides import ConfigError, PatchSet, read_codec

    detector_class(name)
    check_device(device)
    homes = [(s, destination / f"seed-{s}" if seeds > 1 else destination) for s in range(seed, seed + seeds)]
    for _, home in homes:
        refuse_foreign(home)
    recipe = recipe_of(name) if full else None
    path = None if codec in (None, "lossless") else codec_path(read_codec(str(codec)))
    reals = [PatchSet.open(folder, label="real") for folder in real]
    fakes = [PatchSet.open(folder, label="fake", source=folder.resolve().name) for folder in fake]
    data = training_set(reals, fakes, seed=seed, patch_px=patch_px)
    if codec is not None:
        data = matched_set(data, path, f"both classes through the history of {Path(codec).name}" if path else LOSSLESS)
    elif full and data.provenance["codec_policy"] != LOSSLESS:
        raise ConfigError(
            "stand-in fakes need the codec history of the real patches, which no manifest tells to be lossless; "
            "name their slide by --codec, or give --codec lossless."
        )
    for each, home in homes:
        with progress(f"training {name}") as advance:
            common: dict[str, Any] = {
                "seed": each,
                "budget_seconds": budget_seconds,
                "progress": advance,
                "device": device,
            }
            if recipe is not None:
                detector = train_by_recipe(name, data, recipe=recipe, path=path, **common)
            else:
                detector = train_detector(name, data, **common)
        detector.save(home)
        card = detector.card
        assert card.calibration is not None
        out.print(
            f"{name}: {card.trained_on['real']} real and {card.trained_on['fake']} fake patches of "
            f"{detector.patch_px} px; real below {card.calibration.real_below:.3f}, fake above "
            f"{card.calibration.fake_above:.3f}. {card.promise}",
            soft_wrap=True,
        )
    for limit in detector.card.limits:
        out.print(f"Note: {limit}", soft_wrap=True)


@app.command()
def score(
    images: Annotated[list[Path], typer.Argument(help="Image files, folders of images or patch sets.")],
    detector: Annotated[list[str], typer.Option(help="A trained detector: its folder, or a shipped name; repeatable.")],
    destination: Annotated[Path, typer.Option("--out", help="scores.csv or scores.parquet.")],
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")] = "cpu",
) -> None:
    """Write P(fake) and a verdict for each image and detector: columns file, detector, score, verdict, reason.

    An image larger than the judged size is cut on the 16-px grid and its crops' scores are averaged. An image unlike
    all that calibrated the detector (resolution, blur, looks) is unsure, and the reason says why.

    Example: histoforensics detectors score patches/ --detector detectors/wht-lr --out scores.csv
    """
    from histoforensics.forensics.registry import load_detector
    from histoforensics.forensics.scoring import check_ending, score_images, write_scores
    from histoforensics.forensics.training import check_device

    check_ending(destination)
    check_device(device)
    detectors = [load_detector(one).to(device) for one in detector]
    with progress("scoring") as advance:
        scores = score_images(images, detectors, progress=advance)
    write_scores(scores, destination)
    counts = scores.groupby(["detector", "verdict"]).size()
    for judge in scores["detector"].unique():
        told = ", ".join(f"{int(n)} {verdict}" for verdict, n in counts[judge].items())
        out.print(f"{judge}: {told}", soft_wrap=True)


@app.command()
def audit(
    real: Annotated[Path, typer.Argument(help="Patch set or folder of real patches.")],
    fake: Annotated[Path, typer.Argument(help="Patch set or folder of fakes.")],
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything that was found here.")] = None,
    destination: Annotated[Path | None, typer.Option("--out", help="Folder for audit.json and two tables.")] = None,
    slide: Annotated[
        Path | None, typer.Option(help="Slide that the reals were cut from: its codec is matched.")
    ] = None,
    same_source: Annotated[
        bool | None, typer.Option("--same-source/--other-source", help="Whether the fakes learned from such tissue.")
    ] = None,
    detector: Annotated[str, typer.Option(help="For the codec swap and the placebo; a fast one.")] = "radial-lr",
    seed: Annotated[int, typer.Option(help="Of the patches looked at, folds and resampling.")] = 0,
) -> None:
    """Say whether telling FAKE from REAL would show anything, before any detector is believed.

    Looks for what tells the sets apart without being synthesis: fields of the manifests and files, codecs, trivial
    cues, patches in both sets, tissue of other sources. Exit code 0 whatever the verdict; it stands in the JSON.

    Example: histoforensics detectors audit tissue fakes --slide slide.svs --json audit.json
    """
    from histoforensics.forensics.audit_report import tables, to_json, write_audit
    from histoforensics.forensics.auditing import audit as run_audit
    from histoforensics.slides import PatchSet, read_codec, write_atomic

    codec = None if slide is None else read_codec(slide)
    reals = PatchSet.open(real, label=None)
    fakes = PatchSet.open(fake, label=None)
    with progress("audit") as advance:
        found = run_audit(
            reals, fakes, seed=seed, progress=advance, codec=codec, same_source=same_source, detector=detector
        )
    out.print(found.sentence, soft_wrap=True, markup=False)
    for note in found.notes:
        out.print(f"Note: {note.sentence}.", soft_wrap=True, markup=False)
    for title, rows in tables(found).items():
        _print_table(title, rows)
    if json_file is not None:
        write_atomic(json_file, to_json(found))
    if destination is not None:
        write_audit(found, destination)


@app.command()
def export(
    detector: Annotated[str, typer.Argument(help="Folder of a trained detector, or the name of a shipped one.")],
    destination: Annotated[Path, typer.Option("--out", help="Folder for the files, named after the detector.")],
    to: Annotated[
        str, typer.Option("--format", help="onnx: uint8 (n, h, w, 3) to P(fake). torchscript: with wsinfer's config.")
    ] = "onnx",
    mpp: Annotated[
        float | None, typer.Option(help="torchscript: micrometres per pixel, where the card does not tell.")
    ] = None,
) -> None:
    """Write a trained detector as one file for other programs, its card beside it.

    The file is compared with the detector first, and not written if a probability differs by more than 0.0001.

    Example: histoforensics detectors export detectors/wht-lr --format onnx --out exported
    """
    from histoforensics.forensics.export import export_detector, parse_format
    from histoforensics.forensics.registry import load_detector

    form = parse_format(to)
    loaded = load_detector(detector)
    files = export_detector(loaded, destination, form, mpp=mpp)
    out.print(
        f"{', '.join(file.name for file in files)}: {loaded.name}, {loaded.patch_px} px, real below "
        f"{loaded.real_below.item():.3f}, fake above {loaded.fake_above.item():.3f}. Licence: {loaded.card.licence}.",
        soft_wrap=True,
        markup=False,
    )


@app.command("list")
def list_detectors(
    folders: Annotated[list[Path] | None, typer.Argument(help="Folders to look for trained detectors in.")] = None,
) -> None:
    """Show the detectors and controls that can be trained, those that are shipped, and the trained ones in FOLDERS.

    Example: histoforensics detectors list results/benchmark/detectors
    """
    from rich.table import Table

    from histoforensics.forensics.registry import CONTROLS, DETECTORS, find_detectors, load_detector
    from histoforensics.forensics.stock import in_stock

    table = Table("name", "kind", "what it looks at", box=None, pad_edge=False)
    for name, kind in (DETECTORS | CONTROLS).items():
        table.add_row(name, kind.kind, (kind.__doc__ or "").split("\n")[0])
    out.print(table)
    if names := in_stock():
        out.print(
            f"Trained and shipped with the package: {', '.join(names)}; `detectors info NAME` tells how good they are.",
            soft_wrap=True,
            markup=False,
        )
    for folder in folders or []:
        for found in find_detectors(folder):
            card = load_detector(found).card
            out.print(f"{found.name}: {card.name}, {card.patch_px} px, trained with version {card.version}")


def _print_table(title: str, rows: list[dict[str, str]]) -> None:
    from rich.table import Table

    table = Table(*(rows[0] if rows else {}), title=title, title_justify="left", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row.values())
    out.print(table, markup=False)

"""`histoforensics generators`: train, sample and describe StyleGAN, StyleGAN2 and PathologyGAN."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import out as console
from .console import progress

if TYPE_CHECKING:
    from histoforensics.generators import TrainConfig

app = typer.Typer(no_args_is_help=True, help="Train, sample and describe the three GANs.")

RUNS = Path("runs")  # where runs go that are not told otherwise, and where `list` and `sample` look for names


class Family(StrEnum):
    """The three model families."""

    STYLEGAN = "stylegan"
    STYLEGAN2 = "stylegan2"
    PATHOLOGYGAN = "pathologygan"


class PresetName(StrEnum):
    """Minutes on a CPU, hours on a CPU (the shipped generators), or as published."""

    COMPACT = "compact"
    ZOO = "zoo"
    PAPER = "paper"


class Noise(StrEnum):
    """New noise for each image, one stored noise for all, or none."""

    RANDOM = "random"
    CONST = "const"
    NONE = "none"


class Device(StrEnum):
    """Where to compute."""

    CPU = "cpu"
    CUDA = "cuda"


class Region(StrEnum):
    """Which tissue of a slide is learnt."""

    TRAIN = "train"
    ALL = "all"


FamilyName = Annotated[Family, typer.Argument(help="Which GAN.")]


@app.command(
    epilog="Example: histoforensics generators train stylegan2 --data slide.svs --out runs/stylegan2 --kimg 100",
)
def train(
    family: FamilyName,
    data: Annotated[
        list[Path], typer.Option(help="Slide, folder of images, PatchSet or StyleGAN zip; may be given several times.")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder of the run (default: runs/FAMILY).")] = None,
    preset: Annotated[PresetName, typer.Option(help="Compact, for a CPU, or as published.")] = PresetName.COMPACT,
    kimg: Annotated[
        float | None, typer.Option(help="Thousands of real images to show in all (default: the preset's).")
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="Stop and save after so many seconds.")] = None,
    resolution: Annotated[int | None, typer.Option(help="Side of the images, pixels (default: the preset's).")] = None,
    seed: Annotated[int, typer.Option(help="Fixes weights, latents and crops.")] = 0,
    snapshot_kimg: Annotated[
        float | None, typer.Option(help="Save every so many thousand images (default: the preset's).")
    ] = None,
    region: Annotated[
        Region, typer.Option(help="Of a slide: its training blocks, or all of it (then none is left for an exam).")
    ] = Region.TRAIN,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.CPU,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the settings and the data, and stop.")] = False,
) -> None:
    """Train a generator on random crops of DATA; run again with the same --out, it goes on where it stopped."""
    from histoforensics.generators import fit, open_source
    from histoforensics.generators import preset as preset_of

    changes: dict[str, Any] = {"seed": seed}
    changes |= {} if kimg is None else {"kimg": kimg}
    changes |= {} if snapshot_kimg is None else {"snapshot_kimg": snapshot_kimg}
    config = preset_of(family.value, preset.value, resolution=resolution, **changes)
    source = open_source(data, config.resolution, role=region.value, order=config.order)
    out = out or RUNS / family.value
    _print_stated(config)
    if dry_run:
        console.print_json(json.dumps({"config": config.to_json(), "data": source.to_json()}))
        return
    with progress(f"Training {family.value}") as advance:
        result = fit(source, config, out, budget_seconds=seconds, device=device.value, progress=advance)
    skipped = f", {sum(result.skipped.values())} steps skipped" if result.skipped else ""
    console.print(
        f"{out.name}: {result.images / 1000:.2f} kimg at {result.images_per_second:.1f} images/s{skipped}; "
        f"{'complete' if result.is_complete else 'run again to go on'}."
    )
    if result.lod > 0:
        console.print(
            f"The network is still growing: it draws {config.resolution >> int(result.lod)} px, enlarged to "
            f"{config.resolution} px."
        )


@app.command(epilog="Example: histoforensics generators sample runs/stylegan2 --count 64 --out fakes --psi 0.7")
def sample(
    generator: Annotated[
        str, typer.Argument(help="Folder of a run, a .safetensors file, or the name of a run in runs/.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the PatchSet to write.")],
    count: Annotated[int, typer.Option(help="How many images.")] = 64,
    seed: Annotated[int, typer.Option(help="Fixes every image together with its number.")] = 0,
    psi: Annotated[float, typer.Option(help="Truncation: 1 none, 0 the average image.")] = 1.0,
    noise: Annotated[Noise, typer.Option(help="Noise inputs.")] = Noise.RANDOM,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.CPU,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a folder that is not empty.")] = False,
) -> None:
    """Write COUNT generated patches, each with its generator, checkpoint, seed, psi and noise mode on record."""
    from histoforensics.generators import load_generator, sample_patchset

    loaded = load_generator(_find(generator), device.value)
    with progress(f"Sampling {loaded.name}") as advance:
        patches = sample_patchset(
            loaded, count, out, seed=seed, psi=psi, noise=noise.value, overwrite=overwrite, progress=advance
        )
    console.print(f"{len(patches)} generated patches of {patches.size_px} px in {out.name}.")


@app.command(epilog="Example: histoforensics generators info stylegan2 --resolution 256")
def info(
    family: FamilyName,
    resolution: Annotated[int | None, typer.Option(help="Side of the images, pixels (default: the preset's).")] = None,
    preset: Annotated[PresetName, typer.Option(help="Compact, for a CPU, or as published.")] = PresetName.PAPER,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Layers, output shapes and parameter counts of a family's generator and discriminator."""
    from rich.table import Table

    from histoforensics.generators import describe

    found = describe(family.value, resolution, preset.value)
    if as_json:
        console.print_json(json.dumps(found.to_json()))
        return
    for title, rows, total in (
        ("generator", found.generator, found.generator_parameters),
        ("discriminator", found.discriminator, found.discriminator_parameters),
    ):
        table = Table("layer", "type", "output", title=f"{found.title} {title}: {total:,} parameters")
        table.add_column("parameters", justify="right")
        for row in rows:
            shape = "-" if row.output_shape is None else " x ".join(map(str, row.output_shape))
            table.add_row(row.name, row.type, shape, f"{row.parameters:,}")
        console.print(table)


@app.command("import", epilog="Example: histoforensics generators import network-snapshot.pkl --out runs/theirs")
def import_foreign(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            help="A .pkl of stylegan2-ada-pytorch, of StyleGAN3's code (StyleGAN2 networks) or of the TensorFlow "
            "StyleGAN and StyleGAN2, or a .pt of rosinality's StyleGAN2."
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="Folder to write; runs/NAME if not given.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a folder that is not empty.")] = False,
) -> None:
    """Turn a checkpoint of another project into ours; nothing that the file carries is run."""
    from histoforensics.generators import import_checkpoint

    out = out or RUNS / checkpoint.stem
    with progress(f"Importing {checkpoint.name}") as advance:
        imported = import_checkpoint(checkpoint, out, overwrite=overwrite, progress=advance)
    console.print(f"{checkpoint.name}, of {imported['kind']}, is in {out.name}.")
    for title, key in (("Not imported", "not_imported"), ("Not reproduced", "not_reproduced")):
        if imported[key]:
            console.print(f"{title}: {'; '.join(imported[key])}.")
    console.print(imported["licence"])


@app.command(epilog="Example: histoforensics generators export runs/stylegan2 --out ours.safetensors")
def export(
    generator: Annotated[str, typer.Argument(help="Folder of a StyleGAN2, or the name of a run in runs/.")],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
) -> None:
    """Write a StyleGAN2 under stylegan2-ada-pytorch's tensor names, its discriminator too where there is one."""
    from histoforensics.generators import export_checkpoint

    networks = export_checkpoint(_find(generator), out)
    console.print(f"{' and '.join(networks)} under the names of stylegan2-ada-pytorch in {out.name}.")


@app.command("list", epilog="Example: histoforensics generators list --runs runs")
def list_runs(
    runs: Annotated[Path, typer.Option(help="Folder that holds runs.")] = RUNS,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Families that can be trained, and the generators trained so far."""
    from rich.table import Table

    from histoforensics.generators import FAMILIES, load_generator
    from histoforensics.generators.checkpoints import WEIGHTS

    found = [load_generator(path.parent) for path in sorted(runs.glob(f"*/{WEIGHTS}"))]
    cards = [
        {
            "name": one.name, "family": one.config.family, "px": one.config.resolution,
            "kimg": None if one.card["images"] is None else one.card["images"] / 1000,  # None: imported
            "data": one.card["data"]["origin"], "sha256": one.sha256,
        }
        for one in found
    ]  # fmt: skip
    if as_json:
        console.print_json(json.dumps({"families": list(FAMILIES), "generators": cards}))
        return
    console.print(f"Families: {', '.join(FAMILIES)}.")
    if not cards:
        console.print(
            f"No generator in {runs.name}; train one with: histoforensics generators train stylegan2 --data ..."
        )
        return
    table = Table("name", "family", "px", "kimg", "trained on", "sha256")
    for card in cards:
        shown = ("unknown" if card[key] is None else str(card[key]) for key in ("name", "family", "px", "kimg", "data"))
        table.add_row(*shown, str(card["sha256"])[:12])
    console.print(table)


def _print_stated(config: TrainConfig) -> None:
    """What the paper states beside what takes effect."""
    from rich.table import Table

    if not config.stated:
        return
    table = Table("setting", "stated", "effective", title=f"{config.family} as published")
    for row in config.stated:
        table.add_row(*row)
    console.print(table)


def _find(name: str) -> Path:
    path = Path(name)
    return RUNS / name if not path.exists() and (RUNS / name).exists() else path

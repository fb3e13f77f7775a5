"""`histoforensics generators`: train, sample, measure and describe StyleGAN, StyleGAN2 and PathologyGAN."""

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

app = typer.Typer(no_args_is_help=True, help="Train, sample, measure and describe the three GANs.")

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


class SamplingPrecision(StrEnum):
    """Of the convolutions while sampling."""

    FP32 = "fp32"
    BF16 = "bf16"


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
    ada: Annotated[
        bool, typer.Option("--ada", help="Augment as much as D's sureness of the reals asks for (ADA), as H&E allows.")
    ] = False,
    compile_: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Use torch.compile where no gradient of a gradient is taken; not measured on a GPU. On one CPU core "
            "it compiled for 3 minutes and then trained slower.",
        ),
    ] = False,
    processes: Annotated[
        int, typer.Option(help="Processes that share each batch, on the CPU; they give the weights that one gives.")
    ] = 1,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Log for TensorBoard too (must be installed).")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the settings and the data, and stop.")] = False,
) -> None:
    """Train a generator on random crops of DATA; run again with the same --out, it goes on where it stopped."""
    from histoforensics.generators import fit, open_source
    from histoforensics.generators import preset as preset_of
    from histoforensics.generators.ada import TARGET
    from histoforensics.generators.launch import fit_together, shared_out
    from histoforensics.slides import require

    require(processes == 1 or device == Device.CPU, "device", "cpu where several processes train", device.value)
    changes: dict[str, Any] = {"seed": seed}
    changes |= {} if kimg is None else {"kimg": kimg}
    changes |= {} if snapshot_kimg is None else {"snapshot_kimg": snapshot_kimg}
    changes |= {"ada_target": TARGET} if ada else {}
    changes |= {"compile": True} if compile_ else {}
    config = shared_out(preset_of(family.value, preset.value, resolution=resolution, **changes), processes)
    source = open_source(data, config.resolution, role=region.value, order=config.order)
    out = out or RUNS / family.value
    _print_stated(config)
    if dry_run:
        console.print_json(json.dumps({"config": config.to_json(), "data": source.to_json()}))
        return
    with progress(f"Training {family.value}") as advance:
        if processes == 1:
            result = fit(
                source, config, out,
                budget_seconds=seconds, device=device.value, progress=advance, tensorboard=tensorboard,
            )  # fmt: skip
        else:
            result = fit_together(
                data, config, out,
                processes=processes, role=region.value, budget_seconds=seconds, progress=advance,
                tensorboard=tensorboard,
            )  # fmt: skip
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


@app.command(epilog="Example: histoforensics generators sample stylegan2 --count 64 --out fakes --psi 0.7")
def sample(
    generator: Annotated[
        str,
        typer.Argument(
            help="Folder of a run, a .safetensors file, the name of a run in runs/, or a shipped generator: stylegan, "
            "stylegan2 or pathologygan."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the PatchSet to write.")],
    count: Annotated[int, typer.Option(help="How many images.")] = 64,
    seed: Annotated[int, typer.Option(help="Fixes every image together with its number.")] = 0,
    psi: Annotated[float, typer.Option(help="Truncation: 1 none, 0 the average image.")] = 1.0,
    noise: Annotated[Noise, typer.Option(help="Noise inputs.")] = Noise.RANDOM,
    precision: Annotated[
        SamplingPrecision,
        typer.Option(help="bf16: quicker on a CPU with AMX; pixels change by a few grey levels, so it goes on record."),
    ] = SamplingPrecision.FP32,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.CPU,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a folder that is not empty.")] = False,
) -> None:
    """Write COUNT generated patches, each with its generator, checkpoint, seed, psi and noise mode on record."""
    from histoforensics.generators import load_generator, sample_patchset

    loaded = load_generator(_find(generator), device.value)
    with progress(f"Sampling {loaded.name}") as advance:
        patches = sample_patchset(
            loaded, count, out,
            seed=seed, psi=psi, noise=noise.value, precision=precision.value, overwrite=overwrite, progress=advance,
        )  # fmt: skip
    console.print(f"{len(patches)} generated patches of {patches.size_px} px, by {_whence(generator)}, in {out.name}.")


@app.command(
    epilog="Example: histoforensics generators evaluate stylegan2 --data slide.svs --count 1000 --out evaluation",
)
def evaluate(
    generator: Annotated[
        str, typer.Argument(help="Folder of a run, a .safetensors file, or the name of a run or a shipped generator.")
    ],
    data: Annotated[
        list[Path],
        typer.Option(help="What it was trained on: slides, or folders, PatchSets, zips; may be given several times."),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write: results.json, figures and sheets.")],
    count: Annotated[int, typer.Option(help="Patches of each kind.")] = 1000,
    seed: Annotated[int, typer.Option(help="Fixes fakes, crops and subsets.")] = 0,
    features: Annotated[
        str | None,
        typer.Option(
            help="Features to compare: efficientnet-lite0-128 (default), efficientnet-lite0-224, or with "
            "--feature-weights an architecture of timm."
        ),
    ] = None,
    feature_weights: Annotated[
        Path | None, typer.Option(help="Weights of the features' network: safetensors, or torch with tensors alone.")
    ] = None,
    device: Annotated[Device, typer.Option(help="Where the generator computes.")] = Device.CPU,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a folder that is not empty.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print results.json.")] = False,
) -> None:
    """How near a generator is to real tissue: KID, precision and recall, copies; real tissue beside it as the ruler."""
    from histoforensics.generators import evaluate_into, feature_extractor, load_generator
    from histoforensics.generators.features import DEFAULT_FEATURES

    loaded = load_generator(_find(generator), device.value)
    extractor = feature_extractor(features or DEFAULT_FEATURES, feature_weights)
    with progress(f"Evaluating {loaded.name}") as advance:
        results = evaluate_into(
            loaded, data, out, count=count, seed=seed, features=extractor, overwrite=overwrite, progress=advance
        )
    if as_json:
        console.print_json(json.dumps(results))
        return
    _print_results(results)
    console.print(f"Figures and sheets of {_whence(generator)} are in {out.name}.")


@app.command(
    epilog="Example: histoforensics generators pack runs/stylegan2 --out packed/stylegan2 --data slide.svs",
)
def pack(
    run: Annotated[str, typer.Argument(help="Folder of a run, or its name in runs/.")],
    out: Annotated[Path, typer.Option(help="Folder to write: weights in half precision, config, card, samples.")],
    data: Annotated[
        list[Path] | None,
        typer.Option(help="What it was trained on, to measure the packed weights; without it the card has no figures."),
    ] = None,
    count: Annotated[int, typer.Option(help="Patches of each kind that are measured.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of what is measured.")] = 0,
    fault: Annotated[
        list[str] | None, typer.Option(help="What a pathologist would object to; may be given several times.")
    ] = None,
    made_by: Annotated[
        list[str] | None,
        typer.Option(help="A command that made the run (default: told from its config); may be given several times."),
    ] = None,
    data_note: Annotated[str, typer.Option(help="Where the training tissue comes from, and its terms.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a folder that is not empty.")] = False,
) -> None:
    """Make a run small enough to hand on: averaged weights in half precision with a model card and samples."""
    from histoforensics.generators import evaluate as measure
    from histoforensics.generators import pack as write_pack

    with progress(f"Packing {Path(run).name}") as advance:
        card = write_pack(
            _find(run), out, faults=fault or [], commands=made_by or [], data_note=data_note, overwrite=overwrite,
            judge=None if not data else lambda packed: measure(
                packed, data, count=count, seed=seed, progress=advance
            ).results,
        )  # fmt: skip
    if card["evaluation"]:
        _print_results(card["evaluation"])
    console.print(f"{card['family']}, {card['kimg']:g} kimg, {card['bytes'] / 1e6:.1f} MB, is in {out.name}.")


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

    networks = export_checkpoint(Path(_find(generator)), out)
    console.print(f"{' and '.join(networks)} under the names of stylegan2-ada-pytorch in {out.name}.")


@app.command("list", epilog="Example: histoforensics generators list --runs runs")
def list_runs(
    runs: Annotated[Path, typer.Option(help="Folder that holds runs.")] = RUNS,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Families that can be trained, the shipped generators with their cards, and the generators trained so far."""
    from rich.table import Table

    from histoforensics.generators import FAMILIES, ZOO, load_generator, shipped, zoo_card
    from histoforensics.generators.checkpoints import WEIGHTS

    zoo = {name: zoo_card(name) for name in shipped()}
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
        console.print_json(json.dumps({"families": list(FAMILIES), "shipped": zoo, "generators": cards}))
        return
    console.print(f"Families: {', '.join(FAMILIES)}.")
    _print_zoo(zoo)
    if missing := [name for name in ZOO if name not in zoo]:
        console.print(f"Not in this installation: {', '.join(missing)}.")
    if not cards:
        console.print(
            f"No generator in {runs.name}; train one with: histoforensics generators train stylegan2 --data ..."
        )
        return
    table = Table("name", "family", "px", "kimg", "trained on", "sha256", title=f"In {runs.name}")
    for card in cards:
        shown = ("unknown" if card[key] is None else str(card[key]) for key in ("name", "family", "px", "kimg", "data"))
        table.add_row(*shown, str(card["sha256"])[:12])
    console.print(table)


def _print_zoo(zoo: dict[str, dict[str, Any]]) -> None:
    """The essentials of the shipped generators' cards."""
    from rich.table import Table

    if not zoo:
        return
    table = Table("name", "px", "um/px", "kimg", "hours", "KID (of reals)", "ratio", title="Shipped")
    for name, card in zoo.items():
        kid = (card["evaluation"] or {}).get("kid")
        real = None if kid is None or kid["ratio_to"] is None else kid[kid["ratio_to"]]["mean"]
        table.add_row(
            name, str(card["px"]), _shown(card["mpp"], "g"), f"{card['kimg']:g}", _shown(card["hours"], ".1f"),
            "-" if kid is None else f"{kid['fake_to_training']['mean']:.4f} ({_shown(real, '.4f')})",
            "-" if kid is None else _shown(kid["ratio"], ".1f"),
        )  # fmt: skip
    console.print(table)
    for name, card in zoo.items():
        faults = " ".join(card["faults"]) or "no faults noted"
        console.print(f"{name}: {faults}", markup=False)
        console.print(f"{name}, licence: {card['licence']}", markup=False)


def _print_results(results: dict[str, Any]) -> None:
    """The figures of an evaluation beside those of real tissue."""
    from rich.table import Table

    kid, pr, copies = results["kid"], results["precision_recall"], results["memorisation"]
    ruler = kid["ratio_to"]
    reals = None if ruler is None else kid[ruler]
    pr_reals = pr.get("other") or pr.get("halves")
    table = Table("measure", "generator", "real tissue", title=f"Features: {results['features']['name']}")
    table.add_row(
        "KID (standard deviation of a subset)",
        *("-" if one is None else f"{one['mean']:.4f} ({one['std']:.4f})" for one in (kid["fake_to_training"], reals)),
    )
    table.add_row("KID ratio", _shown(kid["ratio"], ".2f"), "1")
    frechet = results["frechet"]
    if frechet["why_not"] is None:
        table.add_row(
            "Frechet distance", _shown(frechet["fake_to_training"], ".2f"), _shown(frechet["training_to_other"], ".2f")
        )
    for name in ("precision", "recall"):
        table.add_row(name, f"{pr['fake'][name]:.3f}", "-" if pr_reals is None else f"{pr_reals[name]:.3f}")
    table.add_row("share nearer to a training patch than 95 % of reals", _shown(copies["share_below"], ".3f"), "0.050")
    console.print(table)
    notes = {
        "Frechet distance left out": frechet["why_not"], "No ratio": kid["ratio_note"],
        "No check for copies": copies["why_not"], "Scale": results["data"]["scale_note"],
        "Reals": results["data"]["codec"],
        "Caution": None if results["data"]["is_training_data"] else
        "these are not the data that the generator was trained on, so nothing is said about copies of those",
    }  # fmt: skip
    for title, note in notes.items():
        if note is not None:
            console.print(f"{title}: {note}.", markup=False)


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _print_stated(config: TrainConfig) -> None:
    """What the paper states beside what takes effect."""
    from rich.table import Table

    if not config.stated:
        return
    table = Table("setting", "stated", "effective", title=f"{config.family} as published")
    for row in config.stated:
        table.add_row(*row)
    console.print(table)


def _find(name: str) -> Path | str:
    """An existing path, then a run in runs/; else the name, which may be a shipped generator's."""
    path = Path(name)
    if path.exists():
        return path
    return RUNS / name if (RUNS / name).exists() else name


def _whence(name: str) -> str:
    """Which generator `_find` took, in words: a run may have a shipped generator's name."""
    found = _find(name)
    if isinstance(found, str):
        return f"the shipped {name}"
    return f"{RUNS.name}/{found.name}" if found.parent == RUNS else found.name

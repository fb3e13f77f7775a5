"""`histoforensics detectors ship` and `info`: the detectors that come with the package, made again, and their cards."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import out, progress

if TYPE_CHECKING:
    from histoforensics.forensics import DetectorCard


def ship(
    destination: Annotated[Path, typer.Option("--out", help="Folder to write, one folder a detector below it.")],
    slide: Annotated[
        list[Path] | None, typer.Option(help="Further slide to learn from, beside the sample slide; repeatable.")
    ] = None,
    unseen: Annotated[
        Path | None, typer.Option(help="Folder of real tissue of another kind: false positives are measured on it.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only this detector; repeatable.")] = None,
    work: Annotated[
        Path, typer.Option(help="Folder that keeps patches and trainings; a stopped run goes on from it.")
    ] = Path("results/ship"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace detectors that are there.")] = False,
    seed: Annotated[int, typer.Option(help="Of every random draw.")] = 0,
) -> None:
    """Make the shipped detectors again: train on slides, the shipped generators and stand-ins; calibrate; measure.

    Takes about ten minutes of one core. Patches and trainings are kept in --work, so it can be stopped at any time.

    Example: histoforensics detectors ship --slide tcga.svs --unseen glas/images --out forensics/shipped --overwrite
    """
    from histoforensics.forensics.mixture import MixtureConfig
    from histoforensics.forensics.mixture_build import build_mixture
    from histoforensics.forensics.shipping import ship as make
    from histoforensics.forensics.stock import STOCK
    from histoforensics.forensics.workshop import Workshop
    from histoforensics.forensics.workshop_exam import Unseen
    from histoforensics.generators import load_generator
    from histoforensics.generators.zoo import shipped
    from histoforensics.slides import PatchSet, Slide, require, sample_slide

    names = tuple(only or STOCK)
    for name in names:
        require(name in STOCK, "only", f"one of {', '.join(STOCK)}", name)
    config = MixtureConfig(seed=seed)
    tissue = None if unseen is None else Unseen.of(PatchSet.open(unseen, label="real"), config.patch_px, seed)
    slides = [Slide.open(path) for path in (sample_slide(), *(slide or ()))]
    generators = {name: load_generator(name) for name in shipped()}
    with progress("patches") as advance:
        mixture = build_mixture(slides, generators, config, work / "patches", advance)
    with progress("detectors") as advance:
        cards = make(
            Workshop(mixture, work / "trainings", seed),
            destination,
            names=names,
            unseen=tissue,
            command=_command(slide or (), unseen, seed),
            overwrite=overwrite,
            progress=advance,
        )
    for card in cards.values():
        _tell(card)


def info(
    name: Annotated[str, typer.Argument(help="A shipped detector, or the folder of a trained one.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole card as JSON.")] = False,
) -> None:
    """What a detector was trained on, what was measured of it, and where it fails.

    Example: histoforensics detectors info fusion
    """
    from histoforensics.forensics.card import read_card
    from histoforensics.forensics.stock import stock_card

    card = read_card(Path(name)) if Path(name).is_dir() else stock_card(name)
    if as_json:
        out.print_json(card.to_json())
        return
    _tell(card)
    for words, told in (
        ("Codec", card.codec_policy), ("Licence", card.licence), ("Made by", "; ".join(card.commands)),
        ("Promise", card.promise),
    ):  # fmt: skip
        if told:
            _say(f"{words}: {told}")
    for limit in card.limits:
        _say(f"- {limit}")


def _command(slides: Any, unseen: Path | None, seed: int) -> str:
    """The command, with names in place of whole paths."""
    words = ["histoforensics", "detectors", "ship"]
    for path in slides:
        words += ["--slide", path.name]
    words += [] if unseen is None else ["--unseen", "/".join(unseen.resolve().parts[-2:])]
    return shlex.join([*words, "--out", "shipped", "--seed", str(seed)])


def _tell(card: DetectorCard) -> None:
    """A line on the detector, and one a figure that was measured of it."""
    trained, measured = card.trained_on, card.evaluation
    _say(
        f"{card.name}: {card.patch_px} px at {'unknown' if card.mpp is None else f'{card.mpp:g}'} um/px, trained on "
        f"{trained.get('real', 0)} real and {trained.get('fake', 0)} fake patches."
    )
    for words, key in (("in domain", "in_domain"), ("generator left out", "leave_one_out")):
        for variant, cell in measured.get(key, {}).items():
            figure = f"mean AUC {cell['mean']:.2f}, worst {cell['worst']:.2f}" if "mean" in cell else _auc(cell)
            _say(
                f"  {words}, {variant}: {figure}, {_percent(cell['true_positive_rate'])} of fakes called fake, "
                f"{_percent(cell['false_positive_rate'])} of reals, {_percent(cell['unsure'])} unsure"
            )
    for name, cell in measured.get("other_slides", {}).items():
        _say(f"  {name}: {_auc(cell)}, {_percent(cell['false_positive_rate'])} of reals called fake")
    if "unseen_tissue" in measured:
        told, clean = measured["unseen_tissue"], measured["unseen_tissue"]["clean"]
        _say(
            f"  real tissue never seen ({told['name']}, {told['patches']} patches): "
            f"{_percent(clean['false_positive_rate'])} called fake, {_percent(clean['called_fake'])} where doubtful "
            "ones are unsure"
        )
    if "best_control" in measured:
        best = measured["best_control"]
        _say(f"  best control, generator left out: {best['name']}, mean AUC {best['mean']:.2f}")


def _auc(cell: Any) -> str:
    return f"AUC {cell['auc']:.2f}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _say(line: str) -> None:
    out.print(line, soft_wrap=True, markup=False)

"""`histoforensics benchmark`: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from histoforensics.slides import ConfigError

from .console import out as console
from .console import progress

RESULTS = Path("results")


def benchmark(
    study: Annotated[
        str | None, typer.Argument(help="TOML file of a study, or the name of a shipped one (default: sample-slide).")
    ] = None,
    real: Annotated[
        list[Path] | None, typer.Option(help="Slide or folder of real images; repeatable. Default: the sample slide.")
    ] = None,
    fake: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FOLDER_OR_CHECKPOINT of fakes; repeatable. Default: the three shipped generators."),
    ] = None,
    train_generators: Annotated[
        bool | None,
        typer.Option("--train-generators/--shipped-generators", help="Train the three GANs on the real tissue first."),
    ] = None,
    detector: Annotated[
        list[str] | None, typer.Option(help="Detector to judge; repeatable. Default: five that train in minutes.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the report, where a second run goes on (default: results/benchmark, or the study's name)."
        ),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(
            help="Also write a Markdown page of tables and curves, without a patch: for tissue not to be shown."
        ),
    ] = None,
    patch_px: Annotated[int | None, typer.Option(help="Judged size, px; default 112 on a slide.")] = None,
    mpp: Annotated[float | None, typer.Option(help="Micrometres per pixel of slides that do not say.")] = None,
    generator_seconds: Annotated[
        float | None, typer.Option(help="Training time of each GAN, s; default 240 (compact).")
    ] = None,
    cnn_seconds: Annotated[float | None, typer.Option(help="Longest training of each CNN detector, s.")] = None,
    same_source: Annotated[
        bool | None,
        typer.Option("--same-source", help="Your word that the given fakes were made from the given tissue."),
    ] = None,
    tamper: Annotated[
        bool | None,
        typer.Option("--tamper", help="Also splice fakes, and real tissue as a control, into the slide and find them."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Of the numerical libraries; more than 1 pays for large models only.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of every random draw; the split of the tissue does not depend on it.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda.")] = None,
) -> None:
    """Judge real and generated tissue with detectors, beside the published pathologist.

    Without arguments: a real slide (CC0, fetched once), fakes of three GANs that learned from some of its blocks,
    detectors trained on others, an exam of 30 real and 30 fake patches, and a report. A study says all of this in one
    file; options given here come before it.

    Example: histoforensics benchmark

    Example: histoforensics benchmark --real slide.svs --train-generators --out results/mine

    Example: histoforensics benchmark --real slide.svs --fake StyleGAN2=fakes/ --same-source
    """
    from histoforensics.benchmarks.page import check_page, write_page
    from histoforensics.benchmarks.pipeline import run_benchmark
    from histoforensics.benchmarks.studyfile import DEFAULT, read_study

    given = {
        "real": tuple(real) if real else None,
        "fake": dict(_named(text) for text in fake) if fake else None,
        "train_generators": train_generators,
        "detectors": tuple(detector) if detector else None,
        "patch_px": patch_px,
        "mpp": mpp,
        "generator_seconds": generator_seconds,
        "cnn_seconds": cnn_seconds,
        "same_source": same_source,
        "tamper": tamper,
        "threads": threads,
        "seed": seed,
        "device": device,
    }
    config = read_study(study or DEFAULT, **{name: value for name, value in given.items() if value is not None})
    out = out or RESULTS / ("benchmark" if study is None else Path(study).stem)
    if page is not None:
        check_page(page)
    results = run_benchmark(config, out, narrate=progress)
    if page is not None:
        write_page(results, page, f"histoforensics benchmark {study or DEFAULT} --page {_as_typed(page)}")
    console.print(results["answer"]["headline"], soft_wrap=True, markup=False)
    console.print(f"Report: {out / 'report.html'}", soft_wrap=True, markup=False)


def _as_typed(page: Path) -> str:
    """A path that tells nothing of the machine."""
    return page.name if page.is_absolute() else page.as_posix()


def _named(text: str) -> tuple[str, Path]:
    name, separator, path = text.partition("=")
    if not (name and separator and path):
        raise ConfigError(f"--fake must be NAME=FOLDER_OR_CHECKPOINT, got {text!r}.")
    return name, Path(path)

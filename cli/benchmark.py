"""`histoforensics benchmark`: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from histoforensics.slides import ConfigError

from .console import out as console
from .console import progress


def benchmark(
    real: Annotated[
        list[Path] | None, typer.Option(help="Slide or folder of real images; repeatable. Default: the sample slide.")
    ] = None,
    fake: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FOLDER_OR_CHECKPOINT of generated images; repeatable. Default: train three GANs."),
    ] = None,
    detector: Annotated[
        list[str] | None, typer.Option(help="Detector to judge; repeatable. Default: five that train in minutes.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the report; a second run uses what is still valid.")] = Path(
        "results/benchmark"
    ),
    patch_px: Annotated[int | None, typer.Option(help="Judged size, px; default 112 on a slide.")] = None,
    mpp: Annotated[float | None, typer.Option(help="Micrometres per pixel of slides that do not say.")] = None,
    generator_seconds: Annotated[float, typer.Option(help="Training time of the GANs, s.")] = 240.0,
    cnn_seconds: Annotated[float, typer.Option(help="Longest training of each CNN detector, s.")] = 18.0,
    same_source: Annotated[
        bool, typer.Option("--same-source", help="Your word that the given fakes were made from the given tissue.")
    ] = False,
    threads: Annotated[
        int, typer.Option(help="Of the numerical libraries; more than 1 pays for large models only.")
    ] = 1,
    seed: Annotated[int, typer.Option(help="Of every random draw; the split of the tissue does not depend on it.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Judge real and generated tissue with detectors, beside the published pathologist.

    Without arguments: a real slide (CC0, fetched once), three GANs trained briefly on some of its blocks, detectors
    trained on others' fakes, an exam of 30 real and 30 fake patches, and a report.

    Example: histoforensics benchmark

    Example: histoforensics benchmark --real slide.svs --fake StyleGAN2=fakes/ --same-source --out results/mine
    """
    from histoforensics.benchmarks.config import DEFAULT_DETECTORS, BenchmarkConfig
    from histoforensics.benchmarks.pipeline import run_benchmark

    config = BenchmarkConfig(
        real=tuple(real or ()),
        fake=dict(_named(text) for text in fake or ()),
        detectors=tuple(detector or DEFAULT_DETECTORS),
        patch_px=patch_px,
        mpp=mpp,
        generator_seconds=generator_seconds,
        cnn_seconds=cnn_seconds,
        same_source=same_source,
        threads=threads,
        seed=seed,
        device=device,
    )
    results = run_benchmark(config, out, narrate=progress)
    console.print(results["answer"]["headline"], soft_wrap=True, markup=False)
    console.print(f"Report: {out / 'report.html'}", soft_wrap=True, markup=False)


def _named(text: str) -> tuple[str, Path]:
    name, separator, path = text.partition("=")
    if not (name and separator and path):
        raise ConfigError(f"--fake must be NAME=FOLDER_OR_CHECKPOINT, got {text!r}.")
    return name, Path(path)

"""`histoforensics scan` and `slides merge`: where on slides is generated tissue."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import err, out, progress

if TYPE_CHECKING:
    from histoforensics.forensics.cohort import Cohort
    from histoforensics.slides.executor import Engine, Limits

SHOWN = 20  # slides and failures that are printed; the files have all


def scan(
    slides: Annotated[list[Path], typer.Argument(help="Slide files; @FILE stands for the paths in FILE, one a line.")],
    detector: Annotated[list[str], typer.Option(help="A trained detector: its folder, or a shipped name; repeatable.")],
    destination: Annotated[
        Path, typer.Option("--out", help="Folder of the results; a second run does what is missing.")
    ],
    mpp: Annotated[float | None, typer.Option(help="Micrometres per level-0 pixel, where slides say none.")] = None,
    stride_px: Annotated[
        int | None, typer.Option(help="From one patch to the next, level-0 pixels. Default: half a patch.")
    ] = None,
    min_tissue: Annotated[float, typer.Option(help="Share of tissue that a patch needs to be judged.")] = 0.5,
    history: Annotated[
        str,
        typer.Option(help="card: judge patches with the codec history that a detector learned from. as-is: as read."),
    ] = "card",
    engine: Annotated[
        str,
        typer.Option(
            help="process: workers that may crash or hang. serial: in this process. ray: on a cluster. Same results."
        ),
    ] = "process",
    workers: Annotated[int | None, typer.Option(help="Processes or Ray's actors. Default: one a core.")] = None,
    shard: Annotated[
        str | None, typer.Option(help="i/N from 0/N to N-1/N: this part of the slides; `slides merge` joins them.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")] = "cpu",
    batch: Annotated[int, typer.Option(help="Patches that a detector sees at once.")] = 32,
    threads: Annotated[int, typer.Option(help="Torch's threads in each worker.")] = 1,
    gpus: Annotated[float, typer.Option(help="ray: of each actor, such as 0.25.")] = 0.0,
    slide_seconds: Annotated[float | None, typer.Option(help="With workers: give a slide up after this long.")] = None,
    silent_seconds: Annotated[
        float | None,
        typer.Option(help="With workers: give a slide up that shows no progress for this long. Default: 600."),
    ] = None,
    memory_mb: Annotated[
        float | None, typer.Option(help="With workers: give a slide up whose worker takes more memory. Default: 8000.")
    ] = None,
) -> None:
    """Find generated tissue on slides: score maps, suspicious regions and a verdict with its false-alarm rate.

    Patches are cut from full resolution at the detector's size, never resampled. Every slide is attempted; the exit
    code is 1 if any failed. index.html and each slide's report.html open in a browser, from disk. Drag tiles.geojson
    or regions.geojson onto the open slide in QuPath.

    Example: histoforensics scan slide.svs --detector detectors/wht-lr --out results/scan

    histoforensics scan @cohort.txt --detector detectors/wht-lr --out results/scan --shard 0/2
    """
    from histoforensics.forensics.history import parse_history
    from histoforensics.forensics.scan_grid import ScanGrid
    from histoforensics.forensics.scanner import Scanner
    from histoforensics.forensics.scanstate import parse_shard

    part = None if shard is None else parse_shard(shard)
    scanner = Scanner(
        detector,
        ScanGrid(stride_px=stride_px, min_tissue=min_tissue, mpp=mpp, batch=batch, history=parse_history(history)),
    )
    with progress("scanning") as advance:
        report = scanner.run(
            _listed(slides),
            destination,
            engine=_engine(engine),
            workers=workers,
            shard=part,
            limits=_limits(engine, slide_seconds, silent_seconds, memory_mb),
            device=device,
            threads=threads,
            gpus=gpus,
            progress=advance,
        )
    if report.kept:
        out.print(f"{report.kept} slides were finished already and are kept.")
    for name in report.duplicates:
        out.print(f"{name}: byte for byte another of the slides; scanned once.", markup=False, soft_wrap=True)
    _tell(report.cohort)
    if not report.ok:
        raise typer.Exit(1)


def merge(
    folders: Annotated[list[Path], typer.Argument(help="Results folders of the shards, or the one they all wrote to.")],
    destination: Annotated[Path, typer.Option("--out", help="Folder of the whole; may be that one folder.")],
) -> None:
    """Join the results of `scan --shard`: the same files as one undivided scan gives.

    The exit code is 1 if any slide failed in its shard.

    Example: histoforensics slides merge results/shard-0 results/shard-1 --out results/scan
    """
    from histoforensics.forensics.cohort import merge as join

    cohort = join(folders, destination)
    _tell(cohort)
    if cohort.failures:
        raise typer.Exit(1)


def _listed(slides: list[Path]) -> list[Path]:
    """The slides, with the lists among them written out: a command line has no room for a large cohort."""
    from histoforensics.slides import ConfigError

    found: list[Path] = []
    for slide in slides:
        if not str(slide).startswith("@"):
            found.append(slide)
            continue
        file = Path(str(slide)[1:])
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as problem:
            raise ConfigError(
                f"{file.name}: the list of slides cannot be read ({type(problem).__name__})."
            ) from problem
        found += [Path(line.strip()) for line in lines if line.strip()]
    return found


def _engine(name: str) -> Engine:
    from histoforensics.slides import require
    from histoforensics.slides.executor import ENGINES

    chosen = next((engine for engine in ENGINES if engine == name), None)
    require(chosen is not None, "engine", "serial, process or ray", name)
    assert chosen is not None
    return chosen


def _limits(engine: str, slide_seconds: float | None, silent_seconds: float | None, memory_mb: float | None) -> Limits:
    """What the user set, and the defaults of the rest; the serial engine refuses what it cannot enforce."""
    from histoforensics.forensics.scanner import DEFAULT_LIMITS
    from histoforensics.slides.executor import Limits

    default = Limits() if engine == "serial" else DEFAULT_LIMITS
    return Limits(
        task_seconds=slide_seconds,
        silent_seconds=silent_seconds or default.silent_seconds,
        memory_mb=memory_mb or default.memory_mb,
    )


def _tell(cohort: Cohort) -> None:
    for row in cohort.verdicts[:SHOWN]:
        out.print(f"{row['slide']}: {row['call']}", markup=False, soft_wrap=True)
        for label, said in row["detectors"].items():
            out.print(f"  {_sentence(label, said)}", markup=False, soft_wrap=True)
            for warning in said["warnings"]:
                out.print(f"  Note: {warning}", markup=False, soft_wrap=True)
        for warning in row["warnings"]:
            out.print(f"  Note: {warning}", markup=False, soft_wrap=True)
    for failure in cohort.failures[:SHOWN]:
        err.print(f"{failure['slide']}: {failure['cause']}: {failure['message']}", markup=False, soft_wrap=True)
    more = max(0, len(cohort.verdicts) - SHOWN) + max(0, len(cohort.failures) - SHOWN)
    rest = f" ({more} more in cohort.csv)" if more else ""
    out.print(f"{len(cohort.verdicts)} slides finished, {len(cohort.failures)} failed{rest}.")


def _sentence(label: str, said: dict[str, object]) -> str:
    if said["p"] is None:
        return f"{label}: no whole patch of tissue to judge."
    needed = f"; {said['needed']} would be suspicious" if said["needed"] is not None else "; too few to say more"
    return (
        f"{label}: {said['called_fake']} of {said['patches']} disjoint patches called fake, "
        f"{100 * float(str(said['false_alarm_rate'])):.1f} % expected on real tissue, p = {said['p']:.3g}{needed}."
    )

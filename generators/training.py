"""The training loop, one for the three families: batches, phases, averages, snapshots, exact resume.

Every random number is a function of (seed, step, phase, part of the batch): a resumed run repeats the undisturbed one
bit for bit on the CPU, whatever ended it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from histoforensics.slides import Progress, require

from .config import TrainConfig
from .data import CropSource
from .freed_memory import keep_freed_memory
from .journal import Journal
from .run import Run

GROWTH_SHARE = 0.6  # a run with a budget is full-grown when this share of it is spent, however slow the machine


@dataclass(frozen=True)
class TrainResult:
    """How a call of `fit` ended. ``skipped`` counts the steps with a non-finite gradient, by phase."""

    out: Path
    images: int  # real images shown to the discriminator since the run began
    steps: int
    seconds: float  # spent by this call
    images_per_second: float  # of this call
    skipped: dict[str, int]
    is_complete: bool
    lod: float  # above 0: the run ended before it had grown to its full size


def fit(
    data: CropSource,
    config: TrainConfig,
    out: Path | str,
    *,
    budget_seconds: float | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
    tensorboard: bool = False,
) -> TrainResult:
    """Train until ``config.kimg`` or until the budget is spent; called again on the same folder, it goes on.

    Args:
        data: Crops of the network's resolution.
        config: The run. A resumed run must have the same one, save for how long it is and how often it saves.
        out: Folder of the run: generator.safetensors, config.json, run.json, log.jsonl, grids/, state/.
        budget_seconds: Wall-clock seconds after which this call stops and saves, one step made at least. A
            growing run hurries, to be full-grown at `GROWTH_SHARE` of it. None: no limit.
        device: "cpu" or "cuda".
        progress: Called with (images, images wanted, a note of kimg, images/s and losses).
        tensorboard: Log for TensorBoard too, in ``out``/tensorboard; it must be installed.

    Raises:
        ConfigError: The data do not fit the network, or the folder holds another run.
    """
    require(data.patch_px == config.resolution, "data", f"crops of {config.resolution} px", f"{data.patch_px} px")
    require(budget_seconds is None or budget_seconds > 0, "budget_seconds", "above 0", budget_seconds)
    require(device in ("cpu", "cuda"), "device", "cpu or cuda", device)
    require(device == "cpu" or torch.cuda.is_available(), "device", "cpu, since no GPU is at hand", device)
    clock, wanted = time.monotonic(), round(config.kimg * 1000)
    with _cpu_modes(config.threads):
        run = Run(data, config, torch.device(device))
        journal = _open_journal(Path(out), run, tensorboard)
        first, due = run.images, run.images + config.snapshot_kimg * 1000
        while run.images < wanted:
            if budget_seconds is not None:
                spent = run.team.agreed((time.monotonic() - clock) / budget_seconds)
                if spent >= 1 and run.images > first:
                    break
                run.hurry(spent / GROWTH_SHARE)
            losses = run.step()
            journal.note(losses)
            if progress is not None:
                progress(min(run.images, wanted), wanted, journal.summary())
            if run.images >= due and run.images < wanted:
                due += config.snapshot_kimg * 1000
                journal.snapshot()
        journal.snapshot()
    seconds = time.monotonic() - clock
    return TrainResult(
        out=Path(out), images=run.images, steps=run.steps, seconds=seconds,
        images_per_second=(run.images - first) / seconds, skipped=dict(run.skipped),
        is_complete=run.images >= wanted, lod=run.lod,
    )  # fmt: skip


def _open_journal(out: Path, run: Run, tensorboard: bool) -> Journal:
    """The run's journal: the first process tidies the folder up before the others read it."""
    if not run.team.is_first:
        run.team.wait()
    journal = Journal(out, run, tensorboard=tensorboard)
    if run.team.is_first:
        run.team.wait()
    return journal


@contextmanager
def _cpu_modes(threads: int | None) -> Iterator[None]:
    """The config's number of threads; and numbers below 1e-38 count as zero: each costs a CPU a hundred operations.

    PyTorch does not tell whether they did before, so they count afterwards, as they do when Python starts.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(before if threads is None else threads)
    torch.set_flush_denormal(True)
    keep_freed_memory()
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)

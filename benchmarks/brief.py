"""Generators trained on the spot, on a CPU side by side: one process and one thread each.

Their networks are so small that a second thread costs more than it brings: one trained at 24 images/s on one thread and
at 2 on two.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from histoforensics.generators import LoadedGenerator, TrainConfig, fit, load_generator, preset
from histoforensics.generators.presets import COMPACT_PX

from .config import BenchmarkConfig
from .learning import Narrator
from .sources import open_tissue
from .stages import is_done, stage
from .threads import limited_threads
from .tissue import Tissue

TITLES = {"stylegan": "StyleGAN", "stylegan2": "StyleGAN2", "pathologygan": "PathologyGAN"}  # as the paper writes them
PUBLISHED_KIMG = {"stylegan": 25_000.0, "stylegan2": 25_000.0, "pathologygan": 3_600.0}


def train_generators(
    config: BenchmarkConfig, tissue: Tissue, home: Path, narrate: Narrator
) -> dict[str, LoadedGenerator]:
    """Title to generator trained here, for every family of the run; what is finished under ``home`` is used again."""
    missing = [family for family in config.families if not _is_trained(config, family, tissue, home)]
    if missing:
        names = ", ".join(TITLES[family] for family in missing)
        seconds = config.training_seconds
        with narrate(f"Training {names}" + (f" for {seconds:.0f} s" if seconds else "")) as progress:
            _side_by_side(config, missing, home, progress)
    return {TITLES[family]: load_generator(home / family, config.device) for family in config.families}


def train_one(config: BenchmarkConfig, family: str, home: Path) -> None:
    """Train one family into ``home/<family>``, on one thread; the tissue is opened anew, as a process needs it."""
    with limited_threads(1):
        _train_one(config, family, home)


def _train_one(config: BenchmarkConfig, family: str, home: Path) -> None:
    tissue = open_tissue(config, {})
    settings, data = _settings(config, family, tissue)

    def make(folder: Path) -> None:
        fit(data, settings, folder, budget_seconds=config.training_seconds, device=config.device)

    stage(home / family, _fields(config, settings, data.to_json()), make)


def _side_by_side(config: BenchmarkConfig, families: Sequence[str], home: Path, progress: Any) -> None:
    began, total = time.monotonic(), round(config.training_seconds or 0)
    home.mkdir(parents=True, exist_ok=True)
    workers = len(families) if config.device == "cpu" else 1  # a GPU's memory is for one
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        pending = {pool.submit(train_one, config, family, home) for family in families}
        while pending:
            done, pending = wait(pending, timeout=1.0, return_when="FIRST_EXCEPTION")
            for one in done:
                one.result()
            passed = round(time.monotonic() - began)
            progress(min(passed, total), total, f"{passed} s")


def _is_trained(config: BenchmarkConfig, family: str, tissue: Tissue, home: Path) -> bool:
    settings, data = _settings(config, family, tissue)
    return is_done(home / family, _fields(config, settings, data.to_json()))


def _settings(config: BenchmarkConfig, family: str, tissue: Tissue) -> tuple[TrainConfig, Any]:
    px = least_resolution(COMPACT_PX[family], tissue.patch_px)
    changes = {} if config.generator_kimg is None else {"kimg": config.generator_kimg}
    return preset(family, config.generator_preset, resolution=px, seed=config.seed, **changes), tissue.crop_source(px)


def _fields(config: BenchmarkConfig, settings: TrainConfig, data: dict[str, Any]) -> dict[str, Any]:
    return {"data": data, "config": settings.to_json(), "seconds": config.training_seconds}


def least_resolution(compact_px: int, patch_px: int) -> int:
    """A family's compact size, halved or doubled until it is the least that holds the judged patch.

    >>> [least_resolution(128, 112), least_resolution(112, 112), least_resolution(112, 224), least_resolution(128, 64)]
    [128, 112, 224, 64]
    """
    while compact_px // 2 >= patch_px:
        compact_px //= 2
    while compact_px < patch_px:
        compact_px *= 2
    return compact_px

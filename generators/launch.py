"""Training in several processes of one machine: this one is the first, the others are started and follow it."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import torch.distributed as dist

from histoforensics.slides import Progress, Role, require

from .config import TrainConfig
from .data import open_source
from .training import TrainResult, fit

SILENCE_SECONDS = 600.0  # after which a process takes the others for lost


def shared_out(config: TrainConfig, processes: int) -> TrainConfig:
    """``config`` with parts small enough for ``processes``, where it does not say how large parts are.

    Raises:
        ConfigError: A batch that they cannot share evenly.
    """
    require(processes >= 1, "processes", "at least 1", processes)
    if config.micro_batch is not None or processes == 1:
        return config
    smallest = min(config.batch, *(number for _, number in config.batch_at), config.batch)
    require(smallest % processes == 0, "processes", f"a divisor of the batch, {smallest}", processes)
    return replace(config, micro_batch=smallest // processes)


def fit_together(
    data: Sequence[Path],
    config: TrainConfig,
    out: Path,
    *,
    processes: int,
    role: Role | Literal["all"] = "train",
    budget_seconds: float | None = None,
    progress: Progress | None = None,
    tensorboard: bool = False,
) -> TrainResult:
    """`fit` in ``processes`` processes with gloo, on the CPU; it ends with the weights that one process would give.

    Args:
        data: What `open_source` opens; each process opens it for itself.
        config: As for `fit`; its micro_batch must leave every process the same number of parts (`shared_out`).
        out: Folder of the run; only this process writes to it.
        processes: How many, at least 1.
        role: Of a slide's blocks.
        budget_seconds: As for `fit`; this process's clock counts.
        progress: As for `fit`.
        tensorboard: As for `fit`.
    """
    require(processes >= 1, "processes", "at least 1", processes)
    with tempfile.TemporaryDirectory() as folder:
        store, context = Path(folder) / "store", get_context("spawn")
        task = (processes, str(store), [str(path) for path in data], config.to_json(), str(out), role, budget_seconds)
        followers = [context.Process(target=_follow, args=(rank, *task), daemon=True) for rank in range(1, processes)]
        for follower in followers:
            follower.start()
        try:
            with _group(0, processes, store):
                source = open_source(data, config.resolution, role=role, order=config.order)
                return fit(
                    source, config, out, budget_seconds=budget_seconds, progress=progress, tensorboard=tensorboard
                )
        finally:
            for follower in followers:
                follower.join(timeout=10)
                follower.terminate()  # only one that hangs is left to feel it


def _follow(
    rank: int,
    size: int,
    store: str,
    data: list[str],
    config: dict[str, Any],
    out: str,
    role: Role | Literal["all"],
    budget_seconds: float | None,
) -> None:
    with _group(rank, size, Path(store)):
        settings = TrainConfig.from_json(config)
        source = open_source(data, settings.resolution, role=role, order=settings.order)
        fit(source, settings, out, budget_seconds=budget_seconds)


@contextmanager
def _group(rank: int, size: int, store: Path) -> Iterator[None]:
    if sys.platform == "linux":  # all are on this machine, whose own name may not resolve
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    timeout = timedelta(seconds=SILENCE_SECONDS)
    dist.init_process_group("gloo", init_method=store.as_uri(), rank=rank, world_size=size, timeout=timeout)
    try:
        yield
    finally:
        dist.destroy_process_group()

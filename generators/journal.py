"""What a run leaves on disk: states, the generator, a log of JSON lines, sample grids, the run card."""

from __future__ import annotations

import io
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from histoforensics.slides import ConfigError, run_card, write_atomic

from .checkpoints import load_state, save_generator, save_state
from .config import TrainConfig
from .run import Run
from .sampling import draw, sheet

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

# settings that a resumed run may change; a growth goes on as it began, whatever the new length would make of it
FREE = ("kimg", "snapshot_kimg", "grid_side", "growth", "cooldown_kimg")
LOG = "log.jsonl"


class Journal:
    """Brings ``run`` to where the folder ``out`` left it, then records how it goes on.

    Args:
        out: The run's folder.
        run: As new.
        tensorboard: Also log for TensorBoard, in ``out``/tensorboard.

    Raises:
        ConfigError: The folder holds a run with other settings or other data, or TensorBoard is not installed.
        CheckpointError: Its newest state is damaged.
    """

    def __init__(self, out: Path, run: Run, *, tensorboard: bool = False) -> None:
        self.out, self.run = out, run
        self.started, self.clock = time.time(), time.monotonic()
        self.earlier_seconds = 0.0
        self._losses: dict[str, list[float]] = {}
        state = load_state(out)
        if state is None:
            if run.team.is_first:
                write_atomic(out / "grids" / "real.png", png(self._reals()))
        else:
            self._check_same(state.values)
            run.config = replace(run.config, growth=TrainConfig.from_json(state.values["config"]).growth)
            run.restore(state)
            self.earlier_seconds = float(state.values["seconds"])
        self.first = run.images
        if run.team.is_first:
            self._trim_log()
        self._board = _board(out / "tensorboard", run.images) if tensorboard and run.team.is_first else None

    def note(self, losses: dict[str, float]) -> None:
        """Remember a step's losses for the next line of the log."""
        for name, loss in losses.items():
            self._losses.setdefault(name, []).append(loss)

    def summary(self) -> str:
        """A few words on the state: kimg, images/s, latest losses, growth."""
        latest = " ".join(f"{name} {losses[-1]:.2f}" for name, losses in self._losses.items())
        growth = f" lod {self.run.lod:.2f}" if self.run.config.growth else ""
        skipped = f" skipped {self.run.skipped.total()}" if self.run.skipped else ""
        p = "" if self.run.config.ada_target is None else f" p {self.run.players.adaptive.chance:.3f}"
        return f"{self.run.images / 1000:.2f} kimg {self.images_per_second:.1f} img/s {latest}{growth}{p}{skipped}"

    @property
    def images_per_second(self) -> float:
        """Real images a second since this call began."""
        return (self.run.images - self.first) / max(time.monotonic() - self.clock, 1e-9)

    def snapshot(self) -> None:
        """Save everything. The state comes first: a kill after it loses nothing, one before it an interval."""
        if not self.run.team.is_first:  # all hold the same
            return
        run, seconds = self.run, self.earlier_seconds + time.monotonic() - self.clock
        state = run.state()
        state.values |= {"seconds": seconds, "config": run.config.to_json(), "data": run.data.to_json()}
        save_state(self.out, run.steps, state)
        card = {"images": run.images, "lod": run.lod, "data": run.data.to_json()}
        save_generator(self.out, run.players.G_ema, run.config, card)
        grid = draw(run.players.G_ema, range(run.config.grid_side**2), run.config.seed, noise="const", lod=run.lod)
        write_atomic(self.out / "grids" / f"{run.images:09d}.png", png(grid))
        self._log(seconds)
        entry = run_card(run.config.to_json(), {"data": run.data.digest}, started=self.started)
        entry |= {"images": run.images, "steps": run.steps, "training_seconds": round(seconds, 1)}
        write_atomic(self.out / "run.json", json.dumps(entry, indent=1) + "\n")

    def _log(self, seconds: float) -> None:
        if not self._losses:  # no step since the last line
            return
        line: dict[str, Any] = {
            "images": self.run.images, "steps": self.run.steps, "seconds": round(seconds, 1),
            "images_per_second": round(self.images_per_second, 2), "lod": self.run.lod,
            "skipped": dict(self.run.skipped),
        }  # fmt: skip
        if self.run.config.ada_target is not None:
            adaptive = self.run.players.adaptive
            line["ada"] = {"p": round(adaptive.chance, 5), "signs": adaptive.signs, "count": adaptive.count}
        line["losses"] = {name: round(float(np.mean(losses)), 5) for name, losses in self._losses.items()}
        self._losses.clear()
        if self._board is not None:
            for name, value in scalars(line).items():
                self._board.add_scalar(name, value, self.run.images)
            self._board.flush()
        with (self.out / LOG).open("a") as log:
            log.write(json.dumps(line) + "\n")

    def _trim_log(self) -> None:
        """Drop lines that the resumed state does not know: a killed run may have logged, and half a line at that."""
        path = self.out / LOG
        if not path.exists():
            return
        kept = [line for line in path.read_text().splitlines() if self._is_past(line)]
        write_atomic(path, "".join(line + "\n" for line in kept))

    def _is_past(self, line: str) -> bool:
        try:
            return int(json.loads(line)["images"]) <= self.run.images
        except (ValueError, KeyError, TypeError):
            return False

    def _check_same(self, values: dict[str, Any]) -> None:
        now = json.loads(json.dumps(self.run.config.to_json()))
        earlier = TrainConfig.from_json(
            values["config"]
        ).to_json()  # a setting that is younger than the run: its default
        for name, before in json.loads(json.dumps(earlier)).items():
            if name not in FREE and now.get(name) != before:
                raise ConfigError(
                    f"{self.out.name} holds a run with {name} {before!r}, but {now.get(name)!r} is asked for; "
                    f"choose another --out, or the same settings to go on."
                )
        if values.get("data", {}).get("digest") != self.run.data.digest:
            raise ConfigError(
                f"{self.out.name} holds a run on other data; choose another --out, or the same data to go on."
            )

    def _reals(self) -> NDArray[np.uint8]:
        config = self.run.config
        return self.run.data.draw(config.seed, 0, config.grid_side**2, config.orientations)


def scalars(line: dict[str, Any]) -> dict[str, float]:
    """A line of the log as curves: its numbers by name, "losses/D" for one in a table.

    >>> scalars({"images": 8, "losses": {"D": 1.5}, "skipped": {}})
    {'losses/D': 1.5}
    """
    found: dict[str, float] = {}
    for name, value in line.items():
        if isinstance(value, dict):
            found |= {f"{name}/{inner}": number for inner, number in value.items()}
        elif name not in ("images", "steps"):
            found[name] = value
    return found


def _board(folder: Path, first: int) -> SummaryWriter:
    """A TensorBoard log that forgets what a killed run had logged past image ``first``."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as err:
        raise ConfigError("tensorboard is not installed; install it, or train without --tensorboard.") from err
    return SummaryWriter(folder, purge_step=first + 1)


def png(images: NDArray[np.uint8]) -> bytes:
    """Images (n, h, w, 3) as one PNG sheet."""
    buffer = io.BytesIO()
    Image.fromarray(sheet(images)).save(buffer, "PNG")
    return buffer.getvalue()

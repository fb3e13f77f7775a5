"""Scan a cohort: every slide is attempted, finished ones are kept, failures are told at the end."""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from histoforensics.slides import DetectorError, Progress, file_digest, require
from histoforensics.slides.executor import Engine, Limits, Outcome, executor
from histoforensics.slides.runcard import package_version, run_card

from .card import DetectorCard, read_card
from .cohort import Cohort, write_cohort, write_run
from .scan_grid import ScanGrid, common_patch_px
from .scanstate import check_claim, claim, parameters_digest, slide_id
from .slidejob import SlideJob
from .stock import STOCK, stock_folder

if TYPE_CHECKING:
    from .detector import Detector

FORMAT = 2  # 2: with report.html
DEFAULT_LIMITS = Limits(silent_seconds=600, memory_mb=8000 if Path("/proc").is_dir() else None)


@dataclass(frozen=True)
class ScanReport:
    """What a run did.

    Attributes:
        cohort: Verdicts and failures, as cohort.json has them.
        kept: Slides that were finished already.
        duplicates: Names of files that are byte for byte another of the given slides.
        seconds: Of the run.
    """

    cohort: Cohort
    kept: int
    duplicates: tuple[str, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether no slide failed."""
        return not self.cohort.failures


class Scanner:
    """Finds generated tissue on slides.

    Args:
        detectors: Detectors, or folders of trained ones; all calibrated and of one judged size.
        grid: How patches lie; by default half a patch apart, on at least half tissue.
    """

    def __init__(self, detectors: Sequence[Detector | str | Path], grid: ScanGrid | None = None) -> None:
        self.grid = grid or ScanGrid()
        self._given = list(detectors)
        judges = [_find(given) if isinstance(given, str | Path) else given for given in self._given]
        self.patch_px = common_patch_px(judges)
        for judge in judges:
            if _card(judge).calibration is None:
                raise DetectorError(f"{judge.name}: no calibration in its card; its false-alarm rate is unknown.")
        self._judges = dict(zip(labels([judge.name for judge in judges]), judges, strict=True))

    def run(
        self,
        slides: Sequence[Path | str],
        out: Path | str,
        *,
        engine: Engine = "process",
        workers: int | None = None,
        shard: tuple[int, int] | None = None,
        limits: Limits | None = None,
        device: str = "cpu",
        threads: int = 1,
        gpus: float = 0.0,
        progress: Progress | None = None,
    ) -> ScanReport:
        """Scan ``slides`` into ``out``; run again, it does what is missing.

        Args:
            slides: Slide files.
            out: Results folder: new, empty, or of a run with the same parameters or without a finished slide.
            engine: "process", "serial" in this process, or "ray". The results are the same, bit for bit.
            workers: Processes, or Ray's actors; default one a core.
            shard: (i, N): only every N-th slide from the i-th, by size; give all shards the same slides.
            limits: Of a slide, with workers; default ``DEFAULT_LIMITS``.
            device: Where detectors compute.
            threads: Torch's in each worker; sums differ in the last bit with their number, so it is a parameter.
            gpus: Of each of Ray's actors, such as 0.25.
            progress: Told in hundredths of a slide.

        Raises:
            ConfigError: If ``out`` was made with other parameters, or a setting is out of range.
        """
        require(len(slides) > 0, "slides", "at least one file", len(slides))
        require(threads >= 1, "threads", "at least 1", threads)
        started, out, paths = time.time(), Path(out), [Path(slide) for slide in slides]
        limits = DEFAULT_LIMITS if limits is None and engine != "serial" else limits
        runner = executor(engine, workers=workers, limits=limits, gpus=gpus)
        with ExitStack() as stack:
            if engine == "serial":
                stack.enter_context(_torch_as_it_was())
            if engine != "ray" and device != "cpu":  # what starts a cluster's scan often has no GPU; each worker looks
                _check_device(device)
            folders = stack.enter_context(self._on_disk())
            parameters = self._parameters(device, threads)
            claim(out, parameters)
            ours, duplicates = _without_duplicates(_deal(paths, shard))
            job = SlideJob(folders, self.grid, str(out.absolute()), parameters_digest(parameters), device, threads)
            outcomes = []
            percent = _Percent([path.name for path in ours], progress)
            for outcome in runner.run(job, [str(path.absolute()) for path in ours], percent.inside):
                outcomes.append(outcome)
                percent.finish(outcome.index)
        cohort = _cohort(parameters, ours, outcomes)
        check_claim(out, parameters_digest(parameters))
        write_cohort(out, cohort, shard)
        times = {_name(outcome, ours): _cost(outcome) for outcome in sorted(outcomes, key=lambda o: o.index)}
        settings: dict[str, Any] = {
            "engine": engine,
            "workers": workers,
            "shard": shard,
            "limits": limits,
            "device": device,
        }
        settings |= {"gpus": gpus} if engine == "ray" else {}
        write_run(out, run_card(settings, {}, started=started) | {"slides": times, "duplicates": duplicates}, shard)
        kept = sum(bool(outcome.value and outcome.value["kept"]) for outcome in outcomes)
        return ScanReport(cohort, kept, tuple(duplicates), time.time() - started)

    def _parameters(self, device: str, threads: int) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": package_version(),
            "detectors": {
                label: {
                    "name": card.name,
                    "weights_sha256": card.weights_sha256,
                    "replay_rounds": card.replay_rounds,
                }
                for label, card in ((label, _card(judge)) for label, judge in self._judges.items())
            },
            "patch_px": self.patch_px,
            "stride_px": self.grid.stride_px or self.patch_px // 2,
            "min_tissue": self.grid.min_tissue,
            "mpp": self.grid.mpp,
            "batch": self.grid.batch,
            "history": self.grid.history,
            "device": device.partition(":")[0],
            "threads": threads,
        }

    @contextmanager
    def _on_disk(self) -> Iterator[tuple[tuple[str, str], ...]]:
        """(label, folder) of each detector, for workers to load; those given as objects are saved for the while."""
        with tempfile.TemporaryDirectory(prefix="histoforensics-") as work:
            folders = []
            for label, given in zip(self._judges, self._given, strict=True):
                if not isinstance(given, str | Path):
                    folder = str(given.save(Path(work) / label))
                else:  # a name, if not a folder: every worker knows it
                    folder = str(Path(given).resolve() if Path(given).is_dir() else given)
                folders.append((label, folder))
            yield tuple(folders)


class _Percent:
    """Progress over all slides, in hundredths of one."""

    def __init__(self, names: Sequence[str], progress: Progress | None) -> None:
        self._names, self._progress = names, progress
        self._done = [0] * len(names)

    def inside(self, index: int, done: int, total: int, note: str) -> None:
        """Slide ``index`` has finished ``done`` of ``total`` blocks."""
        self._tell(index, 99 * done // max(total, 1), note)

    def finish(self, index: int) -> None:
        """Slide ``index`` has ended, well or not."""
        self._tell(index, 100, self._names[index])

    def _tell(self, index: int, percent: int, note: str) -> None:
        self._done[index] = percent
        if self._progress is not None:
            self._progress(sum(self._done), 100 * len(self._done), note)


def _find(name_or_folder: str | Path) -> DetectorCard:
    """The card of a detector that workers will load; this process needs no more of it, and no torch."""
    folder = Path(name_or_folder)
    if not folder.is_dir() and str(name_or_folder) in STOCK:
        folder = stock_folder(str(name_or_folder))
    if folder.is_dir():
        return read_card(folder)
    from .registry import load_detector

    return load_detector(name_or_folder).card  # which says what there is instead


def _card(judge: Detector | DetectorCard) -> DetectorCard:
    return judge if isinstance(judge, DetectorCard) else judge.card


def _check_device(device: str) -> None:
    from .training import check_device

    check_device(device)


@contextmanager
def _torch_as_it_was() -> Iterator[None]:
    """Torch's threads in this process as they were before: the serial engine sets them."""
    import torch

    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def labels(names: Sequence[str]) -> list[str]:
    """Names of the detectors in results; a second one of a name gets a number."""
    times: dict[str, int] = defaultdict(int)
    labels = []
    for name in names:
        times[name] += 1
        labels.append(name if times[name] == 1 else f"{name}-{times[name]}")
    return labels


def _deal(paths: Sequence[Path], shard: tuple[int, int] | None) -> list[Path]:
    """The slides of a shard: largest first, dealt round, so that shards take about as long."""
    ordered = sorted(paths, key=lambda path: (-path.stat().st_size if path.is_file() else 0, path.name, str(path)))
    if shard is None:
        return ordered
    index, count = shard
    require(0 <= index < count, "shard", "(i, N) with i from 0 to N - 1", shard)
    return ordered[index::count]


def _without_duplicates(paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The slides without those that are another one again, and the names of these; only lookalikes are digested."""
    alike: dict[tuple[str, int], list[Path]] = defaultdict(list)
    for path in paths:
        alike[path.stem, path.stat().st_size if path.is_file() else -1].append(path)
    seen: set[tuple[str, str]] = set()
    kept, duplicates = [], []
    for path in paths:
        group = alike[path.stem, path.stat().st_size if path.is_file() else -1]
        if len(group) > 1:
            key = path.stem, file_digest(path) if path.is_file() else str(path)
            if key in seen:
                duplicates.append(path.name)
                continue
            seen.add(key)
        kept.append(path)
    return kept, duplicates


def _cohort(parameters: Mapping[str, Any], paths: Sequence[Path], outcomes: Sequence[Outcome]) -> Cohort:
    verdicts = [outcome.value["verdict"] for outcome in outcomes if outcome.value is not None]
    failures = [
        {
            "slide": _name(outcome, paths),
            "cause": outcome.failure.cause.value,
            "kind": outcome.failure.kind,
            "message": _without_path(outcome.failure.message, paths[outcome.index]),
        }
        for outcome in outcomes
        if outcome.failure is not None
    ]
    return Cohort.of(parameters, verdicts, failures)


def _name(outcome: Outcome, paths: Sequence[Path]) -> str:
    """The slide's id; a failed one's is made here, and is its stem alone where there is no file to digest."""
    if outcome.value is not None:
        return str(outcome.value["verdict"]["slide"])
    path = paths[outcome.index]
    return slide_id(path.stem, file_digest(path)) if path.is_file() else slide_id(path.stem, "missing")


def _cost(outcome: Outcome) -> dict[str, Any]:
    memory = None if outcome.value is None else outcome.value["peak_memory_mb"]
    return {"seconds": round(outcome.seconds, 3), "peak_memory_mb": memory}


def _without_path(message: str, path: Path) -> str:
    """A message of a library may hold the path; outputs hold the file's name at most."""
    for folder in {str(path.parent), str(path.absolute().parent), str(path.resolve().parent)} - {"."}:
        message = message.replace(f"{folder.rstrip('/')}/", "")
    return message

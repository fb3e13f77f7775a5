"""Run one task a slide, here, in worker processes or on Ray: a failure is a value, and a crash costs that slide alone.

Workers are spawned, keep what they loaded from task to task, and answer in JSON, so that nothing a hostile slide did to
a worker is ever unpickled by the parent. OpenSlide handles stay inside the worker that opened them.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal, Protocol, assert_never, cast

from .errors import ConfigError, HistoforensicsError, require
from .progress import Progress

Engine = Literal["serial", "process", "ray"]
ENGINES: tuple[Engine, ...] = ("serial", "process", "ray")
Value = Mapping[str, Any]  # JSON-ready
Work = Callable[[Any, Progress], Value]  # one task: what to do, whom to tell; must tell now and then, or counts as hung
Make = Callable[[], Work]  # builds a worker's task function once; picklable, so a module's function or a dataclass

POLL_SECONDS = 0.1
TELL_SECONDS = 0.2  # a worker tells of its progress no more often
_PROC = Path("/proc")


class Cause(StrEnum):
    """Why a task has no value."""

    ERROR = "error"
    CRASH = "crash"
    TIMEOUT = "timeout"
    MEMORY = "memory"


@dataclass(frozen=True)
class Failure:
    """What went wrong with one task: the cause, the exception's name or signal, and one sentence."""

    cause: Cause
    kind: str
    message: str


@dataclass(frozen=True)
class Outcome:
    """What became of task number ``index``: a value or a failure, and how long it took."""

    index: int
    value: Value | None
    failure: Failure | None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one task may take before its worker is killed; ``None`` is no limit.

    Attributes:
        task_seconds: From its start to its end.
        silent_seconds: Without telling of progress; the one that catches a hang whatever the slide's size.
        memory_mb: Resident memory of the worker, MB of 10^6 bytes; read from /proc, so on Linux only.
    """

    task_seconds: float | None = None
    silent_seconds: float | None = None
    memory_mb: float | None = None

    def __post_init__(self) -> None:
        for name in ("task_seconds", "silent_seconds", "memory_mb"):
            value = getattr(self, name)
            require(value is None or value > 0, name, "above 0", value)
        if self.memory_mb is not None and not _PROC.is_dir():
            raise ConfigError("memory_mb can only be watched where there is /proc; leave it out on this system.")

    def broken(self, started: float, heard: float, resident_mb: float) -> tuple[Cause, str, str] | None:
        """Cause, kind and sentence of the first limit that a task broke; times are ``time.monotonic()``'s."""
        now = time.monotonic()
        if self.task_seconds is not None and now - started > self.task_seconds:
            return Cause.TIMEOUT, "task_seconds", f"not finished after {self.task_seconds:g} s; stopped."
        if self.silent_seconds is not None and now - heard > self.silent_seconds:
            return Cause.TIMEOUT, "silent_seconds", f"no sign of life for {self.silent_seconds:g} s; stopped."
        if self.memory_mb is not None and resident_mb > self.memory_mb:
            return Cause.MEMORY, "memory_mb", f"took more than {self.memory_mb:g} MB of memory; stopped."
        return None


class TaskProgress(Protocol):
    """Told of the progress inside tasks."""

    def __call__(self, index: int, done: int, total: int, note: str) -> None:
        """Task ``index`` has finished ``done`` of its ``total`` units."""


class Executor(Protocol):
    """Runs tasks and yields an outcome for each, in the order in which they end."""

    def run(self, make: Make, tasks: Sequence[Any], progress: TaskProgress | None = None) -> Iterator[Outcome]:
        """One outcome a task.

        Raises:
            ConfigError: If ``make`` fails: then no task can run.
        """


def executor(
    engine: Engine, *, workers: int | None = None, limits: Limits | None = None, gpus: float = 0.0
) -> Executor:
    """The executor of that name.

    Args:
        engine: "serial" in this process, "process" in ``workers`` spawned ones, "ray" in as many actors.
        workers: Default: one a core.
        limits: Of each task. Only workers can be killed, so "serial" refuses them.
        gpus: Of each of Ray's actors, such as 0.25; the other engines leave GPUs to the device's name.
    """
    require(engine == "ray" or gpus == 0, "gpus", f"left out with the {engine} engine", gpus)
    match engine:
        case "serial":
            require(limits is None or limits == Limits(), "limits", "left out with the serial engine", limits)
            require(workers in (None, 1), "workers", "1 with the serial engine", workers)
            return SerialExecutor()
        case "process":
            return ProcessExecutor(workers or cores(), limits or Limits())
        case "ray":
            from .ray_engine import RayExecutor

            return RayExecutor(workers, limits or Limits(), gpus)
        case _:
            require(False, "engine", "serial, process or ray", engine)
            assert_never(engine)


@dataclass(frozen=True)
class SerialExecutor:
    """Everything in this process: simplest to debug, and without protection from a crash or a hang."""

    def run(self, make: Make, tasks: Sequence[Any], progress: TaskProgress | None = None) -> Iterator[Outcome]:
        work = make()
        for index, task in enumerate(tasks):
            started = time.monotonic()
            answer = attempt(work, task, _teller(index, progress))
            yield outcome_of(index, answer, time.monotonic() - started)


@dataclass(frozen=True)
class ProcessExecutor:
    """A few spawned processes, each with one task at a time; one that dies or is killed is replaced."""

    workers: int
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        require(self.workers >= 1, "workers", "at least 1", self.workers)

    def run(self, make: Make, tasks: Sequence[Any], progress: TaskProgress | None = None) -> Iterator[Outcome]:
        waiting = list(enumerate(tasks))[::-1]
        crew = [_Worker(make) for _ in range(min(self.workers, len(tasks)))]
        try:
            while waiting or any(worker.is_busy for worker in crew):
                wait([w.pipe for w in crew], timeout=POLL_SECONDS)
                for slot, worker in enumerate(crew):
                    outcome = worker.look(self.limits, progress)
                    if outcome is not None:
                        yield outcome
                    if not worker.is_alive and waiting:
                        crew[slot] = _Worker(make)
                    elif worker.is_idle and waiting:
                        worker.start(*waiting.pop())
                crew = [w for w in crew if w.is_alive] if not waiting else crew
        finally:
            for worker in crew:
                worker.stop()


class _Worker:
    """The parent's view of one worker process."""

    def __init__(self, make: Make) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make), daemon=True)
        self._process.start()
        theirs.close()
        self._ready = False
        self._index: int | None = None
        self._started = self._heard = time.monotonic()
        self.is_alive = True

    @property
    def is_busy(self) -> bool:
        return self._index is not None

    @property
    def is_idle(self) -> bool:
        return self.is_alive and self._ready and self._index is None

    def start(self, index: int, task: Any) -> None:
        self._index = index
        self._started = self._heard = time.monotonic()
        try:
            self.pipe.send(task)
        except OSError:  # it died while idle: the next look finds the pipe closed and reports the task
            return

    def look(self, limits: Limits, progress: TaskProgress | None) -> Outcome | None:
        """Take in what the worker said; the outcome if its task has ended, well or not."""
        try:
            while self.is_alive and self.pipe.poll():
                message = json.loads(self.pipe.recv_bytes())
                self._heard = time.monotonic()
                if "progress" in message:
                    if progress is not None and self._index is not None:
                        progress(self._index, *message["progress"])
                elif "ready" in message:
                    self._become_ready(message["ready"])
                else:
                    return self._end(message)
        except (EOFError, OSError):
            return self._died()
        broken = self._broken_limit(limits)
        if broken is None:
            return None
        self.stop()
        return self._end({"failure": broken})

    def stop(self) -> None:
        """Kill the process; it holds nothing that is not written atomically."""
        self.is_alive = False
        self._process.kill()
        self._process.join()
        self.pipe.close()

    def _become_ready(self, problem: str | None) -> None:
        if problem is not None:
            self.stop()
            raise ConfigError(problem)
        self._ready = True

    def _end(self, message: dict[str, Any]) -> Outcome:
        assert self._index is not None
        index, self._index = self._index, None
        return outcome_of(index, message, time.monotonic() - self._started)

    def _died(self) -> Outcome | None:
        self._process.join(timeout=5)
        code = self._process.exitcode
        self.stop()
        how = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        if not self._ready:
            raise ConfigError(
                f'a worker process ended with {how} before its first task; a script needs `if __name__ == "__main__":` '
                "around what it runs."
            )
        if self._index is None:
            return None
        return self._end({"failure": [Cause.CRASH, how, f"the worker process ended with {how}."]})

    def _broken_limit(self, limits: Limits) -> tuple[Cause, str, str] | None:
        if self._index is None or not self.is_alive:
            return None
        resident = 0.0 if limits.memory_mb is None else self._resident_mb()
        return limits.broken(self._started, self._heard, resident)

    def _resident_mb(self) -> float:
        try:
            pages = int((_PROC / str(self._process.pid) / "statm").read_text().split()[1])
        except (OSError, IndexError):  # it has just ended: the next look says how
            return 0.0
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _serve(pipe: Connection, make: Make) -> None:
    """A worker's life: build the task function, then task after task until the parent closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    try:
        work = make()
    except HistoforensicsError as err:
        _say(pipe, {"ready": str(err)})
        return
    _say(pipe, {"ready": None})
    last = 0.0

    def tell(done: int, total: int, note: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= TELL_SECONDS or done == total:
            last = now
            try:
                _say(pipe, {"progress": [done, total, note]})
            except OSError:  # the parent is gone: stop in the middle, nothing half-written stands anywhere
                os._exit(1)

    while True:
        try:
            task = pipe.recv()
        except (EOFError, OSError):
            return
        _say(pipe, attempt(work, task, tell))


def attempt(work: Work, task: Any, tell: Progress) -> dict[str, Any]:
    """A task's value, or what it raised, as :func:`outcome_of` reads it; ready for JSON."""
    try:
        return {"value": dict(work(task, tell))}
    except Exception as err:  # noqa: BLE001 - the boundary: whatever one slide raises becomes that slide's failure
        return {"failure": [Cause.ERROR, type(err).__name__, str(err) or type(err).__name__]}


def outcome_of(index: int, answer: Mapping[str, Any], seconds: float) -> Outcome:
    """The outcome that an answer of :func:`attempt` tells."""
    if "failure" in answer:
        cause, kind, message = answer["failure"]
        return Outcome(index, None, Failure(Cause(cause), kind, message), seconds)
    return Outcome(index, cast("Value", answer["value"]), None, seconds)


def _teller(index: int, progress: TaskProgress | None) -> Progress:
    def tell(done: int, total: int, note: str = "") -> None:
        if progress is not None:
            progress(index, done, total, note)

    return tell


def _say(pipe: Connection, message: Mapping[str, Any]) -> None:
    pipe.send_bytes(json.dumps(message).encode())


def cores() -> int:
    """Cores that this process may use: a job scheduler often grants fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

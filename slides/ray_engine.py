"""The executor on Ray: one actor a worker, on this machine or on a cluster's. Nothing else in the project imports Ray.

An actor loads the detectors once and then takes one task at a time, the next only when it is done: the queue stays
with the parent, so nothing piles up anywhere. It asks for one core and, if wanted, for a part of a GPU; several actors
on one GPU read and judge in turns. Actors answer in JSON, as worker processes do; but Ray itself trusts its workers, so
slides that nobody vouches for belong to the "process" engine, in a container.

On a cluster (the variable RAY_ADDRESS names it) slides, detectors and results lie on a disk that all machines share.
"""

from __future__ import annotations

import importlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import ConfigError, HistoforensicsError, require
from .executor import POLL_SECONDS, Cause, Limits, Make, Outcome, TaskProgress, Work, attempt, cores, outcome_of

STATE_SECONDS = 0.5  # an actor is asked how it goes no more often
STORE_BYTES = 100_000_000  # of Ray's object store on this machine: paths and answers are all that passes through it


@dataclass(frozen=True)
class RayExecutor:
    """A crew of Ray actors, each with one task at a time; one that dies or is killed is replaced.

    Attributes:
        workers: Actors; ``None`` is one a core of the machine or cluster.
        limits: Of each task.
        gpus: Of each actor, such as 0.25.
        retries: How often a task is tried again after its actor died: on a cluster a machine may be taken away. What
            a limit ended is not tried again.
    """

    workers: int | None = None
    limits: Limits = field(default_factory=Limits)
    gpus: float = 0.0
    retries: int = 1

    def __post_init__(self) -> None:
        require(self.workers is None or self.workers >= 1, "workers", "at least 1", self.workers)
        require(self.gpus >= 0, "gpus", "at least 0", self.gpus)
        require(self.retries >= 0, "retries", "at least 0", self.retries)

    def run(self, make: Make, tasks: Sequence[Any], progress: TaskProgress | None = None) -> Iterator[Outcome]:
        if not tasks:
            return
        ray = _import_ray()
        is_ours = not ray.is_initialized()
        if is_ours:
            _start(ray, self.workers)
        waiting = list(enumerate(tasks))[::-1]
        deaths = [0] * len(tasks)
        wanted = self.workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        crew = [_Hand(ray, make, self.gpus) for _ in range(min(wanted, len(tasks)))]
        try:
            while waiting or any(hand.is_busy for hand in crew):
                ray.wait([ref for hand in crew for ref in hand.refs], num_returns=1, timeout=POLL_SECONDS)
                for slot, hand in enumerate(crew):
                    outcome = hand.look(self.limits, progress)
                    if outcome is not None and _is_crash(outcome) and deaths[outcome.index] < self.retries:
                        deaths[outcome.index] += 1
                        waiting.append((outcome.index, tasks[outcome.index]))
                    elif outcome is not None:
                        yield outcome
                    if not hand.is_alive and waiting:
                        crew[slot] = _Hand(ray, make, self.gpus)
                    elif hand.is_idle and waiting:
                        hand.start(*waiting.pop())
                crew = [hand for hand in crew if hand.is_alive]
        finally:
            for hand in crew:
                hand.stop()
            if is_ours:
                ray.shutdown()


class _Hand:
    """The parent's view of one actor."""

    def __init__(self, ray: Any, make: Make, gpus: float) -> None:
        self._ray = ray
        # Two calls at once: the task, and the question how it goes.
        options = {"num_cpus": 1, "num_gpus": gpus, "max_concurrency": 2, "max_restarts": 0}
        self._actor = ray.remote(_Actor).options(**options).remote(make)
        self._ready: Any = self._actor.begin.remote()
        self._answer: Any = None
        self._state: Any = None
        self._index: int | None = None
        self._started = self._heard = self._asked = time.monotonic()
        self._steps = 0
        self._resident_mb = 0.0
        self.is_alive = True

    @property
    def is_busy(self) -> bool:
        return self._index is not None

    @property
    def is_idle(self) -> bool:
        return self.is_alive and self._ready is None and self._index is None

    @property
    def refs(self) -> list[Any]:
        """What Ray owes us."""
        return [ref for ref in (self._ready, self._answer, self._state) if ref is not None]

    def start(self, index: int, task: Any) -> None:
        self._index = index
        self._started = self._heard = self._asked = time.monotonic()
        self._answer = self._actor.run.remote(task)

    def look(self, limits: Limits, progress: TaskProgress | None) -> Outcome | None:
        """Take in what the actor said; the outcome if its task has ended, well or not."""
        try:
            if self._is_there(self._ready):
                problem = self._ray.get(self._ready)
                if problem is not None:
                    raise ConfigError(problem)
                self._ready = None
            if self._is_there(self._answer):
                return self._end(json.loads(self._ray.get(self._answer)))
            self._ask(progress)
        except self._ray.exceptions.RayError as err:
            if self._index is None:
                raise ConfigError(f"a Ray worker ended before its first task ({type(err).__name__}).") from err
            self.stop()
            return self._end({"failure": [Cause.CRASH, type(err).__name__, "the worker that had it ended."]})
        broken = None if self._index is None else limits.broken(self._started, self._heard, self._resident_mb)
        if broken is None:
            return None
        self.stop()
        return self._end({"failure": broken})

    def stop(self) -> None:
        """Kill the actor; it holds nothing that is not written atomically."""
        self.is_alive = False
        self._ray.kill(self._actor)

    def _ask(self, progress: TaskProgress | None) -> None:
        """Ask how the task goes, and take in the last reply to that."""
        if self._index is None:
            return
        now = time.monotonic()
        if self._is_there(self._state):
            steps, told, self._resident_mb = json.loads(self._ray.get(self._state))
            self._state = None
            if steps != self._steps:
                self._steps, self._heard = steps, now
                if progress is not None:
                    progress(self._index, *told)
        if self._state is None and now - self._asked >= STATE_SECONDS:
            self._asked = now
            self._state = self._actor.state.remote()

    def _is_there(self, ref: Any) -> bool:
        return ref is not None and bool(self._ray.wait([ref], timeout=0)[0])

    def _end(self, message: dict[str, Any]) -> Outcome:
        assert self._index is not None
        index, self._index, self._answer, self._state = self._index, None, None, None
        return outcome_of(index, message, time.monotonic() - self._started)


class _Actor:
    """A worker's life on Ray's side. All work is done in one thread: torch keeps its settings for each thread apart."""

    def __init__(self, make: Make) -> None:
        self._make = make
        self._thread = ThreadPoolExecutor(1)
        self._work: Work | None = None
        self._steps = 0
        self._told: tuple[int, int, str] = (0, 0, "")

    def begin(self) -> str | None:
        """Build the task function; what was wrong if that failed."""
        try:
            self._work = self._thread.submit(self._make).result()
        except HistoforensicsError as err:
            return str(err)
        return None

    def run(self, task: Any) -> str:
        """Do a task; the answer in JSON."""
        assert self._work is not None
        return json.dumps(self._thread.submit(attempt, self._work, task, self._tell).result())

    def state(self) -> str:
        """How often the task told of progress, what it told last, and the process's resident memory in MB, in JSON."""
        statm = Path("/proc/self/statm")
        pages = int(statm.read_text().split()[1]) if statm.is_file() else 0
        return json.dumps([self._steps, self._told, pages * os.sysconf("SC_PAGE_SIZE") / 1e6])

    def _tell(self, done: int, total: int, note: str = "") -> None:
        self._told = (done, total, note)
        self._steps += 1


def _import_ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as err:
        raise ConfigError("engine ray needs Ray; install it with: pip install 'histoforensics[ray]'.") from err


def _start(ray: Any, workers: int | None) -> None:
    """Join the cluster that RAY_ADDRESS names, or start one on this machine alone, without a dashboard."""
    own = {"num_cpus": workers or cores(), "include_dashboard": False, "object_store_memory": STORE_BYTES}
    try:
        ray.init(log_to_driver=False, **({} if os.environ.get("RAY_ADDRESS") else own))
    except Exception as err:  # Ray raises bare ones; without it no task can run
        raise ConfigError(f"Ray cannot be started or reached: {str(err).partition(chr(10))[0]}") from err


def _is_crash(outcome: Outcome) -> bool:
    return outcome.failure is not None and outcome.failure.cause is Cause.CRASH

"""Tasks live in a module of their own: spawned workers import it, as they import a user's."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from histoforensics.slides import ConfigError
from histoforensics.slides.executor import Cause, Limits, Outcome, ProcessExecutor, SerialExecutor, executor

TASKS = """
import os, signal, time

from histoforensics.slides import SlideUnreadable

def make():
    memory = []

    def work(task, progress):
        what, value = task
        if what == "square":
            progress(1, 1, "squared")
            return {"value": value * value, "pid": os.getpid()}
        if what == "raise":
            raise SlideUnreadable(value)
        if what == "odd":
            raise ZeroDivisionError(value)
        if what == "exit":
            os._exit(value)
        if what == "segv":
            os.kill(os.getpid(), signal.SIGSEGV)
        if what == "talk":
            for step in range(200):
                progress(step, 200, "talking")
                time.sleep(0.05)
        if what == "hang":
            time.sleep(600)
        if what == "eat":
            memory.append(bytearray(os.urandom(1 << 20)) * value)
            time.sleep(600)
        return {}

    return work

def broken():
    raise SlideUnreadable("the detector is missing.")

def dies():
    os._exit(4)
"""


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "executor_tasks.py").write_text(TASKS)
    sys.path.insert(0, str(folder))
    yield importlib.import_module("executor_tasks")
    sys.path.remove(str(folder))
    del sys.modules["executor_tasks"]


def by_index(outcomes: Iterator[Outcome]) -> list[Outcome]:
    return sorted(outcomes, key=lambda outcome: outcome.index)


def test_serial_and_processes_give_the_same_values(tasks: ModuleType) -> None:
    jobs = [("square", n) for n in range(6)]
    for engine in (SerialExecutor(), ProcessExecutor(2)):
        outcomes = by_index(engine.run(tasks.make, jobs))
        assert [o.value["value"] for o in outcomes if o.value] == [0, 1, 4, 9, 16, 25]
        assert [o.index for o in outcomes] == list(range(6))
        assert all(o.failure is None and o.seconds >= 0 for o in outcomes)


def test_processes_are_other_processes_and_are_kept(tasks: ModuleType) -> None:
    outcomes = list(ProcessExecutor(2).run(tasks.make, [("square", n) for n in range(8)]))
    pids = {o.value["pid"] for o in outcomes if o.value}
    assert os.getpid() not in pids
    assert len(pids) <= 2


def test_an_exception_is_a_value_that_names_its_class(tasks: ModuleType) -> None:
    jobs = [("raise", "a.svs: broken."), ("odd", "strange"), ("square", 3)]
    for engine in (SerialExecutor(), ProcessExecutor(1)):
        first, second, third = by_index(engine.run(tasks.make, jobs))
        assert first.failure is not None
        assert first.failure.cause is Cause.ERROR
        assert (first.failure.kind, first.failure.message) == ("SlideUnreadable", "a.svs: broken.")
        assert second.failure is not None
        assert second.failure.kind == "ZeroDivisionError"
        assert third.value is not None
        assert third.value["value"] == 9


def test_a_crash_costs_its_task_alone(tasks: ModuleType) -> None:
    jobs = [("square", 1), ("segv", 0), ("square", 2), ("exit", 3), ("square", 3)]
    outcomes = by_index(ProcessExecutor(1).run(tasks.make, jobs))
    assert [o.value["value"] if o.value else None for o in outcomes] == [1, None, 4, None, 9]
    crash, left = outcomes[1].failure, outcomes[3].failure
    assert crash is not None
    assert (crash.cause, crash.kind) == (Cause.CRASH, "signal SIGSEGV")
    assert left is not None
    assert left.message == "the worker process ended with exit code 3."


def test_a_hang_is_stopped_and_a_slow_task_that_talks_is_not_silent(tasks: ModuleType) -> None:
    started = time.monotonic()
    jobs = [("hang", 0), ("square", 2)]
    hung, fine = by_index(ProcessExecutor(1, Limits(silent_seconds=0.5)).run(tasks.make, jobs))
    assert hung.failure is not None
    assert (hung.failure.cause, hung.failure.kind) == (Cause.TIMEOUT, "silent_seconds")
    assert fine.value is not None
    (talked,) = ProcessExecutor(1, Limits(silent_seconds=3, task_seconds=1)).run(tasks.make, [("talk", 0)])
    assert talked.failure is not None
    assert talked.failure.message == "not finished after 1 s; stopped."
    assert time.monotonic() - started < 60


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="resident memory is read from /proc")
def test_a_task_that_eats_memory_is_stopped(tasks: ModuleType) -> None:
    jobs = [("eat", 600), ("square", 2)]
    eaten, fine = by_index(ProcessExecutor(1, Limits(memory_mb=400)).run(tasks.make, jobs))
    assert eaten.failure is not None
    assert eaten.failure.cause is Cause.MEMORY
    assert eaten.failure.message == "took more than 400 MB of memory; stopped."
    assert fine.value is not None


def test_progress_inside_tasks_is_told(tasks: ModuleType) -> None:
    heard: list[tuple[int, int, int, str]] = []
    for engine in (SerialExecutor(), ProcessExecutor(1)):
        list(engine.run(tasks.make, [("square", 2)], lambda *told: heard.append(told)))
    assert heard == [(0, 1, 1, "squared")] * 2


def test_a_setup_that_fails_ends_the_run_at_once(tasks: ModuleType) -> None:
    with pytest.raises(ConfigError, match=r"the detector is missing\."):
        list(ProcessExecutor(2).run(tasks.broken, [("square", 2)]))
    with pytest.raises(ConfigError, match="ended with exit code 4 before its first task"):
        list(ProcessExecutor(1).run(tasks.dies, [("square", 2)]))


def test_leaving_early_ends_the_workers(tasks: ModuleType) -> None:
    outcomes = ProcessExecutor(1).run(tasks.make, [("square", 2), ("hang", 0)])
    first = next(outcomes)
    assert first.value is not None
    outcomes.close()  # type: ignore[attr-defined]
    with pytest.raises(ProcessLookupError):
        os.kill(first.value["pid"], 0)  # signal 0 only asks


def test_no_tasks_start_no_process(tasks: ModuleType) -> None:
    assert list(ProcessExecutor(4).run(tasks.dies, [])) == []


def test_bad_settings_are_one_sentence() -> None:
    with pytest.raises(ConfigError, match="engine must be serial, process or ray, got 'spark'"):
        executor("spark")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="workers must be at least 1, got -1"):
        executor("process", workers=-1)
    with pytest.raises(ConfigError, match="workers must be 1 with the serial engine, got 2"):
        executor("serial", workers=2)
    with pytest.raises(ConfigError, match="limits must be left out with the serial engine"):
        executor("serial", limits=Limits(task_seconds=1))
    with pytest.raises(ConfigError, match=r"gpus must be left out with the process engine, got 0\.5"):
        executor("process", gpus=0.5)
    with pytest.raises(ConfigError, match=r"memory_mb must be above 0, got 0\."):
        Limits(memory_mb=0)

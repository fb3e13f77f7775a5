"""What every command prints with: progress on a terminal, plain lines off it, errors as one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


class Advance(Protocol):
    """Called by library code as work gets done; every long function of the library takes one."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """``done`` of ``total`` units are finished; ``note`` is a few words on the state (a loss, a slide)."""


def fail(message: object) -> None:
    """Print one sentence on stderr."""
    err.print(f"[bold red]error:[/] {_escape(str(message))}", soft_wrap=True)


@contextmanager
def progress(title: str) -> Iterator[Advance]:
    """A bar on a terminal; off a terminal a plain line at every tenth of the work."""
    if not err.is_terminal:
        yield _plain(title)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )  # fmt: skip
    with Progress(*columns, console=err) as bar:
        task = bar.add_task(title, total=None, note="")

        def advance(done: int, total: int, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=note)

        yield advance


def _plain(title: str) -> Advance:
    last = -1

    def advance(done: int, total: int, note: str = "") -> None:
        nonlocal last
        tenth = 10 * done // max(total, 1)
        if tenth > last:
            last = tenth
            err.print(f"{title}: {done}/{total} {note}".rstrip(), soft_wrap=True, markup=False)

    return advance


def _escape(text: str) -> str:
    return text.replace("[", r"\[")

"""How library code tells that work gets done."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called as work gets done; every long function takes one, and ``None`` means silence."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """``done`` of ``total`` units are finished; ``note`` is a few words on the state (a loss, a slide)."""

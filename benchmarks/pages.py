"""The pages of the reading room and the paper form: templates of our own, everything escaped."""

from __future__ import annotations

import math
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

SHOWN_PX = 480  # a patch is first shown at the largest whole zoom that stays within this
ZOOMS = (1, 2, 3, 4, 6, 8)


class ScaleBar(NamedTuple):
    """A bar of a round length: micrometres, and its pixels at zoom 1."""

    um: float
    px: float

    @property
    def label(self) -> str:
        """The length in words: "20 µm"."""
        return f"{self.um:g} µm"


def scale_bar(patch_px: int, mpp: float | None) -> ScaleBar | None:
    """The longest bar of 1, 2 or 5 times a power of ten that is at most a third of the patch; None without a scale.

    >>> scale_bar(112, 0.499).label
    '10 µm'
    """
    if mpp is None:
        return None
    longest = patch_px * mpp / 3
    power = 10.0 ** math.floor(math.log10(longest))
    um = max(step * power for step in (1, 2, 5) if step * power <= longest)
    return ScaleBar(um, um / mpp)


def first_zoom(patch_px: int) -> int:
    """The zoom at which a patch is first shown."""
    return max([zoom for zoom in ZOOMS if zoom * patch_px <= SHOWN_PX], default=1)


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a plain text."""
    return [" ".join(part.split()) for part in text.replace("\r\n", "\n").split("\n\n") if part.strip()]


def render(template: str, **values: Any) -> str:
    """A page; a value that is missing is an error, and every value is escaped."""
    return _environment().get_template(template).render(**values)


@cache
def asset(name: str) -> bytes:
    """A style sheet or script that ships with the room."""
    return files("histoforensics.benchmarks").joinpath(name).read_bytes()


@cache
def _environment() -> Environment:
    folder = str(files("histoforensics.benchmarks"))
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

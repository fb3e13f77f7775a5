"""The pages of a scan are filled in here: everything that goes into a template of this folder is escaped."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def render(template: str, **values: Any) -> str:
    """A template of this folder with its values, HTML."""
    return _environment().get_template(template).render(**values)


def percent(share: float) -> str:
    r"""A share from 0 to 1 as a reader wants it.

    >>> percent(0.041), percent(0.25)
    ('4.1\xa0%', '25\xa0%')
    """
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%" if share < 0.1 else f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def chance(p: float) -> str:
    """A p value as a reader wants it.

    >>> chance(0.0123), chance(1e-9)
    ('0.012', 'less than 0.0001')
    """
    return "less than 0.0001" if p < 0.0001 else f"{p:.2g}"


def address(name: object) -> str:
    """A file's or folder's name as a relative link; it never leaves the folder of the page.

    >>> address("a b#1?.html"), address("javascript:x")
    ('./a%20b%231%3F.html', './javascript%3Ax')
    """
    return f"./{quote(str(name), safe='')}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "chance": chance, "address": address}
    return environment

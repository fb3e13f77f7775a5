"""The manual: every command that it shows exists with its options, and the links lead somewhere."""

import re
import shlex
from pathlib import Path

import click
import pytest
import typer

from histoforensics.cli import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```[a-z]*\n(.*?)^```", re.DOTALL | re.MULTILINE)


def commands():
    for page in PAGES:
        for block in FENCE.findall(page.read_text("utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True) if "histoforensics " in line and "'" not in line else []
                if "histoforensics" in words and "..." not in words:
                    yield pytest.param(
                        words[words.index("histoforensics") + 1 :], id=f"{page.stem}: {line.strip()[:60]}"
                    )


@pytest.mark.parametrize("words", list(commands()))
def test_every_command_shown_is_one_that_the_tool_understands(words):
    command, context = typer.main.get_command(app), None
    while isinstance(command, click.Group):
        context = click.Context(command, info_name=command.name, parent=context)
        command = command.commands[words[0]]
        words = words[1:]
    command.make_context(command.name, list(words), parent=context)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_to_one(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_the_manual_shows_commands_at_all():
    assert len(list(commands())) > 10

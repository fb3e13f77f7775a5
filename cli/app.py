"""The command tree. Every group is registered here, by name; heavy imports wait inside the commands."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from histoforensics.slides import HistoforensicsError

from . import benchmark, detectors, doctor, exam, generators, scan, shipped, slides, tamper
from .console import fail


class Commands(TyperGroup):
    """The top group: a user's mistake becomes one sentence on stderr and exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except HistoforensicsError as err:
            fail(err)
            raise typer.Exit(1) from err


app = typer.Typer(
    cls=Commands,
    name="histoforensics",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(slides.app, name="slides")
app.add_typer(generators.app, name="generators")
app.add_typer(detectors.app, name="detectors")
app.add_typer(exam.app, name="exam")
slides.app.command("merge")(scan.merge)
detectors.app.command("info")(shipped.info)
detectors.app.command("ship")(shipped.ship)
app.command("benchmark")(benchmark.benchmark)
app.command("scan")(scan.scan)
app.command("tamper")(tamper.tamper)
app.command("doctor")(doctor.doctor)


@app.callback()
def main(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)] = False,
) -> None:
    """Make, find and measure generated histopathology: is this tissue real?"""
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"histoforensics {installed('histoforensics')}")
        raise typer.Exit

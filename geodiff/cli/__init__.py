"""The command line: parse, call a task, show its progress. ``geodiff --help`` lists the commands.

Heavy libraries load inside the commands, so that ``--help`` and a mistyped option answer at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from geodiff.cli.catalogs import build, search
from geodiff.cli.demo import demo
from geodiff.cli.errors import TeachingGroup
from geodiff.cli.evaluate import evaluate_app
from geodiff.cli.models import list_models, publish, train, train_tracks
from geodiff.cli.restore import superres
from geodiff.cli.vessels import vessels_app
from geodiff.cli.worldstrat import worldstrat_app
from geodiff.version import __version__

app = typer.Typer(
    cls=TeachingGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Super-resolve Sentinel-2 time series; clean, complete and forecast vessel tracks.",
)
catalog_app = typer.Typer(no_args_is_help=True, help="Make catalogues of your own scenes.")
train_app = typer.Typer(no_args_is_help=True, help="Train models.")


@app.callback()
def options(
    *,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Super-resolve Sentinel-2 time series; clean, complete and forecast vessel tracks."""


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"geodiff {__version__}")


app.command()(search)
app.command()(superres)
app.command()(demo)
app.command("models")(list_models)
catalog_app.command()(build)
train_app.command("superres")(train)
train_app.command("tracks")(train_tracks)
train_app.command()(publish)
app.add_typer(catalog_app, name="catalog")
app.add_typer(train_app, name="train")
app.add_typer(worldstrat_app, name="worldstrat")
app.add_typer(vessels_app, name="vessels")
app.add_typer(evaluate_app, name="evaluate")


def main() -> None:
    """Run the command line; the entry point of the script ``geodiff``."""
    app(prog_name="geodiff")

"""``geodiff worldstrat verify`` and ``geodiff worldstrat describe``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geodiff.cli.show import print_rows, stage_bars
from geodiff.schema import GeodiffError

worldstrat_app = typer.Typer(no_args_is_help=True, help="Check and describe a download of WorldStrat.")

Root = Annotated[Path, typer.Argument(help="The folder that holds hr_dataset and lr_dataset.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes that read.")]


@worldstrat_app.command()
def verify(
    path: Root,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Read sizes and dates, not the pixels.")] = False,
    notes: Annotated[bool, typer.Option(help="Also list what is odd but does no harm.")] = True,
    workers: Workers = 1,
) -> None:
    """List every file that is missing, corrupt, truncated or mis-sized; exit code 1 when there is one."""
    from geodiff.imagery.worldstrat_verify import verify_tree

    with stage_bars() as bars:
        result = verify_tree(
            path, pixels=not quick, workers=workers, progress=lambda done, total: bars("places", done, total)
        )
    shown = result.findings if notes else result.problems
    if shown:
        print_rows(("kind", "file", "what"), [(found.kind, found.path, found.what) for found in shown])
    count = len(result.problems)
    if count:
        raise GeodiffError(
            f"{count} problem{'' if count == 1 else 's'} in {path} ({result.aois} places, {result.files} files): "
            "download again what is listed"
        )
    typer.echo(f"{path}: {result.aois} places, {result.files} files, nothing wrong")


@worldstrat_app.command()
def describe(
    path: Root,
    *,
    out: Annotated[Path, typer.Option(help="Folder for the card: index.html and card.json.")],
    pairs: Annotated[int, typer.Option(min=0, help="Places whose pixels are read, spread evenly; 0 for all.")] = 64,
    level: Annotated[str, typer.Option(help="Of the low resolution: L2A or L1C.")] = "L2A",
) -> None:
    """Write a data card: counts, sizes, dates, cloud, land cover, radiometry, registration, duplicates, siblings."""
    from geodiff.tasks.worldstrat import write_worldstrat_card

    with stage_bars() as bars:
        page = write_worldstrat_card(path, out, level=level, pairs=pairs or None, progress=bars)
    typer.echo(str(page))

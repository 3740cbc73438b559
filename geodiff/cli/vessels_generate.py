"""``geodiff vessels generate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geodiff.cli.vessels_options import (
    Date,
    Layout,
    Name,
    Out,
    Scheduler,
    Seed,
    Timezone,
    Workers,
    run_job,
)
from geodiff.schema import UsageError


def generate(
    inputs: Annotated[
        list[str] | None, typer.Argument(help="Partial tracks to go on from, in place of --start: files of fixes.")
    ] = None,
    *,
    out: Out,
    name: Name = None,
    count: Annotated[int | None, typer.Option(help="Tracks; of each partial track so many; default: 10.")] = None,
    ship_type: Annotated[
        int | None, typer.Option(help="Code of ITU-R M.1371 table 53: 30 fishing, 70 cargo, 80 tanker; default: any.")
    ] = None,
    behaviour: Annotated[str | None, typer.Option(help="Way of moving; an unknown one lists all.")] = None,
    start: Annotated[
        str | None,
        typer.Option(metavar="LON,LAT|W,S,E,N", help="Where tracks begin: a position, or anywhere in a box, degrees."),
    ] = None,
    start_time: Annotated[
        str | None, typer.Option(metavar="TIME", help="Of all tracks from --start, UTC; default: 2020-01-01.")
    ] = None,
    hours: Annotated[float | None, typer.Option(help="Length of a track, up to 72; default: 6.")] = None,
    step: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Between the fixes of a track; default: 300.")
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Pull towards the ship type; 1 leaves it off; default: 5.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME|PATH", help="Trained weights that have learned generation.")
    ] = None,
    history: Annotated[
        list[str] | None,
        typer.Option(
            "--history",
            metavar="FILE",
            help="Past tracks of a region, whose lanes made ones keep to; may be repeated.",
        ),
    ] = None,
    seed: Seed = None,
    layout: Layout = None,
    date: Date = None,
    timezone: Timezone = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
) -> None:
    """Make tracks by ship type and behaviour, from a place or going on from partial tracks.

    What is made is for augmenting data sets; it is not what a vessel did. Safe to kill: the same command resumes.
    """
    from geodiff.tasks.vessels_plan import Paths
    from geodiff.tasks.vessels_settings import GenerateSettings

    values = {
        "count": count,
        "ship_type": ship_type,
        "behaviour": behaviour,
        "start": None if start is None else _numbers(start),
        "start_time": start_time,
        "hours": hours,
        "step_s": step,
        "guidance": guidance,
        "model": model,
        "seed": seed,
        "layout": layout,
        "date": date,
        "timezone": timezone,
    }
    paths = Paths(history=tuple(Path(each) for each in history or ()))
    run_job(
        GenerateSettings,
        values,
        "generate",
        list(inputs or []),
        out,
        name=name,
        paths=paths,
        workers=workers,
        scheduler=scheduler,
    )


def _numbers(text: str) -> tuple[float, ...]:
    """Two or four numbers.

    Raises:
        UsageError: anything else.
    """
    try:
        found = tuple(float(word) for word in text.split(","))
    except ValueError:
        found = ()
    if len(found) not in (2, 4):
        raise UsageError(f"--start {text}: give longitude,latitude or west,south,east,north in degrees")
    return found

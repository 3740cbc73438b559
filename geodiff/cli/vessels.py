"""``geodiff vessels``: jobs over tracks of vessels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geodiff.cli.vessels_generate import generate
from geodiff.cli.vessels_options import (
    Box,
    Coastline,
    Date,
    Ensemble,
    Gap,
    History,
    Inputs,
    Layout,
    Members,
    Model,
    Name,
    NoCalibrate,
    Out,
    Region,
    Scheduler,
    Seed,
    Step,
    Timezone,
    Workers,
    reading,
    run_job,
)

vessels_app = typer.Typer(no_args_is_help=True, help="Clean, complete, forecast, score and make tracks of vessels.")
vessels_app.command()(generate)


@vessels_app.command()
def clean(
    inputs: Inputs,
    *,
    out: Out,
    name: Name = None,
    layout: Layout = None,
    date: Date = None,
    timezone: Timezone = None,
    bbox: Box = None,
    region: Region = None,
    gap: Gap = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
) -> None:
    """Raw AIS to clean tracks: every fix kept with its track, or with the reason why it was rejected.

    Safe to kill: the same command resumes, and once finished returns at once.
    """
    from geodiff.tasks.vessels_settings import CleanSettings

    values = reading(layout, date, timezone, bbox, region, gap)
    run_job(CleanSettings, values, "clean", inputs, out, name=name, workers=workers, scheduler=scheduler)


@vessels_app.command()
def impute(
    inputs: Inputs,
    *,
    out: Out,
    name: Name = None,
    model: Model = None,
    ensemble: Ensemble = None,
    step: Step = None,
    longest: Annotated[float | None, typer.Option(metavar="HOURS", help="Longer gaps stay gaps; default: 24.")] = None,
    history: History = None,
    no_calibrate: NoCalibrate = False,
    keep_members: Members = False,
    seed: Seed = None,
    layout: Layout = None,
    date: Date = None,
    timezone: Timezone = None,
    bbox: Box = None,
    region: Region = None,
    gap: Gap = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
) -> None:
    """Fill gaps of tracks with an ensemble; observed fixes are never moved.

    A gap is a silence longer than two steps and three usual intervals of the vessel, within a track or between two of
    its tracks. Vessels that lie still at both ends in one place are counted, not modelled. Safe to kill: the same
    command resumes.
    """
    from geodiff.tasks.vessels_plan import Paths
    from geodiff.tasks.vessels_settings import ImputeSettings

    values = reading(layout, date, timezone, bbox, region, gap) | {
        "model": model,
        "ensemble": ensemble,
        "step_s": step,
        "longest_h": longest,
        "calibrate": not no_calibrate,
        "members": keep_members,
        "seed": seed,
    }
    paths = Paths(history=tuple(Path(each) for each in history or ()))
    run_job(ImputeSettings, values, "impute", inputs, out, name=name, paths=paths, workers=workers, scheduler=scheduler)


@vessels_app.command()
def forecast(
    inputs: Inputs,
    *,
    out: Out,
    name: Name = None,
    hours: Annotated[float | None, typer.Option(help="Beyond each vessel's last fix, up to 12; default: 3.")] = None,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only what was known by then, UTC: 2020-01-01T12:00.")
    ] = None,
    coastline: Coastline = None,
    model: Model = None,
    ensemble: Ensemble = None,
    step: Step = None,
    history: History = None,
    no_calibrate: NoCalibrate = False,
    keep_members: Members = False,
    seed: Seed = None,
    layout: Layout = None,
    date: Date = None,
    timezone: Timezone = None,
    bbox: Box = None,
    region: Region = None,
    gap: Gap = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
) -> None:
    """Where vessels will be, as an ensemble with regions that hold the truth with 50 and 90 %.

    With --coastline members that cross land are drawn again, and the estimate follows those that stay at sea. Vessels
    that lay still when last heard are counted, not modelled. Safe to kill: the same command resumes.
    """
    from geodiff.tasks.vessels_plan import Paths
    from geodiff.tasks.vessels_settings import ForecastSettings

    values = reading(layout, date, timezone, bbox, region, gap) | {
        "model": model,
        "ensemble": ensemble,
        "step_s": step,
        "hours": hours,
        "at": at,
        "calibrate": not no_calibrate,
        "members": keep_members,
        "seed": seed,
    }
    paths = Paths(history=tuple(Path(each) for each in history or ()), coastline=coastline)
    run_job(
        ForecastSettings, values, "forecast", inputs, out, name=name, paths=paths, workers=workers, scheduler=scheduler
    )


@vessels_app.command()
def score(
    inputs: Inputs,
    *,
    out: Out,
    name: Name = None,
    alpha: Annotated[
        float | None,
        typer.Option(
            help="Share of sound fixes and of sound tracks that may be flagged; default: 0.01, or the least that so "
            "many vessels can tell."
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="From geodiff evaluate vessels --task score; default: each half of the input's vessels is compared "
            "with the other.",
        ),
    ] = None,
    model: Model = None,
    ensemble: Ensemble = None,
    seed: Seed = None,
    layout: Layout = None,
    date: Date = None,
    timezone: Timezone = None,
    bbox: Box = None,
    region: Region = None,
    gap: Gap = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
) -> None:
    """Score fixes and tracks for anomalies: p-values at a stated false-alarm rate, with reasons.

    The model defaults to hermite, which scores a day of millions of fixes in minutes; a trained one sees more and takes
    longer. Safe to kill: the same command resumes.
    """
    from geodiff.tasks.vessels_plan import Paths
    from geodiff.tasks.vessels_settings import ScoreSettings

    values = reading(layout, date, timezone, bbox, region, gap) | {
        "model": model,
        "ensemble": ensemble,
        "alpha": alpha,
        "seed": seed,
    }
    paths = Paths(calibration=calibration)
    run_job(ScoreSettings, values, "score", inputs, out, name=name, paths=paths, workers=workers, scheduler=scheduler)


@vessels_app.command()
def associate(
    inputs: Inputs,
    *,
    out: Out,
    name: Name = None,
    sensor: Annotated[
        str | None, typer.Option(help="ais or radar: whose settings to start from; default: radar with --position.")
    ] = None,
    settings: Annotated[Path | None, typer.Option(help="YAML of settings of the association that differ.")] = None,
    position: Annotated[
        str | None,
        typer.Option(
            metavar="LON,LAT[,COURSE]", help="Of the radar, for plots in ranges or metres; and where its axis points."
        ),
    ] = None,
    layout: Layout = None,
    date: Date = None,
    timezone: Timezone = None,
    bbox: Box = None,
    region: Region = None,
) -> None:
    """Anonymous points and radar plots to tracks; identities in the input are not looked at.

    Safe to kill: the same command resumes where the pass over time was, to the same bytes.
    """
    from geodiff.config import read_yaml
    from geodiff.tasks.vessels_settings import AssociateSettings

    place = None if position is None else position.split(",")
    values = reading(layout, date, timezone, bbox, region, None) | {
        "sensor": sensor,
        "position": place,
        "rules": None if settings is None else read_yaml(settings),
    }
    run_job(AssociateSettings, values, "associate", inputs, out, name=name)

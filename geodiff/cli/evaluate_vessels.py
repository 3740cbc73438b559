"""``geodiff evaluate vessels``: motion models side by side on vessels that none of them saw."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from geodiff.cli.inputs import split_words
from geodiff.cli.show import print_pairs, print_rows, stage_bars, tell
from geodiff.schema import UsageError


def evaluate_vessels(
    *,
    data: Annotated[list[Path], typer.Option("--data", help="Any file of fixes, or cleaned tracks; may be repeated.")],
    task: Annotated[str, typer.Option(help="impute: gaps are filled; forecast: futures are told.")],
    out: Annotated[Path, typer.Option(help="Folder of report.json, report.html and the results to resume from.")],
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="NAME|PATH", help="May be repeated; the classical rules are always added."),
    ] = None,
    gaps: Annotated[
        str | None, typer.Option(help="Hidden fixes, 3,6,12 points, or times, 10min,1h; default: what suits the data.")
    ] = None,
    horizons: Annotated[
        str | None, typer.Option(help="Steps ahead, 1,2,3,6,12 points, or times, 30min,3h; default: likewise.")
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            help="held-out: the tenth of vessels that trainings hold out; unseen: those that no --model was trained "
            "on; all: refused if one was trained on any."
        ),
    ] = "held-out",
    draw: Annotated[str, typer.Option(help="fixes: cases among all fixes alike; vessels: of each vessel in turn.")] = (
        "fixes"
    ),
    members: Annotated[int, typer.Option(min=2, max=256, help="Of the ensembles.")] = 16,
    max_cases: Annotated[int, typer.Option(min=1, help="Moving cases of each gap length, or of the forecasts.")] = 2000,
    history: Annotated[
        list[Path] | None,
        typer.Option("--history", help="Tracks of further vessels, for models that use history; may be repeated."),
    ] = None,
    no_history: Annotated[bool, typer.Option("--no-history", help="Tell models nothing of other vessels.")] = False,
    no_calibrate: Annotated[
        bool,
        typer.Option(
            "--no-calibrate", help="Keep the regions of a model's card, even where most of the vessels are new to it."
        ),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of cases and of the noise.")] = 0,
) -> None:
    """Score motion models on any fixes: gaps filled or futures forecast; JSON and HTML with plots.

    Fixes are read, cleaned, and hidden again; each model says where the vessel was. A model is never asked about a
    vessel that its card says it was trained on. Safe to kill: the same command resumes.
    """
    from geodiff.tasks.evaluate_vessels_run import VesselEvaluation, run_motion

    if no_history and history:
        raise UsageError("--no-history and --history: give one of both")
    settings: dict[str, Any] = {"split": split, "draw": draw, "members": members, "max_cases": max_cases, "seed": seed}
    settings |= {"history": not no_history, "calibrate": not no_calibrate, "lengths": _lengths(task, gaps, horizons)}
    with stage_bars() as bars:
        found = run_motion(
            VesselEvaluation(
                task=task,
                data=tuple(data),
                models=split_words(model),
                out=out.expanduser().resolve(),
                settings=settings,
                history=tuple(history or ()),
                command=shlex.join(["geodiff", *sys.argv[1:]]),
                progress=bars,
                tell=tell,
            )
        )
    print_rows(found.header, found.rows)
    print_pairs("", [("report", str(found.page)), ("figures", str(found.figures))])


def _lengths(task: str, gaps: str | None, horizons: str | None) -> str | None:
    """The option that the task has.

    Raises:
        UsageError: the other one was given.
    """
    other = {"impute": ("--horizons", horizons), "forecast": ("--gaps", gaps)}.get(task)
    if other and other[1] is not None:
        raise UsageError(f"{other[0]} is for --task {'forecast' if task == 'impute' else 'impute'}")
    return gaps if task == "impute" else horizons

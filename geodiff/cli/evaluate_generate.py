"""``geodiff evaluate vessels --task generate``: are generated tracks like real ones?"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from geodiff.cli.inputs import split_words
from geodiff.cli.show import print_pairs, print_rows, stage_bars, tell
from geodiff.schema import UsageError


def evaluate_generated(
    *,
    data: Annotated[list[Path], typer.Option("--data", help="Any file of fixes, or cleaned tracks; may be repeated.")],
    model: Annotated[str, typer.Option("--model", metavar="NAME|PATH", help="The trained model that generates.")],
    out: Annotated[Path, typer.Option(help="Folder of report.json, report.html and the results to resume from.")],
    guidance: Annotated[str, typer.Option(help="Strengths of guidance to compare.")] = "1,1.5,2,3,5",
    hours: Annotated[
        float | None, typer.Option(help="Length of a window; default: 3 for fixes of minutes, 12 for sparser ones.")
    ] = None,
    step: Annotated[
        float | None, typer.Option(help="Seconds between positions; default: 300 for fixes of minutes, 3600 else.")
    ] = None,
    max_tracks: Annotated[int, typer.Option(min=20, help="Tracks made for each strength, one for each window.")] = 1200,
    max_train: Annotated[int, typer.Option(min=100, help="Windows that the classifier learns from.")] = 12_000,
    no_history: Annotated[bool, typer.Option("--no-history", help="Tell the model nothing of other vessels.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of windows, classifier and noise.")] = 0,
) -> None:
    """Ask a classifier of real tracks about generated ones, and compare how both move; JSON and HTML with plots.

    Windows of vessels held out of every training give ship types, behaviours and starts; their real tracks are what
    the made ones are held against. Safe to kill: the same command resumes.
    """
    from geodiff.tasks.evaluate_generate_report import HEADER, Run, evaluate_generation, headline
    from geodiff.tasks.evaluate_generate_settings import GenerationSettings

    chosen: dict[str, Any] = {"guidance": _numbers(guidance), "hours": hours, "step_s": step, "seed": seed}
    chosen |= {"max_tracks": max_tracks, "max_train": max_train, "history": not no_history}
    settings = GenerationSettings.parse(chosen, where="options")
    folder = out.expanduser().resolve()
    with stage_bars() as bars:
        run = Run(shlex.join(["geodiff", *sys.argv[1:]]), bars, tell)
        report, page = evaluate_generation(data, model, folder, settings, run)
    print_rows(HEADER, headline(report))
    print_pairs("", [("report", str(page)), ("figures", str(folder / "report.json"))])


def _numbers(text: str) -> tuple[float, ...]:
    """Numbers between commas.

    Raises:
        UsageError: something else.
    """
    try:
        return tuple(float(word) for word in split_words([text]))
    except ValueError:
        raise UsageError(f"--guidance {text}: give numbers such as 1,1.5,3") from None

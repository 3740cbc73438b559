"""``geodiff evaluate``: models side by side on what none of them saw; ``superres`` on places."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from geodiff.cli.evaluate_tasks import FREE, evaluate_by_task
from geodiff.cli.inputs import default_workers, split_words
from geodiff.cli.show import print_pairs, print_rows, stage_bars
from geodiff.schema import UsageError

evaluate_app = typer.Typer(no_args_is_help=True, help="Score models on data that they never saw.")
evaluate_app.command("vessels", context_settings=FREE)(evaluate_by_task)


@evaluate_app.command("superres")
def evaluate_superres(
    *,
    model: Annotated[
        list[str], typer.Option("--model", metavar="NAME|PATH", help="May be repeated; bicubic is always added.")
    ],
    data: Annotated[
        list[Path],
        typer.Option("--data", help="catalog.json of a series, .nc or .zarr cubes, or WorldStrat; may be repeated."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of report.json, report.html and the results to resume from.")],
    ensemble: Annotated[
        int,
        typer.Option(
            min=0, max=64, help="Members that are scored, 4 or more for a CRPS; intervals are calibrated for 4."
        ),
    ] = 4,
    passes: Annotated[int, typer.Option(min=1, max=64, help="Evaluations of a model per member.")] = 2,
    bands: Annotated[
        list[str] | None,
        typer.Option(help="That baselines restore: B02,B11 or repeated; default: those of the trained models."),
    ] = None,
    dates_limit: Annotated[
        int | None, typer.Option(min=1, help="Most dates of a place that are restored, spread over the series.")
    ] = None,
    max_sites: Annotated[int | None, typer.Option(min=1, help="Most places, in the order of the data.")] = None,
    scenario: Annotated[
        list[str] | None, typer.Option("--scenario", help="What models are shown; may be repeated; default: all.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads; default: all cores. They change no value but the speed.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of noise, synthetic clouds and ties.")] = 0,
) -> None:
    """Score models on series: the date seen, clouded, hidden, with few dates and many; JSON and HTML with pictures.

    A series is degraded, restored, and compared with what it was (Wald protocol). A place on which a model was trained
    is refused. Safe to kill: the same command resumes.
    """
    from geodiff.outputs.report import write_html
    from geodiff.tasks.evaluate import EvaluateSettings, Limits, evaluate, request_for
    from geodiff.tasks.evaluate_models import load_contenders
    from geodiff.tasks.evaluate_pictures import draw_cases
    from geodiff.tasks.evaluate_report import summarise, write_report
    from geodiff.tasks.evaluate_sources import find_sites

    chosen: dict[str, Any] = {"ensemble": ensemble, "seed": seed}
    if scenario:
        chosen["scenarios"] = _scenarios(scenario)
    settings = EvaluateSettings.parse(chosen, where="options")
    limits = Limits(dates=dates_limit, sites=max_sites, workers=workers or default_workers())
    contenders = load_contenders(split_words(model), passes=passes, bands=split_words(bands))
    sites, told = find_sites(data, request_for(contenders, limits))
    folder = out.expanduser().resolve()
    with stage_bars() as bars:
        found = evaluate(contenders, sites, folder, settings, limits=limits, progress=bars)
        pictures = draw_cases(found, contenders, sites, folder, settings, limits=limits, progress=bars)
    report = summarise(found, contenders, told, settings, command=shlex.join(["geodiff", *sys.argv[1:]]))
    path, page = write_report(report, folder), write_html(report, pictures, folder)
    _print(report)
    print_pairs("", [("report", str(page)), ("figures", str(path))])


def _scenarios(words: list[str]) -> tuple[str, ...]:
    """The asked scenarios in the order of the report.

    Raises:
        UsageError: an unknown one.
    """
    from geodiff.tasks.evaluate_cases import Scenario

    asked, known = split_words(words), [str(each) for each in Scenario]
    wrong = [word for word in asked if word not in known]
    if wrong:
        raise UsageError(f"--scenario {wrong[0]}: choose among {', '.join(known)}")
    return tuple(each for each in known if each in asked)


def _print(report: dict[str, Any]) -> None:
    """The headline for the terminal; the page has the rest."""
    names = {"cpsnr_db": "cPSNR dB", "cssim": "cSSIM", "sam_deg": "angle deg", "crps": "CRPS", "coverage_90": "in 90 %"}
    rows = []
    for name, row in report["models"].items():
        cells = [f"{row[key]['mean']:.4g}" if row.get(key) else "-" for key in names]
        rows.append((name, *cells, f"{row['km2_per_s']:.3g}" if row["km2_per_s"] else "-"))
    print_rows(("model", *names.values(), "km2/s"), rows)

"""``geodiff evaluate vessels``: from files and names of models to a report, task by task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geodiff.tasks.evaluate_vessels import calibrated, evaluate_vessels, load_contenders
from geodiff.tasks.evaluate_vessels_data import draw_cases, load_cleaned
from geodiff.tasks.evaluate_vessels_report import summarise, write_reports
from geodiff.tasks.evaluate_vessels_settings import VesselSettings

if TYPE_CHECKING:
    from geodiff.tasks.job import Progress


@dataclass(frozen=True, slots=True)
class VesselEvaluation:
    """What the command line was asked.

    Attributes:
        task: ``impute`` or ``forecast``.
        data: files of fixes.
        models: names or paths, in the order of the tables.
        out: folder of the report and of the results to resume from.
        settings: of the task, as its own settings class checks them.
        history: files with tracks of further vessels.
        command: that makes the report again.
        progress: called with stage, done and total.
        tell: called with a line on what was read.
    """

    task: str
    data: tuple[Path, ...]
    models: tuple[str, ...]
    out: Path
    settings: Mapping[str, object]
    history: tuple[Path, ...]
    command: str
    progress: Progress
    tell: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the terminal shows.

    Attributes:
        header, rows: the headline as a table.
        page, figures: the files written.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    page: Path
    figures: Path


def run_motion(asked: VesselEvaluation) -> Outcome:
    """Gaps filled or futures forecast.

    Raises:
        UsageError, GeodiffError: settings, models or data that will not do.
    """
    settings = VesselSettings.parse({"task": asked.task, **asked.settings}, where="options")
    contenders = load_contenders(asked.models)
    data = load_cleaned(asked.data, tell=asked.tell)
    past = load_cleaned(asked.history, tell=asked.tell) if asked.history else None
    drawn = draw_cases(data, contenders, settings, past=past)
    contenders = [calibrated(each, drawn, settings) for each in contenders]
    for each in contenders:
        if each.regions is not None:
            asked.tell(f"{each.name}: regions {each.regions}")
    found = evaluate_vessels(contenders, drawn, asked.out, settings, progress=asked.progress)
    report = summarise(found, contenders, data, drawn, settings, command=asked.command)
    if not any(model["lengths"] for model in report["models"].values()):
        asked.tell("no case is of a vessel under way; the report has those of vessels that hardly moved")
    page, figures = write_reports(report, found, contenders, drawn, asked.out, settings)
    return Outcome(
        (f"mean error (against {report['reference']})", *report["lengths"]), tuple(_headline(report)), page, figures
    )


def _headline(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Mean errors and, where there is one, by how much they differ from the reference's."""
    unit = "nmi" if report["task"] == "forecast" else "km"
    rows = []
    for name, model in report["models"].items():
        cells = []
        for label in report["lengths"]:
            row = model["lengths"].get(label)
            gain = row and row["gain"]["mean"]
            told = "" if gain is None or name == report["reference"] else f" ({round(-100 * gain) or 0:+d} %)"
            cells.append(f"{row[f'greedy_{unit}']['mean']:.3g} {unit}{told}" if row else "-")
        rows.append((name, *cells))
    return rows

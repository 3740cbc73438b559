"""``geodiff evaluate vessels --task associate``: identities taken off and found again, beside classical rules."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from geodiff.cli.show import print_pairs, print_rows
from geodiff.schema import UsageError

IDENTITY_COLUMNS = {
    "purity": "purity",
    "completeness": "complete",
    "idf1": "IDF1",
    "tracks": "tracks",
    "vessels": "vessels",
}
TARGET_COLUMNS = {
    "gospa_m": "GOSPA m",
    "localisation_error_m": "error m",
    "missed_per_scan": "missed/scan",
    "false_per_scan": "false/scan",
    "switches": "switches",
}


def associate_report(
    *,
    data: Annotated[
        list[Path],
        typer.Option("--data", help="Fixes with identities, or radar plots, of one scene; any format."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of association.json and association.html.")],
    truth: Annotated[
        Path | None, typer.Option(help="Fixes of targets whose place is known: tracks are compared with them (GOSPA).")
    ] = None,
    sensor: Annotated[
        str | None, typer.Option(help="ais or radar: where the settings start from; default: radar for its plots.")
    ] = None,
    settings: Annotated[Path | None, typer.Option(help="YAML of settings that differ.")] = None,
    date: Annotated[str | None, typer.Option(help="Day of the first row, for files of times of day.")] = None,
    position: Annotated[
        str | None,
        typer.Option(
            metavar="LON,LAT[,COURSE]", help="Of the radar, for plots in ranges or metres; and where its axis points."
        ),
    ] = None,
    cutoff_m: Annotated[float, typer.Option(min=0.1, help="Cutoff of GOSPA.")] = 30.0,
) -> None:
    """Score association without identity beside global and greedy nearest neighbours; JSON and HTML with maps."""
    from geodiff.config import read_yaml
    from geodiff.tasks.evaluate_association import (
        TargetRules,
        score_identities,
        score_targets,
        write_association_report,
    )
    from geodiff.tasks.vessels_associate import rules_of
    from geodiff.tasks.vessels_plan import sensor_of
    from geodiff.tasks.vessels_settings import AssociateSettings

    if len(data) > 1:
        raise UsageError(f"--data: one scene at a time, these are {len(data)}: score each by itself")
    given = {
        "sensor": sensor or ("radar" if _is_autoferry(data[0]) else None),
        "position": None if position is None else position.split(","),
        "rules": {} if settings is None else read_yaml(settings),
    }
    asked = AssociateSettings.parse(given, where="options")
    chosen, place = rules_of(asked), sensor_of(asked)
    fixes = _read(data[0], date, place, truth=truth is None)
    targets = None if truth is None else _read(truth, date, place, truth=False)
    if targets is None:
        figures, tables = score_identities(fixes, chosen)
    else:
        figures, tables = score_targets(fixes, targets, chosen, TargetRules(cutoff_m=cutoff_m))
    about = {
        "command": shlex.join(["geodiff", *sys.argv[1:]]),
        "data": data[0].name,
        "settings": chosen.model_dump(mode="json"),
        "cutoff_m": cutoff_m if targets is not None else None,
    }
    path, page = write_association_report(figures, tables, out.expanduser(), about=about, truth=targets)
    _print(figures, TARGET_COLUMNS if targets is not None else IDENTITY_COLUMNS)
    print_pairs("", [("report", str(page)), ("figures", str(path))])


def _is_autoferry(path: Path) -> bool:
    """Whether this is a scenario of plots, which is known by its name."""
    return path.name.removesuffix(".gz").endswith("_detections.json")


def _read(path: Path, date: str | None, sensor: Any, *, truth: bool) -> Any:
    """The fixes of a file; Autoferry scenarios are known by their names.

    Raises:
        UsageError, GeodiffError: as the readers.
    """
    from geodiff.vessels.layouts import shipped_layouts
    from geodiff.vessels.radar_autoferry import read_autoferry, read_autoferry_truth
    from geodiff.vessels.read import open_fixes, read_fixes

    if _is_autoferry(path):
        return read_autoferry(path)
    if path.name.removesuffix(".gz").endswith("_groundTruth.json"):
        return read_autoferry_truth(path)
    layout = open_fixes(path, date=date, sensor=sensor).layout
    known = shipped_layouts().get(layout)
    hidden = truth and known is not None and known.truth is not None
    return read_fixes(path, date=date, sensor=sensor, truth=hidden)[0]


def _print(figures: dict[str, Any], columns: dict[str, str]) -> None:
    rows = []
    for name, row in figures.items():
        told = row.get("all", row)
        cells = ["-" if told.get(key) is None else f"{told[key]:.4g}" for key in columns]
        rows.append((name, *cells, f"{row['plots_per_s']:.0f}"))
    print_rows(("method", *columns.values(), "plots/s"), rows)

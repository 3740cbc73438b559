"""``geodiff evaluate vessels --task associate``: identities taken off and found again, beside classical rules."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from geodiff.cli.show import print_pairs, print_rows
from geodiff.schema import UsageError

SENSORS = ("ais", "radar")
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
    sensor: Annotated[str, typer.Option(help="ais or radar: where the settings start from.")] = "ais",
    settings: Annotated[Path | None, typer.Option(help="YAML of settings that differ.")] = None,
    date: Annotated[str | None, typer.Option(help="Day of the first row, for files of times of day.")] = None,
    position: Annotated[str | None, typer.Option(help="LON,LAT of the radar, for plots in metres.")] = None,
    cutoff_m: Annotated[float, typer.Option(min=0.1, help="Cutoff of GOSPA.")] = 30.0,
) -> None:
    """Score association without identity beside global and greedy nearest neighbours; JSON and HTML with maps."""
    from geodiff.tasks.evaluate_association import (
        TargetRules,
        score_identities,
        score_targets,
        write_association_report,
    )

    if len(data) > 1:
        raise UsageError(f"--data: one scene at a time, these are {len(data)}: score each by itself")
    chosen = _settings(sensor, settings)
    fixes = _read(data[0], date, position, truth=truth is None)
    targets = None if truth is None else _read(truth, date, position, truth=False)
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


def _settings(sensor: str, path: Path | None) -> Any:
    """The settings of the sensor, with what a file says otherwise.

    Raises:
        UsageError: an unknown sensor or setting.
    """
    from geodiff.config import read_yaml
    from geodiff.vessels.associate import RADAR, AssociateSettings

    if sensor not in SENSORS:
        raise UsageError(f"--sensor {sensor}: choose among {', '.join(SENSORS)}")
    base = RADAR if sensor == "radar" else AssociateSettings()
    if path is None:
        return base
    return AssociateSettings.parse({**base.model_dump(), **read_yaml(path)}, where=str(path))


def _read(path: Path, date: str | None, position: str | None, *, truth: bool) -> Any:
    """The fixes of a file; Autoferry scenarios are known by their names.

    Raises:
        UsageError, GeodiffError: as the readers, or the position is not two numbers.
    """
    from geodiff.vessels.layouts import shipped_layouts
    from geodiff.vessels.radar import RadarSensor
    from geodiff.vessels.radar_autoferry import read_autoferry, read_autoferry_truth
    from geodiff.vessels.read import open_fixes, read_fixes

    name = path.name.removesuffix(".gz")
    if name.endswith("_detections.json"):
        return read_autoferry(path)
    if name.endswith("_groundTruth.json"):
        return read_autoferry_truth(path)
    sensor = None
    if position is not None:
        try:
            lon, lat = (float(word) for word in position.split(","))
        except ValueError:
            raise UsageError(f"--position {position}: two numbers are wanted, longitude,latitude") from None
        sensor = RadarSensor(lon, lat)
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

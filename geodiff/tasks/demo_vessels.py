"""The demonstration of the vessels: a day of real AIS where there is one, else a fleet drawn with a known truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import polars as pl

from geodiff.config import Bbox, data_dir
from geodiff.outputs.atomic import replacing
from geodiff.schema import GeodiffError
from geodiff.tasks.evaluate_vessels_run import Outcome, VesselEvaluation, run_motion
from geodiff.tasks.vessels_job import Progress
from geodiff.tasks.vessels_plan import make_plan
from geodiff.tasks.vessels_pool import PROCESSES, Pool
from geodiff.tasks.vessels_run import run_tracks
from geodiff.tasks.vessels_settings import ForecastSettings, ImputeSettings, ScoreSettings, TrackSettings

BOX: Final = (-95.2, 28.9, -94.3, 29.8)
"""Galveston Bay: west, south, east, north in degrees."""

FORECAST_H: Final = 3.0
MOST_CASES: Final = 150
VESSELS, HOURS = 150, 10.0
"""Of the synthetic fleet."""


@dataclass(frozen=True)
class _Day:
    """What is looked at: its name, its file, when it ends, how rare a false alarm its vessels can tell, and where."""

    data: str
    fixes: Path
    end: datetime
    alpha: float
    bbox: Bbox | None = None


@dataclass(frozen=True)
class VesselsDemo:
    """What the demonstration did.

    Attributes:
        data: one line that names the data.
        summaries: of the runs, by kind of job.
        gaps, forecasts: errors of the model and of classical rules on vessels that it was not trained on.
    """

    data: str
    summaries: dict[str, dict[str, Any]]
    gaps: Outcome
    forecasts: Outcome


def run_vessels_demo(out: Path, *, workers: int, progress: Progress) -> VesselsDemo:
    """Clean AIS, fill its gaps, forecast its last hours, score it for anomalies, and compare with what was there.

    Args:
        out: output folder.
        workers: processes.
        progress: told of each stage.

    Raises:
        GeodiffError: as of the jobs.
    """
    day = _real(out) or _synthetic(out)
    at = day.end - timedelta(hours=FORECAST_H)
    asked: dict[str, TrackSettings] = {
        "impute": ImputeSettings(bbox=day.bbox),
        "forecast": ForecastSettings.parse({"hours": FORECAST_H, "at": at, "bbox": day.bbox}, where="demo"),
        "score": ScoreSettings(alpha=day.alpha, bbox=day.bbox),
    }
    pool = Pool(workers, PROCESSES if workers > 1 else None)
    summaries = {
        kind: run_tracks(make_plan(kind, [day.fixes], settings, out / "tracks"), pool=pool, progress=progress).summary
        for kind, settings in asked.items()
    }
    gaps = _measured("impute", ("ais", "hermite", "linear"), day.fixes, out, progress)
    forecasts = _measured("forecast", ("ais", "dead_reckoning"), day.fixes, out, progress)
    return VesselsDemo(day.data, summaries, gaps, forecasts)


def _measured(task: str, models: tuple[str, ...], fixes: Path, out: Path, progress: Progress) -> Outcome:
    report = out / f"tracks_{task}_report"
    settings = {"split": "unseen", "max_cases": MOST_CASES}
    options = f"--split unseen --max-cases {MOST_CASES} " + " ".join(f"--model {model}" for model in models)
    command = f"geodiff evaluate vessels --task {task} --data {fixes} {options} --out {report}"
    return run_motion(VesselEvaluation(task, (fixes,), models, report, settings, (), command, progress, lambda _: None))


def _real(out: Path) -> _Day | None:
    """The vessels of one place, in the layout that they were published in.

    Their fixes elsewhere come along: the jobs are told the place, and who leaves it has not fallen silent.
    """
    root = data_dir()
    day = root / "ais" / "noaa_2020-01-01.parquet" if root else None
    if day is None or not day.is_file():
        return None
    west, south, east, north = BOX
    here = pl.col("LON").is_between(west, east) & pl.col("LAT").is_between(south, north)

    def vessels() -> pl.DataFrame:
        rows = pl.scan_parquet(day, glob=False)
        return rows.join(rows.filter(here).select("MMSI").unique(), on="MMSI", how="semi").collect()

    try:
        fixes = _kept(out / "ais" / "galveston_vessels_2020-01-01.parquet", vessels)
    except pl.exceptions.PolarsError as error:
        raise GeodiffError(f"{day} is not the day of AIS that the demo shows: {str(error).splitlines()[0]}") from None
    end = datetime(2020, 1, 2, tzinfo=UTC)
    return _Day("real: AIS of Galveston Bay, 1 January 2020 (MarineCadastre.gov)", fixes, end, 0.01, BOX)


def _synthetic(out: Path) -> _Day:
    # The makers of synthetic fleets are part of the package, so that the demo works anywhere.
    from geodiff.testing.tracks import START, make_fleet

    fixes = _kept(out / "ais" / "fleet.parquet", lambda: make_fleet(0, VESSELS, HOURS).fixes)
    name = f"synthetic: {VESSELS} vessels drawn by geodiff.testing, truth known"
    return _Day(name, fixes, START + timedelta(hours=HOURS), 0.05)


def _kept(path: Path, table: Callable[[], pl.DataFrame]) -> Path:
    """The file, written once: another one would be another run."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            table().write_parquet(partial)
    return path

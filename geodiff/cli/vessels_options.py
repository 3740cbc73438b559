"""Options that the commands over tracks share, and what they have in common."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geodiff.cli.errors import finishing_regions
from geodiff.cli.inputs import default_workers, read_region
from geodiff.cli.show import print_pairs, stage_bars
from geodiff.schema import UsageError

if TYPE_CHECKING:
    from geodiff.tasks.vessels_plan import Paths
    from geodiff.tasks.vessels_settings import TrackSettings

Inputs = Annotated[
    list[str],
    typer.Argument(
        help="AIS or radar: files, folders or globs of any known format; - for NMEA from standard input. Tables that "
        "these commands wrote are taken too."
    ),
]
Out = Annotated[Path, typer.Option(help="Output folder: a STAC catalogue of all its runs.")]
Name = Annotated[str | None, typer.Option(help="Folder and collection of the run; default: the command's name.")]
Layout = Annotated[
    str | None, typer.Option(metavar="NAME|FILE", help="Column map: one of catalogs/ais or YAML; default: recognised.")
]
Date = Annotated[
    str | None, typer.Option(metavar="YYYY-MM-DD", help="Day of the first row, for a file of times of day.")
]
Timezone = Annotated[
    str | None, typer.Option(help="Of times without an offset, such as Europe/Oslo; default: as the layout says, UTC.")
]
Box = Annotated[
    tuple[float, float, float, float] | None,
    typer.Option("--bbox", metavar="W S E N", help="Only fixes in this box, degrees; W > E crosses 180 degrees."),
]
Region = Annotated[Path | None, typer.Option(help="GeoJSON file in degrees; its extent is used in place of --bbox.")]
Gap = Annotated[
    float | None,
    typer.Option(
        metavar="HOURS",
        help="A longer silence ends a track; default: 1, or three times the usual interval, of all vessels or of the "
        "vessel itself, where that is longer.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(metavar="NAME|PATH", help="Model of motion: trained weights, or a classical rule such as hermite."),
]
Ensemble = Annotated[int | None, typer.Option(help="Members of the ensemble; default: 16.")]
Step = Annotated[int | None, typer.Option(metavar="SECONDS", help="Times asked for are its multiples; default: 300.")]
Seed = Annotated[int | None, typer.Option(help="Of the noise; default: 0.")]
History = Annotated[
    list[str] | None,
    typer.Option(
        "--history",
        metavar="FILE",
        help="Past tracks of the region, in place of those of the input; may be repeated.",
    ),
]
NoCalibrate = Annotated[
    bool,
    typer.Option(
        "--no-calibrate",
        help="Keep the regions of the model's card; default: where most vessels of the input are new to the model, and "
        "100 of them can be asked about, its regions are calibrated on them.",
    ),
]
Members = Annotated[bool, typer.Option("--keep-members", help="Keep the members, in the Zarr store.")]
Coastline = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Polygons of land in any vector format, such as Natural Earth.")
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Of threads or processes; default: all cores. They never change a value.")
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="threads|processes|ADDRESS",
        help="Where parts are done, or a Dask scheduler; default: processes for jobs with a model, else threads.",
    ),
]


def reading(
    layout: str | None,
    date: str | None,
    timezone: str | None,
    bbox: tuple[float, float, float, float] | None,
    region: Path | None,
    gap: float | None,
) -> dict[str, Any]:
    """Settings of reading and cleaning.

    Raises:
        UsageError: both a box and a region, or a region that is none.
    """
    if region is not None:
        if bbox is not None:
            raise UsageError("give --bbox or --region, not both")
        bbox = _box_of(read_region(region)[0])
    gap_s = None if gap is None else gap * 3600
    return {"layout": layout, "date": date, "timezone": timezone, "bbox": bbox, "gap_s": gap_s}


def _box_of(region: dict[str, Any]) -> tuple[float, float, float, float]:
    """The box of a region; of one that is cut at 180 degrees (RFC 7946, 3.1.9) west > east."""
    import numpy as np
    from shapely.geometry import shape

    from geodiff.outputs.track_geometry import covered_ground

    geometry = shape(region)
    return covered_ground(np.array([geometry], dtype=object))[1]


def run_job(
    settings: type[TrackSettings],
    values: dict[str, Any],
    kind: str,
    inputs: list[str],
    out: Path,
    *,
    name: str | None = None,
    paths: Paths | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
) -> None:
    """Plan, show, run, sum up; a value of None was not given."""
    from geodiff.tasks.vessels_plan import Paths, make_plan
    from geodiff.tasks.vessels_pool import PROCESSES, Pool
    from geodiff.tasks.vessels_run import run_tracks

    given = settings.parse({key: value for key, value in values.items() if value is not None}, where="options")
    plan = make_plan(kind, inputs, given, out, name=name, paths=paths or Paths())
    if scheduler is None and plan.job.model is not None and plan.job.parts > 1:
        scheduler = PROCESSES
    pool = Pool(workers or default_workers(), scheduler)
    with stage_bars() as bars, finishing_regions():
        outcome = run_tracks(plan, pool=pool, progress=bars)
    title = f"run {plan.job.run_id} is finished already, nothing to do" if outcome.resumed else "done"
    print_pairs(title, summary_lines(outcome.summary))


def summary_lines(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """A summary as (what, value) for the terminal."""
    lines = [(f"note {number}", note) for number, note in enumerate(summary.get("notes", []), 1)]
    lines += [(what, str(summary[what])) for what in ("model", "regions") if summary.get(what)]
    for one in summary.get("inputs", []):
        lines += _input_lines(Path(one["href"]).name or "input", one.get("counts"))
    for what, count in summary.get("counts", {}).items():
        if isinstance(count, dict):
            lines += [(f"  {what}", f"{number:,} {why}") for why, number in count.items()]
        elif count:
            lines.append((what, f"{count:,}"))
    if "seconds" in summary:
        lines.append(("time", f"{summary['seconds']:.0f} s, {summary['peak_rss_mb']:.0f} MB at most in this process"))
    lines += [(key, str(path)) for key, path in summary.get("files", {}).items()]
    return [*lines, ("item", str(summary["item"]))]


def _input_lines(name: str, counts: dict[str, Any] | None) -> list[tuple[str, str]]:
    """What was read of one input; what readers only noted was logged as they went."""
    if not counts:
        return []
    lines = [(name, f"{counts['read']:,} rows read, {counts['kept']:,} fixes")]
    for what, label in (("refused", "  refused"), ("blanked", "  set to null")):
        for reason, count in sorted((counts.get(what) or {}).items()):
            rows = ", ".join(str(row) for row in (counts.get("examples") or {}).get(reason, []))
            lines.append((label, f"{count:,} {reason}" + (f" (such as row {rows})" if rows else "")))
    return lines

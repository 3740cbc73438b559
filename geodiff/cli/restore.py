"""``geodiff superres``: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geodiff.cli.errors import finishing_regions
from geodiff.cli.inputs import (
    Bbox,
    Collections,
    MaxCloud,
    Region,
    default_workers,
    file_name,
    read_region,
    split_words,
)
from geodiff.cli.show import print_pairs, stage_bars
from geodiff.schema import UsageError

if TYPE_CHECKING:
    from geodiff.config import SuperresConfig


def superres(
    *,
    out: Annotated[Path, typer.Option(help="Output folder: a STAC catalogue of all its runs.")],
    catalog: Annotated[
        str | None, typer.Option(help="Name of a source, URL of a STAC API, URL or path of a catalogue or items.json.")
    ] = None,
    collection: Collections = None,
    bbox: Bbox = None,
    region: Region = None,
    interval: Annotated[
        str | None, typer.Option("--datetime", metavar="A/B", help="Dates in UTC, both days included.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="DATE", help="The day to restore, observed or not; default: the best date.")
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(metavar="10D", help="A target every so many days, from the first found date to the last."),
    ] = None,
    max_dates: Annotated[
        int | None, typer.Option(help="Most dates that a target is restored from; default: 6.")
    ] = None,
    bands: Annotated[
        list[str] | None,
        typer.Option(
            help="Of baselines and plug-ins: B02,B03 or repeated; default: B02 B03 B04 B08. Trained models restore "
            "their own."
        ),
    ] = None,
    ensemble: Annotated[
        int | None,
        typer.Option(
            help="Members behind the uncertainty; the reflectance is the expectation, of one pass; default: 4."
        ),
    ] = None,
    passes: Annotated[int | None, typer.Option(help="Evaluations of the model per member; default: 2.")] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME|PATH", help="See geodiff models; default: s2x4.")] = None,
    crs: Annotated[
        str | None, typer.Option(help="native (the scenes' own grid), or a code such as EPSG:32631; default: UTM.")
    ] = None,
    resolution: Annotated[float | None, typer.Option(help="Of the input grid in metres; default: 10.")] = None,
    max_cloud: MaxCloud = None,
    seed: Annotated[int | None, typer.Option(help="Of the noise; default: 0.")] = None,
    coregister: Annotated[bool | None, typer.Option(help="Estimate and use each date's shift; default: yes.")] = None,
    sources: Annotated[Path | None, typer.Option(help="Your own sources, in the form of sources.yaml.")] = None,
    keep_member: Annotated[bool | None, typer.Option("--keep-member", help="Also store the first member.")] = None,
    level: Annotated[
        float | None,
        typer.Option(help="The truth lies within reflectance +- uncertainty with this probability; default: 0.9."),
    ] = None,
    dial: Annotated[
        float | None,
        typer.Option(
            help="Of the member, 0-1: 0 is the mean (least error), 1 a sample (as sharp as real imagery); default: 1."
        ),
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option(help="guessed: also store which detail the data show (0) and the model guesses (1)."),
    ] = None,
    form: Annotated[
        str | None, typer.Option("--format", metavar="zarr|cog", help="cog writes GeoTIFFs beside the Zarr.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the region: folder and collection; default: that of --region, or region.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML with these settings; options win over it.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads; default: all cores. They never change a value.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="A Dask scheduler to use in place of threads.")
    ] = None,
    chunk: Annotated[int, typer.Option(min=16, help="Chunks of reading in pixels. They never change a value.")] = 256,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")] = False,
) -> None:
    """Super-resolve a place: query, cube, restoration, Zarr, STAC item.

    Safe to kill: the same command resumes, and once finished returns at once.
    """
    place, found_name = read_region(region) if region else (None, "region")
    chosen = {
        "catalog": catalog,
        "collections": split_words(collection) or None,
        "bbox": bbox,
        "region": place,
        "datetime": interval,
        "target": target,
        "every": every,
        "max_dates": max_dates,
        "sources": str(sources.expanduser().resolve()) if sources else None,
        "bands": split_words(bands) or None,
        "ensemble": ensemble,
        "passes": passes,
        "model": model,
        "crs": crs,
        "resolution_m": resolution,
        "max_cloud": max_cloud,
        "seed": seed,
        "coregister": coregister,
        "keep_member": keep_member,
        "level": level,
        "dial": dial,
        "layers": split_words(layers) or None,
        "format": form,
    }
    settings = merge(config, chosen)
    run_settings(
        settings,
        out.expanduser().resolve(),
        name=found_name if name is None else check_name(name),
        workers=workers or default_workers(),
        scheduler=scheduler,
        chunk=chunk,
        dry_run=dry_run,
    )


def merge(config: Path | None, chosen: dict[str, Any]) -> SuperresConfig:
    """Settings of a YAML file under those of the command line; a value of None was not given.

    Raises:
        UsageError: the file, or any setting.
    """
    from geodiff.config import SuperresConfig, read_yaml

    given = {key: value for key, value in chosen.items() if value is not None}
    values = read_yaml(config) if config else {}
    for one, other in (("bbox", "region"), ("target", "every")):
        if one in given or other in given:
            values = {key: value for key, value in values.items() if key not in (one, other)}
    for key, option in (("catalog", "--catalog"), ("datetime", "--datetime")):
        if key not in given and key not in values:
            raise UsageError(f"{option} is missing: give it, or a --config file that holds {key}")
    return SuperresConfig.parse({**values, **given}, where=str(config) if config else "options")


def check_name(name: str) -> str:
    """Refuse a name that is no folder name, before anything is computed.

    Raises:
        UsageError: it holds characters that are not fit for a file name.
    """
    if not name or file_name(name) != name:
        raise UsageError(f"--name {name!r} is not fit for a folder: use letters, digits, '.', '_' and '-'")
    return name


def run_settings(
    settings: SuperresConfig, out: Path, *, name: str, workers: int, scheduler: str | None, chunk: int, dry_run: bool
) -> None:
    """Plan, show, run, sum up."""
    from geodiff.tasks.out_folder import check_out
    from geodiff.tasks.plan import find_run, make_plan, plan_lines
    from geodiff.tasks.superres import finished, run

    check_out(out, name)
    with stage_bars() as bars:
        found = find_run(settings, progress=bars)
        earlier = finished(out, found.run_id, settings.format)
        if earlier is None:
            plan = make_plan(found.config, out, name=name, workers=workers, progress=bars, found=found, chunk=chunk)
    if earlier is not None:
        print_pairs(f"run {found.run_id} is finished already, nothing to do", summary_lines(earlier.summary))
        return
    print_pairs("plan", plan_lines(plan))
    if dry_run:
        return
    with stage_bars() as bars, finishing_regions():
        outcome = run(plan, out, name=name, workers=workers, scheduler=scheduler, progress=bars)
    print_pairs("done", [*summary_lines(outcome.summary), ("summary", str(out / "summary.json"))])


def summary_lines(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """A summary as (what, value) for the terminal."""
    scores = summary.get("cpsnr_db") or {}
    lines = [
        ("dates", ", ".join(str(target["date"]) for target in summary.get("targets", []))),
        ("area", f"{summary['area_km2']:.1f} km2" if "area_km2" in summary else ""),
        ("speed", f"{summary['km2_per_s']:.2f} km2/s in {summary['seconds']:.1f} s" if "km2_per_s" in summary else ""),
        ("memory", f"{summary['peak_rss_mb']:.0f} MB at most" if "peak_rss_mb" in summary else ""),
        ("cPSNR", ", ".join(f"{model} {value:.2f} dB" for model, value in scores.items())),
        ("Zarr", str(summary.get("zarr", ""))),
        ("item", str(summary.get("item", ""))),
        *(("file", str(path)) for path in summary.get("files", [])),
    ]
    return [(what, value) for what, value in lines if value]

"""What a run will do, before it does it: scenes, dates, tiles, and what they will cost in time and disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pystac
import xarray as xr
from shapely.geometry import shape

from geodiff.config import SuperresConfig
from geodiff.grid import Grid, TilePlan
from geodiff.imagery.catalog import search
from geodiff.imagery.coregister import estimate_shifts
from geodiff.imagery.cube import choose_grid, load_cube, require_usable
from geodiff.imagery.ranking import judge_dates
from geodiff.imagery.sources import Source, load_source
from geodiff.outputs.zarr_store import StoreSpec
from geodiff.schema import TIME, UsageError, public
from geodiff.sensor import native_step
from geodiff.tasks.cube_source import CubeSource
from geodiff.tasks.job import CUBE_CHUNK_PX, Job, Progress
from geodiff.tasks.models import ModelRef, find_model, load_resolver
from geodiff.tasks.recipes import GUESSED, describe_layers, members_of, recipe_of, tuned
from geodiff.tasks.run_id import run_id
from geodiff.tasks.targets import Target, choose_targets, days_of
from geodiff.version import __version__

KM2_PER_S_PER_PASS = 2.5
"""Rough speed of one core, in km2 of 10 m pixels per second and pass of a member: only for the estimate of the plan."""

SIDES_M = (5.0, 15.0)
"""Mean side of a pixel of "10 m": in degrees, far from the equator, it is narrower than high."""

BYTES_PER_VALUE = 1.6
"""Compressed size of a uint16 value of real scenes, overviews included: only for the estimate of the plan."""


@dataclass(frozen=True)
class Plan:
    """A run that is ready to start.

    Attributes:
        job: the run.
        dates: of the cube, as YYYY-MM-DD.
        clear: clear fraction of each date over the region, 0-1.
        area_km2: of the region.
        tiles: number of tiles, over all targets.
        seconds: estimated time to restore.
        bytes: estimated size of the store.
    """

    job: Job
    dates: tuple[str, ...]
    clear: tuple[float, ...]
    area_km2: float
    tiles: int
    seconds: float
    bytes: int


def check_sampling(bands: Sequence[str], grid: Grid) -> None:
    """Refuse bands of 20 m on a grid of which their pixels are not blocks of two by two.

    Raises:
        UsageError: naming the band and the grid.
    """
    side = float(np.mean(grid.pixel_m))
    band = next((band for band in bands if native_step(band) > 1), None)
    if band and not SIDES_M[0] <= side <= SIDES_M[1]:
        raise UsageError(
            f"band {band} is restored from its pixels of 20 m on a grid of about 10 m, not of {side:g} m: give no "
            "resolution, or a model of the bands of 10 m"
        )


def bbox_of(config: SuperresConfig) -> tuple[float, float, float, float]:
    """(west, south, east, north) of the place that was asked for, in degrees."""
    if config.bbox is not None:
        return config.bbox
    west, south, east, north = shape(config.region or {}).bounds
    return (west, south, east, north)


@dataclass(frozen=True)
class Found:
    """What a configuration comes to once its model and its scenes are known: enough to name the run, nothing read yet.

    Attributes:
        config: with the bands that the model restores, and catalogue and model in one spelling.
        model: to restore with.
        source: the catalogue.
        items: the scenes, in the order of time.
        run_id: hash of configuration, scenes and model.
    """

    config: SuperresConfig
    model: ModelRef
    source: Source
    items: tuple[pystac.Item, ...]
    run_id: str


def find_run(config: SuperresConfig, *, progress: Progress) -> Found:
    """Find the model, search the catalogue, and name the run.

    Args:
        config: what to do.
        progress: told of the search.

    Raises:
        GeodiffError: the catalogue or the model fails; no scenes.
        UsageError: bands, dates or region that cannot be.
    """
    model = find_model(config.model)
    bands = tuple(load_resolver(model, passes=config.passes, bands=config.bands).bands)
    progress("search", 0, 1)
    source = load_source(config.catalog, extra=Path(config.sources).expanduser() if config.sources else None)
    told = {"bands": bands, "catalog": public(source.location), "model": model.name}
    config = config.model_copy(update=told)
    items = search(
        source,
        collections=config.collections,
        bbox=config.bbox,
        geometry=config.region,
        datetime=config.datetime,
        max_cloud=config.max_cloud,
    )
    progress("search", 1, 1)
    return Found(config, model, source, tuple(items), run_id(config, source, items, model))


def make_plan(
    config: SuperresConfig,
    out: Path,
    *,
    name: str,
    workers: int,
    progress: Progress,
    found: Found | None = None,
    chunk: int = CUBE_CHUNK_PX,
) -> Plan:
    """Search, judge the dates, register them, and lay out the run. Reads samples of the scenes, writes nothing.

    Args:
        config: what to do.
        out: output folder.
        name: of the region: a sub-folder of ``out`` and a collection of its catalogue.
        workers: for the estimate of time.
        progress: told of each stage.
        found: from ``find_run(config)``, where it is at hand: the search is then not repeated.
        chunk: side of the cube's Dask chunks in pixels; it does not change a value.

    Raises:
        GeodiffError: catalogue, scenes or model fail; no usable date.
        UsageError: bands, grid or target that cannot be.
    """
    found = found or find_run(config, progress=progress)
    config, source, items = found.config, found.source, found.items
    grid = choose_grid(items, bbox=bbox_of(config), resolution_m=config.resolution_m, crs=config.crs, source=source)
    check_sampling(config.bands, grid)
    cube = load_cube(items, source=source, bands=config.bands, grid=grid, mask=config.mask, chunk=chunk)
    targets, clear, shifts = _judge(cube, config, progress)
    job = _job(found, grid, targets, shifts, out / name / f"{found.run_id}.zarr", chunk)
    return Plan(
        job=job,
        dates=tuple(str(np.datetime64(int(d), "D")) for d in days_of(cube[TIME].values)),
        clear=clear,
        area_km2=grid.area_km2,
        tiles=len(list(job.plan.keys())) * len(targets),
        seconds=_seconds(job, workers),
        bytes=_bytes(job.spec, keep_member=config.keep_member),
    )


def _judge(
    cube: xr.DataArray, config: SuperresConfig, progress: Progress
) -> tuple[tuple[Target, ...], tuple[float, ...], tuple[tuple[float, float], ...]]:
    """Targets with their light, and of each date the clear fraction and the shift (east, north) in metres."""
    progress("judge dates", 0, 2)
    ranking, cells = judge_dates(cube)
    ranking = ranking.sort_values("index")
    clear = tuple(float(value) for value in ranking["clear"])
    if max(clear, default=0.0) <= 0:
        require_usable(cube)
    targets = choose_targets(
        cube[TIME].values,
        clear,
        [float(value) for value in ranking["score"]],
        target=config.target,
        every=config.every,
        max_dates=config.max_dates,
        cells=cells,
        min_clear=config.mask.min_clear,
    )
    progress("judge dates", 1, 2)
    shifts: tuple[tuple[float, float], ...] = ()
    if config.coregister and cube.sizes[TIME] > 1:
        shifts = tuple((float(x), float(y)) for x, y in estimate_shifts(cube).values)
    targets = CubeSource(cube, config.bands).lit(targets)
    progress("judge dates", 2, 2)
    return targets, clear, shifts


def _job(
    found: Found,
    grid: Grid,
    targets: tuple[Target, ...],
    shifts: tuple[tuple[float, float], ...],
    store: Path,
    chunk: int,
) -> Job:
    config, model = found.config, found.model
    scenes = tuple(item.to_dict(include_self_link=True, transform_hrefs=False) for item in found.items)
    resolver = tuned(load_resolver(model, passes=config.passes, bands=config.bands), config)
    scale = resolver.scale
    times = tuple(np.datetime64(round(t.day * 86_400), "s") for t in targets)
    spec = StoreSpec(
        grid.zoom(scale),
        config.bands,
        times,
        members=config.keep_member,
        guessed=GUESSED in config.layers,
        layer_attrs=describe_layers(recipe_of(resolver, TilePlan(grid), config)),
        attrs=_provenance(config, found.run_id, scenes, model),
        # The run id stands for both, and a newer version goes on with what an older one has begun.
        told=("geodiff:version", "geodiff:configuration", "geodiff:model"),
    )
    members = members_of(resolver, config)
    return Job(found.run_id, config, found.source, scenes, grid, targets, shifts, model, store, spec, members, chunk)


def _provenance(
    config: SuperresConfig, run_id: str, scenes: Sequence[dict[str, object]], ref: ModelRef
) -> dict[str, object]:
    return {
        "geodiff:run_id": run_id,
        "geodiff:version": __version__,
        "geodiff:configuration": json.loads(config.to_json()),
        "geodiff:scenes": sorted(str(scene["id"]) for scene in scenes),
        "geodiff:model": {"name": ref.name, "sha256": ref.sha256()},
    }


def _seconds(job: Job, workers: int) -> float:
    # Tiles carry halo and feather; encoding the dates counts like two passes.
    tile = job.config.tile
    padded = ((tile.core + 2 * (tile.feather + tile.halo)) / tile.core) ** 2
    passes = 3 + job.members * (job.config.passes - 1) if job.model.weights else 1
    pixels_km2 = job.grid.shape[0] * job.grid.shape[1] * 1e-4
    return pixels_km2 * padded * passes * len(job.targets) / (KM2_PER_S_PER_PASS * max(workers, 1))


def _bytes(spec: StoreSpec, *, keep_member: bool) -> int:
    values = spec.grid.shape[0] * spec.grid.shape[1] * len(spec.bands) * len(spec.times) * (3 if keep_member else 2)
    return int(values * BYTES_PER_VALUE)


def plan_lines(plan: Plan) -> list[tuple[str, str]]:
    """The plan as (what, value) for the terminal."""
    job = plan.job
    used = sorted({index for target in job.targets for index in target.dates})
    drawn = f"ensemble of {job.members}, {job.config.passes} passes"
    time = f"{plan.seconds / 60:.0f} min" if plan.seconds >= 120 else f"{plan.seconds:.0f} s"
    return [
        ("run", f"{job.run_id} -> {job.store}"),
        ("scenes", f"{len(job.items)} on {len(plan.dates)} dates, {plan.dates[0]} to {plan.dates[-1]}"),
        ("dates used", ", ".join(f"{plan.dates[i]} ({plan.clear[i]:.0%} clear)" for i in used)),
        ("targets", ", ".join(t.label + ("" if t.index is not None else " (between dates)") for t in job.targets)),
        ("grid", f"{job.grid.shape[0]} x {job.grid.shape[1]} px, {job.grid.crs}, {plan.area_km2:.1f} km2"),
        ("output", f"{job.spec.grid.shape[0]} x {job.spec.grid.shape[1]} px at {np.mean(job.spec.grid.pixel_m):.2f} m"),
        ("bands", " ".join(job.spec.bands)),
        ("model", f"{job.model.name}, {drawn if job.members else 'one estimate, no ensemble'}"),
        ("tiles", str(plan.tiles)),
        ("estimate", f"{time}, {plan.bytes / 1e6:.0f} MB on disk"),
    ]


def record(plan: Plan) -> dict[str, object]:
    """What the summary says about the data of a run."""
    job = plan.job
    return {
        "run_id": job.run_id,
        "catalog": job.config.catalog,
        "scenes": [str(item["id"]) for item in job.items],
        "dates": [{"date": d, "clear": round(c, 4)} for d, c in zip(plan.dates, plan.clear, strict=True)],
        "targets": [target.as_record() for target in job.targets],
        "shifts_m": [list(shift) for shift in job.shifts_m],
        "area_km2": round(plan.area_km2, 4),
        "model": job.model.name,
        "ensemble": job.members,
        "passes": job.config.passes,
    }

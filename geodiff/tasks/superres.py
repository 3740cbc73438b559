"""The main job: from a STAC query, or from a cube, to a super-resolved cube with its uncertainty."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from pystac import MediaType

from geodiff.config import RestoreConfig, TileConfig
from geodiff.grid import TilePlan
from geodiff.imagery.radiometry import BRIGHTEST
from geodiff.outputs.atomic import explained, read_json, write_json
from geodiff.outputs.ledger import exclusive
from geodiff.outputs.published import find_item
from geodiff.outputs.zarr_store import create_store, done_regions, finalize, regions
from geodiff.schema import BAND, CUBE_DIMS, TIME, VALID, Resolver, UsageError
from geodiff.tasks.cube_source import CubeSource
from geodiff.tasks.job import Job, Progress, restore_all
from geodiff.tasks.lazy import lazy_dataset
from geodiff.tasks.models import find_model, load_resolver, models_that_need
from geodiff.tasks.plan import Plan, check_sampling
from geodiff.tasks.recipes import recipe_of, tuned
from geodiff.tasks.superres_publish import discard_damaged, publish, speed_of
from geodiff.tasks.targets import choose_targets


@dataclass(frozen=True)
class Outcome:
    """A finished run.

    Attributes:
        summary: what ``summary.json`` says.
        resumed: True when the run had been finished before and nothing was done.
    """

    summary: dict[str, Any]
    resumed: bool


def finished(out: Path, run_id: str, form: str) -> Outcome | None:
    """The outcome of a run whose item is published in the catalogue of ``out``, all its files with it; else None.

    Args:
        out: output folder.
        run_id: of the run.
        form: as ``SuperresConfig.format``: a run without COGs is not finished where they are asked for.
    """
    item = find_item(out, run_id)
    if item is None or (form == "cog" and not any(asset.media_type == MediaType.COG for asset in item.assets.values())):
        return None
    asset = item.assets.get("summary")
    summary = read_json(Path(asset.get_absolute_href() or asset.href)) if asset else None
    known = summary if isinstance(summary, dict) else {"run_id": run_id}
    paths = {key: str(asset.get_absolute_href()) for key, asset in item.assets.items()}
    files = [path for key, path in paths.items() if key not in ("zarr", "summary")]
    # The folder may have been moved since.
    moved = {"zarr": paths["zarr"], "item": item.self_href, "catalog_out": str(out / "catalog.json"), "files": files}
    summary = {**known, **moved}
    write_json(out / "summary.json", summary)
    return Outcome(summary, resumed=True)


def run(plan: Plan, out: Path, *, name: str, workers: int, scheduler: str | None = None, progress: Progress) -> Outcome:
    """Do what a plan says; resume what an earlier run left; return at once when its item is published.

    The order is: template, regions, overviews, pictures, summary, and last the STAC item, which is the commit. Of a
    published run whose files were damaged since, a damaged store is made anew; else only the files that are.

    Args:
        plan: from ``make_plan``.
        out: output folder, a static STAC catalogue of all its runs.
        name: of the region.
        workers: threads; they change the speed, never a value.
        scheduler: address of a Dask scheduler to use in their place.
        progress: told of each stage.

    Raises:
        GeodiffError: as of reading, restoring and writing; what was stored stays stored.
    """
    job = plan.job
    earlier = finished(out, job.run_id, job.config.format)
    if earlier is not None:
        return earlier
    started = time.monotonic()
    with exclusive(job.store), explained(job.store.parent):
        discard_damaged(job, out)
        create_store(job.store, job.spec)
        share = _share_to_do(job)
        restore_all(job, workers=workers, scheduler=scheduler, progress=progress)
        speed = speed_of(plan, share, time.monotonic() - started)
        finalize(job.store, job.spec, progress=lambda done, total: progress("overviews", done, total))
        summary = publish(plan, speed, out=out, name=name, progress=progress)
    return Outcome(summary, resumed=False)


def _share_to_do(job: Job) -> float:
    """Share of the pixels (0-1) that an earlier, interrupted run did not restore."""
    every = sum(region.window.rows * region.window.cols for region in regions(job.spec))
    done = sum(region.window.rows * region.window.cols for region in done_regions(job.store, job.spec))
    return 1 - done / every


def superres(
    cube: xr.DataArray,
    *,
    target: date | str | None = None,
    every: str | None = None,
    model: str = "s2x4",
    ensemble: int = 4,
    passes: int = 2,
    seed: int = 0,
    keep_member: bool = False,
    level: float = 0.9,
    dial: float = 1.0,
    layers: Sequence[str] = (),
    tile: TileConfig = TileConfig(),  # noqa: B008 - frozen
    chunk: int = 1024,
    max_dates: int = 6,
) -> xr.Dataset:
    """Super-resolve a cube, lazily: nothing is restored before it is computed.

    Args:
        cube: (time, band, y, x) surface reflectance 0-1 with a CRS (``rioxarray``), NaN where invalid, and optionally
            the coordinates ``valid`` (time, y, x) and ``shift_x_m``, ``shift_y_m`` (time,) of ``imagery.coregister``.
        target: day to restore; the clearest date when None.
        every: "10D" for a series of targets, one every ten days from the first date to the last.
        model: name of a shipped model or baseline, path of weights or of a STAC item.
        ensemble: number of members behind the uncertainty.
        passes: evaluations of the denoiser per member.
        seed: of the noise.
        keep_member: also return the first member.
        level: the truth lies within reflectance (the expectation) plus or minus uncertainty with this probability; a
            trained model is calibrated for 0.5, 0.8 and 0.9.
        dial: of the member: 1 is a sample, as sharp as real imagery; 0 the reflectance, whose error is the least.
        layers: ``("guessed",)`` for the map of what the observations do not decide, 0 (seen) to 1 (guessed).
        tile: how the region is cut.
        chunk: side of the Dask chunks of the result in pixels; it does not change a value.
        max_dates: most dates that one target is restored from.

    Returns:
        Dataset on (time, band, y, x): ``reflectance`` and ``uncertainty`` (and ``member``) float32, NaN where not
        valid, and ``valid`` (time, y, x) bool (and ``guessed`` float32), on a grid as many times finer as the model's
        scale. Of a cube without a clear pixel nothing is valid.

    Raises:
        UsageError: dimensions, coordinates, bands, target or numbers that cannot be.
        GeodiffError: no CRS, or weights that cannot be loaded.
    """
    from geodiff.imagery.ranking import judge_dates

    asked: dict[str, object] = {"target": target, "every": every, "ensemble": ensemble, "passes": passes, "seed": seed}
    asked |= {"keep_member": keep_member, "max_dates": max_dates, "level": level, "dial": dial, "layers": tuple(layers)}
    config = RestoreConfig.parse(asked, where="superres")
    if chunk < 1:
        raise UsageError(f"superres: chunk of {chunk} pixels: give 1 or more")
    cube = _checked(cube)
    ref = find_model(model)
    bands = tuple(str(band) for band in cube[BAND].values)
    resolver = tuned(load_resolver(ref, passes=passes, bands=bands if ref.weights is None else ()), config)
    _check_bands(bands, resolver)
    source = CubeSource(cube, resolver.bands)
    check_sampling(resolver.bands, source.grid)
    plan = TilePlan(source.grid, core=tile.core, feather=tile.feather, halo=tile.halo)
    ranking, cells = judge_dates(source.cube)
    _require_reflectance(ranking)
    ranking = ranking.sort_values("index")
    targets = choose_targets(
        cube[TIME].values,
        list(ranking["clear"]),
        list(ranking["score"]),
        target=config.target,
        every=config.every,
        max_dates=config.max_dates,
        cells=cells,
    )
    recipe = recipe_of(resolver, plan, config)
    return lazy_dataset(source, source.lit(targets), recipe, chunk)


def _check_bands(bands: Sequence[str], resolver: Resolver) -> None:
    """Refuse a cube that lacks what a model needs.

    Raises:
        UsageError: with the models that fit the cube.
    """
    lacking = [band for band in resolver.bands if band not in bands]
    if lacking:
        raise UsageError(
            f"model {resolver.name} needs {', '.join(lacking)}, which the cube lacks: it has {', '.join(bands)}; "
            f"load the cube with all bands of the model, or choose one of {', '.join(models_that_need(bands))}"
        )


def _checked(cube: xr.DataArray) -> xr.DataArray:
    """The cube with dates in order and ``valid``.

    Raises:
        UsageError: a dimension or a coordinate is missing.
    """
    if set(cube.dims) != set(CUBE_DIMS):
        raise UsageError(f"a cube has the dimensions {CUBE_DIMS}, this one has {cube.dims}")
    if BAND not in cube.coords:
        raise UsageError("the cube does not name its bands: cube.assign_coords(band=['B02', ...])")
    if cube[TIME].dtype.kind != "M" or TIME not in cube.coords:
        raise UsageError("the cube has no dates: its coordinate time must hold datetime64")
    if twice := [str(band) for band in cube.indexes[BAND][cube.indexes[BAND].duplicated()]]:
        raise UsageError(f"the cube has the band {twice[0]} twice: leave one out")
    if not cube.indexes[TIME].is_monotonic_increasing:
        cube = cube.sortby(TIME)
    # A mask may come as numbers, as the stores of geodiff hold it.
    seen = (cube[VALID].fillna(0) > 0) if VALID in cube.coords else (abs(cube) < np.inf).all(BAND)
    return cube.assign_coords({VALID: seen})


def _require_reflectance(ranking: pd.DataFrame) -> None:
    """Refuse a cube that is not in reflectance.

    Raises:
        UsageError: even the dark pixels of all dates are brighter than snow.
    """
    if float(ranking["dark"].min()) > BRIGHTEST:
        raise UsageError(
            "the cube holds digital numbers, not reflectance 0-1: scale it first, such as cube * 0.0001, and add the "
            "offset of its processing baseline"
        )

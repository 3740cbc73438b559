"""The coverage of a calibrated model on a series that neither training nor calibration saw, by the Wald protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from geodiff.grid import TilePlan, Window
from geodiff.imagery.coregister import with_shifts
from geodiff.imagery.ranking import rank_dates
from geodiff.model.guided import GuidedResolver
from geodiff.model.resolver import DiffusionResolver
from geodiff.schema import BAND, TIME, VALID, FloatArray, GeodiffError, Resolver
from geodiff.tasks.calibrate import MEMBERS
from geodiff.tasks.cube_source import CubeSource
from geodiff.tasks.targets import Target, choose_targets
from geodiff.tasks.wald import CLEAR
from geodiff.tasks.wald_pair import wald_pair
from geodiff.tasks.windows import Recipe, restore_window

MOST_DATES = 6


def check_coverage(resolver: DiffusionResolver | GuidedResolver, cube: xr.DataArray) -> dict[str, Any]:
    """Share of the true values within the interval of 90 %, date by date and on average.

    Args:
        resolver: calibrated.
        cube: (time, band, y, x) reflectance with ``valid`` and a CRS.

    Returns:
        ``observed`` and ``hidden`` (the date was not shown), each with ``mean`` and ``dates``.

    Raises:
        GeodiffError: no clear date, or a scene that is too small.
    """
    told = resolver.tuned(level=0.9, dial=1.0)
    pair = wald_pair(cube.sel({BAND: list(told.bands)}), scale=told.scale)
    coarse = pair.low
    coarse = with_shifts(coarse) if coarse.sizes[TIME] > 1 else coarse
    ranking = rank_dates(coarse).sort_values("index")
    clear, score = list(ranking["clear"]), list(ranking["score"])
    dates = [index for index, share in enumerate(clear) if share >= CLEAR][-MOST_DATES:]
    if not dates:
        raise GeodiffError(f"no date is {CLEAR:.0%} clear: there is no truth to check the intervals with")
    found: dict[str, dict[str, float]] = {"observed": {}, "hidden": {}}
    for index in dates:
        day = coarse[TIME].values[index].astype("datetime64[D]").item()
        target = choose_targets(coarse[TIME].values, clear, score, target=day)[0]
        others = tuple(date for date in target.dates if date != target.index)
        shown: Sequence[tuple[str, Target]] = [("observed", target)]
        if others:
            shown = [*shown, ("hidden", Target(target.day, None, others))]
        for name, asked in shown:
            found[name][target.label] = _inside(coarse, pair.truth.isel({TIME: index}), asked, told)
    return {name: _told(shares) for name, shares in found.items()}


def _told(shares: dict[str, float]) -> dict[str, Any]:
    rounded = {date: round(share, 4) for date, share in shares.items()}
    return {"coverage_90": round(float(np.mean(list(shares.values()))), 4) if shares else None, "dates": rounded}


def _inside(coarse: xr.DataArray, original: xr.DataArray, target: Target, resolver: Resolver) -> float:
    source, scale = CubeSource(coarse, resolver.bands), resolver.scale
    target = source.lit((target,))[0]
    rows, cols = source.grid.shape
    recipe = Recipe(resolver, TilePlan(source.grid), members=MEMBERS, seed=0, level=0.9)
    found = restore_window(source, target, Window(0, 0, rows * scale, cols * scale), recipe)
    truth: FloatArray = original.values
    keep = original[VALID].values & found.valid
    return float((np.abs(truth - found.mean) <= found.uncertainty)[:, keep].mean())

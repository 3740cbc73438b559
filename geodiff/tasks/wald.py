"""The Wald protocol: a series degraded is restored and compared with the original (Wald et al. 1997, PE&RS 63(6))."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import xarray as xr

from geodiff.grid import TilePlan, Window
from geodiff.imagery.coregister import with_shifts
from geodiff.imagery.lattice import grid_of
from geodiff.imagery.ranking import rank_dates
from geodiff.metrics.fidelity import cpsnr
from geodiff.schema import BAND, TIME, VALID, FloatArray, GeodiffError, Resolver
from geodiff.tasks.cube_source import CubeSource
from geodiff.tasks.targets import Target, choose_targets
from geodiff.tasks.wald_pair import wald_pair
from geodiff.tasks.windows import Recipe, restore_window

MEMBERS = 4
"""Of models whose mean is that of their members."""

CLEAR = 0.9
"""Dates that are at least this clear are restored and scored."""


@dataclass(frozen=True)
class Score:
    """One date restored by one model.

    Attributes:
        date: YYYY-MM-DD.
        model: name.
        hidden: True when the model did not see the date itself, as under full cloud.
        cpsnr_db: clear PSNR in decibels (PROBA-V), over the clear pixels of the original.
    """

    date: str
    model: str
    hidden: bool
    cpsnr_db: float


@dataclass(frozen=True, slots=True, eq=False)
class WaldResult:
    """What the protocol found.

    Attributes:
        scores: of every date and model.
        panels: name -> (band, y, x) reflectance, of the date that is drawn: low resolution, models, original last.
        panel_date: YYYY-MM-DD.
        pixel_m: side of a pixel of the original.
    """

    scores: tuple[Score, ...]
    panels: Mapping[str, FloatArray]
    panel_date: str
    pixel_m: float

    def mean_db(self, *, hidden: bool) -> dict[str, float]:
        """Mean over the dates, by model, in the order of the models."""
        names = dict.fromkeys(score.model for score in self.scores)
        values = {n: [s.cpsnr_db for s in self.scores if s.model == n and s.hidden == hidden] for n in names}
        return {name: float(np.mean(found)) for name, found in values.items() if found}


def wald(
    cube: xr.DataArray,
    resolvers: Sequence[Resolver],
    *,
    hidden: bool = True,
    seed: int = 0,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> WaldResult:
    """Degrade a cube, restore every clear date with every model, and score it against the original.

    Args:
        cube: (time, band, y, x) reflectance with ``valid`` and a CRS.
        resolvers: of one scale.
        hidden: also restore each date without showing it.
        seed: of the noise.
        workers: threads.
        progress: told of restorations done.

    Raises:
        GeodiffError: no clear date, or a scene that is too small.
    """
    wanted = dict.fromkeys(band for resolver in resolvers for band in resolver.bands)
    pair = wald_pair(cube.sel({BAND: list(wanted)}), scale=resolvers[0].scale)
    truth, coarse = pair.truth, pair.low
    coarse = with_shifts(coarse) if coarse.sizes[TIME] > 1 else coarse
    ranking = rank_dates(coarse).sort_values("index")
    clear, score = list(ranking["clear"]), list(ranking["score"])
    dates = [index for index, share in enumerate(clear) if share >= CLEAR]
    if not dates:
        raise GeodiffError(f"no date is {CLEAR:.0%} clear: the Wald protocol has no truth to compare with")
    times = coarse[TIME].values
    targets = [choose_targets(times, clear, score, target=times[i].astype("datetime64[D]").item())[0] for i in dates]
    drawn = max(range(len(dates)), key=lambda i: score[dates[i]])
    cases = [(i, r, h) for i in range(len(dates)) for r in resolvers for h in ((False, True) if hidden else (False,))]
    cases = [(i, r, h) for i, r, h in cases if not h or len(targets[i].dates) > 1]

    def score_case(case: tuple[int, Resolver, bool]) -> tuple[Score, FloatArray]:
        which, resolver, without = case
        target = _without(targets[which]) if without else targets[which]
        mean = _restore(coarse, target, resolver, seed)
        wanted = truth.isel({TIME: dates[which]}).sel({BAND: list(resolver.bands)})
        return Score(target.label, resolver.name, without, cpsnr(mean, wanted.values, wanted[VALID].values)), mean

    scores: list[Score] = []
    panels: dict[str, FloatArray] = {}
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for (which, resolver, without), (found, mean) in zip(cases, pool.map(score_case, cases), strict=True):
            scores.append(found)
            if which == drawn and not without:
                panels[resolver.name] = mean
            if progress:
                progress(len(scores), len(cases))
    shown = {
        "low resolution": coarse.isel({TIME: dates[drawn]}).values,
        **panels,
        "original": truth.isel({TIME: dates[drawn]}).values,
    }
    return WaldResult(tuple(scores), shown, targets[drawn].label, float(np.mean(grid_of(truth).pixel_m)))


def _without(target: Target) -> Target:
    others = tuple(index for index in target.dates if index != target.index)
    return Target(target.day, None, others)


def _restore(coarse: xr.DataArray, target: Target, resolver: Resolver, seed: int) -> FloatArray:
    source = CubeSource(coarse, resolver.bands)
    target = source.lit((target,))[0]
    members = MEMBERS if getattr(resolver, "mean_of_members", False) else 0
    recipe = Recipe(resolver, TilePlan(source.grid), members=members, seed=seed)
    rows, cols = source.grid.shape
    return restore_window(source, target, Window(0, 0, rows * resolver.scale, cols * resolver.scale), recipe).mean

"""The Wald protocol: a series degraded is restored and compared with the original (Wald et al. 1997, PE&RS 63(6))."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy import ndimage

from geodiff.grid import TilePlan, Window
from geodiff.imagery.coregister import with_shifts
from geodiff.imagery.lattice import grid_of
from geodiff.imagery.ranking import rank_dates
from geodiff.metrics.fidelity import cpsnr
from geodiff.schema import BAND, CUBE_DIMS, TIME, VALID, BoolArray, FloatArray, GeodiffError, Resolver, X, Y
from geodiff.sensor import band_mtf, degrade
from geodiff.tasks.targets import Target, choose_targets
from geodiff.tasks.windows import CubeSource, Recipe, restore_window

CLEAR = 0.9
"""Dates that are at least this clear are restored and scored."""


CUT_PX = 2
"""Low-resolution pixels at the border of a scene that the sensor model cannot see whole."""


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


def filled(image: FloatArray, valid: BoolArray) -> FloatArray:
    """Invalid pixels of (band, y, x) become the nearest valid one, so that a blur spreads nothing invented."""
    if valid.all() or not valid.any():
        return np.nan_to_num(image)
    rows, cols = ndimage.distance_transform_edt(~valid, return_distances=False, return_indices=True)
    nearest: FloatArray = image[:, rows, cols]
    return nearest


def degrade_cube(cube: xr.DataArray, *, scale: int) -> xr.DataArray:
    """See a cube through the sensor once more, ``scale`` times coarser; read into memory.

    Args:
        cube: (time, band, y, x) reflectance with ``valid``; its sides are cut to multiples of ``scale``.
        scale: integer ratio.

    Returns:
        The degraded cube without its outer ``CUT_PX`` pixels, whose point spread reaches beyond the scene; a pixel is
        valid where all that it covers is.
    """
    grid = grid_of(cube)
    rows, cols = (size // scale for size in grid.shape)
    if min(rows, cols) < 8 + 2 * CUT_PX:
        raise GeodiffError(f"a scene of {grid.shape} pixels is too small for the Wald protocol at x{scale}")
    full = cube.isel({Y: slice(0, rows * scale), X: slice(0, cols * scale)}).transpose(*CUBE_DIMS).compute()
    valid: BoolArray = np.asarray(full[VALID].values)
    mtf = band_mtf(tuple(str(band) for band in full[BAND].values))
    low = np.stack([degrade(filled(image, seen), scale, mtf) for image, seen in zip(full.values, valid, strict=True)])
    blocks = valid.reshape(len(valid), rows, scale, cols, scale)
    seen: BoolArray = np.asarray(blocks.all((2, 4)), np.bool_)
    coarse = xr.DataArray(
        np.where(seen[:, None], low, np.nan).astype(np.float32),
        dims=CUBE_DIMS,
        coords={
            TIME: full[TIME].values,
            BAND: full[BAND].values,
            Y: full[Y].values.reshape(rows, scale).mean(1),
            X: full[X].values.reshape(cols, scale).mean(1),
            VALID: ((TIME, Y, X), seen),
        },
    )
    whole = slice(CUT_PX, -CUT_PX)
    labelled: xr.DataArray = coarse.isel({Y: whole, X: whole}).rio.write_crs(grid.crs)
    return labelled


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
    scale = resolvers[0].scale
    full = cube.compute()
    coarse = degrade_cube(full, scale=scale)
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
        truth, seen = _truth(full, dates[which], mean.shape, scale)
        return Score(target.label, resolver.name, without, cpsnr(mean, truth, seen)), mean

    scores: list[Score] = []
    panels: dict[str, FloatArray] = {}
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for (which, resolver, without), (found, mean) in zip(cases, pool.map(score_case, cases), strict=True):
            scores.append(found)
            if which == drawn and not without:
                panels[resolver.name] = mean
            if progress:
                progress(len(scores), len(cases))
    low = coarse.isel({TIME: dates[drawn]}).values
    original, _ = _truth(full, dates[drawn], (low.shape[0], low.shape[1] * scale, low.shape[2] * scale), scale)
    shown = {"low resolution": low, **panels, "original": original}
    return WaldResult(tuple(scores), shown, targets[drawn].label, float(np.mean(grid_of(cube).pixel_m)))


def _without(target: Target) -> Target:
    others = tuple(index for index in target.dates if index != target.index)
    return Target(target.day, None, others)


def _restore(coarse: xr.DataArray, target: Target, resolver: Resolver, seed: int) -> FloatArray:
    source = CubeSource(coarse, resolver.bands)
    recipe = Recipe(resolver, TilePlan(source.grid), members=0, seed=seed)
    rows, cols = source.grid.shape
    return restore_window(source, target, Window(0, 0, rows * resolver.scale, cols * resolver.scale), recipe).mean


def _truth(cube: xr.DataArray, index: int, shape: tuple[int, ...], scale: int) -> tuple[FloatArray, BoolArray]:
    """The original of a date, and its clear pixels."""
    first = CUT_PX * scale
    rows, cols = slice(first, first + shape[-2]), slice(first, first + shape[-1])
    original = cube.isel({TIME: index, Y: rows, X: cols})
    return original.values, original[VALID].values

"""Which dates are worth using: how clear, how hazy, how far from the day that is asked for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from geodiff.schema import BAND, SECONDS_PER_DAY, TIME, VALID, FloatArray, GeodiffError, UsageError, X, Y

SAMPLE_BLOCK_PX = 256
SAMPLE_BLOCKS = 4  # per axis: a region larger than 1024 x 1024 pixels is judged by 4 x 4 blocks spread over it
HAZE_PERCENTILE = 1.0
HAZE_FALL = 0.05  # reflectance of haze at which a date counts 1/e
DAYS_FALL = 90.0  # distance in days at which a date counts half


def rank_dates(cube: xr.DataArray, target_day: float | None = None) -> pd.DataFrame:
    """Judge each date of a cube, from at most 4 x 4 blocks of 256 x 256 pixels spread evenly over it.

    The score is ours: ``clear * exp(-haze / 0.05) / (1 + days / 90)``.

    Args:
        cube: (time, band, y, x) reflectance with ``valid``; the sampled blocks are read.
        target_day: days since 1970-01-01 UTC of the day asked for; None leaves distance out of the score.

    Returns:
        One row per date, best first (equal scores: earlier first), with columns ``index`` (position in the cube),
        ``time``, ``clear`` (share of pixels 0-1), ``haze`` (reflectance of the darkest percent of clear pixels in the
        bluest band beyond that of the least hazy date; NaN without clear pixels), ``days`` (distance to the target,
        NaN without one) and ``score`` (0-1).
    """
    clear, dark = _sampled(cube)
    haze = dark - np.nanmin(dark) if np.isfinite(dark).any() else dark
    days = np.full(len(clear), np.nan)
    if target_day is not None:
        days = np.abs(days_since_epoch(cube) - target_day)
    score = clear * np.exp(-np.nan_to_num(haze) / HAZE_FALL) / (1 + np.nan_to_num(days) / DAYS_FALL)
    table = pd.DataFrame(
        {
            "index": np.arange(len(clear)),
            "time": cube[TIME].values,
            "clear": clear,
            "haze": haze,
            "days": days,
            "score": score,
        }
    )
    return table.sort_values(["score", "time"], ascending=[False, True], kind="stable", ignore_index=True)


def select_dates(
    cube: xr.DataArray,
    target_day: float,
    max_dates: int,
    *,
    min_clear: float = 0.05,
    ranking: pd.DataFrame | None = None,
) -> xr.DataArray:
    """Keep the best dates for a target day, in order of time.

    A date on the target day itself is kept however cloudy, so that its clear pixels are used.

    Args:
        cube: as for ``rank_dates``.
        target_day: days since 1970-01-01 UTC.
        max_dates: at most so many are kept.
        min_clear: dates with a smaller clear share are dropped.
        ranking: the table of ``rank_dates(cube, target_day)``, if it is at hand.

    Raises:
        UsageError: ``max_dates`` below 1.
        GeodiffError: no date is clear enough.
    """
    if max_dates < 1:
        raise UsageError(f"max_dates {max_dates}: keep at least one date")
    table = rank_dates(cube, target_day) if ranking is None else ranking
    on_day = np.floor(days_since_epoch(cube)[table["index"]]) == np.floor(target_day)
    usable = (table["clear"] >= max(min_clear, 1e-9)) | (on_day & (table["clear"] > 0))
    if not usable.any():
        raise GeodiffError(
            f"no usable date: the clearest of {len(table)} is clear on {table['clear'].max():.1%}, {min_clear:.1%} "
            "are asked for; widen the dates or lower min_clear"
        )
    chosen = pd.concat([table[usable & on_day], table[usable & ~on_day]])["index"].to_numpy()[:max_dates]
    return cube.isel({TIME: np.sort(chosen)})


def days_since_epoch(cube: xr.DataArray) -> npt.NDArray[np.float64]:
    """(time,) float64 days since 1970-01-01 UTC, with the time of day."""
    nanoseconds = cube[TIME].values.astype("datetime64[ns]").astype(np.int64)
    days: npt.NDArray[np.float64] = nanoseconds / (SECONDS_PER_DAY * 1e9)
    return days


def _sampled(cube: xr.DataArray) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Clear share and dark level of blue, each (time,), NaN dark level where nothing is clear."""
    seen, total = np.zeros(cube.sizes[TIME]), 0
    blues: list[list[FloatArray]] = [[] for _ in range(cube.sizes[TIME])]
    bluest = cube.isel({BAND: int(np.argmin(cube[BAND].values))})  # B01, B02 ... are sorted by wavelength
    for rows in _pieces(cube.sizes[Y]):
        for cols in _pieces(cube.sizes[X]):
            block = bluest.isel({Y: rows, X: cols}).compute()
            valid = block[VALID].values
            seen += valid.sum(axis=(1, 2))
            total += valid[0].size
            for values, image, mask in zip(blues, block.values, valid, strict=True):
                values.append(image[mask])
    dark = np.full(len(seen), np.nan)
    for index, parts in enumerate(blues):
        if seen[index]:
            dark[index] = np.percentile(np.concatenate(parts).astype(np.float64), HAZE_PERCENTILE)
    return seen / max(total, 1), dark


def _pieces(size: int) -> list[slice]:
    """The whole axis when it is short, else blocks spread evenly over it, the first and last at its ends."""
    if size <= SAMPLE_BLOCK_PX * SAMPLE_BLOCKS:
        return [slice(0, size)]
    starts = np.linspace(0, size - SAMPLE_BLOCK_PX, SAMPLE_BLOCKS).round().astype(int)
    return [slice(int(start), int(start) + SAMPLE_BLOCK_PX) for start in starts]

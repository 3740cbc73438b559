"""Tracks at regular times: between fixes of one track, on the sphere."""

from __future__ import annotations

from typing import Final, Literal, get_args

import numpy as np
import polars as pl

from geodiff.schema import UsageError
from geodiff.tracks import (
    COG,
    HEADING,
    IMPUTED,
    LAT,
    LON,
    NAV_STATUS,
    OBSERVED,
    ROT,
    ROW,
    SOG,
    SOURCE,
    STATE,
    TIME,
    TRACK_ID,
    VESSEL_ID,
)
from geodiff.vessels.clean_arrays import Bools, Floats, Index, Ints, ragged
from geodiff.vessels.reading import below_360
from geodiff.vessels.resample_curves import Ends, along
from geodiff.vessels.segment import track_numbers

Method = Literal["hermite", "linear"]

BLOCK: Final = 65_536
"""Positions computed at once: temporary arrays stay in the cache."""


def resample(cleaned: pl.DataFrame, every_s: float, *, method: Method = "hermite") -> pl.DataFrame:
    """Resample tracks to the multiples of a step since 1970-01-01 UTC.

    A time that holds a fix keeps that row, "observed". A time between two fixes of a track becomes a row "imputed" with
    position, speed and course of the curve between them; ``source`` says the method, heading, rate of turn, status and
    row are null, every other column is that of the fix before. Nothing is put before the first or after the last fix of
    a track, so that no gap that ended one is crossed.

    Args:
        cleaned: a table with the columns of fixes, ``track_id`` and ``state``, sorted as ``clean_fixes`` does;
            rows that are rejected, or in no track, are left out.
        every_s: step in seconds, whole microseconds.
        method: "linear": along the great circle at constant speed. "hermite": a cubic that meets the reported speed
            and course at both ends, on the sphere; along the great circle where an end reports neither.

    Returns:
        The same columns, sorted by ``vessel_id`` and ``time``.

    Raises:
        UsageError: a step that is not above zero, an unknown method, or a table that was not cleaned.
    """
    step_us = _checked(cleaned, every_s, method)
    rows = np.flatnonzero(((cleaned[STATE] == OBSERVED) & cleaned[TRACK_ID].is_not_null()).fill_null(False).to_numpy())
    track, order = track_numbers(cleaned[TRACK_ID].gather(rows))
    rows = rows if order is None else rows[order]
    numbers = _numbers(cleaned, rows)
    time_us = cleaned[TIME].to_physical().gather(rows).to_numpy()
    last_step = time_us // step_us
    on_grid = last_step * step_us == time_us
    between = np.zeros(len(time_us), np.int64)
    between[:-1] = np.where(track[1:] == track[:-1], (time_us[1:] - 1) // step_us - last_step[:-1], 0)
    count = between + on_grid
    of_fix, place = ragged(count)
    imputed = place >= on_grid[of_fix]
    steps = last_step[of_fix] + imputed + place - (on_grid[of_fix] & imputed)
    found = _positions(numbers, of_fix[imputed], steps[imputed] * step_us, method)
    table = _filled(cleaned, rows[of_fix], imputed, steps * step_us, found, method)
    return table if order is None else table.sort(VESSEL_ID, TIME, maintain_order=True)


def _checked(cleaned: pl.DataFrame, every_s: float, method: str) -> int:
    step_us = round(every_s * 1e6) if 0 < every_s < 1e9 else 0
    if step_us < 1:
        raise UsageError(f"every_s={every_s}: choose a step above zero, in seconds")
    if method not in get_args(Method):
        raise UsageError(f"method {method!r} is unknown: choose one of {', '.join(get_args(Method))}")
    missing = [name for name in (TRACK_ID, STATE) if name not in cleaned.columns]
    if missing:
        raise UsageError(f"the table has no column {', '.join(missing)}: clean it before resampling")
    return step_us


def _filled(
    cleaned: pl.DataFrame, rows: Index, imputed: Bools, time_us: Ints, found: Floats, method: Method
) -> pl.DataFrame:
    """The rows of the answer: copies of ``rows``, but for the times and, where ``imputed``, what was ``found``."""
    measured = [HEADING, ROT, NAV_STATUS, ROW]
    made = [TIME, LON, LAT, SOG, COG, STATE, SOURCE]
    copied = [name for name in cleaned.columns if name not in (*measured, *made)]
    known = pl.Series(rows).set(pl.Series(imputed), None)
    where = np.flatnonzero(imputed)
    columns = [*cleaned.select(copied)[rows], *cleaned.select(pl.col(measured).gather(known))]
    columns.append(pl.Series(TIME, time_us).cast(cleaned.schema[TIME]))
    for name, values in zip((LON, LAT, SOG, COG), found, strict=True):
        values = below_360(pl.Series(values)) if name == COG else pl.Series(values)
        columns.append(cleaned[name].gather(rows).scatter(where, values.cast(cleaned.schema[name])))
    columns.append(pl.Series(STATE, [OBSERVED, IMPUTED]).gather(imputed.astype(np.uint8)))
    columns.append(_sources(cleaned[SOURCE], rows, imputed, method))
    return pl.DataFrame(columns).select(cleaned.columns)


def _sources(sources: pl.Series, rows: Index, imputed: Bools, method: str) -> pl.Series:
    both = pl.concat([sources, pl.Series([method])], rechunk=True)
    return both.gather(np.where(imputed, len(sources), rows)).alias(SOURCE)


def _numbers(cleaned: pl.DataFrame, rows: Index) -> list[Floats]:
    """(n,) each: time in seconds, lon, lat, sog, cog of some rows; NaN where unknown."""
    seconds = np.asarray(cleaned[TIME].to_physical().gather(rows).to_numpy() * 1e-6, np.float64)
    places = (cleaned[name].gather(rows).to_numpy() for name in (LON, LAT))
    motion = (cleaned[name].gather(rows).cast(pl.Float64).fill_null(np.nan).to_numpy() for name in (SOG, COG))
    return [seconds, *places, *motion]


def _positions(numbers: list[Floats], before: Index, time_us: Ints, method: Method) -> Floats:
    """(4, m): lon, lat, sog, cog at times after the fixes ``before``."""
    out = np.empty((4, len(before)))
    for start in range(0, len(before), BLOCK):
        part = slice(start, start + BLOCK)
        # The fixes of a block stand together: what belongs to them is computed once.
        first, last = int(before[part][0]), int(before[part][-1]) + 2
        ends = Ends(*(values[first:last] for values in numbers))
        seconds = np.asarray(time_us[part] * 1e-6, np.float64)
        out[:, part] = along(ends, before[part] - first, seconds, cubic=method == "hermite")
    return out

"""Stops: where a track stays in one place for a while, and tracks with each stop told in one row."""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from geodiff.schema import UsageError
from geodiff.sphere import KM_PER_DEG, distance_km
from geodiff.tracks import LAT, LON, OBSERVED, STATE, TIME, TRACK_ID, VESSEL_ID
from geodiff.vessels.clean_arrays import Bools, Floats, Index, Ints, by_first, far_at_most, first_of_each
from geodiff.vessels.segment import track_numbers

RADIUS_M: Final = 250.0
"""Moored and at anchor: a ship swings on its chain."""

MIN_S: Final = 1200.0

STOP: Final = "stop"
"""Column: number of the stop in ``find_stops``; null while under way."""

ROUNDS: Final = 5
LAGS: Final = (1.0, 0.5, 0.25)


def find_stops(cleaned: pl.DataFrame, *, radius_m: float = RADIUS_M, min_s: float = MIN_S) -> pl.DataFrame:
    """Find the stops of all tracks.

    A stop is a run of fixes of one track that all lie within a radius of their centre (but for single ones astray) and
    last long enough.

    Args:
        cleaned: a table with the columns of fixes, ``track_id`` and ``state``; rows that are rejected are left out.
        radius_m: metres.
        min_s: least duration in seconds.

    Returns:
        One row for each stop, by vessel and time: ``vessel_id``, ``track_id``, ``stop`` int64 (number, from 0),
        ``first``, ``last`` (UTC), ``count`` int64 of its fixes, ``lon_deg``, ``lat_deg`` float64 (their centre on the
        sphere), ``radius_m`` float64 (of the farthest from it).

    Raises:
        UsageError: a radius or duration not above zero, or a table that was not cleaned.
    """
    marked = mark_stops(cleaned, radius_m=radius_m, min_s=min_s).filter(pl.col(STOP).is_not_null())
    x, y, z = _unit(marked[LON].to_numpy(), marked[LAT].to_numpy())
    table = marked.select(VESSEL_ID, TRACK_ID, STOP, TIME, LON, LAT, x=pl.Series(x), y=pl.Series(y), z=pl.Series(z))
    table = table.with_columns(pl.col("x", "y", "z").mean().over(STOP))
    lon, lat = _degrees(*(table[axis].to_numpy() for axis in "xyz"))
    off = distance_km(lon, lat, table[LON].to_numpy(), table[LAT].to_numpy()) * 1000.0
    table = table.with_columns(pl.Series(LON, lon), pl.Series(LAT, lat), pl.Series("radius_m", off))
    found = table.group_by(STOP).agg(
        pl.col(VESSEL_ID, TRACK_ID).first(),
        first=pl.col(TIME).min(),
        last=pl.col(TIME).max(),
        count=pl.len().cast(pl.Int64),
        lon_deg=pl.col(LON).first(),
        lat_deg=pl.col(LAT).first(),
        radius_m=pl.col("radius_m").max(),
    )
    return found.select(VESSEL_ID, TRACK_ID, STOP, pl.exclude(VESSEL_ID, TRACK_ID, STOP)).sort(STOP)


def mark_stops(cleaned: pl.DataFrame, *, radius_m: float = RADIUS_M, min_s: float = MIN_S) -> pl.DataFrame:
    """Number the stops: a column ``stop`` int64, null for fixes under way and rejected ones; see ``find_stops``."""
    if not (radius_m > 0 and min_s > 0):
        raise UsageError(f"radius_m={radius_m}, min_s={min_s}: both must be above zero")
    missing = [name for name in (TRACK_ID, STATE) if name not in cleaned.columns]
    if missing:
        raise UsageError(f"the table has no column {', '.join(missing)}: clean it before looking for stops")
    rows = np.flatnonzero(((cleaned[STATE] == OBSERVED) & cleaned[TRACK_ID].is_not_null()).fill_null(False).to_numpy())
    track, order = track_numbers(cleaned[TRACK_ID].gather(rows))
    rows = rows if order is None else rows[order]
    lon, lat = (cleaned[name].gather(rows).to_numpy() for name in (LON, LAT))
    time_us = cleaned[TIME].to_physical().gather(rows).to_numpy()
    number = _stops(track, time_us, (lon, lat), (radius_m / 1000.0, min_s))
    found = np.full(cleaned.height, -1, np.int64)
    found[rows] = number
    return cleaned.with_columns(pl.Series(STOP, found).replace(-1, None))


def without_stops(cleaned: pl.DataFrame, *, radius_m: float = RADIUS_M, min_s: float = MIN_S) -> pl.DataFrame:
    """The table with each stop told by its first and last fix alone: what lies between is in ``find_stops``.

    Rejected rows are left as they are. Columns and order are those of ``cleaned``.
    """
    marked = mark_stops(cleaned, radius_m=radius_m, min_s=min_s)
    ends = (pl.col(TIME) == pl.col(TIME).min().over(STOP)) | (pl.col(TIME) == pl.col(TIME).max().over(STOP))
    return marked.filter(pl.col(STOP).is_null() | ends).drop(STOP)


def _stops(track: Index, time_us: Ints, places: tuple[Floats, Floats], size: tuple[float, float]) -> Ints:
    """(n,) number of the stop of each fix, -1 for none; fixes sorted by track and time."""
    found = np.full(len(track), -1, np.int64)
    quiet = _quiet(track, time_us, places, size)
    rows = np.arange(len(track))
    while True:
        # Of whole tracks, so that what is left of one does not run together.
        some = np.isin(track[rows], track[rows[quiet]])
        rows, quiet = rows[some], quiet[some]
        here, when = track[rows], time_us[rows]
        still = _settled(here, when, (places[0][rows], places[1][rows]), size, quiet)
        if not still.any():
            break
        # A shorter stop beside a longer one is left over: the fixes that are away from one may be another.
        found[rows[still]] = found.max() + 1 + np.unique(_runs(here, still)[still], return_inverse=True)[1]
        quiet = quiet & ~still
        quiet = _long(_runs(here, quiet), quiet, when, size[1])
    taken = found >= 0
    found[taken] = by_first(found[taken])
    return found


def _settled(
    track: Index, time_us: Ints, places: tuple[Floats, Floats], size: tuple[float, float], quiet: Bools
) -> Bools:
    """(n,) True for the fixes of stops among quiet ones: those that stay when what is away from its run has left."""
    lon, lat = places
    still = quiet
    for _ in range(ROUNDS):
        run = _runs(track, still)
        if not still.any():
            break
        centre = _centres(run, lon, lat, still)
        away = still & ~_within(size[0], centre, (lon, lat))
        # A single fix astray does not end a stop: it stays in the run, but a run of them leaves.
        twice = away & (np.append(away[1:] & still[1:], False) | np.insert(away[:-1] & still[:-1], 0, False))
        edge = away & (_first_or_last(run, still))
        leave = still & (twice | edge)
        if not leave.any():
            break
        still = _long(_runs(track, still & ~leave), still & ~leave, time_us, size[1])
    return _long(_runs(track, still), still, time_us, size[1])


def _quiet(track: Index, time_us: Ints, places: tuple[Floats, Floats], size: tuple[float, float]) -> Bools:
    """(n,) True for fixes in some stretch of the least duration whose ends and middle parts lie within a diameter."""
    lon, lat = places
    reach, min_us = 2.0 * size[0], round(size[1] * 1e6)
    here = np.arange(len(track))
    # Tracks one after another on one axis of time, so that one search serves all.
    axis = _one_axis(track, time_us, min_us)
    quiet = np.ones(len(track), np.bool_)
    last = here
    for lag in LAGS:
        there = np.searchsorted(axis, axis + round(lag * min_us), side="left" if lag == 1.0 else "right")
        there = np.minimum(there if lag == 1.0 else np.maximum(there - 1, here), len(track) - 1)
        if lag == 1.0:
            last = there
            quiet &= (track[there] == track) & (there > here)
        quiet &= _within(reach, places, (lon[there], lat[there]))
    # The fix that ends the stretch may come long after it: all between first and last are covered.
    cover = np.zeros(len(track) + 1, np.int64)
    np.add.at(cover, here[quiet], 1)
    np.add.at(cover, last[quiet] + 1, -1)
    covered: Bools = np.cumsum(cover)[:-1] > 0
    return covered


def _within(reach_km: float, one: tuple[Floats, Floats], two: tuple[Floats, Floats]) -> Bools:
    """(n,) whether points lie within a distance; computed exactly only where bounds do not tell."""
    near: Bools = far_at_most(*one, *two) <= reach_km
    look = np.flatnonzero(~near & (np.abs(two[1] - one[1]) * KM_PER_DEG <= reach_km * 1.001))
    near[look] = distance_km(one[0][look], one[1][look], two[0][look], two[1][look]) <= reach_km
    return near


def _one_axis(track: Index, time_us: Ints, space: int) -> Ints:
    starts = first_of_each(track)
    if not len(starts):
        return time_us
    ends = np.append(starts[1:], len(track)) - 1
    lengths = time_us[ends] - time_us[starts] + 2 * space
    offset = np.concatenate([[0], np.cumsum(lengths)[:-1]]) - time_us[starts]
    return np.asarray(time_us + np.repeat(offset, ends - starts + 1), np.int64)


def _runs(track: Index, still: Bools) -> Index:
    """(n,) number of the run of each fix: equal in track and in being still."""
    new = (track[1:] != track[:-1]) | (still[1:] != still[:-1])
    return np.concatenate([[0], np.cumsum(new)])[: len(track)]


def _first_or_last(run: Index, still: Bools) -> Bools:
    edge: Bools = np.ones(len(run), np.bool_)
    edge[1:-1] = (run[1:-1] != run[:-2]) | (run[1:-1] != run[2:])
    edge &= still
    return edge


def _long(run: Index, still: Bools, time_us: Ints, min_s: float) -> Bools:
    """``still`` without runs that are shorter than the least duration."""
    starts = first_of_each(run)
    if not len(starts):
        return still
    ends = np.append(starts[1:], len(run)) - 1
    enough: Bools = np.repeat(time_us[ends] - time_us[starts] >= min_s * 1e6, ends - starts + 1)
    return still & enough


def _centres(run: Index, lon: Floats, lat: Floats, still: Bools) -> tuple[Floats, Floats]:
    """(n,) median-like centre of each fix's run: medians of the offsets from its first fix, in degrees."""
    starts = first_of_each(run)
    east = (lon - lon[starts][run] + 180.0) % 360.0 - 180.0
    table = pl.DataFrame({"run": run, "east": east, "lat": lat}).with_columns(pl.Series("still", still))
    medians = table.group_by("run", maintain_order=True).agg(pl.col("east", "lat").median())
    centre_lon = lon[starts] + medians["east"].to_numpy()
    return ((centre_lon + 180.0) % 360.0 - 180.0)[run], medians["lat"].to_numpy()[run]


def _unit(lon_deg: Floats, lat_deg: Floats) -> tuple[Floats, Floats, Floats]:
    lon, lat = np.radians(lon_deg), np.radians(lat_deg)
    return np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)


def _degrees(x: Floats, y: Floats, z: Floats) -> tuple[Floats, Floats]:
    return np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(z, np.hypot(x, y)))

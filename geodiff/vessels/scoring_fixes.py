"""Fixes of tracks as flat arrays, and what scoring must know of them: how they move, how often they report.

All arrays are sorted by track and time; a track is a run of equal numbers, so that every rule is one pass over the
whole table, whatever the number of tracks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from geodiff.schema import BoolArray, GeodiffError, UsageError
from geodiff.sphere import KM_PER_NMI, course_deg, distance_km
from geodiff.tracks import COG, LAT, LON, OBSERVED, SHIP_TYPE, SOG, STATE, TIME, TRACK_ID, VESSEL_ID, ship_group

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

NEEDED: Final = (TRACK_ID, VESSEL_ID, TIME, LON, LAT, SOG, COG, SHIP_TYPE)

ELSEWHERE: Final = "heard_elsewhere"
"""bool: since its fix before, the vessel was heard outside the region of the table, and so was not silent. A table
without a region has no such column."""

PIECE: Final = r"~\d+$"
"""End of the ``track_id`` of a piece of a track that was cut where the vessel was elsewhere."""

LETTER: Final = rf"^-?\d+/\d{{8}}T\d{{6}}([a-z]*)(?:{PIECE}|$)"
"""Of a ``track_id`` as cleaning writes it: which of the vessels that share the identity; names of others hold none."""

SLOW_KN: Final = 0.7
"""Median speed below which a vessel does not make way: GNSS noise and the swing at anchor give 0.1-0.6 kn."""

MOORED_S: Final = 3600.0
"""A vessel that lies this long is moored or at anchor: it is summarised, not modelled. Shorter stops are motion, so
that a halt where nobody halts is asked of the model."""

INTERVALS_S: Final = (30.0, 180.0, 900.0)
"""Limits of the classes of reporting interval: seconds, minutes, coastal and satellite reception."""


@dataclass(frozen=True, slots=True, eq=False)
class Fixes:
    """Observed fixes, sorted by track, then time.

    Attributes:
        row: (n,) int64 row of the table that they came from.
        track: (n,) int64 number of the track, from 0.
        first: (t + 1,) int64: fixes of track k are ``first[k]`` to ``first[k + 1]``.
        time_s, lon_deg, lat_deg: (n,) float64.
        sog_kn, cog_deg: (n,) float64, NaN where unknown.
        speed_kn: (n,) float64, from the displacement between the neighbours; NaN for a track of one fix.
        moored: (n,) bool, see ``MOORED_S``.
        elsewhere: (n,) bool, see ``ELSEWHERE``.
        track_id: (t,) text.
        vessel_id: (t,) int64; -1 where there is none.
        ship_type: (t,) int64; 0 where unknown: the most frequent one of the track.
        interval_s: (t,) float64, the median time between fixes; NaN for a track of one fix.
    """

    row: Ints
    track: Ints
    first: Ints
    time_s: Floats
    lon_deg: Floats
    lat_deg: Floats
    sog_kn: Floats
    cog_deg: Floats
    speed_kn: Floats
    moored: BoolArray
    elsewhere: BoolArray
    track_id: npt.NDArray[np.object_]
    vessel_id: Ints
    ship_type: Ints
    interval_s: Floats

    @classmethod
    def from_table(cls, cleaned: pl.DataFrame) -> Self:
        """Take the observed fixes of a cleaned table (columns of ``geodiff.tracks``).

        Args:
            cleaned: with the columns of ``NEEDED``; ``state`` where there is one decides what counts as observed.

        Raises:
            UsageError: a column is missing.
            GeodiffError: two fixes of a track share a time, or a fix lacks time or place: the table was not cleaned.
        """
        lost = [name for name in NEEDED if name not in cleaned.columns]
        if lost:
            raise UsageError(f"the table has no column {lost[0]}: clean it first (geodiff vessels clean)")
        kept = pl.col(TRACK_ID).is_not_null()
        if STATE in cleaned.columns:
            kept = kept & (pl.col(STATE) == OBSERVED)
        away = pl.col(ELSEWHERE) if ELSEWHERE in cleaned.columns else pl.lit(False).alias(ELSEWHERE)
        numbered = cleaned.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("_row"), away).filter(kept)
        return cls._sorted(numbered.select(*NEEDED, ELSEWHERE, "_row").sort(TRACK_ID, TIME))

    @classmethod
    def _sorted(cls, table: pl.DataFrame) -> Self:
        track = table[TRACK_ID].rle_id().cast(pl.Int64).to_numpy()
        time_s = table[TIME].dt.epoch("us").to_numpy() / 1e6
        places = [_floats(table, name) for name in (LON, LAT)]
        motion = [_floats(table, name) for name in (SOG, COG)]
        _check(table, track, time_s, places)
        first = np.append(np.flatnonzero(np.diff(track, prepend=-1)), len(track)).astype(np.int64)
        speed = central_speed_kn(track, time_s, *places)
        heads = table[first[:-1].tolist()] if len(track) else table
        types = pl.DataFrame({"track": track, "type": table[SHIP_TYPE].fill_null(0).cast(pl.Int64)})
        return cls(
            row=table["_row"].to_numpy(),
            track=track,
            first=first,
            time_s=time_s,
            lon_deg=places[0],
            lat_deg=places[1],
            sog_kn=motion[0],
            cog_deg=motion[1],
            speed_kn=speed,
            moored=_moored(track, time_s, np.where(np.isfinite(motion[0]), motion[0], speed)),
            elsewhere=table[ELSEWHERE].to_numpy(),
            track_id=heads[TRACK_ID].to_numpy().astype(object),
            vessel_id=heads[VESSEL_ID].fill_null(-1).to_numpy(),
            ship_type=_usual(types),
            interval_s=_median_step(track, time_s, len(first) - 1),
        )

    def __len__(self) -> int:
        return len(self.row)

    @property
    def tracks(self) -> int:
        """Number of tracks."""
        return len(self.first) - 1

    @property
    def owner(self) -> Ints:
        """(t,) whose a track is: its vessel's number; tracks without an identity are each their own, below 0."""
        return np.where(self.vessel_id < 0, -1 - np.arange(self.tracks), self.vessel_id)

    @property
    def group(self) -> Ints:
        """(t,) index into ``geodiff.tracks.SHIP_GROUPS``."""
        return ship_group(self.ship_type)

    @property
    def interval_class(self) -> Ints:
        """(t,) class of the reporting interval, 0 to ``len(INTERVALS_S)``; a track of one fix counts as slowest."""
        return np.searchsorted(INTERVALS_S, np.nan_to_num(self.interval_s, nan=np.inf)).astype(np.int64)


def steps(track: Ints) -> BoolArray:
    """(n - 1,) True where a fix and its follower are of one track."""
    same: BoolArray = np.diff(track) == 0
    return same


def central_speed_kn(track: Ints, time_s: Floats, lon_deg: Floats, lat_deg: Floats) -> Floats:
    """(n,) speed from the fix before to the fix after, one-sided at the ends of a track; NaN for a lone fix."""
    index = np.arange(len(track))
    before = np.where(np.diff(track, prepend=-1) == 0, index - 1, index)
    after = np.where(np.diff(track, append=-1) == 0, index + 1, index)
    way = distance_km(lon_deg[before], lat_deg[before], lon_deg[after], lat_deg[after])
    span = time_s[after] - time_s[before]
    out = np.full(len(track), np.nan)
    np.divide(way * 3600 / KM_PER_NMI, span, out=out, where=span > 0)
    return out


def leg_course_deg(fixes: Fixes) -> Floats:
    """(n - 1,) course of the step from each fix to its follower; meaningless between tracks."""
    lon, lat = fixes.lon_deg, fixes.lat_deg
    return course_deg(lon[:-1], lat[:-1], lon[1:], lat[1:])


def _floats(table: pl.DataFrame, name: str) -> Floats:
    found: Floats = table[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
    return found


def _check(table: pl.DataFrame, track: Ints, time_s: Floats, places: list[Floats]) -> None:
    nowhere = ~(np.isfinite(places[0]) & (np.abs(places[1]) <= 90))
    for bad, what in ((nowhere, "a place on Earth"), (np.isnan(time_s), "a time")):
        if bad.any():
            number = int(table["_row"][int(np.argmax(bad))]) + 1
            raise GeodiffError(f"row {number}: a fix without {what}: clean the table first")
    twice = (np.diff(time_s) <= 0) & (np.diff(track) == 0)
    if twice.any():
        at = int(np.argmax(twice)) + 1
        number, name = int(table["_row"][at]) + 1, table[TRACK_ID][at]
        raise GeodiffError(f"row {number}: track {name} has two fixes at {table[TIME][at]}: clean the table first")


def _moored(track: Ints, time_s: Floats, speed: Floats) -> BoolArray:
    """Runs of slow fixes that last ``MOORED_S``, or a whole track that is slow."""
    if not len(track):
        return np.zeros(0, bool)
    frame = pl.DataFrame({"track": track, "speed": speed}).with_columns(pl.col("speed").fill_nan(None))
    middle = pl.col("speed").rolling_median(5, center=True, min_samples=1).over("track")
    slow = (frame.select(middle)["speed"] < SLOW_KN).fill_null(False).to_numpy()
    starts = np.flatnonzero(np.diff(track, prepend=-1).astype(bool) | np.diff(slow, prepend=not slow[0]))
    ends = np.append(starts[1:], len(track)) - 1
    alone = (np.diff(track, prepend=-1)[starts] != 0) & (np.diff(track, append=-1)[ends] != 0)
    lying = slow[starts] & (alone | (time_s[ends] - time_s[starts] >= MOORED_S))
    return np.repeat(lying, ends - starts + 1)


def _usual(types: pl.DataFrame) -> Ints:
    """The most frequent known type of each track; the lower one of two as frequent."""
    counts = types.group_by("track", "type").len().with_columns(pl.col("len") * (pl.col("type") != 0))
    best = counts.sort("track", "len", "type", descending=[False, True, False]).unique("track", keep="first")
    return best.sort("track")["type"].to_numpy()


def _median_step(track: Ints, time_s: Floats, tracks: int) -> Floats:
    inside = steps(track)
    frame = pl.DataFrame({"track": track[1:][inside], "step": np.diff(time_s)[inside]})
    found = frame.group_by("track").agg(pl.col("step").median())
    out = np.full(tracks, np.nan)
    out[found["track"].to_numpy()] = found["step"].to_numpy()
    return out

"""Tracks made by the denoiser: by ship type and behaviour, from a place, or going on from a partial track.

A track grows by stretches of at most ``STRETCH_H`` hours: the first from a lone position, each next one from what was
made before, so that a day's track bends and slows like a real one. Guidance pulls towards the type and behaviour asked
for. What is made is for augmenting data sets; it is not what a vessel did.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.interpolate import PchipInterpolator

from geodiff.rng import generator
from geodiff.schema import UsageError
from geodiff.sphere import KM_PER_NMI, course_deg, distance_km, from_local_km, to_local_km
from geodiff.tasks.track_denoiser import BATCH, DenoiserMotion
from geodiff.tracks import (
    COG,
    GENERATED,
    HEADING,
    LAT,
    LON,
    NAV_STATUS,
    REASON,
    ROT,
    ROW,
    SHIP_TYPE,
    SOG,
    SOURCE,
    STATE,
    TIME,
    TRACK_ID,
    VESSEL_ID,
    TrackQuery,
)
from geodiff.vessels.reading import FIX_SCHEMA
from geodiff.vessels.windows import ASKED
from geodiff.vessels.windows_draw import BEHAVIOURS

Floats = npt.NDArray[np.float64]
Box = tuple[float, float, float, float]

STRETCH_H = 6.0
"""Hours made at once."""

MOST_HOURS = 72.0
FASTEST_KN = 60.0
"""A step faster than this is drawn again."""

TRIES = 8


@dataclass(frozen=True, slots=True)
class GenerateSettings:
    """What is made.

    Attributes:
        count: tracks.
        ship_type: code of ITU-R M.1371 table 53; 0 for any.
        behaviour: one of ``BEHAVIOURS``; told for the first stretch, which sets the way of moving.
        hours: length of a track.
        step_s: seconds between fixes.
        guidance: strength of classifier-free guidance; 1 leaves it off.
        seed: of places and noise.
    """

    count: int = 10
    ship_type: int = 0
    behaviour: str = "any"
    hours: float = 6.0
    step_s: float = 300.0
    guidance: float = 1.5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.behaviour not in BEHAVIOURS:
            raise UsageError(f"behaviour {self.behaviour}: choose among {', '.join(BEHAVIOURS)}")
        if not 1 <= self.count <= 1_000_000 or not 0 < self.hours <= MOST_HOURS:
            raise UsageError(f"count {self.count}, hours {self.hours}: 1 or more tracks of up to {MOST_HOURS:g} hours")
        if not 10 <= self.step_s <= 3600 * self.hours:
            raise UsageError(f"step {self.step_s} s: between 10 s and the length of the track")
        if not 0 <= self.ship_type < 100 or not 0 <= self.guidance <= 20:
            raise UsageError(f"ship type {self.ship_type}, guidance {self.guidance}: 0 to 99 and 0 to 20")


def generate_tracks(
    model: DenoiserMotion,
    settings: GenerateSettings,
    *,
    start: tuple[float, float] | Box | None = None,
    start_time: datetime | None = None,
    partial: Sequence[TrackQuery] | None = None,
) -> pl.DataFrame:
    """Make tracks.

    Args:
        model: the denoiser; its ``history``, where it has one, keeps tracks to the lanes of a region.
        settings: what is made.
        start: a position (lon, lat) or a box (west, south, east, north) in degrees in which tracks begin.
        start_time: of all tracks; 2020-01-01 UTC when None.
        partial: tracks to go on from, in place of a start; their ``ask_s`` does not count. ``count`` tracks are made of
            each.

    Returns:
        A table of fixes with state "generated", one ``track_id`` each; speed and course follow from the positions.

    Raises:
        UsageError: neither or both of start and partial.
    """
    if (start is None) == (partial is None):
        raise UsageError("give either a start or partial tracks to go on from")
    seeds = _first(settings, start, start_time) if partial is None else _copies(partial, settings.count)
    made = []
    for begin in range(0, len(seeds), BATCH):
        made += _grow(model, seeds[begin : begin + BATCH], settings, lone=partial is None)
    return pl.concat([_table(number, *each, settings) for number, each in enumerate(made, 1)])


def _first(settings: GenerateSettings, start: tuple[float, ...] | None, moment: datetime | None) -> list[TrackQuery]:
    """A lone fix for each track."""
    place = np.asarray(start, float)
    rng = generator(settings.seed, "starts")
    if len(place) == 4:
        lon, lat = (rng.uniform(place[i], place[i + 2], settings.count) for i in (0, 1))
    else:
        lon, lat = (np.full(settings.count, value) for value in place)
    time = (moment or datetime(2020, 1, 1, tzinfo=UTC)).timestamp()
    nothing = np.array([np.nan])
    return [
        TrackQuery(
            np.array([time]), lon[i : i + 1], lat[i : i + 1], nothing, nothing, np.empty(0), settings.ship_type, i + 1
        )
        for i in range(settings.count)
    ]


def _copies(partial: Sequence[TrackQuery], count: int) -> list[TrackQuery]:
    """Each track ``count`` times, with identities of their own, which key the noise."""
    return [
        dataclasses.replace(query, vessel_id=row * count + copy + 1, ask_s=np.empty(0))
        for row, query in enumerate(partial)
        for copy in range(count)
    ]


def _grow(
    model: DenoiserMotion, seeds: Sequence[TrackQuery], settings: GenerateSettings, *, lone: bool
) -> list[tuple[Floats, Floats, Floats]]:
    """Times, longitudes and latitudes of the tracks, the seeds' last fix included."""
    state = list(seeds)
    begin = np.array([query.time_s[-1] for query in seeds])
    end = begin + settings.hours * 3600
    label = BEHAVIOURS.index(settings.behaviour)
    first = True
    while (np.array([query.time_s[-1] for query in state]) < end - 1.0).any():
        stop = np.minimum(np.array([query.time_s[-1] for query in state]) + STRETCH_H * 3600, end)
        asked = [
            dataclasses.replace(
                query, ask_s=query.time_s[-1] + (to - query.time_s[-1]) * np.arange(1, ASKED + 1) / ASKED
            )
            for query, to in zip(state, stop, strict=True)
        ]
        behaviour = np.full(len(state), label if first and lone else 0, np.int64)
        lon, lat = _possible(model, asked, behaviour, settings)
        state = [_longer(query, lon[row], lat[row]) for row, query in enumerate(asked)]
        first = False
    return [_steps(query, start, settings) for query, start in zip(state, begin, strict=True)]


def _possible(
    model: DenoiserMotion, asked: list[TrackQuery], behaviour: npt.NDArray[np.int64], settings: GenerateSettings
) -> tuple[Floats, Floats]:
    """Positions (n, ASKED) whose steps no vessel is too slow for; after ``TRIES`` draws the slowest one found."""
    best: tuple[Floats, Floats] | None = None
    fastest = np.full(len(asked), np.inf)
    for attempt in range(TRIES):
        drawn = model.sample(
            asked, members=1, seed=settings.seed * TRIES + attempt, behaviour=behaviour, guidance=settings.guidance
        )
        lon, lat = drawn.windows.to_degrees(drawn.windows.to_km(drawn.members[0]))
        speed = np.array([_speeds(query, lon[row], lat[row]).max() for row, query in enumerate(asked)])
        better = speed < fastest
        if best is None:
            best = lon, lat
        for kept, new in zip(best, (lon, lat), strict=True):
            kept[better] = new[better]
        fastest = np.minimum(fastest, speed)
        if (fastest <= FASTEST_KN).all():
            break
    assert best is not None
    return best


def _speeds(query: TrackQuery, lon: Floats, lat: Floats) -> Floats:
    """Knots from each position to the next, from the last known one on."""
    lons, lats = np.append(query.lon_deg[-1], lon), np.append(query.lat_deg[-1], lat)
    hours = np.diff(np.append(query.time_s[-1], query.ask_s)) / 3600
    out: Floats = distance_km(lons[:-1], lats[:-1], lons[1:], lats[1:]) / KM_PER_NMI / hours
    return out


def _longer(query: TrackQuery, lon: Floats, lat: Floats) -> TrackQuery:
    """The track with what was made added to its fixes; speed and course of new fixes are left to the positions."""
    nothing = np.full(len(lon), np.nan)
    return dataclasses.replace(
        query,
        time_s=np.append(query.time_s, query.ask_s),
        lon_deg=np.append(query.lon_deg, lon),
        lat_deg=np.append(query.lat_deg, lat),
        sog_kn=np.append(query.sog_kn, nothing),
        cog_deg=np.append(query.cog_deg, nothing),
        ask_s=np.empty(0),
    )


def _steps(query: TrackQuery, begin: float, settings: GenerateSettings) -> tuple[Floats, Floats, Floats]:
    """The track at even steps: monotone cubics through its positions in a plane about its start."""
    later = query.time_s >= begin
    time, lon, lat = query.time_s[later], query.lon_deg[later], query.lat_deg[later]
    place = np.stack(to_local_km(lon, lat, lon[0], lat[0]), -1)
    at = np.arange(begin, time[-1] + 0.5, settings.step_s)
    fine = PchipInterpolator(time, place)(at)
    return (at, *from_local_km(fine[:, 0], fine[:, 1], lon[0], lat[0]))


def _table(number: int, time_s: Floats, lon: Floats, lat: Floats, settings: GenerateSettings) -> pl.DataFrame:
    """One track as a table of fixes."""
    hours = np.diff(time_s) / 3600
    speed = distance_km(lon[:-1], lat[:-1], lon[1:], lat[1:]) / KM_PER_NMI / hours
    course = course_deg(lon[:-1], lat[:-1], lon[1:], lat[1:])
    count = len(time_s)
    begin = datetime.fromtimestamp(time_s[0], UTC)
    columns: dict[str, Any] = {
        VESSEL_ID: np.full(count, number),
        TIME: [begin + timedelta(seconds=float(second - time_s[0])) for second in time_s],
        LON: lon,
        LAT: lat,
        SOG: np.append(speed, speed[-1:]),
        COG: np.append(course, course[-1:]),
        HEADING: [None] * count,
        ROT: [None] * count,
        NAV_STATUS: [None] * count,
        SHIP_TYPE: [settings.ship_type or None] * count,
        SOURCE: ["generated"] * count,
        ROW: np.arange(1, count + 1),
    }
    table = pl.DataFrame({name: pl.Series(name, values, strict=False) for name, values in columns.items()})
    return table.cast(dict(FIX_SCHEMA)).with_columns(  # type: ignore[arg-type]
        pl.lit(f"{number}/{begin:%Y%m%dT%H%M%S}").alias(TRACK_ID),
        pl.lit(GENERATED).alias(STATE),
        pl.lit(None, pl.String).alias(REASON),
    )

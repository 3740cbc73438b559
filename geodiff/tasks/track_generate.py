"""Tracks made by the denoiser: by ship type and behaviour, from a place, or going on from a partial track.

A track grows by stretches of at most ``STRETCH_H`` hours: the first from a lone position, at a speed drawn from those
that vessels of its kind begin with (``track_starts``), each next one from what was made before, so that a day's track
bends and slows like a real one. Guidance pulls towards the type and behaviour asked for; a stretch that moves otherwise
or faster than its type can go is drawn again. What is made is for augmenting data sets; it is not what a vessel did.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.interpolate import PchipInterpolator

from geodiff.rng import generator
from geodiff.schema import UsageError
from geodiff.sphere import KM_PER_NMI, distance_km, from_local_km, to_local_km
from geodiff.tasks.track_denoiser import BATCH, DenoiserMotion
from geodiff.tasks.track_generate_table import track_table
from geodiff.tasks.track_starts import StartSpeeds
from geodiff.tracks import TrackQuery, ship_group
from geodiff.vessels.clean_rules import SpeedLimits
from geodiff.vessels.window_fixes import ASKED
from geodiff.vessels.windows_draw import BEHAVIOURS, behaviour_of

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Box = tuple[float, float, float, float]

STRETCH_H = 6.0
"""Hours made at once."""

MOST_HOURS = 72.0
LIMITS = SpeedLimits()
"""Steps faster than a vessel of the type can go are drawn again."""

MARGIN = 0.95
"""Share of the limit that a stretch may take: where stretches meet the curve may be a little steeper."""

TRIES = 16

PASSES = 4
"""Evaluations per track at least: tracks from a lone fix bend in more ways than gaps do."""


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
    label = BEHAVIOURS.index(settings.behaviour) if partial is None else 0
    made = grow_tracks(model, seeds, np.full(len(seeds), label), settings)
    return pl.concat([track_table(number, *each, settings.ship_type) for number, each in enumerate(made, 1)])


def grow_tracks(
    model: DenoiserMotion, seeds: Sequence[TrackQuery], behaviour: Ints, settings: GenerateSettings
) -> list[tuple[Floats, Floats, Floats]]:
    """Grow a track from each seed, which may differ in ship type and behaviour.

    Args:
        model: the denoiser.
        seeds: known fixes; the ship type of each is the one that is told, and its identity keys the noise.
        behaviour: (n,) index into ``BEHAVIOURS``, told for the first stretch.
        settings: hours, step, guidance and seed; the others do not count.

    Returns:
        Of each seed the times in seconds since 1970, longitudes and latitudes in degrees, its last fix first.

    Raises:
        GeodiffError: the card's speeds of starts are damaged.
    """
    made = []
    model = dataclasses.replace(model, passes=max(model.passes, PASSES))
    seeds = _set_off(model, seeds, behaviour, settings.seed)
    for begin in range(0, len(seeds), BATCH):
        some = slice(begin, begin + BATCH)
        made += _grow(model, seeds[some], behaviour[some], settings)
    return made


def _set_off(model: DenoiserMotion, seeds: Sequence[TrackQuery], behaviour: Ints, seed: int) -> Sequence[TrackQuery]:
    """The seeds, lone fixes without speed set off at one that their ship group and behaviour has, on any course."""
    speeds = StartSpeeds.from_card(model.card)
    if speeds is None:
        return seeds
    out = list(seeds)
    for row, query in enumerate(seeds):
        if len(query.time_s) == 1 and np.isnan(query.sog_kn[0]):
            chance, turn = generator(seed, "start", query.vessel_id, int(query.time_s[0])).uniform(size=2)
            knots = speeds.draw(ship_group([query.ship_type]), behaviour[row : row + 1], np.array([chance]))
            out[row] = dataclasses.replace(query, sog_kn=knots, cog_deg=np.array([360.0 * turn]))
    return out


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
    model: DenoiserMotion, seeds: Sequence[TrackQuery], behaviour: Ints, settings: GenerateSettings
) -> list[tuple[Floats, Floats, Floats]]:
    """Times, longitudes and latitudes of the tracks, the seeds' last fix included."""
    state = list(seeds)
    begin = np.array([query.time_s[-1] for query in seeds])
    end = begin + settings.hours * 3600
    while (np.array([query.time_s[-1] for query in state]) < end - 1.0).any():
        stop = np.minimum(np.array([query.time_s[-1] for query in state]) + STRETCH_H * 3600, end)
        asked = [
            dataclasses.replace(
                query, ask_s=query.time_s[-1] + (to - query.time_s[-1]) * np.arange(1, ASKED + 1) / ASKED
            )
            for query, to in zip(state, stop, strict=True)
        ]
        lon, lat = _possible(model, asked, behaviour, settings)
        state = [_longer(query, lon[row], lat[row]) for row, query in enumerate(asked)]
        behaviour = np.zeros_like(behaviour)
    return [_steps(query, start, settings) for query, start in zip(state, begin, strict=True)]


def _possible(
    model: DenoiserMotion, asked: list[TrackQuery], behaviour: Ints, settings: GenerateSettings
) -> tuple[Floats, Floats]:
    """Positions (n, ASKED) no faster than their ship type can go, that move as they were asked to.

    What does not is drawn again; after ``TRIES`` draws the one that is least wrong is kept, and slowed down if need be.
    """
    lon, lat = np.empty((2, len(asked), ASKED))
    wrong = np.full(len(asked), np.inf)
    for attempt in range(TRIES):
        rows = np.flatnonzero(wrong > 0)
        if not len(rows):
            break
        drawn = model.sample(
            [asked[row] for row in rows],
            members=1,
            seed=settings.seed * TRIES + attempt,
            behaviour=behaviour[rows],
            guidance=settings.guidance,
        )
        new = drawn.windows.to_degrees(drawn.windows.to_km(drawn.members[0]))
        for k, row in enumerate(rows):
            fast, other = _wrong(asked[row], (new[0][k], new[1][k]), int(behaviour[row]), settings)
            worth = 1000.0 * max(fast - 1.0, 0.0) + other
            if worth < wrong[row]:
                wrong[row] = worth
                lon[row], lat[row] = _slowed(asked[row], (new[0][k], new[1][k]), fast)
    return lon, lat


def _wrong(
    query: TrackQuery, place: tuple[Floats, Floats], behaviour: int, settings: GenerateSettings
) -> tuple[float, bool]:
    """Fastest step of a stretch as a share of the limit, and whether it moves otherwise than it was asked to."""
    made = _longer(query, *place)
    time_s, lon, lat = _steps(made, float(query.time_s[-1]), settings)
    knots = distance_km(lon[:-1], lat[:-1], lon[1:], lat[1:]) / KM_PER_NMI / np.diff(time_s) * 3600
    fast = float(knots.max()) / (MARGIN * LIMITS.of_type(query.ship_type)) if len(knots) else 0.0
    return fast, behaviour != 0 and behaviour_of(time_s, lon, lat) != behaviour


def _slowed(query: TrackQuery, place: tuple[Floats, Floats], fast: float) -> tuple[Floats, Floats]:
    """The same shape, drawn in towards the last known position until nothing is too fast."""
    if fast <= 1.0:
        return place
    centre = query.lon_deg[-1], query.lat_deg[-1]
    east, north = to_local_km(*place, *centre)
    return from_local_km(east / fast, north / fast, *centre)


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

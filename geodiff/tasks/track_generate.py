"""Tracks made by the denoiser: by ship type and behaviour, from a place, or going on from a partial track.

A track grows by stretches of some hours: the first from a lone position, at a speed drawn from those that vessels of
its kind begin with (``track_starts``) and on a course that others took from there, each next one from what was made
before. Guidance pulls towards the ship type asked for; a stretch that moves otherwise, or faster than real
vessels of the type do, is drawn again. What is made is for augmenting data sets; it is not what a vessel did.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import polars as pl

from geodiff.rng import generator
from geodiff.schema import GeodiffError, UsageError
from geodiff.sphere import wrap_longitude
from geodiff.tasks.track_denoiser import DenoiserMotion
from geodiff.tasks.track_generate_stretches import even_steps
from geodiff.tasks.track_generate_table import track_table
from geodiff.tasks.track_generate_velocities import courses, grow_by_velocities
from geodiff.tasks.track_starts import StartSpeeds
from geodiff.tasks.track_velocities import grid_of
from geodiff.tracks import VESSEL_ID, TrackQuery, ship_group
from geodiff.vessels.windows_draw import BEHAVIOURS

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Box = tuple[float, float, float, float]

MOST_HOURS = 72.0

CONTINUES = "continues"
"""int64: ``vessel_id`` of the partial track that a made one goes on from, which has an identity of its own."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is made.

    Attributes:
        count: tracks.
        ship_type: code of ITU-R M.1371 table 53; 0 for any, of partial tracks for their own.
        behaviour: one of ``BEHAVIOURS``: how it moves in any three hours.
        hours: length of a track.
        step_s: seconds between fixes.
        guidance: strength of classifier-free guidance towards the ship type; 1 leaves it off.
        seed: of places and noise.
    """

    count: int = 10
    ship_type: int = 0
    behaviour: str = "any"
    hours: float = 6.0
    step_s: float = 300.0
    guidance: float = 5.0
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
    settings: Wanted,
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
        A table of fixes with state "generated", one ``track_id`` each; speed and course follow from the positions. Of
        partial tracks also ``CONTINUES``: the ``vessel_id`` whose track each goes on from.

    Raises:
        UsageError: neither or both of start and partial.
    """
    if (start is None) == (partial is None):
        raise UsageError("give either a start or partial tracks to go on from")
    seeds = _first(settings, start, start_time) if partial is None else _copies(partial, settings)
    made = grow_tracks(model, seeds, np.full(len(seeds), BEHAVIOURS.index(settings.behaviour)), settings)
    kinds = [query.ship_type for query in seeds]
    table = pl.concat([track_table(n, *each, kind) for n, (each, kind) in enumerate(zip(made, kinds, strict=True), 1)])
    if partial is None:
        return table
    whose = pl.Series(CONTINUES, [query.vessel_id for query in partial], pl.Int64)
    return table.with_columns(whose.gather((table[VESSEL_ID] - 1) // settings.count))


def grow_tracks(
    model: DenoiserMotion, seeds: Sequence[TrackQuery], behaviour: Ints, settings: Wanted
) -> list[tuple[Floats, Floats, Floats]]:
    """Grow a track from each seed, which may differ in ship type and behaviour.

    Args:
        model: the denoiser.
        seeds: known fixes; the ship type of each is the one that is told, and its identity keys the noise.
        behaviour: (n,) index into ``BEHAVIOURS``.
        settings: hours, step, guidance and seed; the others do not count.

    Returns:
        Of each seed the times in seconds since 1970, longitudes and latitudes in degrees, its last fix first.

    Raises:
        GeodiffError: the model has not learned generation, or what its card says of it is damaged.
    """
    grid = grid_of(model.card)
    if grid is None:
        raise GeodiffError(f"{model.name} has not learned generation: train it with a generation_share above 0")
    set_off = _set_off(model, seeds, behaviour, settings.seed)
    wanted = settings.hours, settings.step_s, settings.guidance
    made = grow_by_velocities(model, grid, set_off, behaviour, wanted, settings.seed)
    return [
        even_steps(query, float(begin.time_s[-1]), settings.step_s, settings.hours)
        for query, begin in zip(made, seeds, strict=True)
    ]


def _set_off(model: DenoiserMotion, seeds: Sequence[TrackQuery], behaviour: Ints, seed: int) -> Sequence[TrackQuery]:
    """The seeds; lone fixes without speed set off at one of their ship group and behaviour, the way others went."""
    speeds = StartSpeeds.from_card(model.card)
    rows = [row for row, query in enumerate(seeds) if len(query.time_s) == 1 and np.isnan(query.sog_kn[0])]
    if speeds is None or not rows:
        return seeds
    lone = [seeds[row] for row in rows]
    chance = [generator(seed, "start", query.vessel_id, int(query.time_s[0])).uniform() for query in lone]
    knots = speeds.draw(ship_group([query.ship_type for query in lone]), behaviour[rows], np.array(chance))
    way = courses(lone, knots, model.history, seed)
    out = list(seeds)
    for k, row in enumerate(rows):
        out[row] = dataclasses.replace(lone[k], sog_kn=knots[k : k + 1], cog_deg=way[k : k + 1])
    return out


def _first(settings: Wanted, start: tuple[float, ...] | None, moment: datetime | None) -> list[TrackQuery]:
    """A lone fix for each track."""
    place = np.asarray(start, float)
    rng = generator(settings.seed, "starts")
    if len(place) == 4:
        east = place[2] + (360.0 if place[2] < place[0] else 0.0)
        lon = wrap_longitude(rng.uniform(place[0], east, settings.count))
        lat = rng.uniform(place[1], place[3], settings.count)
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


def _copies(partial: Sequence[TrackQuery], settings: Wanted) -> list[TrackQuery]:
    """Each track ``count`` times, of the ship type asked for, with identities of their own, which key the noise."""
    return [
        dataclasses.replace(
            query,
            vessel_id=row * settings.count + copy + 1,
            ask_s=np.empty(0),
            ship_type=settings.ship_type or query.ship_type,
        )
        for row, query in enumerate(partial)
        for copy in range(settings.count)
    ]

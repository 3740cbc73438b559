"""What stretches of generated tracks share: how they join, how they are drawn again, and even steps through them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator

from geodiff.schema import GeodiffError
from geodiff.sphere import KM_PER_NMI, distance_km, from_local_km, to_local_km
from geodiff.tasks.track_starts import StartSpeeds
from geodiff.tracks import TrackQuery, ship_group
from geodiff.vessels.clean_rules import SpeedLimits
from geodiff.vessels.windows_draw import TRANSIT, behaviour_of

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Places = tuple[Floats, Floats]
"""Longitudes and latitudes (n, steps) in degrees."""

Draw = Callable[[Ints, int], Places]
"""(rows, attempt) -> places of those rows."""

LIMITS = SpeedLimits()
"""Steps faster than cleaning allows a vessel of the type are drawn again."""

MARGIN = 0.95
"""Share of the limit that a stretch may take: where stretches meet the curve may be a little steeper."""

TRIES, GUIDED_TRIES = 32, 8
"""Draws of a stretch, and of these the first ones, which are guided: guidance can pull away from a way of moving."""

UNDER_WAY = 0.8
"""Least share of a transit that is under way: so are nine in ten real ones of three hours. Straightness alone would let
a vessel arrive and stay."""

STILL_KN = 1.0


def limits_kn(asked: Sequence[TrackQuery], speeds: StartSpeeds | None) -> Floats:
    """(n,) how fast each stretch may be: as the fastest real vessels of its ship group, or as before if it was faster.

    Guidance pulls beyond what is real: a cargo ship is told from others by being fast.

    Args:
        asked: n questions.
        speeds: of real vessels; without, what cleaning allows counts alone.
    """
    types = [query.ship_type for query in asked]
    limits: Floats = MARGIN * LIMITS.of_types(np.array(types))
    if speeds is not None:
        real, own = speeds.fastest_kn(ship_group(types)), np.array([_before_kn(query) for query in asked])
        limits = np.minimum(limits, np.where(own > real, 1.1 * own, real))
    return limits


def _before_kn(query: TrackQuery) -> float:
    """How fast a track was: the highest reported speed or, without any, that of nearly all of its steps."""
    if np.isfinite(query.sog_kn).any():
        return float(np.nanmax(query.sog_kn))
    steps = _knots(query.time_s, query.lon_deg, query.lat_deg)
    return float(np.quantile(steps, 0.9)) if len(steps) else 0.0


def possible(
    asked: Sequence[TrackQuery], behaviour: Ints, step_s: float, judged_s: float, draw: Draw, most_kn: Floats
) -> Places:
    """Places no faster than they may be, that move as they were asked to.

    What does not is drawn again; after ``TRIES`` draws the one that is least wrong is kept, and slowed down if need be.

    Args:
        asked: n questions, each about one stretch beyond its last fix.
        behaviour: (n,) index into ``BEHAVIOURS``.
        step_s: between the positions at which speeds are judged, in seconds.
        judged_s: the last so many seconds, of what was known before too, are what must move as asked.
        draw: draws places.
        most_kn: (n,) from ``limits_kn``.

    Raises:
        GeodiffError: a place that is not finite; weights may be finite, and overflow.
    """
    found: list[Places] = [(query.ask_s, query.ask_s) for query in asked]
    wrong = np.full(len(asked), np.inf)
    for attempt in range(TRIES):
        rows = np.flatnonzero(wrong > 0)
        if not len(rows):
            break
        lon, lat = draw(rows, attempt)
        if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
            raise GeodiffError("the model gives no finite values: its weights are damaged")
        for k, row in enumerate(rows.tolist()):
            query, count = asked[row], len(asked[row].ask_s)
            place = lon[k, :count], lat[k, :count]
            made, begin = longer(query, *place), float(query.time_s[-1])
            fast, other = _wrong(made, begin, int(behaviour[row]), step_s, judged_s)
            fast /= most_kn[row]
            worth = 1000.0 * max(fast - 1.0, 0.0) + other
            if worth < wrong[row]:
                wrong[row] = worth
                found[row] = _slowed(query, place, fast)
    return tuple(_filled([place[k] for place in found]) for k in (0, 1))  # type: ignore[return-value]


def _filled(rows: Sequence[Floats]) -> Floats:
    """Rows of several lengths as one array, the last value repeated."""
    most = max(len(row) for row in rows)
    return np.stack([np.append(row, np.full(most - len(row), row[-1])) for row in rows])


def _wrong(made: TrackQuery, begin_s: float, behaviour: int, step_s: float, judged_s: float) -> tuple[float, bool]:
    """Fastest step from ``begin_s`` on in knots, and whether the track moves otherwise than it was asked to."""
    knots = _knots(*even_steps(made, begin_s, step_s))
    fast = float(knots.max(initial=0.0))
    if behaviour == 0:
        return fast, False
    late = made.time_s >= made.time_s[-1] - judged_s - 0.5
    way = made.time_s[late], made.lon_deg[late], made.lat_deg[late]
    other = bool(behaviour_of(*way) != behaviour)
    if behaviour == TRANSIT and not other:
        other = float(np.diff(way[0])[_knots(*way) > STILL_KN].sum()) < UNDER_WAY * np.ptp(way[0])
    return fast, other


def _knots(time_s: Floats, lon_deg: Floats, lat_deg: Floats) -> Floats:
    """Speeds of the steps between positions."""
    way = distance_km(lon_deg[:-1], lat_deg[:-1], lon_deg[1:], lat_deg[1:])
    return way / KM_PER_NMI / np.diff(time_s) * 3600


def _slowed(query: TrackQuery, place: Places, fast: float) -> Places:
    """The same shape, drawn in towards the last known position until nothing is too fast."""
    if fast <= 1.0:
        return place
    centre = query.lon_deg[-1], query.lat_deg[-1]
    east, north = to_local_km(*place, *centre)
    return from_local_km(east / fast, north / fast, *centre)


def longer(query: TrackQuery, lon: Floats, lat: Floats) -> TrackQuery:
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


def even_steps(
    query: TrackQuery, begin: float, step_s: float, hours: float = math.inf
) -> tuple[Floats, Floats, Floats]:
    """Times, longitudes and latitudes at even steps from ``begin`` on, for so many hours at most.

    Monotone cubics (Fritsch & Carlson 1980) through the positions in a plane about its start.
    """
    later = query.time_s >= begin
    time, lon, lat = query.time_s[later], query.lon_deg[later], query.lat_deg[later]
    place = np.stack(to_local_km(lon, lat, lon[0], lat[0]), -1)
    at = np.arange(begin, min(time[-1], begin + 3600 * hours) + 0.5, step_s)
    fine = PchipInterpolator(time, place)(at)
    return (at, *from_local_km(fine[:, 0], fine[:, 1], lon[0], lat[0]))

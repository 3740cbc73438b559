"""Curves between two fixes on the sphere: the great circle, and a cubic that meets speed and course at both ends.

Positions are unit vectors from the centre of the Earth, so that neither the antimeridian nor a pole is special.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geodiff.sphere import EARTH_RADIUS_KM, KM_PER_DEG, KM_PER_NMI, course_of
from geodiff.vessels.clean_arrays import Bools, Floats, Index, far_at_most

RADIANS_PER_S_PER_KN = KM_PER_NMI / EARTH_RADIUS_KM / 3600.0

Vector = tuple[Floats, Floats, Floats]

LONGEST_TANGENT = 3.0
"""A tangent is at most so many times as long as the step: then the cubic does not run back (Fritsch & Carlson 1980)."""


NEAR_KM = 0.03
"""A shorter step is straight: it is within the errors of positions, and a plane errs by less than a millimetre
there."""


@dataclass(frozen=True, slots=True, eq=False)
class Ends:
    """Fixes in a row, (n,) each: seconds since 1970, degrees, knots, degrees; NaN where speed or course is unknown."""

    time_s: Floats
    lon_deg: Floats
    lat_deg: Floats
    sog_kn: Floats
    cog_deg: Floats


def along(ends: Ends, before: Index, time_s: Floats, *, cubic: bool) -> Floats:
    """Position and motion at times between fixes.

    Args:
        ends: fixes in a row.
        before: (m,) index of the fix before each time; the next one ends the step.
        time_s: (m,) seconds since 1970.
        cubic: with the reported motion, else along the great circle at constant speed.

    Returns:
        (4, m) longitude and latitude in degrees, speed in knots, course in degrees.
    """
    ends, before = _asked_about(ends, before)
    out = _straight(ends, before, time_s)
    far = np.flatnonzero(~_near(ends)[before])
    if not len(far):
        return out
    before, time_s = before[far], time_s[far]
    lon, lat = np.radians(ends.lon_deg), np.radians(ends.lat_deg)
    turns = np.sin(lon), np.cos(lon), np.sin(lat), np.cos(lat)
    place = _unit(*turns)
    lasts = (ends.time_s[1:] - ends.time_s[:-1])[before]
    part = (time_s - ends.time_s[before]) / lasts
    speed = _tangents(ends, turns) if cubic else _unit(*(np.full(len(lon), np.nan),) * 4)
    told = ~np.isnan(speed[0][before] + speed[0][before + 1])
    for which, bent in ((np.flatnonzero(told), True), (np.flatnonzero(~told), False)):
        if not len(which):
            continue
        i, u, seconds = before[which], part[which], lasts[which]
        between = _take(place, i), _take(place, i + 1)
        curve = (
            _hermite(between, (_take(speed, i), _take(speed, i + 1)), seconds, u) if bent else _great_circle(between, u)
        )
        out[:, far[which]] = _as_fixes(*curve, seconds)
    return out


def _asked_about(ends: Ends, before: Index) -> tuple[Ends, Index]:
    """The fixes on both sides of some time, and ``before`` among them: of a fix a minute most are not."""
    used = np.zeros(len(ends.time_s), np.bool_)
    used[before] = used[before + 1] = True
    if used.all():
        return ends, before
    # The fix behind each stays its follower, for it is used as well.
    columns = (ends.time_s, ends.lon_deg, ends.lat_deg, ends.sog_kn, ends.cog_deg)
    return Ends(*(values[used] for values in columns)), (np.cumsum(used) - 1)[before]


def _near(ends: Ends) -> Bools:
    """(n - 1,) True for steps that are no longer than the errors of positions, away from the poles."""
    near: Bools = far_at_most(ends.lon_deg[:-1], ends.lat_deg[:-1], ends.lon_deg[1:], ends.lat_deg[1:]) <= NEAR_KM
    return near & (np.abs(ends.lat_deg[:-1]) < 80.0)


def _straight(ends: Ends, before: Index, time_s: Floats) -> Floats:
    """(4, m) as ``along``, in degrees as if they were a plane."""
    d_lon, d_lat, lasts = (np.diff(values) for values in (ends.lon_deg, ends.lat_deg, ends.time_s))
    d_lon = np.where(np.abs(d_lon) > 180.0, d_lon - np.copysign(360.0, d_lon), d_lon)
    east, north = d_lon * np.cos(np.radians(ends.lat_deg[:-1])), d_lat
    # Between tracks time may run back; such steps are not asked for.
    speed = np.hypot(east, north) * KM_PER_DEG / KM_PER_NMI * 3600.0 / np.where(lasts > 0, lasts, np.inf)
    course = course_of(east, north)
    part = (time_s - ends.time_s[before]) / lasts[before]
    lon = ends.lon_deg[before] + part * d_lon[before]
    lon = np.where(np.abs(lon) > 180.0, lon - np.copysign(360.0, lon), lon)
    lat = ends.lat_deg[before] + part * d_lat[before]
    return np.stack([np.where(lon == 180.0, -180.0, lon), lat, speed[before], course[before]])


def _great_circle(between: tuple[Vector, Vector], part: Floats) -> tuple[Vector, Vector]:
    """Point and its derivative by ``part`` of the way (Shoemake 1985, slerp)."""
    start, end = between
    angle = 2.0 * np.arcsin(np.minimum(_chord(start, end) / 2.0, 1.0))
    wide = np.sin(angle)
    near = wide < 1e-9
    wide = np.where(near, 1.0, wide)
    one = np.where(near, 1.0 - part, np.sin((1.0 - part) * angle) / wide)
    two = np.where(near, part, np.sin(part * angle) / wide)
    d_one = np.where(near, -1.0, -angle * np.cos((1.0 - part) * angle) / wide)
    d_two = np.where(near, 1.0, angle * np.cos(part * angle) / wide)
    return _sum((one, start), (two, end)), _sum((d_one, start), (d_two, end))


def _hermite(
    ends: tuple[Vector, Vector], speeds: tuple[Vector, Vector], lasts: Floats, u: Floats
) -> tuple[Vector, Vector]:
    """Point and its derivative by ``u`` of the cubic Hermite curve; speeds in radians per second."""
    start, end = ends
    chord = _chord(start, end)
    out, into = (_tamed(speed, lasts, chord) for speed in speeds)
    u2, u3 = u * u, u * u * u
    point = _sum((2 * u3 - 3 * u2 + 1, start), (u3 - 2 * u2 + u, out), (3 * u2 - 2 * u3, end), (u3 - u2, into))
    slope = 6 * u2 - 6 * u
    pace = _sum((slope, start), (3 * u2 - 4 * u + 1, out), (-slope, end), (3 * u2 - 2 * u, into))
    return point, pace


def _tamed(speed: Vector, lasts: Floats, chord: Floats) -> Vector:
    length = np.sqrt(_dot(speed, speed)) * lasts
    scale = lasts * np.minimum(1.0, LONGEST_TANGENT * chord / np.maximum(length, 1e-15))
    return speed[0] * scale, speed[1] * scale, speed[2] * scale


def _tangents(ends: Ends, turns: tuple[Floats, Floats, Floats, Floats]) -> Vector:
    """(n,) velocities in radians per second; NaN where speed or course is unknown; at rest no course is needed.

    ``turns``: sines and cosines of longitude and of latitude.
    """
    pace = ends.sog_kn * RADIANS_PER_S_PER_KN
    course = np.radians(np.where(ends.sog_kn == 0.0, 0.0, ends.cog_deg))
    east, north = pace * np.sin(course), pace * np.cos(course)
    sin_lon, cos_lon, sin_lat, cos_lat = turns
    x = -east * sin_lon - north * sin_lat * cos_lon
    y = east * cos_lon - north * sin_lat * sin_lon
    return x, y, north * cos_lat


def _as_fixes(here: Vector, pace: Vector, lasts: Floats) -> Floats:
    """(4, m) lon, lat, sog, cog of points and their derivatives; points are brought back to the sphere."""
    norm = np.sqrt(_dot(here, here))
    x, y, z = (value / norm for value in here)
    axis = np.hypot(x, y)
    flat = np.maximum(axis, 1e-300)
    east = (pace[1] * x - pace[0] * y) / flat
    north = pace[2] * axis - (pace[0] * x + pace[1] * y) / flat * z
    speed = np.hypot(east, north) / norm / lasts / RADIANS_PER_S_PER_KN
    course = course_of(east, north)
    lon = np.degrees(np.arctan2(y, x))
    return np.stack([np.where(lon >= 180.0, lon - 360.0, lon), np.degrees(np.arctan2(z, axis)), speed, course])


def _unit(sin_lon: Floats, cos_lon: Floats, sin_lat: Floats, cos_lat: Floats) -> Vector:
    return cos_lat * cos_lon, cos_lat * sin_lon, sin_lat


def _take(vector: Vector, index: Index) -> Vector:
    return vector[0][index], vector[1][index], vector[2][index]


def _chord(one: Vector, two: Vector) -> Floats:
    step = two[0] - one[0], two[1] - one[1], two[2] - one[2]
    return np.sqrt(_dot(step, step))


def _dot(one: Vector, two: Vector) -> Floats:
    return one[0] * two[0] + one[1] * two[1] + one[2] * two[2]


def _sum(*terms: tuple[Floats, Vector]) -> Vector:
    (weight, vector), *others = terms
    x, y, z = (weight * part for part in vector)
    for weight, vector in others:
        x += weight * vector[0]
        y += weight * vector[1]
        z += weight * vector[2]
    return x, y, z

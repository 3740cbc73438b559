"""Geometry on the sphere: distances, courses, local planes; longitude wraps and course is an angle.

Everything broadcasts over numpy arrays. Angles are degrees, courses clockwise from true north; distances are kilometres
or nautical miles on a sphere of the mean Earth radius, which errs by at most 0.56 % against the WGS 84 ellipsoid, less
than what speeds over ground are reported to.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

EARTH_RADIUS_KM = 6371.0088
"""Mean radius R1 of the International Union of Geodesy and Geophysics (Moritz 1980)."""

KM_PER_NMI = 1.852
KM_S_PER_KN = KM_PER_NMI / 3600.0
KM_PER_DEG = EARTH_RADIUS_KM * np.pi / 180.0

Array = npt.NDArray[np.float64]
Values = npt.ArrayLike


def wrap_longitude(lon_deg: Values) -> Array:
    """Longitude in [-180, 180)."""
    wrapped: Array = (np.asarray(lon_deg, np.float64) + 180.0) % 360.0 - 180.0
    return wrapped


def turn_deg(start_deg: Values, end_deg: Values) -> Array:
    """The smaller turn from one course to another, in [-180, 180): positive to starboard."""
    return wrap_longitude(np.asarray(end_deg, np.float64) - np.asarray(start_deg, np.float64))


def course_of(east: Values, north: Values) -> Array:
    """Course of a motion, clockwise from north, in [0, 360)."""
    course: Array = np.degrees(np.arctan2(east, north)) % 360.0
    # Of a negative number next to nothing the remainder rounds to 360.
    return np.where(course >= 360.0, 0.0, course)


def distance_km(lon1_deg: Values, lat1_deg: Values, lon2_deg: Values, lat2_deg: Values) -> Array:
    """Great-circle distance by the haversine formula (Sinnott 1984), exact for near points too."""
    lon1, lat1, lon2, lat2 = (np.radians(np.asarray(v, np.float64)) for v in (lon1_deg, lat1_deg, lon2_deg, lat2_deg))
    half = np.sin((lat2 - lat1) / 2) ** 2 + np.cos(lat1) * np.cos(lat2) * np.sin((lon2 - lon1) / 2) ** 2
    out: Array = 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.minimum(half, 1.0)))
    return out


def course_deg(lon1_deg: Values, lat1_deg: Values, lon2_deg: Values, lat2_deg: Values) -> Array:
    """Initial course of the great circle from the first point to the second, in [0, 360)."""
    lon1, lat1, lon2, lat2 = (np.radians(np.asarray(v, np.float64)) for v in (lon1_deg, lat1_deg, lon2_deg, lat2_deg))
    east = np.sin(lon2 - lon1) * np.cos(lat2)
    north = np.cos(lat1) * np.sin(lat2) - np.sin(lat1) * np.cos(lat2) * np.cos(lon2 - lon1)
    return course_of(east, north)


def to_local_km(lon_deg: Values, lat_deg: Values, lon0_deg: Values, lat0_deg: Values) -> tuple[Array, Array]:
    """(east, north) kilometres in the azimuthal equidistant plane about a centre (Snyder 1987, eq. 22-4 and 25-2).

    Distances and courses from the centre are true; the inverse is ``from_local_km``.
    """
    lon, lat, lon0, lat0 = (np.radians(np.asarray(v, np.float64)) for v in (lon_deg, lat_deg, lon0_deg, lat0_deg))
    step = lon - lon0
    x = np.cos(lat) * np.sin(step)
    y = np.cos(lat0) * np.sin(lat) - np.sin(lat0) * np.cos(lat) * np.cos(step)
    z = np.sin(lat0) * np.sin(lat) + np.cos(lat0) * np.cos(lat) * np.cos(step)
    flat = np.hypot(x, y)
    angle = np.arctan2(flat, z)
    scale = EARTH_RADIUS_KM * np.divide(angle, flat, out=np.ones_like(angle), where=flat > 0)
    return x * scale, y * scale


def from_local_km(east_km: Values, north_km: Values, lon0_deg: Values, lat0_deg: Values) -> tuple[Array, Array]:
    """(lon, lat) degrees of points of the azimuthal equidistant plane about a centre; longitude in [-180, 180)."""
    east, north = np.asarray(east_km, np.float64), np.asarray(north_km, np.float64)
    lon0, lat0 = np.radians(np.asarray(lon0_deg, np.float64)), np.radians(np.asarray(lat0_deg, np.float64))
    reach = np.hypot(east, north)
    angle = reach / EARTH_RADIUS_KM
    # sin(c)/rho tends to 1/R at the centre.
    ratio = np.divide(np.sin(angle), reach, out=np.full_like(angle, 1.0 / EARTH_RADIUS_KM), where=reach > 0)
    lat = np.arcsin(np.clip(np.cos(angle) * np.sin(lat0) + north * ratio * np.cos(lat0), -1.0, 1.0))
    lon = lon0 + np.arctan2(east * ratio, np.cos(lat0) * np.cos(angle) - north * ratio * np.sin(lat0))
    return wrap_longitude(np.degrees(lon)), np.degrees(lat)


def north_turn(lon_deg: Values, lat_deg: Values, lon0_deg: Values, lat0_deg: Values) -> Array:
    """By how much north turns from the second place to the first, radians: the convergence of near meridians."""
    between = np.radians(np.asarray(lat_deg, np.float64) + np.asarray(lat0_deg, np.float64)) / 2
    turned: Array = np.radians(wrap_longitude(np.asarray(lon_deg, np.float64) - np.asarray(lon0_deg))) * np.sin(between)
    return turned


def to_space_km(lon_deg: Values, lat_deg: Values) -> Array:
    """Places in space, kilometres from the centre of the Earth: (...) -> (..., 3)."""
    lon, lat = (np.radians(np.asarray(v, np.float64)) for v in (lon_deg, lat_deg))
    flat = np.cos(lat)
    return EARTH_RADIUS_KM * np.stack([flat * np.cos(lon), flat * np.sin(lon), np.sin(lat)], -1)


def move(lon_deg: Values, lat_deg: Values, course: Values, reach_km: Values) -> tuple[Array, Array]:
    """Where the great circle of an initial course ends after a distance: (lon, lat) degrees."""
    angle = np.radians(np.asarray(course, np.float64))
    reach = np.asarray(reach_km, np.float64)
    return from_local_km(reach * np.sin(angle), reach * np.cos(angle), lon_deg, lat_deg)

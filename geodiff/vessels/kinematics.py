"""The classical motions between and beyond fixes, vectorised: straight, cubic, reckoned, turning.

Positions are (..., 2) arrays of (east, north) kilometres in a local plane of ``geodiff.sphere``, velocities (..., 2)
km/s, times seconds on any common origin. All arguments broadcast over their leading axes, batch first; nothing is
checked, NaN gives NaN.
"""

from __future__ import annotations

import numpy as np

from geodiff.sphere import KM_S_PER_KN, Array, Values, course_deg, distance_km, move, to_local_km

STILL_KN = 0.5
"""Below this speed a course says nothing: GNSS noise alone gives 0.1-0.3 kn. Such a fix has no velocity."""

_STEP_KM = 0.1
"""How far a course is followed to learn its direction in a plane: short against the Earth, long against rounding."""


def great_circle(start: tuple[Values, Values], end: tuple[Values, Values], fraction: Values) -> tuple[Array, Array]:
    """Points at a fraction of the way along the great circle between two points.

    Args:
        start, end: (lon, lat) degrees.
        fraction: 0 is the start, 1 the end; beyond both it goes on along the same circle.

    Returns:
        (lon, lat) degrees; longitude in [-180, 180).
    """
    reach = distance_km(*start, *end) * np.asarray(fraction, np.float64)
    return move(*start, course_deg(*start, *end), reach)


def velocity_km_s(
    place: tuple[Values, Values], sog_kn: Values, cog_deg: Values, centre: tuple[Values, Values]
) -> Array:
    """Velocity in the plane about a centre, from speed and course over ground.

    A course is followed a little way on the sphere and both ends are projected: meridians converge, so that far from
    the centre north is not the plane's north (5 degrees at 300 km in 60 N).

    Args:
        place: (lon, lat) degrees of the fix.
        sog_kn: knots; NaN where unknown.
        cog_deg: degrees; NaN where unknown, which does not matter below ``STILL_KN``.
        centre: (lon, lat) degrees of the plane.

    Returns:
        (..., 2) km/s; NaN where it is unknown.
    """
    speed, course = np.broadcast_arrays(np.asarray(sog_kn, np.float64), np.asarray(cog_deg, np.float64))
    ahead = move(*place, np.nan_to_num(course), _STEP_KM)
    step = np.stack(to_local_km(*ahead, *centre), -1) - np.stack(to_local_km(*place, *centre), -1)
    unit = step / np.linalg.norm(step, axis=-1, keepdims=True)
    still = speed < STILL_KN
    size = np.where(still, 0.0, np.where(np.isfinite(course), speed * KM_S_PER_KN, np.nan))
    out: Array = unit * size[..., None]
    return out


def difference_velocity(time_s: Array, position_km: Array) -> Array:
    """Velocity by finite differences of irregular times, second order inside, one-sided at both ends.

    Args:
        time_s: (..., n) strictly rising.
        position_km: (..., n, 2).

    Returns:
        (..., n, 2) km/s; zero for a single fix, of whose motion nothing is known.
    """
    if time_s.shape[-1] < 2:
        return np.zeros_like(position_km)
    step = np.diff(time_s, axis=-1)[..., None]
    slope = np.diff(position_km, axis=-2) / step
    # The derivative of the parabola through three points: each slope counts by the other one's length.
    inner = (slope[..., :-1, :] * step[..., 1:, :] + slope[..., 1:, :] * step[..., :-1, :]) / (
        step[..., :-1, :] + step[..., 1:, :]
    )
    return np.concatenate([slope[..., :1, :], inner, slope[..., -1:, :]], axis=-2)


def linear(t0: Values, p0: Array, t1: Values, p1: Array, t: Values) -> Array:
    """Straight, at constant speed: (..., 2) km at the times ``t``."""
    u = _fraction(t0, t1, t)
    return p0 + u * (p1 - p0)


def hermite(t0: Values, p0: Array, v0: Array, t1: Values, p1: Array, v1: Array, t: Values) -> Array:
    """The cubic that has position and velocity of both ends (cubic Hermite spline; de Boor 1978, chapter IV).

    Args:
        t0, t1: (...) seconds, ``t0 < t1``.
        p0, p1: (..., 2) km.
        v0, v1: (..., 2) km/s.
        t: (...) seconds, between both.

    Returns:
        (..., 2) km.
    """
    u = _fraction(t0, t1, t)
    span = (np.asarray(t1, np.float64) - np.asarray(t0, np.float64))[..., None]
    w = 1.0 - u
    out: Array = (1 + 2 * u) * w**2 * p0 + u * w**2 * span * v0 + u**2 * (3 - 2 * u) * p1 - u**2 * w * span * v1
    return out


def dead_reckon(t0: Values, p0: Array, v0: Array, t: Values) -> Array:
    """On at the same velocity, backwards for times before ``t0``: (..., 2) km.

    In a plane about ``p0`` this is a great circle.
    """
    out: Array = p0 + _elapsed(t0, t) * v0
    return out


def constant_turn(t0: Values, p0: Array, v0: Array, rate: Values, t: Values) -> Array:
    """On at the same speed and rate of turn: an arc of a circle (Bar-Shalom et al. 2001, section 11.7).

    Args:
        t0: (...) seconds.
        p0: (..., 2) km.
        v0: (..., 2) km/s.
        rate: (...) radians per second, positive to starboard (clockwise).
        t: (...) seconds, before or after ``t0``.

    Returns:
        (..., 2) km.
    """
    elapsed = _elapsed(t0, t)
    angle = np.asarray(rate, np.float64)[..., None] * elapsed
    # sin(a)/a and (1 - cos(a))/a; numpy's sinc holds at zero, and the second is half the angle times sinc squared.
    along = np.sinc(angle / np.pi)
    aside = angle / 2 * np.sinc(angle / (2 * np.pi)) ** 2
    starboard = np.stack([v0[..., 1], -v0[..., 0]], -1)
    out: Array = p0 + elapsed * (along * v0 + aside * starboard)
    return out


def _fraction(t0: Values, t1: Values, t: Values) -> Array:
    """(..., 1): 0 at ``t0``, 1 at ``t1``."""
    span = np.asarray(t1, np.float64) - np.asarray(t0, np.float64)
    return _elapsed(t0, t) / span[..., None]


def _elapsed(t0: Values, t: Values) -> Array:
    """(..., 1) seconds since ``t0``."""
    return (np.asarray(t, np.float64) - np.asarray(t0, np.float64))[..., None]

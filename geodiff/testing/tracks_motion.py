"""How vessels move in synthetic fleets: smooth paths of several behaviours, true at any time.

Each behaviour states a speed and a course over time; both are smoothed (a ship of that class turns and accelerates so
fast) and summed up to a path in the local plane about the start.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from geodiff.sphere import KM_PER_NMI, course_deg, distance_km, from_local_km

Array = npt.NDArray[np.float64]

STEP_S: Final = 10.0
"""Seconds between the nodes of a path; between them it is straight."""


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """Where a vessel is between ``start_s`` and ``start_s + STEP_S * (n - 1)``.

    Attributes:
        start_s: seconds since 1970-01-01 UTC of the first node.
        lon0_deg, lat0_deg: centre of the local plane.
        east_km, north_km: (n,) nodes, ``STEP_S`` apart.
    """

    start_s: float
    lon0_deg: float
    lat0_deg: float
    east_km: Array
    north_km: Array

    def at(self, time_s: npt.ArrayLike) -> tuple[Array, Array]:
        """True (lon, lat) in degrees at times in seconds since 1970; held at the ends."""
        node = (np.asarray(time_s, np.float64) - self.start_s) / STEP_S
        nodes = np.arange(len(self.east_km), dtype=np.float64)
        east, north = np.interp(node, nodes, self.east_km), np.interp(node, nodes, self.north_km)
        return from_local_km(east, north, self.lon0_deg, self.lat0_deg)

    def velocity(self, time_s: npt.ArrayLike) -> tuple[Array, Array]:
        """True speed over ground in knots and course in degrees, over the ``STEP_S`` about each time."""
        when = np.asarray(time_s, np.float64)
        before, after = self.at(when - STEP_S / 2), self.at(when + STEP_S / 2)
        speed = distance_km(*before, *after) / KM_PER_NMI * 3600.0 / STEP_S
        return speed, course_deg(*before, *after)


@dataclass(frozen=True, slots=True)
class Behaviour:
    """A way of moving: ship types (codes of ITU-R M.1371) that do so, navigational status, and the motion."""

    ship_types: tuple[int, ...]
    nav_status: int
    plan: Callable[[np.random.Generator, Array], tuple[Array, Array]]
    """(generator, (n,) seconds since the start) -> (n,) speed in knots, (n,) course in degrees, unbounded."""

    smooth_s: float = 60.0
    """Standard deviation of the smoothing of speed and course."""


def make_path(
    behaviour: str, rng: np.random.Generator, *, start_s: float, hours: float, place: tuple[float, float]
) -> Path:
    """Draw a path.

    Args:
        behaviour: key of ``BEHAVIOURS``.
        rng: consumed.
        start_s: seconds since 1970-01-01 UTC.
        hours: length.
        place: (lon, lat) of the start in degrees.
    """
    kind = BEHAVIOURS[behaviour]
    seconds = np.arange(int(np.ceil(hours * 3600.0 / STEP_S)) + 1, dtype=np.float64) * STEP_S
    speed, course = (
        ndimage.gaussian_filter1d(value, kind.smooth_s / STEP_S, mode="nearest").astype(np.float64)
        for value in kind.plan(rng, seconds)
    )
    step_km = np.maximum(speed, 0.0) * KM_PER_NMI / 3600.0 * STEP_S
    east, north = np.cumsum(step_km * np.sin(np.radians(course))), np.cumsum(step_km * np.cos(np.radians(course)))
    return Path(start_s, *place, east - east[0], north - north[0])


def _phases(rng: np.random.Generator, seconds: Array, mean_s: tuple[float, ...]) -> npt.NDArray[np.intp]:
    """(n,) number of the phase at each time; phase k lasts about ``mean_s[k % len]``, at least a third of it."""
    longest = seconds[-1] + max(mean_s)
    ends: list[float] = [-float(rng.uniform(0.0, mean_s[0]))]
    while ends[-1] < longest:
        mean = mean_s[(len(ends) - 1) % len(mean_s)]
        ends.append(ends[-1] + mean * (1 / 3 + rng.exponential(2 / 3)))
    return np.searchsorted(np.array(ends, np.float64), seconds, side="right") - 1


def _of_phases(rng: np.random.Generator, phase: npt.NDArray[np.intp], spread: float) -> Array:
    """(n,) running sum of normal numbers, one drawn at each new phase."""
    walk: Array = rng.normal(0.0, spread, int(phase[-1]) + 1).cumsum()[phase] + rng.uniform(0.0, 360.0)
    return walk


def _waver(rng: np.random.Generator, seconds: Array, share: float, period_s: float) -> Array:
    """(n,) slow factor about one."""
    wave = np.sin(2 * np.pi * (seconds / period_s + rng.uniform()))
    return np.asarray(1.0 + share * wave, np.float64)


def _transit(rng: np.random.Generator, seconds: Array) -> tuple[Array, Array]:
    course = _of_phases(rng, _phases(rng, seconds, (5400.0,)), 30.0)
    return rng.uniform(10.0, 19.0) * _waver(rng, seconds, 0.04, 9000.0), course


def _shuttle(
    knots: float, dwell_s: float, trip_s: float
) -> Callable[[np.random.Generator, Array], tuple[Array, Array]]:
    def plan(rng: np.random.Generator, seconds: Array) -> tuple[Array, Array]:
        period = dwell_s + trip_s
        clock = seconds + rng.uniform(0.0, period)
        # Half a dwell, the trip, half a dwell: the ship turns about while it lies still.
        part, leg = clock % period, clock // period
        moving = (part > dwell_s / 2) & (part < dwell_s / 2 + trip_s)
        return np.where(moving, knots, 0.0), rng.uniform(0.0, 360.0) + 180.0 * (leg % 2)

    return plan


def _fishing(rng: np.random.Generator, seconds: Array) -> tuple[Array, Array]:
    phase = _phases(rng, seconds, (4800.0, 9000.0))
    towing = (phase + rng.integers(2)) % 2 == 1
    steps = rng.normal(size=len(seconds)) * np.where(towing, 6.0, 0.7)
    return np.where(towing, rng.uniform(2.5, 4.5), rng.uniform(7.0, 10.0)), rng.uniform(0.0, 360.0) + steps.cumsum()


def _jobs(
    knots: tuple[float, float], trip_s: float, dwell_s: float
) -> Callable[[np.random.Generator, Array], tuple[Array, Array]]:
    def plan(rng: np.random.Generator, seconds: Array) -> tuple[Array, Array]:
        phase = _phases(rng, seconds, (trip_s, dwell_s))
        speeds = rng.uniform(*knots, int(phase[-1]) + 1)[phase]
        course = _of_phases(rng, _phases(rng, seconds, (480.0,)), 50.0)
        return np.where(phase % 2 == 0, speeds, 0.0), course

    return plan


def _still(rng: np.random.Generator, seconds: Array) -> tuple[Array, Array]:
    return np.zeros(len(seconds)), np.full(len(seconds), rng.uniform(0.0, 360.0))


def _swing(rng: np.random.Generator, seconds: Array) -> tuple[Array, Array]:
    """Swing about an anchor on a chain of 80 to 250 m: back and forth through an arc, slowly."""
    period, reach_km, arc = rng.uniform(1500.0, 5400.0), rng.uniform(0.08, 0.25), np.radians(rng.uniform(30.0, 120.0))
    angle = 2 * np.pi * (seconds / period + rng.uniform())
    rate = arc * 2 * np.pi / period * np.cos(angle)
    side = rng.uniform(0.0, 360.0) + np.degrees(arc * np.sin(angle))
    return np.abs(rate) * reach_km / KM_PER_NMI * 3600.0, side + np.where(rate >= 0, 90.0, -90.0)


def _aircraft(rng: np.random.Generator, seconds: Array) -> tuple[Array, Array]:
    return np.full(len(seconds), rng.uniform(90.0, 140.0)), _of_phases(rng, _phases(rng, seconds, (600.0,)), 60.0)


BEHAVIOURS: Final[dict[str, Behaviour]] = {
    "transit": Behaviour((70, 71, 74, 79, 80, 83, 89), 0, _transit, 90.0),
    "ferry": Behaviour((60, 69), 0, _shuttle(15.0, 900.0, 2700.0)),
    "fast ferry": Behaviour((40, 49), 0, _shuttle(36.0, 1200.0, 3600.0)),
    "fishing": Behaviour((30,), 7, _fishing, 40.0),
    "tug": Behaviour((31, 52), 0, _jobs((4.0, 10.0), 2400.0, 1800.0), 30.0),
    "pilot": Behaviour((50, 55), 0, _jobs((16.0, 26.0), 1200.0, 2400.0), 15.0),
    "moored": Behaviour((30, 36, 37, 52, 60, 70, 80), 5, _still),
    "anchored": Behaviour((70, 80, 89), 1, _swing, 10.0),
    "aircraft": Behaviour((0,), 15, _aircraft, 20.0),
}
"""What a fleet is drawn from; "aircraft" (search and rescue) only on request."""

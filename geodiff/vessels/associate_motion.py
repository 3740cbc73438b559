"""The motion model of association: how likely the start of one piece of track continues the end of another.

The state of a piece is position and velocity with a covariance that is the same along all axes, so that a filter over
thousands of pieces is a few array operations per step. A vessel either lies still, or moves with a steady velocity from
which it strays as an Ornstein-Uhlenbeck process (Millefiori, Braca, Bryan & Willett 2016, "Modeling vessel kinematics
using a stochastic mean-reverting process for long-term prediction"): the position then grows uncertain with the time in
gaps of hours, not with its cube. Several such modes of different restlessness are mixed, because vessels are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Protocol, Self

import numpy as np

from geodiff.tracks import FloatArray
from geodiff.vessels.associate_plots import BoolArray, IntArray, Plots

CLEARLY: Final = 1.2
"""Noise is taken for more than was told where it is found so many times as large."""


@dataclass(frozen=True, slots=True, eq=False)
class Ends:
    """The state of n pieces of track at their last plot, or at their first.

    Attributes:
        time_s: (n,) of that plot.
        place_m, velocity_m_s: (n, 3) filtered over the nearest plots of the piece; velocities point forward in time.
        var_pp, var_pv, var_vv: (n,) covariance along any axis: m2, m2/s, m2/s2.
        berth_m, var_berth: (n, 3), (n,) the place if the vessel lies still: mean of the nearest plots; its variance.
        course_deg, heading_deg: (n,) of that plot, NaN where unknown.
        nearest: (n, depth) positions of the plots that the state rests on, nearest first, -1 where there are no more:
            what a predictor with a longer memory, such as a network, starts from.
    """

    time_s: FloatArray
    place_m: FloatArray
    velocity_m_s: FloatArray
    var_pp: FloatArray
    var_pv: FloatArray
    var_vv: FloatArray
    berth_m: FloatArray
    var_berth: FloatArray
    course_deg: FloatArray
    heading_deg: FloatArray
    nearest: IntArray

    def __len__(self) -> int:
        return len(self.time_s)


class MotionPredictor(Protocol):
    """What association asks of motion; ``KinematicPrior`` is the one that comes with it."""

    def ends(self, plots: Plots, nearest: IntArray, *, forward: bool) -> Ends:
        """States of pieces at their last plot (``forward``) or first, from the plots nearest to it (see ``Ends``)."""
        ...

    def reach_m(self, ahead_s: FloatArray) -> FloatArray:
        """How far from its straight course a vessel may be found after some time; bounds the search, so be generous."""
        ...

    def log_likelihood(self, last: Ends, first: Ends, pairs: tuple[IntArray, IntArray]) -> FloatArray:
        """For each pair (position in ``last``, position in ``first``) the logarithm of a ratio.

        The density of the state of the second, given that it continues the first and when it was seen, per square
        metre, over the density of its velocity, course and heading among vessels at large.
        """
        ...

    def noisier(self, position_m: float, clock_s: float) -> Self:
        """The model for plots that scatter as far as was found; itself where that is no more than it takes them for."""
        ...


@dataclass(frozen=True, slots=True)
class Mode:
    """One way to move.

    Attributes:
        weight: share of steps.
        noise: spectral density of acceleration, m2/s3.
        memory_s: time after which a deviation from the steady velocity is forgotten.
    """

    weight: float
    noise: float
    memory_s: float

    def covariance(self, ahead_s: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Position, cross and velocity variance that a time adds (integrated Ornstein-Uhlenbeck process)."""
        rate = 1.0 / self.memory_s
        step = rate * np.asarray(ahead_s, np.float64)
        fade, fade2 = -np.expm1(-step), -np.expm1(-2 * step)
        # The closed form cancels for short times, where the limit of white acceleration is exact enough.
        short = step < 1e-2
        var_pp = self.noise / rate**3 * np.where(short, step**3 / 3, step - 2 * fade + fade2 / 2)
        return var_pp, self.noise / (2 * rate**2) * fade**2, self.noise / (2 * rate) * fade2


@dataclass(frozen=True, slots=True)
class KinematicPrior:
    """A vessel that lies still, or strays from a steady velocity; the figures fit consecutive fixes of merchant AIS.

    Attributes:
        position_m: standard deviation of a measured position.
        clock_s: standard deviation of a time stamp; moves a fast vessel along its course.
        velocity_m_s: standard deviation of a velocity from SOG and COG, to which 5 % of the speed are added.
        unknown_m_s: standard deviation of one component of a velocity of which nothing is known.
        modes: of vessels under way.
        rest_share: share of pieces that lie still, before their speed is looked at.
        rest_m_s: speed of a vessel that lies still, as measured.
        fleet_m_s: speed of vessels under way, root mean square of one component.
        leave_share: share of steps in which a vessel that lies still gets under way.
    """

    position_m: float = 2.5
    clock_s: float = 0.5
    velocity_m_s: float = 0.3
    unknown_m_s: float = 10.0
    modes: tuple[Mode, ...] = (Mode(0.4, 0.001, 600.0), Mode(0.4, 0.006, 300.0), Mode(0.2, 0.08, 100.0))
    rest_share: float = 0.5
    rest_m_s: float = 0.12
    fleet_m_s: float = 5.0
    leave_share: float = 0.015

    def ends(self, plots: Plots, nearest: IntArray, *, forward: bool) -> Ends:
        """Kalman filter over the nearest plots of each piece towards its end, all pieces at once."""
        sign = 1.0 if forward else -1.0
        first = nearest[:, 0]
        mode = self.modes[len(self.modes) // 2]
        state: _State | None = None
        for depth in range(nearest.shape[1] - 1, -1, -1):
            index = nearest[:, depth]
            known = index >= 0
            seen = plots.take(np.maximum(index, 0))
            if state is None:
                state = _State.unknown(seen, self.unknown_m_s)
            state.step(seen, known, self, mode, sign)
        assert state is not None
        berth, var_berth = self._berth(plots, nearest)
        return Ends(
            plots.time_s[first],
            state.place,
            sign * state.velocity,
            state.pp,
            sign * state.pv,
            state.vv,
            berth,
            var_berth,
            plots.course_deg[first],
            plots.heading_deg[first],
            nearest,
        )

    def noisier(self, position_m: float, clock_s: float) -> Self:
        """The same with the standard deviations that were found, each where it is clearly more."""
        found = (position_m, self.position_m), (clock_s, self.clock_s)
        place, clock = (seen if seen > CLEARLY * told else told for seen, told in found)
        if (place, clock) == (self.position_m, self.clock_s):
            return self
        return replace(self, position_m=place, clock_s=clock)

    def _berth(self, plots: Plots, nearest: IntArray) -> tuple[FloatArray, FloatArray]:
        place = plots.place_m[np.maximum(nearest, 0)]
        away = np.linalg.norm(place - place[:, :1], axis=2)
        used = (nearest >= 0) & (away <= 6 * self.position_m)
        count = used.sum(axis=1)
        mean = (place * used[:, :, None]).sum(axis=1) / count[:, None]
        return mean, self.position_m**2 / count

    def reach_m(self, ahead_s: FloatArray) -> FloatArray:
        """Three and a half standard deviations of the most restless mode."""
        restless = max(self.modes, key=lambda mode: mode.noise)
        spread = restless.covariance(ahead_s)[0] + (self.velocity_m_s * ahead_s) ** 2 + 4 * self.position_m**2
        reach: FloatArray = 3.5 * np.sqrt(spread)
        return reach

    def log_likelihood(self, last: Ends, first: Ends, pairs: tuple[IntArray, IntArray]) -> FloatArray:
        """Mixture of lying still and of the modes of moving (see ``MotionPredictor``)."""
        i, j = pairs
        speed2 = (last.velocity_m_s**2).sum(axis=1)
        at_rest = np.log(self.rest_share) + _log_normal2(speed2, self.rest_m_s**2 + last.var_vv)
        under_way = np.log1p(-self.rest_share) + _log_normal2(speed2, self.fleet_m_s**2 + last.var_vv)
        total = np.logaddexp(at_rest, under_way)
        rests, moves = (at_rest - total)[i], (under_way - total)[i]
        moves = np.logaddexp(moves, rests + np.log(self.leave_share))
        still = rests + np.log1p(-self.leave_share) + self._still(last, first, pairs)
        moving = moves + self._moving(last, first, pairs)
        arrives2 = (first.velocity_m_s**2).sum(axis=1)
        at_large = np.logaddexp(
            np.log(self.rest_share) + _log_normal2(arrives2, self.rest_m_s**2 + first.var_vv),
            np.log1p(-self.rest_share) + _log_normal2(arrives2, self.fleet_m_s**2 + first.var_vv),
        )
        heading = _log_angle(last.heading_deg[i], first.heading_deg[j], equal=0.3, near=0.55, spread_deg=4.0)
        found: FloatArray = np.logaddexp(still, moving) - at_large[j] + heading
        return found

    def _still(self, last: Ends, first: Ends, pairs: tuple[IntArray, IntArray]) -> FloatArray:
        i, j = pairs
        away2 = ((first.berth_m[j] - last.berth_m[i]) ** 2).sum(axis=1)
        spread = last.var_berth[i] + first.var_berth[j]
        # One fix in six lies three times as far off: the tails of satellite positioning beside walls and cranes.
        place = np.logaddexp(
            np.log(0.84) + _log_normal2(away2, spread),
            np.log(0.16) + _log_normal2(away2, spread + 9 * self.position_m**2),
        )
        speed2 = (first.velocity_m_s**2).sum(axis=1)[j]
        # The course of a vessel at rest is noise, but receivers hold it: half of all fixes repeat it to the digit.
        course = _log_angle(last.course_deg[i], first.course_deg[j], equal=0.4, near=0.25, spread_deg=8.0)
        still: FloatArray = place + _log_normal2(speed2, self.rest_m_s**2 + first.var_vv[j]) + course
        return still

    def _moving(self, last: Ends, first: Ends, pairs: tuple[IntArray, IntArray]) -> FloatArray:
        i, j = pairs
        ahead = first.time_s[j] - last.time_s[i]
        miss = first.place_m[j] - last.place_m[i] - last.velocity_m_s[i] * ahead[:, None]
        turn = first.velocity_m_s[j] - last.velocity_m_s[i]
        pp2, pv2, vv2 = (miss**2).sum(axis=1), (miss * turn).sum(axis=1), (turn**2).sum(axis=1)
        base_pp = last.var_pp[i] + 2 * ahead * last.var_pv[i] + ahead**2 * last.var_vv[i] + first.var_pp[j]
        base_pv = last.var_pv[i] + ahead * last.var_vv[i] + first.var_pv[j]
        base_vv = last.var_vv[i] + first.var_vv[j]
        total = np.full(len(i), -np.inf)
        for mode in self.modes:
            pp, pv, vv = mode.covariance(ahead)
            pp, pv, vv = pp + base_pp, pv + base_pv, vv + base_vv
            area = pp * vv - pv**2
            distance2 = (vv * pp2 - 2 * pv * pv2 + pp * vv2) / area
            total = np.logaddexp(total, np.log(mode.weight) - distance2 / 2 - np.log(area) - 2 * np.log(2 * np.pi))
        return total


class _State:
    """The filter's arrays; covariance per axis, the same for all three."""

    __slots__ = ("place", "pp", "pv", "time", "velocity", "vv")

    def __init__(self, time: FloatArray, place: FloatArray, unknown_m_s: float) -> None:
        self.time, self.place, self.velocity = time, place, np.zeros_like(place)
        self.pp, self.pv = np.full(len(time), 1e12), np.zeros(len(time))
        self.vv = np.full(len(time), unknown_m_s**2)

    @classmethod
    def unknown(cls, seen: Plots, unknown_m_s: float) -> _State:
        return cls(seen.time_s.copy(), seen.place_m.copy(), unknown_m_s)

    def step(self, seen: Plots, known: BoolArray, prior: KinematicPrior, mode: Mode, sign: float) -> None:
        """Predict to the time of each plot that is known and take it in."""
        fresh = known & (self.pp >= 1e12)  # the first plot of a shorter piece
        self.time = np.where(fresh, seen.time_s, self.time)
        self.place = np.where(fresh[:, None], seen.place_m, self.place)
        ahead = np.where(known, sign * (seen.time_s - self.time), 0.0)
        pp, pv, vv = mode.covariance(ahead)
        self.place = self.place + self.velocity * ahead[:, None]
        self.pp = self.pp + 2 * ahead * self.pv + ahead**2 * self.vv + pp
        self.pv, self.vv = self.pv + ahead * self.vv + pv, self.vv + vv
        self.time = np.where(known, seen.time_s, self.time)
        measured = sign * seen.velocity_m_s
        with_velocity = known & np.isfinite(measured).all(axis=1)
        speed2 = np.where(with_velocity, np.nan_to_num(measured**2).sum(axis=1), (self.velocity**2).sum(axis=1))
        noise = prior.position_m**2 + prior.clock_s**2 * np.minimum(speed2, 30.0**2)
        self._take_place(seen.place_m, noise, known)
        self._take_velocity(np.nan_to_num(measured), prior.velocity_m_s**2 + 0.0025 * speed2, with_velocity)

    def _take_place(self, place: FloatArray, noise: FloatArray, known: BoolArray) -> None:
        gain_p, gain_v = (np.where(known, each / (self.pp + noise), 0.0) for each in (self.pp, self.pv))
        miss = place - self.place
        self.place = self.place + gain_p[:, None] * miss
        self.velocity = self.velocity + gain_v[:, None] * miss
        self.vv = self.vv - gain_v * self.pv
        self.pp, self.pv = self.pp - gain_p * self.pp, self.pv - gain_p * self.pv

    def _take_velocity(self, velocity: FloatArray, noise: FloatArray, known: BoolArray) -> None:
        gain_p, gain_v = (np.where(known, each / (self.vv + noise), 0.0) for each in (self.pv, self.vv))
        miss = velocity - self.velocity
        self.place = self.place + gain_p[:, None] * miss
        self.velocity = self.velocity + gain_v[:, None] * miss
        self.pp = self.pp - gain_p * self.pv
        self.pv, self.vv = self.pv - gain_v * self.pv, self.vv - gain_v * self.vv


def _log_normal2(distance2: FloatArray, variance: FloatArray) -> FloatArray:
    """Logarithm of the density of an isotropic normal in the plane."""
    found: FloatArray = -0.5 * distance2 / variance - np.log(2 * np.pi * variance)
    return found


def _log_angle(a_deg: FloatArray, b_deg: FloatArray, *, equal: float, near: float, spread_deg: float) -> FloatArray:
    """Logarithm of the density of a turn over a uniform one: repeated to the digit, near, or anything; 0 if unknown."""
    turn = np.abs((b_deg - a_deg + 180.0) % 360.0 - 180.0)
    bell = np.exp(-0.5 * (turn / spread_deg) ** 2) / (spread_deg * np.sqrt(2 * np.pi))
    density = equal * (turn < 0.5) + near * bell + (1 - equal - near) / 360.0
    found: FloatArray = np.where(np.isfinite(turn), np.log(360.0 * density), 0.0)
    return found

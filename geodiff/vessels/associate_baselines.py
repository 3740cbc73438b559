"""Two classical rules to compare association with: plots are taken in the order of time and never looked at again.

``greedy``: each plot joins the track whose last plot is nearest, within what a vessel can do in the time since.
``gnn``: global nearest neighbour, the plots of one time are assigned together to tracks that move with constant
velocity, by the distance weighted with the covariance of a Kalman filter (Blackman & Popoli 1999, "Design and analysis
of modern tracking systems", section 6.4).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
from scipy.optimize import linear_sum_assignment

from geodiff.tracks import OBSERVED, REASON, REJECTED, STATE, TRACK_ID, FloatArray
from geodiff.vessels.associate import CLUTTER, AssociateSettings
from geodiff.vessels.associate_confirm import confirm_span, confirmed_tracks
from geodiff.vessels.associate_motion import Mode
from geodiff.vessels.associate_plots import BoolArray, IntArray, Plots, canonical_order, plots_of, targets

GATE2 = 13.8
"""Squared Mahalanobis distance that one true plot in a thousand exceeds (chi-square, two degrees of freedom)."""
NOISE = Mode(1.0, 0.05, 1e6)
"""Constant velocity with white acceleration, m2/s3."""


def greedy(fixes: pl.DataFrame, settings: AssociateSettings) -> pl.DataFrame:
    """Nearest neighbour by place alone; arguments and columns as ``associate``."""
    return _sequential(fixes, settings, _Nearest)


def gnn(fixes: pl.DataFrame, settings: AssociateSettings) -> pl.DataFrame:
    """Global nearest neighbour with constant velocity; arguments and columns as ``associate``."""
    return _sequential(fixes, settings, _ConstantVelocity)


class _Nearest:
    """The last plots of the tracks that are alive."""

    def __init__(self, settings: AssociateSettings) -> None:
        self.settings = settings
        self.number = np.empty(0, np.int64)
        self.time, self.place = np.empty(0), np.empty((0, 3))
        self.fastest = settings.fastest_kn * 1852 / 3600

    def forget(self, now: float) -> None:
        """Drop tracks that have been silent for longer than any gap that is closed."""
        alive = now - self.time <= max(window for window, _ in self.settings.levels)
        if not alive.all():
            self.keep(alive)

    def keep(self, alive: BoolArray) -> None:
        self.number, self.time, self.place = self.number[alive], self.time[alive], self.place[alive]

    def cost(self, scan: Plots) -> FloatArray:
        """(tracks, plots) cost, infinite outside of the gate."""
        away = np.linalg.norm(self.place[:, None] - scan.place_m[None], axis=2)
        ahead = scan.time_s[0] - self.time[:, None]
        gate = 5 * self.settings.position_m + self.fastest * ahead
        return np.where((away <= gate) & (ahead >= self.settings.scan_s), away, np.inf)

    def match(self, cost: FloatArray) -> tuple[IntArray, IntArray]:
        """The nearest pair first, then the nearest of the rest."""
        tracks: list[int] = []
        plots: list[int] = []
        for flat in np.argsort(cost, axis=None, kind="stable"):
            track, plot = divmod(int(flat), cost.shape[1])
            if not np.isfinite(cost[track, plot]):
                break
            if track not in tracks and plot not in plots:
                tracks.append(track)
                plots.append(plot)
        return np.array(tracks, np.int64), np.array(plots, np.int64)

    def update(self, tracks: IntArray, scan: Plots) -> None:
        self.time[tracks], self.place[tracks] = scan.time_s, scan.place_m

    def begin(self, numbers: IntArray, scan: Plots) -> None:
        self.number = np.concatenate([self.number, numbers])
        self.time = np.concatenate([self.time, scan.time_s])
        self.place = np.concatenate([self.place, scan.place_m])


class _ConstantVelocity(_Nearest):
    """Kalman filters of constant velocity, covariance equal along all axes."""

    def __init__(self, settings: AssociateSettings) -> None:
        super().__init__(settings)
        self.velocity, self.covariance = np.empty((0, 3)), np.empty((0, 3))

    def keep(self, alive: BoolArray) -> None:
        super().keep(alive)
        self.velocity, self.covariance = self.velocity[alive], self.covariance[alive]

    def _ahead(self, tracks: IntArray, ahead: FloatArray) -> tuple[FloatArray, FloatArray]:
        pp, pv, vv = self.covariance[tracks].T
        add = NOISE.covariance(ahead)
        grown = np.stack([pp + 2 * ahead * pv + ahead**2 * vv + add[0], pv + ahead * vv + add[1], vv + add[2]], axis=1)
        return self.place[tracks] + self.velocity[tracks] * ahead[:, None], grown

    def cost(self, scan: Plots) -> FloatArray:
        ahead = scan.time_s[0] - self.time
        place, covariance = self._ahead(np.arange(len(self.time)), ahead)
        spread = covariance[:, 0] + self.settings.position_m**2
        away2 = ((place[:, None] - scan.place_m[None]) ** 2).sum(axis=2) / spread[:, None]
        gated = (away2 <= GATE2) & (ahead >= self.settings.scan_s)[:, None]
        return np.where(gated, away2 + 2 * np.log(spread)[:, None], np.inf)

    def match(self, cost: FloatArray) -> tuple[IntArray, IntArray]:
        finite = np.isfinite(cost)
        if not finite.any():
            return np.empty(0, np.int64), np.empty(0, np.int64)
        # Any assignment within gates beats one fewer, then the least distance decides.
        big = 1e3 * (np.abs(cost[finite]).max() + 1) * min(cost.shape)
        tracks, plots = linear_sum_assignment(np.where(finite, cost, big))
        inside = finite[tracks, plots]
        return tracks[inside], plots[inside]

    def update(self, tracks: IntArray, scan: Plots) -> None:
        if not len(tracks):
            return
        place, covariance = self._ahead(tracks, scan.time_s - self.time[tracks])
        noise = self.settings.position_m**2
        place, velocity, covariance = _take(place, self.velocity[tracks], covariance, scan.place_m, noise, first=True)
        known = _has_velocity(scan)
        measured = np.where(known[:, None], scan.velocity_m_s, velocity)
        heard = np.where(known, self.settings.velocity_m_s**2, 1e9)
        place, velocity, covariance = _take(place, velocity, covariance, measured, heard, first=False)
        super().update(tracks, scan)
        self.place[tracks], self.velocity[tracks], self.covariance[tracks] = place, velocity, covariance

    def begin(self, numbers: IntArray, scan: Plots) -> None:
        super().begin(numbers, scan)
        known = _has_velocity(scan)
        self.velocity = np.concatenate([self.velocity, np.where(known[:, None], scan.velocity_m_s, 0.0)])
        spread = np.where(known, self.settings.velocity_m_s**2, (self.fastest / 3) ** 2)
        noise = np.full(len(scan), self.settings.position_m**2)
        self.covariance = np.concatenate([self.covariance, np.stack([noise, np.zeros(len(scan)), spread], axis=1)])


def _has_velocity(scan: Plots) -> BoolArray:
    return np.asarray(np.isfinite(scan.velocity_m_s).all(axis=1), bool)


def _take(
    place: FloatArray, velocity: FloatArray, covariance: FloatArray, measured: FloatArray, noise: object, *, first: bool
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """One Kalman update with a measured place (``first``) or velocity."""
    pp, pv, vv = covariance.T
    known = pp if first else vv
    gain_p, gain_v = (each / (known + noise) for each in ((pp, pv) if first else (pv, vv)))
    miss = measured - (place if first else velocity)
    place, velocity = place + gain_p[:, None] * miss, velocity + gain_v[:, None] * miss
    if first:
        left = (pp - gain_p * pp, pv - gain_p * pv, vv - gain_v * pv)
    else:
        left = (pp - gain_p * pv, pv - gain_v * pv, vv - gain_v * vv)
    return place, velocity, np.stack(left, axis=1)


def _sequential(
    fixes: pl.DataFrame, settings: AssociateSettings, make: Callable[[AssociateSettings], _Nearest]
) -> pl.DataFrame:
    order = canonical_order(fixes)
    plots = plots_of(fixes[order])
    seen, target = targets(plots, settings.repeat_s, settings.cluster_m, settings.scan_s)
    number = _tracks(seen, make(settings))
    span = confirm_span(plots.time_s, settings.confirm_hits, settings.confirm_s)
    confirmed = np.zeros(int(number.max(initial=-1)) + 1, bool)
    confirmed[confirmed_tracks(seen.time_s, number, settings.confirm_hits, span)] = True
    track = np.empty(len(order), np.int64)
    track[order] = np.where(confirmed[number], number, -1)[target]
    names = pl.Series(track)
    told = pl.when(names >= 0).then(pl.concat_str(pl.lit("t"), names.cast(pl.String)))
    kept = pl.col(TRACK_ID).is_not_null()
    return fixes.with_columns(told.otherwise(pl.lit(None, pl.String)).alias(TRACK_ID)).with_columns(
        pl.when(kept).then(pl.lit(OBSERVED)).otherwise(pl.lit(REJECTED)).alias(STATE),
        pl.when(kept).then(pl.lit(None, pl.String)).otherwise(pl.lit(CLUTTER)).alias(REASON),
    )


def _tracks(seen: Plots, tracks: _Nearest) -> IntArray:
    number = np.empty(len(seen), np.int64)
    begin = np.flatnonzero(np.diff(seen.time_s, prepend=-np.inf) > 0)
    fresh = 0
    for first, end in zip(begin, np.append(begin[1:], len(seen)), strict=True):
        scan = seen.take(np.arange(first, end))
        tracks.forget(scan.time_s[0])
        found, plots = tracks.match(tracks.cost(scan))
        number[first + plots] = tracks.number[found]
        tracks.update(found, scan.take(plots))
        rest = np.setdiff1d(np.arange(len(scan)), plots)
        number[first + rest] = fresh + np.arange(len(rest))
        tracks.begin(number[first + rest], scan.take(rest))
        fresh += len(rest)
    return number

"""Classical rules of motion behind the protocol of the model: what every learned model must beat.

Each rule answers between known fixes, after the last and before the first. None has an ensemble or ellipses but the
Kalman smoother (``geodiff.vessels.kalman``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from geodiff.sphere import Array, from_local_km, turn_deg
from geodiff.tracks import TrackAnswer, TrackQuery
from geodiff.vessels.baselines_flat import Asks, Fixes, Index
from geodiff.vessels.kinematics import (
    STILL_KN,
    constant_turn,
    dead_reckon,
    great_circle,
    hermite,
)

TURN_FIXES: Final = 4
"""Fixes from which a rate of turn is estimated, the one that is reckoned from included."""


class DeadReckoning:
    """On at the speed and course of the nearest known fix in time, along a great circle.

    Between two fixes: forward from the one and backward from the other, weighted by nearness in time.
    """

    name = "dead_reckoning"
    levels: tuple[float, ...] = ()

    def predict(self, queries: Sequence[TrackQuery], *, members: int = 0, seed: int = 0) -> list[TrackAnswer]:
        """Answer each query, in order.

        Args:
            queries: each with one known fix or more.
            members, seed: without meaning here: there is no ensemble.

        Raises:
            ValueError: a query without a known fix.
        """
        fixes, asks = Fixes.of(queries), Asks.of(queries)
        lon, lat = np.empty(len(asks.time_s)), np.empty(len(asks.time_s))
        between = (asks.before >= 0) & (asks.after >= 0)
        for chosen, rule in ((np.flatnonzero(between), self._between), (np.flatnonzero(~between), self._beyond)):
            if len(chosen):
                lon[chosen], lat[chosen] = rule(fixes, asks, chosen)
        return asks.answers(lon, lat)

    def _beyond(self, fixes: Fixes, asks: Asks, chosen: Index) -> tuple[Array, Array]:
        """Beyond the known fixes there is one to reckon from, which is the anchor."""
        return self._from(fixes, asks.anchor[chosen], asks.time_s[chosen])

    def _between(self, fixes: Fixes, asks: Asks, chosen: Index) -> tuple[Array, Array]:
        before, after, t = asks.before[chosen], asks.after[chosen], asks.time_s[chosen]
        ahead, back = self._from(fixes, before, t), self._from(fixes, after, t)
        share = (t - fixes.time_s[before]) / (fixes.time_s[after] - fixes.time_s[before])
        return great_circle(ahead, back, share)

    def _from(self, fixes: Fixes, index: Index, t: Array) -> tuple[Array, Array]:
        centre = fixes.place(index)
        start = np.zeros((len(index), 2))
        return _degrees(dead_reckon(fixes.time_s[index], start, fixes.velocity(index, centre), t), centre)


class Linear(DeadReckoning):
    """The great circle at constant speed between two fixes; dead reckoning beyond them."""

    name = "linear"

    def _between(self, fixes: Fixes, asks: Asks, chosen: Index) -> tuple[Array, Array]:
        before, after, t = asks.before[chosen], asks.after[chosen], asks.time_s[chosen]
        share = (t - fixes.time_s[before]) / (fixes.time_s[after] - fixes.time_s[before])
        return great_circle(fixes.place(before), fixes.place(after), share)


class Hermite(DeadReckoning):
    """The cubic with position and velocity of both fixes between them; dead reckoning beyond them."""

    name = "hermite"

    def _between(self, fixes: Fixes, asks: Asks, chosen: Index) -> tuple[Array, Array]:
        before, after, t = asks.before[chosen], asks.after[chosen], asks.time_s[chosen]
        centre = fixes.place(before)
        t0, t1 = fixes.time_s[before], fixes.time_s[after]
        p0, p1 = fixes.position(before, centre), fixes.position(after, centre)
        v0, v1 = fixes.velocity(before, centre), fixes.velocity(after, centre)
        return _degrees(hermite(t0, p0, v0, t1, p1, v1, t), centre)


class ConstantTurn(DeadReckoning):
    """On at the speed and rate of turn of the last ``TURN_FIXES`` fixes: least squares of course over time.

    Between two fixes as ``DeadReckoning``, with the turns before and after the gap.
    """

    name = "constant_turn"

    def _from(self, fixes: Fixes, index: Index, t: Array) -> tuple[Array, Array]:
        centre = fixes.place(index)
        rate = _turn_rate(fixes, index, np.where(t >= fixes.time_s[index], -1, 1))
        start = np.zeros((len(index), 2))
        place = constant_turn(fixes.time_s[index], start, fixes.velocity(index, centre), rate, t)
        return _degrees(place, centre)


def _degrees(position_km: Array, centre: tuple[Array, Array]) -> tuple[Array, Array]:
    return from_local_km(position_km[:, 0], position_km[:, 1], *centre)


def _turn_rate(fixes: Fixes, index: Index, side: Index) -> Array:
    """(m,) radians per second, from fixes of the same query on one side (-1: before) as far as all of them move."""
    near = index[:, None] + side[:, None] * np.arange(TURN_FIXES)
    inside = (near >= 0) & (near < len(fixes.query))
    near = np.where(inside, near, index[:, None])
    usable = inside & (fixes.query[near] == fixes.query[index][:, None]) & (fixes.sog_kn[near] >= STILL_KN)
    usable = np.logical_and.accumulate(usable, axis=1)
    time = np.where(usable, fixes.time_s[near] - fixes.time_s[index][:, None], 0.0)
    course = fixes.cog_deg[near]
    turned = np.cumsum(np.pad(turn_deg(course[:, :-1], course[:, 1:]), ((0, 0), (1, 0))), axis=1)
    count = np.maximum(usable.sum(1), 1)
    time_off = np.where(usable, time - (time.sum(1) / count)[:, None], 0.0)
    power = (time_off**2).sum(1)
    slope = np.divide(
        (time_off * np.where(usable, turned, 0.0)).sum(1), power, out=np.zeros(len(index)), where=power > 0
    )
    out: Array = np.radians(slope)
    return out

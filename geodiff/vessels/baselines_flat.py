"""Many queries laid end to end, so that a classical rule answers all of them in a few array operations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from geodiff.sphere import KM_S_PER_KN, Array, course_of, to_local_km
from geodiff.tracks import TrackAnswer, TrackQuery
from geodiff.vessels.kinematics import difference_velocity, velocity_km_s

Index = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Fixes:
    """The known fixes of all queries, one query after the other.

    Attributes:
        query: (n,) which query a fix belongs to.
        time_s, lon_deg, lat_deg: (n,).
        sog_kn, cog_deg: (n,) as reported, and by finite differences of the positions where that is unknown.
    """

    query: Index
    time_s: Array
    lon_deg: Array
    lat_deg: Array
    sog_kn: Array
    cog_deg: Array

    @classmethod
    def of(cls, queries: Sequence[TrackQuery]) -> Self:
        """Lay queries end to end.

        Raises:
            ValueError: a query without a known fix.
        """
        counts = np.array([len(query.time_s) for query in queries], np.int64)
        if (counts == 0).any():
            raise ValueError(f"query {int(np.argmin(counts))} has no known fix: there is nothing to reckon from")
        time, lon, lat = (_joined([getattr(query, name) for query in queries]) for name in ("time_s", *_PLACE))
        sog, cog = (_joined([getattr(query, name) for query in queries]) for name in ("sog_kn", "cog_deg"))
        owner = np.repeat(np.arange(len(queries)), counts)
        return cls(owner, time, lon, lat, *_filled(owner, time, (lon, lat), sog, cog))

    def place(self, index: Index) -> tuple[Array, Array]:
        """(lon, lat) degrees of chosen fixes."""
        return self.lon_deg[index], self.lat_deg[index]

    def position(self, index: Index, centre: tuple[Array, Array]) -> Array:
        """(..., 2) km of chosen fixes in the planes about the centres."""
        return np.stack(to_local_km(*self.place(index), *centre), -1)

    def velocity(self, index: Index, centre: tuple[Array, Array]) -> Array:
        """(..., 2) km/s of chosen fixes in the planes about the centres."""
        return velocity_km_s(self.place(index), self.sog_kn[index], self.cog_deg[index], centre)


@dataclass(frozen=True, slots=True, eq=False)
class Asks:
    """The asked times of all queries, each with the known fixes that enclose it.

    Attributes:
        query: (m,) which query asks.
        time_s: (m,).
        before, after: (m,) index of the last fix before and of the first one after in ``Fixes``; -1 where none is.
        counts: (query,) how many times each query asks.
    """

    query: Index
    time_s: Array
    before: Index
    after: Index
    counts: Index

    @classmethod
    def of(cls, queries: Sequence[TrackQuery]) -> Self:
        """Find the enclosing fixes of every asked time."""
        counts = np.array([len(query.ask_s) for query in queries], np.int64)
        known = np.array([len(query.time_s) for query in queries], np.int64)
        start = np.concatenate([[0], np.cumsum(known)]).astype(np.int64)
        owner = np.repeat(np.arange(len(queries)), counts)
        rank = _joined([np.searchsorted(query.time_s, query.ask_s, side="right") for query in queries]).astype(np.int64)
        before = np.where(rank > 0, start[owner] + rank - 1, -1)
        after = np.where(rank < known[owner], start[owner] + rank, -1)
        return cls(owner, _joined([query.ask_s for query in queries]), before, after, counts)

    @property
    def anchor(self) -> Index:
        """(m,) the fix whose plane is used: the one before, or the first one of all."""
        return np.where(self.before >= 0, self.before, self.after)

    def answers(self, lon_deg: Array, lat_deg: Array) -> list[TrackAnswer]:
        """Cut (m,) positions up into one answer per query."""
        ends = np.cumsum(self.counts)
        return [
            TrackAnswer(lon_deg[end - count : end], lat_deg[end - count : end])
            for count, end in zip(self.counts, ends, strict=True)
        ]


_PLACE = ("lon_deg", "lat_deg")


def _joined(parts: Sequence[npt.NDArray[np.generic]]) -> Array:
    return np.concatenate([np.empty(0), *parts]).astype(np.float64)


def _filled(owner: Index, time: Array, place: tuple[Array, Array], sog: Array, cog: Array) -> tuple[Array, Array]:
    """Speed and course, those that are unknown from the neighbours' positions in the plane about the fix itself."""
    index = np.arange(len(owner))
    first, last = np.roll(owner, 1) != owner, np.roll(owner, -1) != owner
    if len(owner):
        first[0], last[-1] = True, True
    near = np.stack([index - ~first, index, index + ~last], 1)
    km = np.stack(to_local_km(place[0][near], place[1][near], *(each[:, None] for each in place)), -1)
    times = time[near] - time[:, None]
    inner, alone = ~first & ~last, first & last
    slope = np.zeros((len(owner), 2))
    slope[inner] = difference_velocity(times[inner], km[inner])[:, 1]
    slope[first & ~alone] = difference_velocity(times[first & ~alone][:, 1:], km[first & ~alone][:, 1:])[:, 0]
    slope[last & ~alone] = difference_velocity(times[last & ~alone][:, :2], km[last & ~alone][:, :2])[:, 1]
    speed = np.hypot(slope[:, 0], slope[:, 1]) / KM_S_PER_KN
    course = course_of(slope[:, 0], slope[:, 1])
    # A speed without any course, told or sailed, is no motion.
    lost = ~np.isfinite(cog) & (slope == 0.0).all(1)
    return np.where(np.isfinite(sog) & ~lost, sog, speed), np.where(np.isfinite(cog), cog, course)

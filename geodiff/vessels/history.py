"""What vessels did before from near here: historic tracks as a prior of motion.

Of the fixes of past tracks the nearest in place, course and speed are found; what those vessels did next, taken at the
asking vessel's own speed and moved to its own place, is where it may go. Sea lanes, bends and harbour mouths enter a
motion model this way, from whatever tracks are at hand, and nothing of a place is learned into weights. What the asking
vessel itself did on other passes of the place - a ferry's last crossing - answers apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.spatial import cKDTree

from geodiff.sphere import EARTH_RADIUS_KM, KM_PER_NMI, to_local_km
from geodiff.tracks import COG, LAT, LON, OBSERVED, SOG, STATE, TIME, TRACK_ID, VESSEL_ID

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

NEIGHBOURS = 24
"""Historic tracks that answer a query."""

PASSES = 3
"""Other passes of its own that answer a vessel."""

TURN_KM = (1.5, 6.0, 24.0, 96.0)
"""Kilometres of offset that weigh as much as a course one radian off: the reach of the question decides which."""

SLOWEST_KM_S = 0.5 * KM_PER_NMI / 3600
"""Fixes slower than half a knot are no start of a movement."""

FARTHEST = 3.0
"""In units of ``TURN_KM``: what differs more does not answer."""

MOST_LOOKED_AT = 64 * NEIGHBOURS
"""Fixes looked at for one question where most of the nearest may not answer, being of its future."""


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What the historic tracks say, for n questions with m times each.

    Attributes:
        east_km, north_km: (n, k, m) displacement from the asking vessel's place.
        weight: (n, k, m) in 0-1; 0 where a track had ended by then or there is none.
    """

    east_km: Floats
    north_km: Floats
    weight: Floats

    @classmethod
    def joined(cls, parts: Sequence[Answers]) -> Answers:
        """All tracks that answer, of several answers to the same questions."""
        names = ("east_km", "north_km", "weight")
        return cls(*(np.concatenate([getattr(part, name) for part in parts], 1) for name in names))


@dataclass(frozen=True, slots=True, eq=False)
class Asking:
    """n vessels that ask, each at a place and a time of its own.

    Attributes:
        lon_deg, lat_deg, east_km_s, north_km_s: (n,) where they are, and their velocity.
        vessel_id: (n,) identity.
        after_s: (n, m) seconds after (negative: before) the asking time.
        reach_km: (n,) how far the question reaches, such as speed times horizon.
    """

    lon_deg: Floats
    lat_deg: Floats
    east_km_s: Floats
    north_km_s: Floats
    vessel_id: Ints
    after_s: Floats
    reach_km: Floats

    @property
    def speed_km_s(self) -> Floats:
        """(n,)."""
        return np.hypot(self.east_km_s, self.north_km_s)


class TrackHistory:
    """Past tracks, indexed by place, course and speed.

    Args (all (n,), sorted by track, then time):
        track: whole number of the track.
        vessel_id: identity.
        time_s: seconds since 1970-01-01 UTC, strictly rising within a track.
        lon_deg, lat_deg: degrees.
        east_km_s, north_km_s: velocity over ground.
        private: (n,) fixes that answer their own vessel alone; none when None.
    """

    def __init__(
        self,
        *,
        track: Ints,
        vessel_id: Ints,
        time_s: Floats,
        lon_deg: Floats,
        lat_deg: Floats,
        east_km_s: Floats,
        north_km_s: Floats,
        private: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        self.track, self.vessel_id, self.time_s = track, vessel_id, time_s
        self.lon_deg, self.lat_deg = lon_deg, lat_deg
        self.east_km_s, self.north_km_s = east_km_s, north_km_s
        self._first = np.flatnonzero(np.diff(track, prepend=-1)) if len(track) else np.empty(0, np.int64)
        self._last = np.append(self._first[1:], len(track)) - 1
        self._number = np.repeat(np.arange(len(self._first)), self._last - self._first + 1)
        # One rising key for all tracks, so that a single search finds a time in any of them.
        self._start_s = float(time_s.min()) if len(time_s) else 0.0
        self._span = float(np.ptp(time_s)) + 1.0 if len(time_s) else 1.0
        self._keys = self._number * self._span + (time_s - self._start_s)
        self._private = np.zeros(len(track), bool) if private is None else private
        self._trees: dict[int, tuple[cKDTree, Ints]] = {}

    @classmethod
    def from_table(cls, cleaned: pl.DataFrame, *, private: npt.ArrayLike = ()) -> Self:
        """Index the observed fixes of a cleaned table (columns of ``geodiff.tracks``).

        Args:
            cleaned: the fixes.
            private: vessels whose fixes answer themselves alone, such as those that an evaluation asks about.
        """
        kept = (
            cleaned.filter((pl.col(STATE) == OBSERVED) & pl.col(TRACK_ID).is_not_null())
            if STATE in cleaned.columns
            else cleaned
        )
        kept = kept.unique([TRACK_ID, TIME], keep="first").sort(TRACK_ID, TIME)
        time_s = kept[TIME].dt.epoch("us").to_numpy() / 1e6
        track = kept[TRACK_ID].rle_id().cast(pl.Int64).to_numpy()
        lon, lat = kept[LON].to_numpy(), kept[LAT].to_numpy()
        east, north = _velocity(track, time_s, lon, lat, kept[SOG].to_numpy(), kept[COG].to_numpy())
        vessel = kept[VESSEL_ID].fill_null(-1).to_numpy()
        return cls(
            track=track, vessel_id=vessel, time_s=time_s, lon_deg=lon, lat_deg=lat, east_km_s=east, north_km_s=north,
            private=np.isin(vessel, np.asarray(private, np.int64)),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.time_s)

    @cached_property
    def _points(self) -> Floats:
        return _points(self.lon_deg, self.lat_deg)

    def _tree(self, which: int) -> tuple[cKDTree, Ints]:
        """The index for questions of one reach, and the fixes in it: moving, and thinned along each track."""
        if which not in self._trees:
            step = np.linalg.norm(np.diff(self._points, axis=0, prepend=self._points[:1]), axis=1)
            step[self._first] = 0
            # Fixes a twelfth of the turning scale apart say nothing new.
            mark = np.floor(np.cumsum(step) / (TURN_KM[which] / 12.0)).astype(np.int64)
            fresh = (np.diff(mark, prepend=-1) != 0) | (np.diff(self._number, prepend=-1) != 0)
            kept = np.flatnonzero(fresh & (self._speed > SLOWEST_KM_S) & ~self._private)
            features = _features(self._points[kept], self.east_km_s[kept], self.north_km_s[kept], which)
            self._trees[which] = (cKDTree(features), kept)
        return self._trees[which]

    def ask(self, asking: Asking, *, until_s: Floats | None = None) -> Answers:
        """Where other vessels went that once moved like these.

        Args:
            asking: whose own tracks do not answer.
            until_s: (n,) seconds since 1970 after which nothing is known yet; infinity (and None) for all times.

        Returns:
            Displacements and weights, (n, ``NEIGHBOURS``, m).
        """
        asked = len(asking.vessel_id)
        near, distance = np.full((asked, NEIGHBOURS), -1, np.int64), np.full((asked, NEIGHBOURS), np.inf)
        which, until = _scale_of(asking.reach_km), np.full(asked, np.inf) if until_s is None else until_s
        features = _features_of(asking, which)
        for scale in np.unique(which) if len(self) else ():
            rows = np.flatnonzero(which == scale)
            near[rows], distance[rows] = self._nearest(features[rows], asking.vessel_id[rows], until[rows], int(scale))
        return self._answers(asking, near, distance, until)

    def ask_own(self, asking: Asking, hidden_s: Floats) -> Answers:
        """What each vessel itself did on its nearest other passes of the place.

        Args:
            asking: the vessels.
            hidden_s: (n, 2) seconds since 1970, from and to when the vessel is not known: no pass that would need a
                fix from then answers.

        Returns:
            Displacements and weights, (n, ``PASSES``, m).
        """
        asked = len(asking.vessel_id)
        near, distance = np.full((asked, PASSES), -1, np.int64), np.full((asked, PASSES), np.inf)
        which, speed = _scale_of(asking.reach_km), asking.speed_km_s
        features = _features_of(asking, which)
        first, last = asking.after_s.min(1, initial=0.0), asking.after_s.max(1, initial=0.0)
        for row, vessel in enumerate(asking.vessel_id.tolist()):
            mine = self._moving_fixes_of(vessel)
            pace, time = _pace(speed[row], self._speed[mine]), self.time_s[mine]
            mine = mine[(time + pace * last[row] <= hidden_s[row, 0]) | (time + pace * first[row] >= hidden_s[row, 1])]
            own = _features(self._points[mine], self.east_km_s[mine], self.north_km_s[mine], which[row])
            far = np.linalg.norm(own - features[row], axis=1)
            for one in range(PASSES):
                best = int(far.argmin()) if len(far) else -1
                if best < 0 or far[best] >= FARTHEST * TURN_KM[which[row]]:
                    break
                near[row, one], distance[row, one] = mine[best], far[best]
                # Fixes within the length of the question before and after are of the same pass.
                far[np.abs(self.time_s[mine] - self.time_s[mine[best]]) <= last[row] - first[row]] = np.inf
        return self._answers(asking, near, distance, np.full(asked, np.inf))

    def _answers(self, asking: Asking, near: Ints, distance: Floats, until_s: Floats) -> Answers:
        """Follow the fixes ``near`` (n, k) at the asking vessel's pace; no further than ``until_s`` (n,)."""
        if not len(self):
            nothing = np.zeros((*near.shape, asking.after_s.shape[1]))
            return Answers(nothing, nothing, nothing)
        on_s = _pace(asking.speed_km_s[:, None], self._speed[near])[:, :, None] * asking.after_s[:, None, :]
        east, north, known = self._follow(near, on_s)
        known = known * (self.time_s[near][:, :, None] + on_s <= until_s[:, None, None])
        width = 0.5 * np.array(TURN_KM)[_scale_of(asking.reach_km)]
        close = np.exp(-distance / width[:, None]) * (near >= 0)
        return Answers(east, north, close[:, :, None] * known)

    def _moving_fixes_of(self, vessel: int) -> Ints:
        """Indices of a vessel's moving fixes."""
        ids, order = self._moving_by_vessel
        low, high = np.searchsorted(ids, [vessel, vessel + 1])
        return order[low:high]

    @cached_property
    def _moving_by_vessel(self) -> tuple[Ints, Ints]:
        moving = np.flatnonzero(self._speed > SLOWEST_KM_S)
        order = moving[np.argsort(self.vessel_id[moving], kind="stable")]
        return self.vessel_id[order], order

    @cached_property
    def _speed(self) -> Floats:
        return np.hypot(self.east_km_s, self.north_km_s)

    def _nearest(self, features: Floats, vessel_id: Ints, until_s: Floats, scale: int) -> tuple[Ints, Floats]:
        """The nearest fix of each of the nearest tracks: indices (n, k), -1 where there is none, and distances.

        Where many of the nearest are of the question's own vessel or of its future, more are looked at.
        """
        tree, kept = self._tree(scale)
        out, far = np.full((len(features), NEIGHBOURS), -1, np.int64), np.full((len(features), NEIGHBOURS), np.inf)
        rows, count = np.arange(len(features)), min(4 * NEIGHBOURS, len(kept))
        while len(rows) and count:
            distance, found = tree.query(features[rows], k=count, distance_upper_bound=FARTHEST * TURN_KM[scale])
            distance, found = distance.reshape(len(rows), count), found.reshape(len(rows), count)
            index = kept[np.minimum(found, len(kept) - 1)]
            there = (found < len(kept)) & (self.vessel_id[index] != vessel_id[rows, None])
            there &= self.time_s[index] < until_s[rows, None]
            out[rows], far[rows] = self._one_a_track(index, distance, there)
            if count >= min(MOST_LOOKED_AT, len(kept)):
                break
            rows = rows[(out[rows, NEIGHBOURS // 2] < 0) & (found[:, -1] < len(kept))]
            count = min(4 * count, len(kept))
        return out, far

    def _one_a_track(self, index: Ints, distance: Floats, there: npt.NDArray[np.bool_]) -> tuple[Ints, Floats]:
        """Of fixes (n, many) from near to far the nearest of each track: (n, NEIGHBOURS) indices and distances."""
        out, far = np.full((len(index), NEIGHBOURS), -1, np.int64), np.full((len(index), NEIGHBOURS), np.inf)
        # Columns of a track seen before do not count.
        number = np.where(there, self._number[index], -1 - np.arange(index.shape[1]))
        order = np.argsort(number, axis=1, kind="stable")
        ranked = np.take_along_axis(number, order, 1)
        first = np.ones_like(there)
        np.put_along_axis(first, order, np.diff(ranked, axis=1, prepend=np.iinfo(np.int64).min) != 0, 1)
        chosen = there & first
        place = np.cumsum(chosen, 1) - 1
        rows, cols = np.nonzero(chosen & (place < NEIGHBOURS))
        out[rows, place[rows, cols]], far[rows, place[rows, cols]] = index[rows, cols], distance[rows, cols]
        return out, far

    def _follow(self, near: Ints, after_s: Floats) -> tuple[Floats, Floats, Floats]:
        """Displacement (n, k, m) of historic fixes ``near`` (n, k) after so many seconds, and 1 where it is known."""
        number = self._number[near]
        first, last = self._first[number][:, :, None], self._last[number][:, :, None]
        wanted = self.time_s[near][:, :, None] + after_s
        known = (wanted >= self.time_s[first]) & (wanted <= self.time_s[last]) & (near >= 0)[:, :, None]
        inside = np.clip(wanted, self.time_s[first], self.time_s[last])
        right = np.searchsorted(self._keys, number[:, :, None] * self._span + (inside - self._start_s), side="right")
        right = np.clip(right, np.minimum(first + 1, last), last)
        left = np.maximum(right - 1, first)
        whole = self.time_s[right] - self.time_s[left]
        share = np.clip(np.divide(inside - self.time_s[left], whole, out=np.zeros_like(wanted), where=whole > 0), 0, 1)
        lon0, lat0 = self.lon_deg[near][:, :, None], self.lat_deg[near][:, :, None]
        east0, north0 = to_local_km(self.lon_deg[left], self.lat_deg[left], lon0, lat0)
        east1, north1 = to_local_km(self.lon_deg[right], self.lat_deg[right], lon0, lat0)
        return east0 + share * (east1 - east0), north0 + share * (north1 - north0), known.astype(np.float64)


def _points(lon_deg: Floats, lat_deg: Floats) -> Floats:
    """Places in space, kilometres: (n, 3)."""
    lon, lat = np.radians(lon_deg), np.radians(lat_deg)
    flat = np.cos(lat)
    return EARTH_RADIUS_KM * np.stack([flat * np.cos(lon), flat * np.sin(lon), np.sin(lat)], 1)


def _features(points: Floats, east: Floats, north: Floats, which: int | Ints) -> Floats:
    """Place in km, course as a unit vector, logarithm of speed, on one scale: (n, 6)."""
    speed = np.maximum(np.hypot(east, north), SLOWEST_KM_S)[:, None]
    turn = np.array(TURN_KM)[which, None] if isinstance(which, np.ndarray) else TURN_KM[which]
    return np.concatenate([points, turn * np.stack([east, north], 1) / speed, 0.5 * turn * np.log(speed)], 1)


def _features_of(asking: Asking, which: Ints) -> Floats:
    return _features(_points(asking.lon_deg, asking.lat_deg), asking.east_km_s, asking.north_km_s, which)


def _scale_of(reach_km: Floats) -> Ints:
    """Which of ``TURN_KM`` suits questions of a reach."""
    out: Ints = np.abs(np.log(np.maximum(reach_km, 0.1))[:, None] - np.log(3.0 * np.array(TURN_KM))).argmin(1)
    return out


def _pace(speed: Floats, theirs: Floats) -> Floats:
    """How much faster a vessel is than those whose ways it follows, within a factor of two."""
    out: Floats = np.clip(speed / np.maximum(theirs, 1e-6), 0.5, 2.0)
    return out


def _velocity(
    track: Ints, time_s: Floats, lon_deg: Floats, lat_deg: Floats, sog_kn: Floats, cog_deg: Floats
) -> tuple[Floats, Floats]:
    """East and north velocity (n,) of fixes sorted by track and time, in km/s.

    From speed and course over ground where both are known, else from the displacement between the neighbouring fixes.
    """
    speed = np.asarray(sog_kn, np.float64) * KM_PER_NMI / 3600
    angle = np.radians(np.asarray(cog_deg, np.float64))
    east, north = speed * np.sin(angle), speed * np.cos(angle)
    lost = ~(np.isfinite(east) & np.isfinite(north))
    if lost.any() and len(time_s):
        index = np.arange(len(time_s))
        before = np.where(np.diff(track, prepend=track[:1] - 1) == 0, index - 1, index)[lost]
        after = np.where(np.diff(track, append=track[-1:] + 1) == 0, index + 1, index)[lost]
        seconds = time_s[after] - time_s[before]
        moved_e, moved_n = to_local_km(lon_deg[after], lat_deg[after], lon_deg[before], lat_deg[before])
        rate = np.divide(1.0, seconds, out=np.zeros_like(seconds), where=seconds > 0)
        east[lost], north[lost] = moved_e * rate, moved_n * rate
    return east, north

"""What vessels did before from near here: historic tracks as a prior of motion.

Of the fixes of past tracks the nearest in place, course and speed are found; what those vessels did next, taken at the
asking vessel's own speed and moved to its own place, is where it may go. Sea lanes, bends and harbour mouths enter a
motion model this way, from whatever tracks are at hand, and nothing of a place is learned into weights. What the asking
vessel itself did on other passes of the place - a ferry's last crossing - answers apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl

from geodiff.sphere import KM_PER_NMI, to_local_km
from geodiff.tracks import COG, LAT, LON, OBSERVED, SHIP_TYPE, SOG, STATE, TIME, TRACK_ID, VESSEL_ID, ship_group
from geodiff.vessels.history_search import TURN_KM, Asking, PassSearch, pace
from geodiff.vessels.visited import VisitedPlaces

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What the historic tracks say, for n questions with m times each (``Asking.followed_s``).

    Attributes:
        east_km, north_km: (n, k, m) displacement from the asking vessel's place.
        weight: (n, k, m) in 0-1; 0 where a track had ended by then or there is none.
        near: (n, k) in 0-1, how near in place, course and speed each passed.
        fix: (n, k) the historic fix from which each is followed, -1 where there is none.
    """

    east_km: Floats
    north_km: Floats
    weight: Floats
    near: Floats
    fix: Ints

    @classmethod
    def joined(cls, parts: Sequence[Answers]) -> Answers:
        """All tracks that answer, of several answers to the same questions."""
        names = ("east_km", "north_km", "weight", "near", "fix")
        return cls(*(np.concatenate([getattr(part, name) for part in parts], 1) for name in names))


class TrackHistory:
    """Past tracks, indexed by place, course and speed.

    Args (all (n,), sorted by track, then time):
        track: whole number of the track.
        vessel_id: identity.
        time_s: seconds since 1970-01-01 UTC, strictly rising within a track.
        lon_deg, lat_deg: degrees.
        east_km_s, north_km_s: velocity over ground.
        ship_group: index into ``SHIP_GROUPS``; unknown when None.
        private: (n,) fixes that answer their own vessel alone; none when None.
        told_s: from and to which time (n,) each velocity looks: the fix's own (as when None), or its neighbours' where
            it is taken from the way between them.
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
        ship_group: Ints | None = None,
        private: npt.NDArray[np.bool_] | None = None,
        told_s: tuple[Floats, Floats] | None = None,
    ) -> None:
        self.track, self.vessel_id, self.time_s = track, vessel_id, time_s
        self.lon_deg, self.lat_deg = lon_deg, lat_deg
        self.east_km_s, self.north_km_s = east_km_s, north_km_s
        self.ship_group = np.zeros(len(track), np.int64) if ship_group is None else ship_group
        self._first = np.flatnonzero(np.diff(track, prepend=-1)) if len(track) else np.empty(0, np.int64)
        self._last = np.append(self._first[1:], len(track)) - 1
        self._number = np.repeat(np.arange(len(self._first)), self._last - self._first + 1)
        # One rising key for all tracks, so that a single search finds a time in any of them.
        self._start_s = float(time_s.min()) if len(time_s) else 0.0
        self._span = float(np.ptp(time_s)) + 1.0 if len(time_s) else 1.0
        self._keys = self._number * self._span + (time_s - self._start_s)
        self.private = np.zeros(len(track), bool) if private is None else private
        told_s = (time_s, time_s) if told_s is None else told_s
        self._search = PassSearch(
            self._number, vessel_id, time_s, told_s, (lon_deg, lat_deg), (east_km_s, north_km_s), self.private
        )

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
        (east, north), told_s = _velocity(track, time_s, lon, lat, kept[SOG].to_numpy(), kept[COG].to_numpy())
        vessel = kept[VESSEL_ID].fill_null(-1).to_numpy()
        types = kept[SHIP_TYPE].fill_null(0).to_numpy() if SHIP_TYPE in kept.columns else np.zeros(len(kept), np.int64)
        return cls(
            track=track, vessel_id=vessel, time_s=time_s, lon_deg=lon, lat_deg=lat, east_km_s=east, north_km_s=north,
            ship_group=ship_group(types), private=np.isin(vessel, np.asarray(private, np.int64)), told_s=told_s,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.time_s)

    @cached_property
    def visited(self) -> VisitedPlaces:
        """Where each vessel has been."""
        return VisitedPlaces(self.vessel_id, self._number, self.time_s, self.lon_deg, self.lat_deg)

    def content(self) -> str:
        """A hash of all that it can tell."""
        found = hashlib.blake2b(digest_size=16)
        for array in (
            self.vessel_id, self.track, self.time_s, self.lon_deg, self.lat_deg, self.east_km_s, self.north_km_s,
            self.ship_group, self.private,
        ):  # fmt: skip
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    def ask(self, asking: Asking, *, until_s: Floats | None = None) -> Answers:
        """Where other vessels went that once moved like these.

        Args:
            asking: whose own tracks do not answer.
            until_s: (n,) seconds since 1970 after which nothing is known yet; infinity (and None) for all times. Where
                more than ``MOST_LOOKED_AT`` fixes are near, later ones may keep earlier ones from being found; what
                they are is never told.

        Returns:
            Displacements and weights, (n, ``NEIGHBOURS``, m).
        """
        until = np.full(len(asking.vessel_id), np.inf) if until_s is None else until_s
        unknown = np.stack([until, np.full_like(until, np.inf)], 1)
        return self._answers(asking, *self._search.others(asking, until), unknown)

    def ask_own(self, asking: Asking, hidden_s: Floats) -> Answers:
        """What each vessel itself did on its nearest other passes of the place.

        Args:
            asking: the vessels.
            hidden_s: (n, 2) seconds since 1970, from and to when the vessel is not known: no pass that would need a
                fix from then answers.

        Returns:
            Displacements and weights, (n, ``PASSES``, m).
        """
        return self._answers(asking, *self._search.own(asking, hidden_s), hidden_s)

    def _answers(self, asking: Asking, near: Ints, distance: Floats, hidden_s: Floats) -> Answers:
        """Follow the fixes ``near`` (n, k) at the asking vessel's pace; no fix from ``hidden_s`` (n, 2) tells."""
        followed = asking.followed_s
        if not len(self):
            nothing = np.zeros((*near.shape, followed.shape[1]))
            return Answers(nothing, nothing, nothing, np.zeros(near.shape), near)
        on_s = pace(asking.speed_km_s[:, None], self._search.speed_km_s[near])[:, :, None] * followed[:, None, :]
        east, north, known = self._follow(near, on_s, hidden_s)
        width = 0.5 * np.array(TURN_KM)[asking.scale]
        close = np.exp(-distance / width[:, None]) * (near >= 0)
        return Answers(east, north, close[:, :, None] * known, close, near)

    def _follow(self, near: Ints, after_s: Floats, hidden_s: Floats) -> tuple[Floats, Floats, Floats]:
        """Displacement (n, k, m) of historic fixes ``near`` (n, k) after so many seconds, and 1 where it is known.

        Between two fixes it is known where both are: none may lie strictly between the ends of ``hidden_s`` (n, 2).
        """
        number = self._number[near]
        first, last = self._first[number][:, :, None], self._last[number][:, :, None]
        wanted = self.time_s[near][:, :, None] + after_s
        known = (wanted >= self.time_s[first]) & (wanted <= self.time_s[last]) & (near >= 0)[:, :, None]
        inside = np.clip(wanted, self.time_s[first], self.time_s[last])
        right = np.searchsorted(self._keys, number[:, :, None] * self._span + (inside - self._start_s), side="left")
        right = np.clip(right, np.minimum(first + 1, last), last)
        left = np.maximum(right - 1, first)
        known &= (self.time_s[right] <= hidden_s[:, 0, None, None]) | (self.time_s[left] >= hidden_s[:, 1, None, None])
        whole = self.time_s[right] - self.time_s[left]
        share = np.clip(np.divide(inside - self.time_s[left], whole, out=np.zeros_like(wanted), where=whole > 0), 0, 1)
        lon0, lat0 = self.lon_deg[near][:, :, None], self.lat_deg[near][:, :, None]
        east0, north0 = to_local_km(self.lon_deg[left], self.lat_deg[left], lon0, lat0)
        east1, north1 = to_local_km(self.lon_deg[right], self.lat_deg[right], lon0, lat0)
        return east0 + share * (east1 - east0), north0 + share * (north1 - north0), known.astype(np.float64)


def _velocity(
    track: Ints, time_s: Floats, lon_deg: Floats, lat_deg: Floats, sog_kn: Floats, cog_deg: Floats
) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
    """East and north velocity (n,) of fixes sorted by track and time, in km/s, and from and to when they look.

    From speed and course over ground where both are known, else from the displacement between the neighbouring fixes.
    """
    begin, end = time_s.copy(), time_s.copy()
    speed = np.asarray(sog_kn, np.float64) * KM_PER_NMI / 3600
    angle = np.radians(np.asarray(cog_deg, np.float64))
    east, north = speed * np.sin(angle), speed * np.cos(angle)
    lost = ~(np.isfinite(east) & np.isfinite(north))
    if lost.any() and len(time_s):
        index = np.arange(len(time_s))
        before = np.where(np.diff(track, prepend=track[:1] - 1) == 0, index - 1, index)[lost]
        after = np.where(np.diff(track, append=track[-1:] + 1) == 0, index + 1, index)[lost]
        begin[lost], end[lost] = time_s[before], time_s[after]
        seconds = time_s[after] - time_s[before]
        moved_e, moved_n = to_local_km(lon_deg[after], lat_deg[after], lon_deg[before], lat_deg[before])
        rate = np.divide(1.0, seconds, out=np.zeros_like(seconds), where=seconds > 0)
        east[lost], north[lost] = moved_e * rate, moved_n * rate
    return (east, north), (begin, end)

"""Search in past tracks: of the fixes of others, and of a vessel's own, those nearest in place, course and speed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from geodiff.sphere import KM_S_PER_KN, to_space_km

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

NEIGHBOURS = 24
"""Historic tracks that answer a query."""

PASSES = 3
"""Other passes of its own that answer a vessel."""

TURN_KM = (1.5, 6.0, 24.0, 96.0)
"""Kilometres of offset that weigh as much as a course one radian off: the reach of the question decides which."""

SLOWEST_KM_S = 0.5 * KM_S_PER_KN
"""Fixes slower than half a knot are no start of a movement."""

FARTHEST = 3.0
"""In units of ``TURN_KM``: what differs more does not answer."""

MOST_LOOKED_AT = 64 * NEIGHBOURS
"""Fixes looked at for one question where most of the nearest may not answer, being of its future."""


@dataclass(frozen=True, slots=True, eq=False)
class Asking:
    """n vessels that ask, each at a place and a time of its own.

    Attributes:
        lon_deg, lat_deg, east_km_s, north_km_s: (n,) where they are, and their velocity.
        vessel_id: (n,) identity.
        after_s: (n, m) seconds after (negative: before) the asking time.
        reach_km: (n,) how far the question reaches, such as speed times horizon.
        beside_s: (n, b) seconds at which the answering paths are followed as well, to be compared with what is known;
            they have no say in who answers. Infinity where nothing is known.
    """

    lon_deg: Floats
    lat_deg: Floats
    east_km_s: Floats
    north_km_s: Floats
    vessel_id: Ints
    after_s: Floats
    reach_km: Floats
    beside_s: Floats | None = None

    @property
    def followed_s(self) -> Floats:
        """(n, m + b) all seconds at which paths are followed."""
        return self.after_s if self.beside_s is None else np.concatenate([self.after_s, self.beside_s], 1)

    @property
    def speed_km_s(self) -> Floats:
        """(n,)."""
        return np.hypot(self.east_km_s, self.north_km_s)

    @property
    def scale(self) -> Ints:
        """(n,) which of ``TURN_KM`` suits the reach."""
        out: Ints = np.abs(np.log(np.maximum(self.reach_km, 0.1))[:, None] - np.log(3.0 * np.array(TURN_KM))).argmin(1)
        return out


def unknown_times(
    start_s: Floats, end_s: Floats, *, ahead: npt.NDArray[np.bool_], behind: npt.NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """What a history must not tell of questions from one time on.

    Args:
        start_s, end_s: (n,) seconds since 1970 of the known fixes at both ends; the second counts within gaps alone.
        ahead, behind: (n,) questions beyond a vessel's last fix, and before its first; else within a gap.

    Returns:
        (n,) until when other vessels are known, for what lies ahead must be asked of the past alone; (n, 2) from and to
        when the vessel itself is not known.
    """
    until = np.where(ahead, start_s, np.inf)
    end = np.where(ahead, np.inf, np.where(behind, start_s, end_s))
    return until, np.stack([np.where(behind, -np.inf, start_s), end], 1)


class PassSearch:
    """Where others, or a vessel itself, passed a place before.

    Args (all (n,), sorted by track, then time):
        number: whole number of the track, rising from 0.
        vessel_id, time_s, told_s, place_deg, velocity_km_s: as of ``TrackHistory``.
        private: fixes that are found by their own vessel alone.
    """

    def __init__(
        self,
        number: Ints,
        vessel_id: Ints,
        time_s: Floats,
        told_s: tuple[Floats, Floats],
        place_deg: tuple[Floats, Floats],
        velocity_km_s: tuple[Floats, Floats],
        private: npt.NDArray[np.bool_],
    ) -> None:
        self._number, self._vessel_id, self._time_s, self._private = number, vessel_id, time_s, private
        self._told_s = told_s
        self._points = to_space_km(*place_deg)
        self._velocity = velocity_km_s
        self.speed_km_s = np.hypot(*velocity_km_s)
        self._trees: dict[int, tuple[cKDTree, Ints]] = {}

    def others(self, asking: Asking, until_s: Floats) -> tuple[Ints, Floats]:
        """The nearest fix of each of the nearest tracks of other vessels.

        Args:
            asking: n vessels.
            until_s: (n,) seconds since 1970 before which a fix must lie.

        Returns:
            Indices (n, ``NEIGHBOURS``), -1 where there is none, and how far they are, infinity there.
        """
        near, distance = _nobody(len(asking.vessel_id), NEIGHBOURS)
        scales = asking.scale
        features = _features_of(asking, scales)
        for scale in np.unique(scales) if len(self._number) else ():
            rows = np.flatnonzero(scales == scale)
            near[rows], distance[rows] = self._nearest(
                features[rows], asking.vessel_id[rows], until_s[rows], int(scale)
            )
        return near, distance

    def own(self, asking: Asking, hidden_s: Floats) -> tuple[Ints, Floats]:
        """The nearest fixes of the vessel's own other passes: (n, ``PASSES``), otherwise as ``others``.

        Args:
            asking: n vessels.
            hidden_s: (n, 2) seconds since 1970; a pass that would be followed into that time is not found.
        """
        near, distance = _nobody(len(asking.vessel_id), PASSES)
        scales, speeds = asking.scale, asking.speed_km_s
        features = _features_of(asking, scales)
        first, last = asking.after_s.min(1, initial=0.0), asking.after_s.max(1, initial=0.0)
        points = to_space_km(asking.lon_deg, asking.lat_deg)
        for row, vessel in enumerate(asking.vessel_id.tolist()):
            reach = FARTHEST * TURN_KM[scales[row]]
            mine = self._moving_fixes_of(vessel, points[row], reach)
            on = pace(speeds[row], self.speed_km_s[mine])
            early = self._told_s[1][mine] + on * last[row] <= hidden_s[row, 0]
            mine = mine[early | (self._told_s[0][mine] + on * first[row] >= hidden_s[row, 1])]
            far = np.linalg.norm(self._features(mine, int(scales[row])) - features[row], axis=1)
            for one in range(PASSES):
                best = int(far.argmin()) if len(far) else -1
                if best < 0 or far[best] >= reach:
                    break
                near[row, one], distance[row, one] = mine[best], far[best]
                # Fixes within the length of the question before and after are of the same pass.
                far[np.abs(self._time_s[mine] - self._time_s[mine[best]]) <= last[row] - first[row]] = np.inf
        return near, distance

    def _features(self, rows: Ints, which: int) -> Floats:
        return _features(self._points[rows], self._velocity[0][rows], self._velocity[1][rows], which)

    def _tree(self, which: int) -> tuple[cKDTree, Ints]:
        """The index for questions of one reach, and the fixes in it: moving, and thinned along each track."""
        if which not in self._trees:
            step = np.linalg.norm(np.diff(self._points, axis=0, prepend=self._points[:1]), axis=1)
            start = np.flatnonzero(np.diff(self._number, prepend=-1) != 0)
            step[start] = 0
            way = np.cumsum(step)
            # Each track's way from its own beginning: how it is thinned must not hang on others.
            way -= np.repeat(way[start], np.diff(np.append(start, len(way))))
            # Fixes a twelfth of the turning scale apart say nothing new.
            mark = np.floor(way / (TURN_KM[which] / 12.0)).astype(np.int64)
            fresh = (np.diff(mark, prepend=-1) != 0) | (np.diff(self._number, prepend=-1) != 0)
            kept = np.flatnonzero(fresh & (self.speed_km_s > SLOWEST_KM_S) & ~self._private)
            self._trees[which] = (cKDTree(self._features(kept, which)), kept)
        return self._trees[which]

    def _moving_fixes_of(self, vessel: int, point: Floats, reach_km: float) -> Ints:
        """Indices of a vessel's moving fixes in a cube about a place (3,): a long archive has few of them there."""
        ids, order = self._moving_by_vessel
        low, high = np.searchsorted(ids, [vessel, vessel + 1])
        found: Ints = order[low:high]
        for axis in range(3):
            found = found[np.abs(self._points[found, axis] - point[axis]) < reach_km]
        return found

    @cached_property
    def _moving_by_vessel(self) -> tuple[Ints, Ints]:
        """Identities in rising order, and their moving fixes' indices."""
        moving = np.flatnonzero(self.speed_km_s > SLOWEST_KM_S)
        order = moving[np.argsort(self._vessel_id[moving], kind="stable")]
        return self._vessel_id[order], order

    def _nearest(self, features: Floats, vessel_id: Ints, until_s: Floats, scale: int) -> tuple[Ints, Floats]:
        """The nearest fix of each of the nearest tracks: indices (n, k), -1 where there is none, and distances.

        Where many of the nearest are of the question's own vessel or of its future, more are looked at.
        """
        tree, kept = self._tree(scale)
        out, far = _nobody(len(features), NEIGHBOURS)
        rows, count = np.arange(len(features)), min(4 * NEIGHBOURS, len(kept))
        while len(rows) and count:
            distance, found = tree.query(features[rows], k=count, distance_upper_bound=FARTHEST * TURN_KM[scale])
            distance, found = distance.reshape(len(rows), count), found.reshape(len(rows), count)
            index = kept[np.minimum(found, len(kept) - 1)]
            there = (found < len(kept)) & (self._vessel_id[index] != vessel_id[rows, None])
            there &= self._told_s[1][index] <= until_s[rows, None]
            out[rows], far[rows] = self._one_a_track(index, distance, there)
            if count >= min(MOST_LOOKED_AT, len(kept)):
                break
            # What is known of the past must not hang on how much of the future was near.
            enough = np.where(np.isfinite(until_s[rows]), out[rows, -1] >= 0, out[rows, NEIGHBOURS // 2] >= 0)
            rows = rows[~enough & (found[:, -1] < len(kept))]
            count = min(4 * count, len(kept))
        return out, far

    def _one_a_track(self, index: Ints, distance: Floats, there: npt.NDArray[np.bool_]) -> tuple[Ints, Floats]:
        """Of fixes (n, many) from near to far the nearest of each track: (n, NEIGHBOURS) indices and distances."""
        out, far = _nobody(len(index), NEIGHBOURS)
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


def _features(points: Floats, east: Floats, north: Floats, which: int | Ints) -> Floats:
    """Place in km, course as a unit vector, logarithm of speed, on one scale: (n, 6)."""
    speed = np.maximum(np.hypot(east, north), SLOWEST_KM_S)[:, None]
    turn = np.array(TURN_KM)[which, None] if isinstance(which, np.ndarray) else TURN_KM[which]
    return np.concatenate([points, turn * np.stack([east, north], 1) / speed, 0.5 * turn * np.log(speed)], 1)


def _features_of(asking: Asking, which: Ints) -> Floats:
    return _features(to_space_km(asking.lon_deg, asking.lat_deg), asking.east_km_s, asking.north_km_s, which)


def pace(speed: Floats, theirs: Floats) -> Floats:
    """How much faster a vessel is than those whose ways it follows, within a factor of two."""
    out: Floats = np.clip(speed / np.maximum(theirs, 1e-6), 0.5, 2.0)
    return out


def _nobody(count: int, most: int) -> tuple[Ints, Floats]:
    return np.full((count, most), -1, np.int64), np.full((count, most), np.inf)

"""Close approaches: for every vessel under way the closest point of approach to the others around it.

Tracks are brought to a common clock, where the vessels of one instant are simultaneous; a k-d tree finds who is near
whom. Of each pair the distance at the closest point of approach is taken, as both hold course and speed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from geodiff.sphere import KM_PER_DEG, to_space_km, turn_deg, wrap_longitude
from geodiff.vessels.clean_arrays import ragged
from geodiff.vessels.scoring_evidence import APPROACH, Evidence
from geodiff.vessels.scoring_fixes import Fixes, Floats, Ints, steps

CLOCK_S: Final = 60.0
"""Vessels that meet at 40 knots move 1.2 km in a minute: less than ``NEAR_KM``."""

NEAR_KM: Final = 3.0
AHEAD_S: Final = 600.0
"""How far ahead courses are held; a collision is avoided, as a rule, minutes before."""

LONGEST_STEP_S: Final = 900.0
"""Between fixes further apart a vessel's place is not known well enough for distances between vessels."""

FLOOR_KM: Final = 0.02

_SLOTS_AT_ONCE = 30


@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """Vessels under way at the ticks of a common clock.

    Attributes:
        slot: (p,) int64 tick, rising.
        vessel: (p,) int64 identity; negative and different for tracks without one.
        lon_deg, lat_deg: (p,) float64.
        east_km_s, north_km_s: (p,) float64.
        fix: (p,) int64 nearest fix in time of the table that they came from.
    """

    slot: Ints
    vessel: Ints
    lon_deg: Floats
    lat_deg: Floats
    east_km_s: Floats
    north_km_s: Floats
    fix: Ints

    @classmethod
    def of(cls, fixes: Fixes) -> Self:
        """Bring fixes to the clock, linearly between two fixes of a track."""
        step = np.diff(fixes.time_s)
        way = ~(fixes.moored[:-1] & fixes.moored[1:]) if len(fixes) else np.zeros(0, bool)
        legs = np.flatnonzero(steps(fixes.track) & way & (step <= LONGEST_STEP_S))
        begin = np.ceil(fixes.time_s[legs] / CLOCK_S).astype(np.int64)
        count = np.ceil(fixes.time_s[legs + 1] / CLOCK_S).astype(np.int64) - begin
        which, turn = ragged(count)
        leg, slot = legs[which], begin[which] + turn
        part = (slot * CLOCK_S - fixes.time_s[leg]) / step[leg]
        east = turn_deg(fixes.lon_deg[leg], fixes.lon_deg[leg + 1])
        north = fixes.lat_deg[leg + 1] - fixes.lat_deg[leg]
        order = np.argsort(slot, kind="stable")
        shrink = np.cos(np.radians(fixes.lat_deg[leg]))
        return cls(
            slot=slot[order],
            vessel=fixes.owner[fixes.track[leg[order]]],
            lon_deg=wrap_longitude(fixes.lon_deg[leg] + part * east)[order],
            lat_deg=(fixes.lat_deg[leg] + part * north)[order],
            east_km_s=(east * shrink * KM_PER_DEG / step[leg])[order],
            north_km_s=(north * KM_PER_DEG / step[leg])[order],
            fix=np.where(part > 0.5, leg + 1, leg)[order],
        )

    def __len__(self) -> int:
        return len(self.slot)

    def around(self, fixes: Fixes) -> Evidence:
        """How near the fixes of a table come to this traffic.

        Args:
            fixes: of the same or of other vessels; a vessel does not meet itself.

        Returns:
            Evidence whose value is the negative logarithm of the distance in km at the closest point of approach
            (now, where two vessels part), NaN where nobody is near; its band is how many are: 0, 1, 2-3, 4 or more.
        """
        own = Traffic.of(fixes)
        size = len(fixes)
        least, when, who = np.full(size, np.inf), np.full(size, np.nan), np.full(size, -1, np.int64)
        crowd = np.zeros(size)
        for mine, theirs in self._pairs(own):
            closest, wait = _approach(own, mine, self, theirs)
            fix = own.fix[mine]
            order = np.lexsort((closest, fix))
            head = order[np.diff(fix[order], prepend=-1) != 0]
            head = head[closest[head] < least[fix[head]]]
            least[fix[head]], when[fix[head]] = closest[head], wait[head]
            who[fix[head]] = self.vessel[theirs[head]]
            near = np.bincount(np.unique(mine, return_inverse=True)[1])
            np.maximum.at(crowd, own.fix[np.unique(mine)], near)
        value = np.where(np.isfinite(least), -np.log(least + FLOOR_KM), np.nan)
        band = np.searchsorted([1.0, 2.0, 4.0], crowd, side="right").astype(np.int64)
        facts = {"closest_km": least, "wait_s": when, "other": who}
        return Evidence(APPROACH, value, facts, band)

    def _pairs(self, own: Traffic) -> list[tuple[Ints, Ints]]:
        """Index pairs (own, this) of different vessels within ``NEAR_KM`` at one tick, some ticks at a time."""
        out = []
        ticks = np.unique(own.slot)
        for at in range(0, len(ticks), _SLOTS_AT_ONCE):
            first, last = ticks[at], ticks[min(at + _SLOTS_AT_ONCE, len(ticks)) - 1]
            mine, theirs = (_between(each.slot, first, last) for each in (own, self))
            if mine.start == mine.stop or theirs.start == theirs.stop:
                continue
            trees = [cKDTree(each._points(rows, int(first))) for each, rows in ((own, mine), (self, theirs))]
            near = trees[0].sparse_distance_matrix(trees[1], NEAR_KM, output_type="ndarray")
            i, j = near["i"] + mine.start, near["j"] + theirs.start
            other = own.vessel[i] != self.vessel[j]
            out.append((i[other], j[other]))
        return out

    def _points(self, rows: slice, first: int) -> Floats:
        """(k, 4): place in km in space, and the tick on an axis on which ticks are further apart than ``NEAR_KM``."""
        ticks = (self.slot[rows] - first) * 2.0 * NEAR_KM
        return np.concatenate([to_space_km(self.lon_deg[rows], self.lat_deg[rows]), ticks[:, None]], 1)


def _between(slot: Ints, first: npt.NDArray[np.int64], last: npt.NDArray[np.int64]) -> slice:
    return slice(int(np.searchsorted(slot, first)), int(np.searchsorted(slot, last, side="right")))


def _approach(own: Traffic, mine: Ints, other: Traffic, theirs: Ints) -> tuple[Floats, Floats]:
    """Distance in km at the closest point of approach and seconds until it, both vessels holding their velocity."""
    shrink = np.cos(np.radians(own.lat_deg[mine]))
    east = turn_deg(own.lon_deg[mine], other.lon_deg[theirs]) * shrink * KM_PER_DEG
    north = (other.lat_deg[theirs] - own.lat_deg[mine]) * KM_PER_DEG
    away_e = other.east_km_s[theirs] - own.east_km_s[mine]
    away_n = other.north_km_s[theirs] - own.north_km_s[mine]
    square = away_e**2 + away_n**2
    wait = -np.divide(east * away_e + north * away_n, square, out=np.zeros_like(east), where=square > 1e-12)
    wait = np.clip(wait, 0.0, AHEAD_S)
    return np.hypot(east + wait * away_e, north + wait * away_n), wait

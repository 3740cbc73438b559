"""Where vessels have been: of the ways that lead on from here a vessel rather takes one to places that it knows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geodiff.sphere import to_space_km

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

STEPS_KM = (0.25, 1.0, 4.0, 16.0)
"""How finely ways are kept: the coarsest of these below a fiftieth of the reach."""

FARTHEST = 4.0
"""In reaches: what lies farther from all that a vessel has visited counts as unknown."""


@dataclass(frozen=True, slots=True, eq=False)
class _Ways:
    """Straight pieces of ways, by vessel, then time, in kilometres from the centre of the Earth.

    Attributes:
        vessel_id: (n,).
        time_s: (n,) when a piece is known (of its first passing), or when it begins (of its last).
        begin, end: (n,) rows of ``points``: a hundred thousand pieces by place would take 5 MB, these take one.
        points: (m, 3) of all fixes.
    """

    vessel_id: Ints
    time_s: Floats
    begin: npt.NDArray[np.uint32]
    end: npt.NDArray[np.uint32]
    points: Floats

    def of(self, vessel_id: int) -> slice:
        low, high = np.searchsorted(self.vessel_id, [vessel_id, vessel_id + 1])
        return slice(int(low), int(high))

    def nearest_km(self, places: Floats, some: slice, farthest_km: float) -> Floats:
        """Distance of places (p, 3) from some of the pieces: (p,), infinity beyond ``farthest_km`` or so."""
        start = self.points[self.begin[some]]
        step = self.points[self.end[some]] - start
        # A sphere about the places, as wide as needed, before all is compared with all.
        centre = places.mean(0)
        wide = farthest_km + np.linalg.norm(places - centre, axis=1).max(initial=0.0)
        near = np.linalg.norm(start - centre, axis=1) - np.linalg.norm(step, axis=1) < wide
        start, step = start[near], step[near]
        if not len(start):
            return np.full(len(places), np.inf)
        length = (step**2).sum(1)
        # No BLAS: what it rounds hangs on the number of threads.
        along = np.einsum("pi,mi->pm", places, step) - (start * step).sum(1)
        share = np.clip(np.divide(along, length, out=np.zeros_like(along), where=length > 0), 0.0, 1.0)
        # |p - s - t d|^2, good to a metre in double precision.
        apart = (places**2).sum(1)[:, None] + (start**2).sum(1) - 2.0 * np.einsum("pi,mi->pm", places, start)
        square = apart - share * (2.0 * along - share * length)
        nearest: Floats = np.sqrt(np.maximum(square.min(1), 0.0))
        return np.where(nearest < farthest_km, nearest, np.inf)


class VisitedPlaces:
    """The ways of vessels, straight from fix to fix of a track.

    Of a way that is gone again and again the first and the last time are kept: whether it was gone before some time, or
    after another, is told by them as well.

    Args (all (n,), sorted by track, then time):
        vessel_id: identity; below 0 when unknown, which has been nowhere.
        track: whole number of the track.
        time_s: seconds since 1970-01-01 UTC.
        lon_deg, lat_deg: degrees.
    """

    def __init__(self, vessel_id: Ints, track: Ints, time_s: Floats, lon_deg: Floats, lat_deg: Floats) -> None:
        self._vessel_id, self._track, self._time_s = vessel_id, track, time_s
        self._points = to_space_km(lon_deg, lat_deg)
        self._ways: dict[int, tuple[_Ways, _Ways]] = {}

    def nearest_km(
        self, vessel_id: Ints, lon_deg: Floats, lat_deg: Floats, hidden_s: Floats, reach_km: Floats
    ) -> Floats:
        """How far places are from the nearest one where the vessel itself has been.

        Args:
            vessel_id: (n,) the vessels.
            lon_deg, lat_deg: (n, p) the places.
            hidden_s: (n, 2) seconds since 1970, from and to when fixes of the vessel tell nothing.
            reach_km: (n,) how far the question reaches, which says how finely ways need be known.

        Returns:
            (n, p) km to about a fiftieth of the reach, straight through the Earth; infinity beyond ``FARTHEST``
            reaches, or where it has been nowhere.
        """
        out = np.full(lon_deg.shape, np.inf)
        places = to_space_km(lon_deg, lat_deg)
        levels = np.searchsorted(STEPS_KM[1:], reach_km / 50.0, side="right")
        for row in np.flatnonzero(vessel_id >= 0):
            early, late = self._level(int(levels[row]))
            first, last = early.of(int(vessel_id[row])), late.of(int(vessel_id[row]))
            before = np.searchsorted(early.time_s[first], hidden_s[row, 0])
            after = np.searchsorted(late.time_s[last], hidden_s[row, 1])
            for ways, some in (
                (early, slice(first.start, first.start + int(before))),
                (late, slice(last.start + int(after), last.stop)),
            ):
                if some.start >= some.stop:
                    continue
                near = ways.nearest_km(places[row], some, FARTHEST * float(reach_km[row]))
                out[row] = np.minimum(out[row], near)
        return out

    def _level(self, level: int) -> tuple[_Ways, _Ways]:
        """Pieces by when each was first known, and by when it was last begun."""
        if level not in self._ways:
            self._ways[level] = self._cut(STEPS_KM[level])
        return self._ways[level]

    def _cut(self, step_km: float) -> tuple[_Ways, _Ways]:
        cell = np.floor(self._points / step_km).astype(np.int64)
        # Of fixes in one cell on end the first is kept: what is, does not hang on what comes later.
        fresh = np.diff(self._track, prepend=-1) != 0
        kept = np.flatnonzero(fresh | (np.diff(cell, axis=0, prepend=cell[:1]) != 0).any(1))
        follows = np.diff(self._track[kept], append=-1) == 0
        # A track's last fix ends a piece; only a lone one is a piece by itself.
        some = follows | fresh[kept]
        end = np.where(follows, np.roll(kept, -1), kept)[some]
        begin = kept[some]
        alike = _numbered(np.concatenate([self._vessel_id[begin][:, None], cell[begin], cell[end]], 1))
        time_s = self._time_s
        return self._passed(begin, end, time_s[end], _first(alike, time_s[end])), self._passed(
            begin, end, time_s[begin], _first(alike, -time_s[begin])
        )

    def _passed(self, begin: Ints, end: Ints, time_s: Floats, chosen: Ints) -> _Ways:
        """The pieces ``chosen``, by vessel, then time."""
        ids = self._vessel_id[begin]
        chosen = chosen[np.lexsort((time_s[chosen], ids[chosen]))]
        ends = begin[chosen].astype(np.uint32), end[chosen].astype(np.uint32)
        return _Ways(ids[chosen], time_s[chosen], *ends, self._points)


def _numbered(rows: Ints) -> Ints:
    """Numbers (n,) of rows (n, m), the same for equal ones."""
    order = np.lexsort(rows.T)
    number = np.empty(len(rows), np.int64)
    number[order] = np.cumsum((np.diff(rows[order], axis=0, prepend=rows[order[:1]]) != 0).any(1))
    return number


def _first(group: Ints, value: Floats) -> Ints:
    """Of each group the index of its lowest value."""
    order = np.lexsort((value, group))
    found: Ints = order[np.diff(group[order], prepend=-1) != 0]
    return found

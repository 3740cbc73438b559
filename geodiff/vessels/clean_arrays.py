"""Fixes as plain arrays, and which steps between neighbours no vessel can make."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from geodiff.sphere import KM_PER_DEG, KM_S_PER_KN, distance_km

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Index = npt.NDArray[np.intp]

STAMP_S = 1.0
"""Whole seconds: a time may be off by this."""

TOLD, MOST_TOLD_KN = 1.2, 80.0
"""A vessel may be faster than its type where it says so before and after: by this factor, up to so many knots."""

MINUTE_US = 60_000_000

PATIENCE_S = 900.0
USUAL_STEPS, MOST_PATIENCE_S = 2.5, 2.5 * 3600.0
"""After a longer silence a meeting says little; of a vessel that is heard seldom after so many of its usual steps, but
at most the second."""


@dataclass(frozen=True, slots=True, eq=False)
class Fixes:
    """Fixes sorted by vessel and time; arrays are (n,) and run together.

    Attributes:
        vessel: any number; equal numbers stand together.
        time_us: microseconds since 1970-01-01 UTC, not falling within a vessel.
        lon_deg, lat_deg: finite.
        sog_kn, cog_deg: NaN where unknown.
        limit_kn: speed limit: of each row by itself, or the highest of the vessel (``in_context``).
        stamp_s: how far off a time may be: ``STAMP_S``, or as its vessel's times tell (``in_context``).
        patience_s: how long a silence may be and still say much: ``PATIENCE_S``, or as usual for the vessel
            (``in_context``).
    """

    vessel: Ints
    time_us: Ints
    lon_deg: Floats
    lat_deg: Floats
    sog_kn: Floats
    cog_deg: Floats
    limit_kn: Floats
    stamp_s: Floats
    patience_s: Floats

    def __len__(self) -> int:
        return len(self.vessel)

    def take(self, index: Index | Bools) -> Fixes:
        """Some of the fixes, in the order of ``index``."""
        return Fixes(*(getattr(self, f.name)[index] for f in fields(self)))

    def distance_km(self, start: Index, end: Index) -> Floats:
        """Great-circle distances between pairs."""
        return distance_km(self.lon_deg[start], self.lat_deg[start], self.lon_deg[end], self.lat_deg[end])

    def steps_at_most_km(self) -> Floats:
        """(n - 1,) kilometres that the step from each fix to the next does not exceed (``far_at_most``)."""
        return far_at_most(self.lon_deg[:-1], self.lat_deg[:-1], self.lon_deg[1:], self.lat_deg[1:])

    def wait_s(self, start: Index, end: Index) -> Floats:
        """Seconds from each start to its end."""
        return np.asarray((self.time_us[end] - self.time_us[start]) * 1e-6, np.float64)

    def reach_km(self, start: Index, end: Index, slack_km: float) -> Floats:
        """How far a vessel can have come between two fixes at its limit of speed, errors allowed for."""
        seconds = np.abs(self.wait_s(start, end)) + self.stamp_s[start]
        reach: Floats = slack_km + self.most_kn(start, end) * KM_S_PER_KN * seconds
        return reach

    def most_kn(self, start: Index, end: Index) -> Floats:
        """The limit of speed between two fixes: of their type, or what both of them report."""
        both = np.minimum(TOLD * np.minimum(self.sog_kn[start], self.sog_kn[end]), MOST_TOLD_KN)
        most: Floats = np.fmax(self.limit_kn[start], both)
        return most


def first_of_each(values: npt.NDArray[np.generic]) -> Index:
    """Where a new value begins in an array whose equal values stand together."""
    if not len(values):
        return np.empty(0, np.intp)
    return np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1]).astype(np.intp)


def runs_of(values: npt.NDArray[np.generic]) -> tuple[Index, Index]:
    """Where each value begins in an array whose equal values stand together, and how often it stands there."""
    starts = first_of_each(values)
    return starts, np.diff(np.append(starts, len(values)))


def ragged(count: Ints) -> tuple[Ints, Ints]:
    """Rows 0, 1, ... each ``count`` (n,) times, and how often each has come before: (sum of ``count``,) each."""
    row = np.repeat(np.arange(len(count)), count)
    return row, np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)


def by_first(label: npt.NDArray[np.integer[Any]]) -> Ints:
    """Number labels from 0 in the order in which they come first."""
    _, first, inverse = np.unique(label, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    found: Ints = rank[inverse]
    return found


def in_context(fixes: Fixes) -> Fixes:
    """The same with what a vessel's rows tell together: its highest limit, how its times are rounded, its usual steps.

    Where all times of a vessel are whole minutes each may be off by a minute.
    """
    if not len(fixes):
        return fixes
    starts, lengths = runs_of(fixes.vessel)
    limit = np.maximum.reduceat(fixes.limit_kn, starts)
    coarse = np.logical_and.reduceat(fixes.time_us % MINUTE_US == 0, starts)
    stamp = np.where(coarse, MINUTE_US * 1e-6, STAMP_S)
    patience = _patience_s(fixes, starts, lengths)
    limit, stamp, patience = (np.repeat(each, lengths) for each in (limit, stamp, patience))
    return replace(fixes, limit_kn=limit, stamp_s=stamp, patience_s=patience)


def _patience_s(fixes: Fixes, starts: Index, lengths: Index) -> Floats:
    """(vessel,) from the median of its steps; the least where it has none."""
    step = np.append(np.diff(fixes.time_us), 0) * 1e-6
    step[starts + lengths - 1] = np.inf  # the step to the next vessel is none, and comes last
    order = np.lexsort((step, fixes.vessel))
    middle = step[order][starts + np.maximum(lengths - 2, 0) // 2]
    return np.clip(USUAL_STEPS * np.where(np.isfinite(middle), middle, 0.0), PATIENCE_S, MOST_PATIENCE_S)


def far_at_most(lon1: Floats, lat1: Floats, lon2: Floats, lat2: Floats) -> Floats:
    """Kilometres that no great-circle distance exceeds, without trigonometry: along the equator, then the meridian."""
    east = np.abs(lon2 - lon1)
    np.minimum(east, 360.0 - east, out=east)
    east += np.abs(lat2 - lat1)
    east *= KM_PER_DEG
    return east


def screen(fixes: Fixes, slack_km: float) -> Bools:
    """(n,) True at fixes whose vessel needs a close look.

    True where the step from the fix before is beyond ``reach_km``, and where both steps of a fix are beyond what the
    reported speeds explain. Cheap: distances are bounded first and computed where the bound does not settle it.
    Limits and stamps of rows are no wider than those of their vessel, so that nothing is missed.
    """
    suspect = np.zeros(len(fixes), np.bool_)
    if len(fixes) < 2:
        return suspect
    far = fixes.steps_at_most_km()
    seconds = (fixes.time_us[1:] - fixes.time_us[:-1]) * 1e-6 + STAMP_S
    same = fixes.vessel[1:] == fixes.vessel[:-1]
    told = told_kn(np.maximum(fixes.sog_kn[1:], fixes.sog_kn[:-1]))
    slow = np.fmin(told, fixes.limit_kn[1:])
    look = np.flatnonzero((far > slack_km + slow * KM_S_PER_KN * seconds) & same)
    exact, most = fixes.distance_km(look, look + 1), fixes.most_kn(look, look + 1)
    beyond = exact > slack_km + most * KM_S_PER_KN * seconds[look]
    suspect[look[beyond] + 1] = True
    odd = np.zeros(len(fixes), np.bool_)
    odd[look[exact > slack_km + np.fmin(told[look], most) * KM_S_PER_KN * seconds[look]] + 1] = True
    suspect[1:-1] |= odd[1:-1] & odd[2:]
    return suspect


def told_kn(sog_kn: Floats) -> Floats:
    """The speed between two fixes that their reported speed can explain, in knots: half as much again, and 10."""
    return 1.5 * sog_kn + 10.0

"""A stretch of a track in a plane, and how its reports follow when its path is altered."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
from scipy.interpolate import CubicSpline

from geodiff.schema import BoolArray
from geodiff.sphere import KM_PER_NMI, course_of, from_local_km, to_local_km, turn_deg
from geodiff.vessels.scoring_fixes import Fixes, Floats, Ints

MOST_KN: Final = 40.0
"""An altered vessel is nowhere faster than this, or than 1.6 times its own fastest."""

LABEL_KM: Final = 0.05
"""A fix moved by less than this counts as unaltered."""

KN_PER_KM_S: Final = 3600.0 / KM_PER_NMI


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A stretch of a track in a local plane.

    Attributes:
        time_s: (n,) rising.
        east_km, north_km: (n,).
        lon_deg, lat_deg, sog_kn, cog_deg: (n,), what is reported.
        source: (n,) index of the fix of the original stretch that a fix stands for.
        label: (n,) True where the fix is anomalous.
        centre: (lon, lat) of the plane.
        delay_s: by how much all that follows the stretch comes later.
        detail: the anomaly in words.
        way_km: (2, n) east and north without the errors of the positions, where that is known: what speed and course
            are of.
    """

    time_s: Floats
    east_km: Floats
    north_km: Floats
    lon_deg: Floats
    lat_deg: Floats
    sog_kn: Floats
    cog_deg: Floats
    source: Ints
    label: BoolArray
    centre: tuple[float, float]
    delay_s: float = 0.0
    detail: str = ""
    way_km: Floats | None = None

    @classmethod
    def of(cls, fixes: Fixes, rows: Ints) -> Self:
        """The fixes ``rows`` of a track."""
        middle = rows[len(rows) // 2]
        centre = float(fixes.lon_deg[middle]), float(fixes.lat_deg[middle])
        lon, lat = fixes.lon_deg[rows], fixes.lat_deg[rows]
        east, north = to_local_km(lon, lat, *centre)
        motion = fixes.sog_kn[rows], fixes.cog_deg[rows]
        source, label = np.arange(len(rows)), np.zeros(len(rows), bool)
        return cls(fixes.time_s[rows], east, north, lon, lat, *motion, source, label, centre)

    def __len__(self) -> int:
        return len(self.time_s)

    @property
    def step_s(self) -> float:
        """Median time between fixes."""
        return float(np.median(np.diff(self.time_s)))

    def velocity(self) -> tuple[Floats, Floats]:
        """Speed in knots and course in degrees of the path: of a cubic spline, for differences cut corners."""
        way = np.stack([self.east_km, self.north_km]) if self.way_km is None else self.way_km
        east, north = CubicSpline(self.time_s, way, axis=1)(self.time_s, 1)
        return np.hypot(east, north) * KN_PER_KM_S, course_of(east, north)


def altered(before: Piece, after: Piece) -> Piece | None:
    """Let reports follow the altered path; None where it is faster than a vessel.

    Speed and course change by as much as those of the path do, so that the errors of the original reports remain; those
    of fixes that are made are of their way. Where the path is the original one nothing changes.
    """
    speed, course = after.velocity()
    own_speed, own_course = before.velocity()
    if after.label.any() and speed[after.label].max() > min(MOST_KN, 1.6 * max(float(own_speed.max()), 5.0)):
        return None
    sog, cog = before.sog_kn[after.source], before.cog_deg[after.source]
    moved = _changed(before, after)
    # Where the way is known without errors, that of the original would bring in those of its positions.
    made = after.label if after.way_km is not None else np.zeros(len(after), bool)
    new_sog = np.maximum(speed + np.where(made, 0.0, sog - own_speed[after.source]), 0.0)
    # A still original has no course whose error could be kept.
    none = made | (own_speed[after.source] < 1.0)
    error = np.where(none, 0.0, turn_deg(own_course[after.source], cog))
    lon, lat = from_local_km(after.east_km, after.north_km, *after.centre)
    return replace(
        after,
        lon_deg=np.where(moved, lon, before.lon_deg[after.source]),
        lat_deg=np.where(moved, lat, before.lat_deg[after.source]),
        sog_kn=np.where(moved, np.round(new_sog, 1), sog),
        cog_deg=np.where(moved, np.round((course + error) % 360.0, 1) % 360.0, cog),
    )


def _changed(before: Piece, after: Piece) -> BoolArray:
    """Fixes whose place or neighbours' places differ from those of the original."""
    off = np.hypot(after.east_km - before.east_km[after.source], after.north_km - before.north_km[after.source])
    new = (off > 1e-4) | np.concatenate([[False], np.diff(after.source) != 1])
    near: BoolArray = new.copy()
    near[1:] |= new[:-1]
    near[:-1] |= new[1:]
    return near


def shifted(piece: Piece, east: Floats, north: Floats, detail: str) -> Piece:
    """Move the path sideways; fixes that move by ``LABEL_KM`` are labelled."""
    label = np.hypot(east, north) >= LABEL_KM
    return replace(piece, east_km=piece.east_km + east, north_km=piece.north_km + north, label=label, detail=detail)


@dataclass(frozen=True, slots=True, eq=False)
class Spliced:
    """New fixes: the place of the first among the fixes, times, places, labels and (2, k) their way without errors."""

    at: int
    time_s: Floats
    east_km: Floats
    north_km: Floats
    label: BoolArray
    way_km: Floats | None = None


def spliced(piece: Piece, order: Ints, new: Spliced, delay_s: float, detail: str) -> Piece:
    """The fixes ``order`` with new ones among them, and all that follows these moved in time."""
    out = taken(piece, order)
    end = new.at + len(new.time_s)

    def replaced(old: Floats, part: Floats) -> Floats:
        return np.concatenate([old[: new.at], part, old[end:]])

    way = (
        None
        if new.way_km is None
        else np.stack([replaced(out.east_km, new.way_km[0]), replaced(out.north_km, new.way_km[1])])
    )
    return replace(
        out,
        way_km=way,
        time_s=np.concatenate([out.time_s[: new.at], new.time_s, out.time_s[end:] + delay_s]),
        east_km=replaced(out.east_km, new.east_km),
        north_km=replaced(out.north_km, new.north_km),
        label=np.concatenate([out.label[: new.at], new.label, out.label[end:]]),
        delay_s=delay_s,
        detail=detail,
    )


def taken(piece: Piece, order: Ints) -> Piece:
    """The fixes ``order`` of a stretch."""
    return replace(
        piece,
        time_s=piece.time_s[order],
        east_km=piece.east_km[order],
        north_km=piece.north_km[order],
        lon_deg=piece.lon_deg[order],
        lat_deg=piece.lat_deg[order],
        sog_kn=piece.sog_kn[order],
        cog_deg=piece.cog_deg[order],
        source=piece.source[order],
        label=piece.label[order],
    )

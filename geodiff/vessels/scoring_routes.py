"""Historic routes: how far a vessel is from where others passed, and how its speed compares with theirs there.

The ways of past tracks are kept as points at even spacing, indexed by place and course. Of a fix the nearest point that
another vessel left is found; what counts is its distance across that vessel's course, not along it, as how far apart
points lie says nothing. A smooth detour looks like any other way to a model of motion: only that nobody takes it tells.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.spatial import cKDTree

from geodiff.sphere import (
    KM_PER_DEG,
    KM_PER_NMI,
    course_deg,
    distance_km,
    to_local_km,
    to_space_km,
    turn_deg,
    wrap_longitude,
)
from geodiff.vessels.clean_arrays import ragged
from geodiff.vessels.scoring_evidence import FLOW, ROUTE, Evidence
from geodiff.vessels.scoring_fixes import Fixes, Floats, Ints, steps

Singles = npt.NDArray[np.float32]

SPACING_KM: Final = 0.5
MOST_OF_STEP: Final = 4
"""Points of one step: of fixes an hour apart nobody knows the way between them any better."""

MOST_POINTS: Final = 2_000_000
"""Of a larger history every second, third, ... point of each track is kept."""

SLOWEST_KN: Final = 1.5
LONGEST_KM: Final = 60.0
"""Longer steps are no known way; nor is anything known where nobody passed this near."""

TURN_KM: Final = 5.0
"""Kilometres that weigh as much as a course one radian off."""

ASK_KM: Final = 1.0
"""Fixes are asked about once in so much of their way."""

NEAREST: Final = (32, 256)
"""Points that are looked at; the second number where all of the first are the vessel's own."""

FEWEST: Final = 3
"""Points of others that tell what speed is usual."""

COURSE_DEG: Final = 30.0
"""Courses of one vessel that differ by less may share a point."""

FLOOR_KM: Final = 0.05

COLUMNS: Final = ("vessel", "mark", "lon_deg", "lat_deg", "course_deg", "speed_kn", "reach_km")
_AT_ONCE = 20_000


@dataclass(frozen=True, eq=False)
class Routes:
    """Points that vessels under way left, at even spacing.

    Attributes:
        vessel: (p,) int64 identity; negative and different for tracks without one.
        mark: (p,) int64 number of the point along its track.
        lon_deg, lat_deg: (p,) float64, to a metre.
        course_deg, speed_kn: (p,) float32, over the step that holds the point.
        reach_km: (p,) float32 half the way to the next points.
    """

    vessel: Ints
    mark: Ints
    lon_deg: Floats
    lat_deg: Floats
    course_deg: Singles
    speed_kn: Singles
    reach_km: Singles

    @classmethod
    def of(cls, fixes: Fixes) -> Self:
        """Lay points along the steps under way of all tracks."""
        lon, lat = fixes.lon_deg, fixes.lat_deg
        way = distance_km(lon[:-1], lat[:-1], lon[1:], lat[1:])
        speed = way * 3600 / KM_PER_NMI / np.maximum(np.diff(fixes.time_s), 1e-3)
        lying = fixes.moored[:-1] & fixes.moored[1:] if len(fixes) else np.zeros(0, bool)
        good = steps(fixes.track) & ~lying & (speed >= SLOWEST_KN) & (way <= LONGEST_KM)
        size = np.where(good, np.minimum(way / SPACING_KM, MOST_OF_STEP), 0.0)
        leg, mark, part = _marks(fixes, size)
        return cls(
            vessel=fixes.owner[fixes.track[leg]],
            mark=mark,
            lon_deg=np.round(wrap_longitude(lon[leg] + part * turn_deg(lon[leg], lon[leg + 1])), 5),
            lat_deg=np.round(lat[leg] + part * (lat[leg + 1] - lat[leg]), 5),
            course_deg=course_deg(lon[leg], lat[leg], lon[leg + 1], lat[leg + 1]).astype(np.float32),
            speed_kn=speed[leg].astype(np.float32),
            reach_km=(way[leg] / size[leg] / 2).astype(np.float32),
        )

    def __len__(self) -> int:
        return len(self.vessel)

    @classmethod
    def joined(cls, parts: Sequence[Routes]) -> Self:
        """All of them, in an order that does not depend on the parts; thinned where they are too many.

        Of a vessel that often passes a place on one course a single point is kept: the hundredth passage of a ferry
        tells nothing new, and would hide what others did from the ferry itself.
        """
        every = sum(map(len, parts)) // MOST_POINTS + 1
        thin = [part.thinned(every) for part in parts]
        table = pl.DataFrame({name: np.concatenate([getattr(part, name) for part in thin]) for name in COLUMNS})
        cells = pl.DataFrame(_cells(*(table[name].to_numpy() for name in ("lon_deg", "lat_deg", "course_deg"))))
        ranked = table.hstack(cells).sort(COLUMNS)
        kept = ranked.unique(["vessel", *cells.columns], keep="first", maintain_order=True)
        return cls(**{name: kept[name].to_numpy() for name in COLUMNS})

    def thinned(self, every: int) -> Routes:
        """Every so-manieth point of each track: the same ones, whatever else there is."""
        rows = self.mark % every == 0
        kept = {name: getattr(self, name)[rows] for name in COLUMNS}
        return Routes(**{**kept, "reach_km": kept["reach_km"] * np.float32(every)})

    @cached_property
    def digest(self) -> str:
        """Names the points: calibrations hold for the routes alone that they were made with."""
        found = hashlib.sha256()
        for name in COLUMNS:
            found.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        return found.hexdigest()[:32]

    @cached_property
    def _ahead(self) -> Floats:
        return _course(self.course_deg)

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(np.concatenate([to_space_km(self.lon_deg, self.lat_deg), TURN_KM * self._ahead], 1))

    def around(self, fixes: Fixes) -> list[Evidence]:
        """How far the fixes of a table lie from where other vessels passed, and how unlike theirs their speed is.

        Args:
            fixes: of the same or of other vessels; a vessel's own past does not count.

        Returns:
            Evidence ``ROUTE``, whose value is the logarithm of the distance in km; and ``FLOW``, the logarithm of the
            ratio to the median speed of the nearest points. NaN for vessels that lie, and where no other vessel passed
            within ``LONGEST_KM``: waters that the past does not tell of; or where all of the nearest points, as many
            as are looked at (``NEAREST``), are the vessel's own.
        """
        asked, answer = _asked(fixes)
        far, usual = np.full(len(asked), np.nan), np.full(len(asked), np.nan)
        if len(self):
            for begin in range(0, len(asked), _AT_ONCE):
                rows = slice(begin, begin + _AT_ONCE)
                far[rows], usual[rows] = self._near(fixes, asked[rows])
        far, usual = (np.where(answer >= 0, np.append(each, np.nan)[answer], np.nan) for each in (far, usual))
        speed = np.where(np.isfinite(fixes.speed_kn), fixes.speed_kn, fixes.sog_kn)
        odd = np.abs(np.log((speed + 1.0) / (usual + 1.0)))
        return _evidence(far, odd, speed, usual)

    def _near(self, fixes: Fixes, rows: Ints) -> tuple[Floats, Floats]:
        """Distance in km to the nearest point of another vessel, and median speed in knots of the nearest ones."""
        far, usual = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
        open_rows = np.arange(len(rows))
        space, course = to_space_km(fixes.lon_deg[rows], fixes.lat_deg[rows]), _course(_heading_deg(fixes)[rows])
        features = np.concatenate([space, TURN_KM * course], 1)
        own = fixes.owner[fixes.track[rows]]
        for count in NEAREST:
            away, index = self._tree.query(features[open_rows], k=count, distance_upper_bound=LONGEST_KM)
            index = np.minimum(index, len(self) - 1)
            other = np.isfinite(away) & (self.vessel[index] != own[open_rows][:, None])
            found = self._across(fixes, rows[open_rows], course[open_rows], index)
            least = np.where(other, found, np.inf).min(1)
            far[open_rows] = np.where(np.isfinite(least), least, np.nan)
            usual[open_rows] = _median(np.where(other, self.speed_kn[index], np.nan))
            # Where all were its own there may be others behind them.
            open_rows = open_rows[~other.any(1) & np.isfinite(away[:, -1])]
            if not len(open_rows):
                break
        return far, usual

    def _across(self, fixes: Fixes, rows: Ints, course: Floats, index: Ints) -> Floats:
        """(m, k) distance in km from points, across their course and beyond their reach, with the turn to it."""
        place = self.lon_deg[index], self.lat_deg[index]
        east, north = to_local_km(*place, fixes.lon_deg[rows][:, None], fixes.lat_deg[rows][:, None])
        there = self._ahead[index]
        along = np.abs(east * there[..., 0] + north * there[..., 1])
        across = east * there[..., 1] - north * there[..., 0]
        turn = TURN_KM * (there - course[:, None])
        beyond = np.maximum(along - self.reach_km[index], 0.0)
        out: Floats = np.sqrt(across**2 + beyond**2 + (turn**2).sum(-1))
        return out


def _cells(lon_deg: Floats, lat_deg: Floats, course: Singles) -> dict[str, Ints]:
    """Whole numbers of cells of half the spacing, and of courses."""
    side = SPACING_KM / 2 / KM_PER_DEG
    flat = np.cos(np.radians(np.round(lat_deg)))
    parts = {"east": lon_deg * flat / side, "north": lat_deg / side, "way": course / COURSE_DEG}
    return {name: np.floor(each).astype(np.int64) for name, each in parts.items()}


def nothing_known(fixes: Fixes) -> list[Evidence]:
    """The evidence where there are no past tracks: it says nothing."""
    return _evidence(*(np.full(len(fixes), np.nan) for _ in range(4)))


def _evidence(far: Floats, odd: Floats, speed: Floats, usual: Floats) -> list[Evidence]:
    return [
        Evidence(ROUTE, np.log(far + FLOOR_KM), {"route_km": far}),
        Evidence(FLOW, np.log(odd + 0.02), {"speed_kn": speed, "there_kn": usual}),
    ]


def _marks(fixes: Fixes, size: Floats) -> tuple[Ints, Ints, Floats]:
    """Points half way between whole numbers of the sum of sizes along each track: step, number, share of the step."""
    total = np.concatenate([[0.0], np.cumsum(size)])[: len(fixes)]
    since = total - total[fixes.first[:-1]][fixes.track] if len(fixes) else total
    before = since[:-1]
    first = np.floor(before + 0.5).astype(np.int64)
    count = np.floor(before + size + 0.5).astype(np.int64) - first
    leg, turn = ragged(count)
    mark = first[leg] + turn
    return leg, mark, np.clip((mark + 0.5 - before[leg]) / size[leg], 0.0, 1.0)


def _asked(fixes: Fixes) -> tuple[Ints, Ints]:
    """Fixes under way that are asked about, and for each fix the number of the one that answers for it; -1: none."""
    way = np.append(0.0, distance_km(fixes.lon_deg[:-1], fixes.lat_deg[:-1], fixes.lon_deg[1:], fixes.lat_deg[1:]))
    new = np.diff(fixes.track, prepend=-1) != 0
    run = np.where(new, 0.0, way[: len(fixes)])
    total = np.cumsum(run)
    since = total - total[fixes.first[:-1]][fixes.track] if len(fixes) else total
    bucket = np.floor(since / ASK_KM)
    fresh = new | (np.diff(bucket, prepend=-1) != 0) | (np.diff(fixes.moored, prepend=False) != 0)
    chosen = fresh & ~fixes.moored
    answer = np.where(fixes.moored, -1, np.cumsum(chosen) - 1)
    return np.flatnonzero(chosen), answer


def _heading_deg(fixes: Fixes) -> Floats:
    """(n,) course from the fix before to the fix after."""
    index = np.arange(len(fixes))
    before = np.where(np.diff(fixes.track, prepend=-1) == 0, index - 1, index)
    after = np.where(np.diff(fixes.track, append=-1) == 0, index + 1, index)
    return course_deg(fixes.lon_deg[before], fixes.lat_deg[before], fixes.lon_deg[after], fixes.lat_deg[after])


def _median(speed: Floats | Singles) -> Floats:
    """(m,) median of rows; NaN where fewer than ``FEWEST`` are known."""
    known = np.isfinite(speed).sum(1)
    ranked, index = np.sort(speed, axis=1), np.maximum(known - 1, 0) // 2
    out: Floats = np.where(known >= FEWEST, np.take_along_axis(ranked, index[:, None], 1)[:, 0], np.nan)
    return out


def _course(course_deg_: Floats | Singles) -> Floats:
    angle = np.radians(course_deg_.astype(np.float64))
    return np.stack([np.sin(angle), np.cos(angle)], -1)

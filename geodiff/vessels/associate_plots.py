"""Fixes without identity as arrays: places, velocities, a canonical order, and clusters of extended targets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from geodiff.schema import GeodiffError
from geodiff.sphere import EARTH_RADIUS_KM, KM_PER_NMI
from geodiff.tracks import COG, HEADING, LAT, LON, SOG, TIME, FloatArray
from geodiff.vessels.clean_arrays import by_first

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

EARTH_RADIUS_M = 1000 * EARTH_RADIUS_KM
MOVES_M_S, MOVED_ON_S = 1.0, 30.0
"""A vessel of this speed is not at the same place, to the digit, after so long: it is the same report, heard late."""

M_S_PER_KN = 1000 * KM_PER_NMI / 3600
NEEDED = (TIME, LON, LAT)


@dataclass(frozen=True, slots=True, eq=False)
class Plots:
    """n detections in the order of time.

    Places are points of the mean sphere in three dimensions: no projection, no seam at the dateline or the poles. A
    straight line leaves the sphere by 100 m within 36 km, far less than motion is uncertain over such a distance.

    Attributes:
        time_s: (n,) float64 seconds since 1970-01-01 UTC, not falling.
        place_m: (n, 3) float64.
        velocity_m_s: (n, 3) float64 from SOG and COG, NaN where unknown.
        course_deg, heading_deg: (n,) float64, NaN where unknown.
    """

    time_s: FloatArray
    place_m: FloatArray
    velocity_m_s: FloatArray
    course_deg: FloatArray
    heading_deg: FloatArray

    def __len__(self) -> int:
        return len(self.time_s)

    def take(self, which: IntArray | BoolArray) -> Plots:
        """The plots at some positions."""
        return Plots(*(values[which] for values in self.columns))

    @property
    def columns(self) -> tuple[FloatArray, ...]:
        """All arrays, in the order of the attributes."""
        return self.time_s, self.place_m, self.velocity_m_s, self.course_deg, self.heading_deg

    @staticmethod
    def join(first: Plots, second: Plots) -> Plots:
        """Two sets of plots, one after the other."""
        pairs = zip(first.columns, second.columns, strict=True)
        return Plots(*(np.concatenate(pair) for pair in pairs))


def empty_plots() -> Plots:
    """No plots at all."""
    return Plots(np.empty(0), np.empty((0, 3)), np.empty((0, 3)), np.empty(0), np.empty(0))


def canonical_order(fixes: pl.DataFrame) -> IntArray:
    """Positions of the rows in the order of time, simultaneous ones by what they say: rows may come in any order.

    Raises:
        GeodiffError: a column that is needed is absent, or a row has no time or place.
    """
    absent = [name for name in NEEDED if name not in fixes.columns]
    if absent:
        raise GeodiffError(f"association needs the column {absent[0]}; the table has {', '.join(fixes.columns)}")
    bad = fixes.select(pl.any_horizontal(*(pl.col(name).is_null() for name in NEEDED)).arg_true()).to_series()
    if len(bad):
        raise GeodiffError(
            f"{len(bad)} of {len(fixes)} rows have no time or no place, the first is row {bad[0] + 1}: leave them out"
        )
    keys = [name for name in (TIME, LAT, LON, SOG, COG, HEADING) if name in fixes.columns]
    return fixes.select(pl.arg_sort_by(keys, maintain_order=True)).to_series().to_numpy().astype(np.int64)


def plots_of(fixes: pl.DataFrame) -> Plots:
    """Arrays of a table of fixes whose rows are in ``canonical_order``; every identity in it is ignored."""
    lon, lat = np.radians(_column(fixes, LON)), np.radians(_column(fixes, LAT))
    if not (np.isfinite(lon).all() and (np.abs(lat) <= np.pi / 2).all()):
        raise GeodiffError("a longitude or latitude is not a number in its range: clean first")
    course = _column(fixes, COG)
    speed, angle = M_S_PER_KN * _column(fixes, SOG), np.radians(course)
    east = np.stack([-np.sin(lon), np.cos(lon), np.zeros_like(lon)], axis=1)
    up = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
    north = np.cross(up, east)
    # A vessel without way has no course; its speed alone is then its velocity.
    still = (speed == 0) & ~np.isfinite(angle)
    angle = np.where(still, 0.0, angle)
    velocity = (speed * np.sin(angle))[:, None] * east + (speed * np.cos(angle))[:, None] * north
    time = fixes[TIME].dt.timestamp("us").to_numpy().astype(np.float64) / 1e6
    return Plots(time, EARTH_RADIUS_M * up, velocity, course, _column(fixes, HEADING))


def _column(fixes: pl.DataFrame, name: str) -> FloatArray:
    if name not in fixes.columns:
        return np.full(len(fixes), np.nan)
    return fixes[name].cast(pl.Float64).fill_null(np.nan).to_numpy().astype(np.float64)


def cluster_scans(plots: Plots, reach_m: float, scan_s: float = 0.0) -> IntArray:
    """Number the extended targets: plots of one scan that lie in a chain of steps up to ``reach_m`` are one target.

    Args:
        plots: with one time for all plots of a scan, or each with that of its bearing.
        reach_m: 0 makes every plot a target of its own.
        scan_s: least time between two scans of a place; plots at one within a quarter of it are of one scan. 0: those
            of one time.

    Returns:
        (n,) int64, rising with the first plot of each target.
    """
    count = len(plots)
    if reach_m <= 0 or count == 0:
        return np.arange(count, dtype=np.int64)
    # Scans are set apart in a fourth dimension, so that one tree serves all of them.
    scan = np.cumsum(np.diff(plots.time_s, prepend=plots.time_s[0]) > 0).astype(np.float64)
    apart = (plots.time_s - plots.time_s[0]) / scan_s if scan_s > 0 else scan
    tree = cKDTree(np.column_stack([plots.place_m, 4 * reach_m * apart]))
    pairs = tree.query_pairs(reach_m, output_type="ndarray")
    graph = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, label = connected_components(graph, directed=False)
    if scan_s <= 0:
        return by_first(label)
    # A chain through time, of a sensor that looks more often than that, is cut where the next scan could be.
    begin = np.full(int(label.max()) + 1, np.inf)
    np.minimum.at(begin, label, plots.time_s)
    piece = ((plots.time_s - begin[label]) / scan_s).astype(np.int64)
    return by_first(label + piece * np.int64(len(begin)))


def targets(plots: Plots, repeat_s: float, cluster_m: float, scan_s: float = 0.0) -> tuple[Plots, IntArray]:
    """One plot for each report and each extended target.

    Args:
        plots: in canonical order.
        repeat_s: a plot that repeats another to the digit within this time is the same report, heard twice.
        cluster_m, scan_s: as for ``cluster_scans``.

    Returns:
        The plots, and (n,) the target of each given plot, rising with the first plot of each target.
    """
    report = _repeats(plots, repeat_s)
    _, first = np.unique(report, return_index=True)
    heard = plots.take(first)
    target = cluster_scans(heard, cluster_m, scan_s)
    return centres(heard, target), target[report]


def _repeats(plots: Plots, repeat_s: float) -> IntArray:
    """Number of the report that each plot is a copy of, rising with the first copy."""
    count = len(plots)
    if repeat_s <= 0 or count == 0:
        return np.arange(count, dtype=np.int64)
    said = np.nan_to_num(
        np.column_stack([plots.place_m, plots.velocity_m_s, plots.course_deg, plots.heading_deg]), nan=-1.0
    )
    # Who is under way has left the place where it was; what agrees in all that is said agrees in this.
    moves = np.linalg.norm(plots.velocity_m_s, axis=1) >= MOVES_M_S
    longest = np.where(moves, max(repeat_s, MOVED_ON_S), repeat_s)
    order = np.lexsort((np.arange(count), *said.T))
    differs = np.append(True, (np.diff(said[order], axis=0) != 0).any(axis=1))
    group = np.cumsum(differs) - 1
    begin = plots.time_s[order][differs][group]
    # What a vessel repeats for longer is cut into pieces of that length.
    piece = np.floor((plots.time_s[order] - begin) / (longest[order] + 1e-3))
    report = np.empty(count, np.int64)
    report[order] = np.cumsum(differs | (np.diff(piece, prepend=0) != 0))
    return by_first(report)


def centres(plots: Plots, target: IntArray) -> Plots:
    """One plot for each target of ``cluster_scans``: the mean place, and the velocity where all its plots have one."""
    count = int(target.max(initial=-1)) + 1
    if count == len(plots):
        return plots
    size = np.bincount(target, minlength=count)

    def mean(values: FloatArray) -> FloatArray:
        return np.bincount(target, weights=values, minlength=count) / size

    place = np.stack([mean(plots.place_m[:, axis]) for axis in range(3)], axis=1)
    velocity = np.stack([mean(plots.velocity_m_s[:, axis]) for axis in range(3)], axis=1)
    # Courses of several plots have no mean that matters here.
    alone = size == 1
    _, first = np.unique(target, return_index=True)
    course = np.where(alone, plots.course_deg[first], np.nan)
    heading = np.where(alone, plots.heading_deg[first], np.nan)
    return Plots(plots.time_s[first], place, velocity, course, heading)

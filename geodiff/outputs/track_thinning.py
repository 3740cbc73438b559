"""Fewer points for a picture of tracks: which vertices, single points, ellipses and members are worth their ink."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from geodiff.outputs.track_columns import MEMBER_LAT, MEMBER_LON, ellipse_columns
from geodiff.outputs.track_geometry import span_longitudes
from geodiff.outputs.track_simplify import mercator_y
from geodiff.sphere import wrap_longitude
from geodiff.tracks import LAT

Table = dict[str, npt.NDArray[Any]]
"""Columns of equal length, by name."""
Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

LEVELS: Final = (0.5, 0.9)
POINT: Final = {"track": "i8", "x": "f8", "y": "f8", "time_s": "f8", "sog_kn": "f4", "state": "i1"}
DOT: Final = {**POINT, "reason": "i4"}
ELLIPSE: Final = {
    **{name: POINT[name] for name in ("track", "x", "y", "time_s")},
    **dict.fromkeys(("lat_deg", "level", "major_km", "minor_km", "course_deg"), "f8"),
}
MEMBER: Final = {name: POINT[name] for name in ("track", "x", "y", "time_s", "state")} | {
    "run": "i8",
    "member": "i8",
    "width": "i8",
}
_ELLIPSES_PER_RUN, _POINTS_PER_MEMBER = 10, 24


@dataclass(frozen=True)
class Limits:
    """How much a picture may hold.

    Attributes:
        points: vertices of lines.
        dots: single points: rejected fixes, fixes of no track, flagged ones.
        member_points: vertices of the lines of members.
        ellipses: of all levels together.
    """

    points: int = 150_000
    dots: int = 20_000
    member_points: int = 120_000
    ellipses: int = 10_000


def joined(tables: Sequence[Table], kinds: Mapping[str, str]) -> Table:
    """Tables one after the other, with the columns that are named and their types."""
    return {
        name: np.concatenate([np.empty(0, kind), *(table[name] for table in tables)]).astype(kind, copy=False)
        for name, kind in kinds.items()
    }


def run_numbers(track: Integers, state: npt.NDArray[np.int8]) -> Integers:
    """Number of each stretch of one track in one state, from 0."""
    change = (track[1:] != track[:-1]) | (state[1:] != state[:-1])
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(change)])


def spread(run: Integers, chosen: Mask, most: int) -> Integers:
    """Indices of at most ``most`` chosen points of each run, evenly spread, the last one of each among them."""
    index = np.flatnonzero(chosen)
    if not index.size:
        return index
    _, first, sizes = np.unique(run[index], return_index=True, return_counts=True)
    place = np.arange(index.size) - np.repeat(first, sizes)
    size = np.repeat(sizes, sizes)
    keep: Integers = index[(place + 1) * most // size > place * most // size]
    return keep


def ellipse_rows(frame: pl.DataFrame, table: Table, model: Mask) -> Iterator[Table]:
    """Some ellipses of each run of model output: one table (columns ``ELLIPSE``) for each level."""
    for level in LEVELS:
        names = ellipse_columns(level)
        if not set(names) <= set(frame.columns):
            continue
        axes = np.column_stack([frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in names])
        index = spread(table["run"], model & np.isfinite(axes).all(axis=1), _ELLIPSES_PER_RUN)
        part = {name: table[name][index] for name in ("track", "x", "y", "time_s")}
        part |= dict(zip(("major_km", "minor_km", "course_deg"), axes[index].T, strict=True))
        yield {**part, "lat_deg": frame[LAT].to_numpy()[index], "level": np.full(index.size, level)}


def member_lines(frame: pl.DataFrame, table: Table, model: Mask) -> Table:
    """Members of the runs of model output as lines, tied to the fixes before and behind (columns ``MEMBER``).

    Points of one line (one ``run`` and ``member``) follow each other.
    """
    held = model & frame[MEMBER_LON].is_not_null().to_numpy() if MEMBER_LON in frame.columns else np.zeros(0, bool)
    index = spread(table["run"], held, _POINTS_PER_MEMBER)
    if not index.size:
        return joined([], MEMBER)
    width = frame[MEMBER_LON].gather(index[:1]).explode().len()
    lon, lat = (frame[name].gather(index).explode().to_numpy().reshape(-1, width) for name in (MEMBER_LON, MEMBER_LAT))
    middle = table["x"][index][:, None]
    run = table["run"][index]
    first = np.flatnonzero(np.concatenate([[True], run[1:] != run[:-1]]))
    parts: list[tuple[npt.NDArray[Any], ...]] = [
        (index, run, table["state"][index], middle + wrap_longitude(lon - middle), mercator_y(lat))
    ]
    for at in (index[first] - 1, np.append(index[first[1:] - 1], index[-1]) + 1):
        parts.append(_ties(table, at, index[first], width))
    where, runs, state, x, y = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((where, runs))
    return _flattened(table, where[order], runs[order], state[order], x[order], y[order])


def _ties(table: Table, at: Integers, own: Integers, width: int) -> tuple[npt.NDArray[Any], ...]:
    """Fixes just outside runs, where they are of the same track: every member meets there."""
    inside = np.clip(at, 0, table["track"].size - 1)
    ok = (inside == at) & (table["track"][inside] == table["track"][own])
    x, y = (np.repeat(table[axis][at[ok]][:, None], width, axis=1) for axis in ("x", "y"))
    return at[ok], table["run"][own[ok]], table["state"][own[ok]], x, y


def _flattened(
    table: Table,
    where: Integers,
    run: Integers,
    state: npt.NDArray[np.int8],
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
) -> Table:
    """(point, member) as lines, one after the other: run by run, member by member."""
    width = x.shape[1]
    member = np.repeat(np.arange(width), run.size)
    out = {
        "run": np.tile(run, width),
        "member": member,
        "width": np.full(member.size, width),
        "track": np.tile(table["track"][where], width),
        "time_s": np.tile(table["time_s"][where], width),
        "state": np.tile(state, width),
        "x": x.T.ravel(),
        "y": y.T.ravel(),
    }
    order = np.lexsort((member, out["run"]))  # stable: points of a line stay in order
    return {name: values[order] for name, values in out.items()}


def one_in(run: Integers, stride: int) -> Mask:
    """About one run in ``stride`` (a power of two), scattered by Knuth's multiplicative hash.

    Runs alternate between observed and not, so that every second one would be of one kind.
    """
    kept: Mask = (run * 2654435761 % 2**32 >> 12) % stride == 0
    return kept


def sheets(points: Table, dots: Table, tracks: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Whole turns to add to the longitudes of each track, and of each dot, so that all lie side by side."""
    centre_of_dots = wrap_longitude(dots["x"])
    low, high = np.full(tracks, np.inf), np.full(tracks, -np.inf)
    np.minimum.at(low, points["track"], points["x"])
    np.maximum.at(high, points["track"], points["x"])
    known = np.isfinite(low)
    if known.any():
        whole = high[known] - low[known] >= 360.0
        sides = [np.where(whole, end, wrap_longitude(side[known])) for side, end in ((low, -180.0), (high, 180.0))]
        west, east = span_longitudes(sides[0], sides[1])
    else:
        west, east = span_longitudes(centre_of_dots, centre_of_dots)
    centre = (west + (east if east >= west else east + 360.0)) / 2
    middle = np.where(known, (low + high) / 2, 0.0) if tracks else np.zeros(0)
    return 360.0 * np.rint((centre - middle) / 360.0), 360.0 * np.rint((centre - dots["x"]) / 360.0)


def choose(points: Table, most: int, tracks: int) -> tuple[Mask, float, int]:
    """Vertices worth keeping: (mask, significance up to which they were left out, tracks left out).

    Ends of runs come first; where these alone are too many, the tracks that reach least far go.
    """
    weight = points["weight"]
    ends = np.isinf(weight)
    lost = 0
    if ends.sum() > most:
        cost = np.bincount(points["track"], ends, minlength=tracks)
        reach = np.zeros(tracks)
        for axis in ("x", "y"):
            low, high = np.full(tracks, np.inf), np.full(tracks, -np.inf)
            np.minimum.at(low, points["track"], points[axis])
            np.maximum.at(high, points["track"], points[axis])
            reach = np.maximum(reach, np.where(cost > 0, high - low, 0.0))
        order = np.argsort(-reach, kind="stable")
        stays = np.zeros(tracks, bool)
        stays[order[np.cumsum(cost[order]) <= most]] = True
        lost = int(((cost > 0) & ~stays).sum())
        kept = stays[points["track"]]
        return kept & ends, float(weight[kept & ~ends].max(initial=0.0)), lost
    inner = weight[~ends]
    room = most - int(ends.sum())
    tolerance = float(np.partition(inner, inner.size - room - 1)[inner.size - room - 1]) if inner.size > room else 0.0
    return weight > tolerance, tolerance, lost


def every(table: Table, most: int) -> Table:
    """At most ``most`` rows of a table, evenly spread."""
    size = table["x"].size
    index = np.arange(size) if size <= most else np.unique(np.linspace(0, size - 1, most).astype(np.int64))
    return {name: values[index] for name, values in table.items()}


def fewer_members(members: Table, most: int) -> tuple[Table, float]:
    """At most ``most`` points: fewer members of every ensemble, then fewer ensembles; and the share that stays."""
    size = members["x"].size
    if size <= most:
        return members, 1.0
    single = int((members["member"] == 0).sum())
    keep = members["member"] < max(1, most // max(single, 1))
    stride, ordinal = 1, np.unique(members["run"], return_inverse=True)[1]
    while int((keep & (ordinal % stride == 0)).sum()) > most and stride <= ordinal[-1]:
        stride *= 2
    keep &= ordinal % stride == 0
    return {name: values[keep] for name, values in members.items()}, float(keep.sum()) / size

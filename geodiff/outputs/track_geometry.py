"""Shapes of tracks on a round earth: points and lines in WGS 84, cut at the antimeridian, and the ground they cover."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import shapely

from geodiff.sphere import wrap_longitude

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Geometries = npt.NDArray[np.object_]

_POINT: Final = np.dtype([("order", "u1"), ("kind", "<u4"), ("x", "<f8"), ("y", "<f8")])
_HALF: Final = 180.0
GLOBE: Final = (-180.0, 180.0)


def point_wkb(lon_deg: Array, lat_deg: Array) -> pa.Array:
    """(n,) positions as WKB points (OGC 06-103r4, 8.2); null where either coordinate is NaN."""
    known = np.isfinite(lon_deg) & np.isfinite(lat_deg)
    points = np.empty(int(known.sum()), _POINT)
    points["order"], points["kind"], points["x"], points["y"] = 1, 1, lon_deg[known], lat_deg[known]
    ends = np.concatenate([[0], np.cumsum(known) * _POINT.itemsize])
    if ends[-1] > np.iinfo(np.int32).max:
        raise ValueError("more than 100 million positions at once: write them in parts")
    validity = pa.array(known).buffers()[1]
    buffers = [validity, pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(points.tobytes())]
    return pa.Array.from_buffers(pa.binary(), known.size, buffers)


def track_lines(lon_deg: Array, lat_deg: Array, track: Integers) -> Geometries:
    """One geometry for each track: a LineString, a MultiLineString where it crosses 180°, a Point where it stands.

    Args:
        lon_deg, lat_deg: (n,) finite, in order along each track.
        track: (n,) number of the track from 0, not falling; every number occurs.

    Returns:
        (tracks,) geometries. No two points of a piece follow each other at the same place, so all are valid.
    """
    lon, lat, owner, piece = _cut(lon_deg, lat_deg, track)
    again = np.zeros(lon.size, bool)
    again[1:] = (lon[1:] == lon[:-1]) & (lat[1:] == lat[:-1]) & (piece[1:] == piece[:-1])
    lon, lat, owner, piece = lon[~again], lat[~again], owner[~again], piece[~again]
    pieces, first, sizes = np.unique(piece, return_index=True, return_counts=True)
    whole = np.isin(piece, pieces[sizes > 1])
    _, number = np.unique(piece[whole], return_inverse=True)
    lines: Any = shapely.linestrings(np.column_stack([lon[whole], lat[whole]]), indices=number)
    owners = owner[first[sizes > 1]]
    out = np.empty(int(track[-1]) + 1 if track.size else 0, dtype=object)
    many = np.bincount(owners, minlength=out.size)
    out[owners] = lines
    several = many[owners] > 1
    if several.any():
        names, index = np.unique(owners[several], return_inverse=True)
        out[names] = shapely.multilinestrings(lines[several], indices=index)
    alone = np.flatnonzero(many == 0)
    if alone.size:
        start = np.searchsorted(track, alone)
        out[alone] = shapely.points(lon_deg[start], lat_deg[start])
    return out


def _cut(lon: Array, lat: Array, track: Integers) -> tuple[Array, Array, Integers, Integers]:
    """Add the points at which tracks cross 180°, on both sides of it; also the number of each unbroken piece."""
    same = track[1:] == track[:-1]
    step = np.diff(lon)
    cross = np.flatnonzero(same & (np.abs(step) > _HALF))
    edge = np.where(lon[cross] > 0, _HALF, -_HALF)
    reach = edge - lon[cross]
    whole = step[cross] - np.sign(step[cross]) * 360.0
    share = np.divide(reach, whole, out=np.zeros_like(reach), where=whole != 0)
    level = lat[cross] + share * (lat[cross + 1] - lat[cross])
    at = np.repeat(cross + 1, 2)
    lon = np.insert(lon, at, np.column_stack([edge, -edge]).ravel())
    lat = np.insert(lat, at, np.repeat(level, 2))
    start = np.zeros(lon.size, bool)
    start[cross + 2 * np.arange(cross.size) + 2] = True
    owner = np.insert(track, at, np.repeat(track[cross], 2))
    start[1:] |= owner[1:] != owner[:-1]
    return lon, lat, owner, np.cumsum(start)


def unwrap(lon_deg: Array, track: Integers) -> Array:
    """Longitudes that do not jump along a track: each follows its predecessor by the shorter way round."""
    step = np.diff(lon_deg)
    jump = np.where(track[1:] == track[:-1], np.rint(step / 360.0), 0.0)
    turns = np.concatenate([[0.0], np.cumsum(jump)])
    first = np.concatenate([[True], track[1:] != track[:-1]]) if lon_deg.size else np.zeros(0, bool)
    base = np.maximum.accumulate(np.where(first, np.arange(lon_deg.size), 0))
    out: Array = lon_deg - 360.0 * (turns[: lon_deg.size] - turns[base])
    return out


def span_longitudes(west_deg: Array, east_deg: Array) -> tuple[float, float]:
    """The shortest arc that holds all given arcs, as (west, east); west > east where it crosses 180° (RFC 7946, 5.2).

    Args:
        west_deg, east_deg: (n,) ends of arcs in [-180, 180]; an arc with west > east crosses 180°.
    """
    if not west_deg.size:
        raise ValueError("no arcs to span")
    start = wrap_longitude(west_deg)
    length = np.where(east_deg >= west_deg, east_deg - west_deg, east_deg - west_deg + 360.0)
    order = np.argsort(start, kind="stable")
    start, ends = start[order], (start + length)[order]
    # What the arcs up to each one cover, those that reach over 180° included.
    reach = np.maximum(np.maximum.accumulate(ends), ends.max() - 360.0)
    # The gap behind each arc, up to the next one; behind the last the world goes round to the first.
    gaps = np.append(start[1:], start[0] + 360.0) - reach
    behind = gaps.size - 1 - int(np.argmax(gaps[::-1]))  # of equal gaps the last, which need not cross 180°
    if gaps[behind] <= 0:
        return GLOBE
    west, east = float(start[(behind + 1) % start.size]), float(reach[behind])
    east = east if east <= _HALF else east - 360.0
    return west, (_HALF if east == -_HALF and west > east else east)


def covered_ground(geometries: Geometries) -> tuple[dict[str, Any], tuple[float, float, float, float]]:
    """Convex hull, as GeoJSON cut at 180°, and (west, south, east, north) of geometries in WGS 84.

    Raises:
        ValueError: none of them has a position.
    """
    present = geometries[~shapely.is_missing(geometries) & ~shapely.is_empty(geometries)]
    parts = shapely.convex_hull(shapely.get_parts(present))
    if not parts.size:
        raise ValueError("no geometry has a position")
    bounds = shapely.bounds(parts)
    west, east = span_longitudes(bounds[:, 0], bounds[:, 2])
    crossing = west > east
    # Moved so that all lies side by side, east of the widest gap.
    hull: Any = shapely.convex_hull(
        shapely.multipoints(_shifted(parts, west) if crossing else shapely.get_coordinates(parts))
    )
    south, north = float(bounds[:, 1].min()), float(bounds[:, 3].max())
    return cut_shape(hull), (west, south, east, north)


def cut_shape(shape: Any) -> dict[str, Any]:
    """A geometry whose longitudes, from -180°, may run on beyond 180°, as GeoJSON that is cut there."""
    if shape.bounds[2] > _HALF:
        sheets = [shape.intersection(shapely.box(left, -90.0, left + 360.0, 90.0)) for left in (-180.0, 180.0)]
        shape = sheets[0].union(shapely.transform(sheets[1], lambda xy: xy - [360.0, 0.0]))
    # Exterior rings run counterclockwise (RFC 7946, 3.1.6): read the other way round they hold the rest of the globe.
    geometry: dict[str, Any] = shapely.geometry.mapping(shapely.orient_polygons(shape))
    return geometry


def _shifted(parts: Geometries, west: float) -> Array:
    points = shapely.get_coordinates(parts)
    points[:, 0] = np.where(points[:, 0] < west, points[:, 0] + 360.0, points[:, 0])
    return points

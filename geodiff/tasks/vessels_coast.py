"""Land that a forecast may not cross: members that do are drawn again, and the estimate follows those that are left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
import numpy.typing as npt
import shapely

from geodiff.metrics.ensemble import spatial_median
from geodiff.outputs.track_chart import moved_east, read_coastline
from geodiff.schema import BoolArray, GeodiffError
from geodiff.sphere import distance_km, from_local_km, to_local_km, wrap_longitude
from geodiff.tasks.vessels_answers import Mend
from geodiff.tracks import MotionModel, TrackAnswer, TrackQuery

if TYPE_CHECKING:
    import geopandas as gpd

Floats = npt.NDArray[np.float64]

MORE: Final = 4
"""Times as many members are drawn for a vessel of which some cross land."""


@dataclass(frozen=True, eq=False)
class Coast:
    """Polygons of land, EPSG:4326, in an index."""

    tree: shapely.STRtree

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a vector file; lines and points in it are not land.

        Raises:
            UsageError, GeodiffError: as ``read_coastline``, or it holds no polygon.
        """
        return cls.of(read_coastline(path), where=f"coastline {path}")

    @classmethod
    def of(cls, frame: gpd.GeoDataFrame, *, where: str = "coastline") -> Self:
        """Take the polygons of a GeoDataFrame.

        Args:
            frame: in any coordinate reference system; land may lie beyond 180 degrees, as from 0 to 360.
            where: how errors name it.

        Raises:
            GeodiffError: it has no coordinate reference system, or holds no polygon.
        """
        if frame.crs is None:
            raise GeodiffError(f"{where}: it has no coordinate reference system")
        shapes: Any = np.asarray(frame.to_crs("EPSG:4326").geometry.values, dtype=object)
        parts = shapely.get_parts(shapes[~shapely.is_missing(shapes)])
        parts = parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON]
        if not len(parts):
            raise GeodiffError(f"{where}: it holds no polygon of land (lines do not say where the sea is)")
        if frame.crs.is_projected:
            parts = np.array([_unwrapped(each) for each in parts], dtype=object)
        return cls(shapely.STRtree(_within_world(shapely.make_valid(parts))))

    def crosses(self, lon_deg: Floats, lat_deg: Floats) -> BoolArray:
        """Which steps of lines touch land, but for those before a line first reaches open water.

        A coarse coastline puts harbours on land: a line that begins there may leave it, and may not come back.

        Args:
            lon_deg, lat_deg: (lines, points).

        Returns:
            (lines, points - 1).
        """
        lon = np.degrees(np.unwrap(np.radians(lon_deg), axis=1))
        lines, points = lon.shape
        steps = np.stack([np.stack([lon[:, :-1], lat_deg[:, :-1]], -1), np.stack([lon[:, 1:], lat_deg[:, 1:]], -1)], 2)
        steps = steps.reshape(-1, 2, 2)
        # Each step as it lies next to the prime meridian; one over 180 degrees is looked for on both sides.
        shift = 360.0 * np.floor((steps[:, :1, :1] + 180.0) / 360.0)
        steps[..., 0:1] -= shift
        on_land = np.zeros(len(steps), bool)
        for turn in (0.0, -360.0, 360.0):
            moved = steps + np.array([turn, 0.0])
            near = ((moved[..., 0] <= 180.0) & (moved[..., 0] >= -180.0)).any(1)
            found = self.tree.query(shapely.linestrings(moved[near]), predicate="intersects")[0]
            on_land[np.flatnonzero(near)[found]] = True
        touched = on_land.reshape(lines, points - 1)
        # A line that never leaves its harbour does not cross land from the sea.
        asked = np.flatnonzero(touched.any(1))
        afloat = ~self._holds(lon_deg[asked, :-1], lat_deg[asked, :-1])
        touched[asked] &= np.logical_or.accumulate(afloat, axis=1)
        return touched

    def _holds(self, lon_deg: Floats, lat_deg: Floats) -> BoolArray:
        """Which points lie on land."""
        found = np.zeros(lon_deg.shape, bool)
        points = shapely.points(wrap_longitude(lon_deg).ravel(), lat_deg.ravel())
        found.ravel()[self.tree.query(points, predicate="intersects")[0]] = True
        return found


def _unwrapped(land: shapely.Polygon) -> shapely.Polygon:
    """A polygon whose degrees came of other coordinates, with rings that go on beyond 180 degrees where they cross it.

    What goes about a pole is closed along it.
    """

    def ring(coordinates: Any) -> Floats:
        places = np.asarray(coordinates.coords, np.float64)[:, :2]
        places[:, 0] = np.degrees(np.unwrap(np.radians(places[:, 0])))
        if abs(places[-1, 0] - places[0, 0]) > 180.0:
            pole = np.copysign(90.0, places[:, 1].mean())
            places = np.concatenate([places, [[places[-1, 0], pole], [places[0, 0], pole]], places[:1]])
        return places

    return shapely.Polygon(ring(land.exterior), [ring(each) for each in land.interiors])


def _within_world(shapes: Any) -> Any:
    """The parts of shapes between -180 and 180 degrees, moved there by whole turns."""
    low, _, high, _ = shapely.total_bounds(shapes)
    if low >= -180.0 and high <= 180.0:
        return shapes
    world, found = shapely.box(-180.0, -90.0, 180.0, 90.0), []
    for turn in range(int(np.floor((low + 180.0) / 360.0)), int(np.floor((high + 180.0) / 360.0)) + 1):
        cut = shapely.get_parts(shapely.intersection(moved_east(shapes, -360.0 * turn), world))
        found.append(cut[shapely.area(cut) > 0])
    return np.concatenate(found)


def avoid_land(coast: Coast, model: MotionModel, ensemble: int, seed: int, counts: dict[str, int]) -> Mend:
    """A correction of forecasts.

    Where a member crosses land, ``MORE`` times as many are drawn and the first that stay at sea are taken; where these
    are too few they are repeated. The estimate becomes their median, or the nearest of them where the median lies on
    land; regions keep their size about it, and so hold the truth at least as often as stated where land cuts them.
    Where all members cross, and for a model without members, the forecast ends before it meets land.

    Args:
        coast: the land.
        model: asked again.
        ensemble, seed: of the first question.
        counts: added to: members that crossed, vessels of which some did, forecasts that end at land.
    """
    told = dict.fromkeys(("members: rejected for land", "vessels: members drawn again", "vessels: cut at land"), 0)
    counts.update(told)

    def mend(queries: Sequence[TrackQuery], answers: list[TrackAnswer]) -> tuple[list[TrackAnswer], Any]:
        out = list(answers)
        kept = np.array([len(query.ask_s) for query in queries], np.int64)
        wet = [_wet(coast, query, answer) for query, answer in zip(queries, answers, strict=True)]
        again = [row for row, each in enumerate(wet) if len(each) and not each.all()]
        counts["members: rejected for land"] += int(sum((~each).sum() for each in wet))
        counts["vessels: members drawn again"] += len(again)
        more = model.predict([queries[row] for row in again], members=MORE * ensemble, seed=seed) if again else []
        for row, answer in zip(again, more, strict=True):
            dry = np.flatnonzero(_wet(coast, queries[row], answer))
            if len(dry):
                out[row] = _left(answer, answers[row], np.resize(dry, ensemble))
        for row, (query, answer) in enumerate(zip(queries, out, strict=True)):
            out[row], kept[row] = _ended(coast, query, answer)
            counts["vessels: cut at land"] += int(kept[row] < len(query.ask_s))
        return out, kept

    return mend


def _line(query: TrackQuery, lon: Floats, lat: Floats) -> tuple[Floats, Floats]:
    """Lines (k, m + 1) from the last known fix through positions (k, m)."""
    start = np.full((len(lon), 1), query.lon_deg[-1]), np.full((len(lon), 1), query.lat_deg[-1])
    return np.concatenate([start[0], lon], 1), np.concatenate([start[1], lat], 1)


def _wet(coast: Coast, query: TrackQuery, answer: TrackAnswer) -> BoolArray:
    """(member,) whether each stays at sea."""
    if not answer.member_lon_deg.size:
        return np.empty(0, bool)
    crossing = coast.crosses(*_line(query, answer.member_lon_deg, answer.member_lat_deg))
    return np.asarray(~crossing.any(axis=1), bool)


def _left(answer: TrackAnswer, first: TrackAnswer, rows: npt.NDArray[np.int64]) -> TrackAnswer:
    """An answer of some of the members, about their median; its regions are those of the first answer."""
    lon, lat = answer.member_lon_deg[rows], answer.member_lat_deg[rows]
    east, north = to_local_km(lon, lat, answer.lon_deg, answer.lat_deg)
    found = spatial_median(np.stack([east, north], -1))
    middle = from_local_km(found[:, 0], found[:, 1], answer.lon_deg, answer.lat_deg)
    return TrackAnswer(*middle, lon, lat, first.ellipse_km)


def _ended(coast: Coast, query: TrackQuery, answer: TrackAnswer) -> tuple[TrackAnswer, int]:
    """The answer with its estimate at sea, and how many of its times come before it meets land."""
    crossing = coast.crosses(*_line(query, answer.lon_deg[None], answer.lat_deg[None]))[0]
    if not crossing.any():
        return answer, len(query.ask_s)
    sound = _wet(coast, query, answer)
    if not sound.any():
        return answer, int(np.argmax(crossing))
    # One member that stays at sea, the nearest to the median as a whole: a line of pieces of several could cross.
    lon, lat = answer.member_lon_deg[sound], answer.member_lat_deg[sound]
    nearest = int(distance_km(lon, lat, answer.lon_deg, answer.lat_deg).mean(1).argmin())
    return replace(answer, lon_deg=lon[nearest], lat_deg=lat[nearest]), len(query.ask_s)

"""What is asked of a catalogue, and whether one item answers it: the same rules for APIs and static catalogues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from functools import cached_property
from typing import Any

from shapely import GEOSException, make_valid, union_all
from shapely.geometry import box, mapping, shape
from shapely.geometry.base import BaseGeometry

from geodiff.dates import parse_interval
from geodiff.grid import check_bbox
from geodiff.schema import UsageError

OPEN = ("", "..")


class Stage(IntEnum):
    """The first rule that an item breaks, in the order in which they are checked; ``PASSED`` when it breaks none."""

    COLLECTION = 0
    PLACE = 1
    TIME = 2
    CLOUD = 3
    PASSED = 4


@dataclass(frozen=True)
class Query:
    """A checked search.

    Attributes:
        collections: ids; empty for all.
        bbox: (west, south, east, north) in degrees, or None.
        region: a geometry in degrees, or None; never together with ``bbox``.
        start, end: first and last moment, both included, UTC; None for an open end.
        max_cloud: percent, or None for any; scenes that do not state their cloud cover are left out when it is given.
        cloud_property: where an item states it.
    """

    collections: tuple[str, ...]
    bbox: tuple[float, float, float, float] | None
    region: BaseGeometry | None
    start: datetime | None
    end: datetime | None
    max_cloud: float | None
    cloud_property: str = "eo:cloud_cover"

    @cached_property
    def place(self) -> BaseGeometry | None:
        return self.region if self.bbox is None else box(*self.bbox)

    def stage(self, feature: Mapping[str, Any]) -> Stage:
        """How far a STAC item (as plain JSON) gets.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: the item is malformed.
        """
        if self.collections and feature.get("collection") not in self.collections:
            return Stage.COLLECTION
        if not self._touches(feature):
            return Stage.PLACE
        first, last = span(feature["properties"])
        if (self.start and last < self.start) or (self.end and first > self.end):
            return Stage.TIME
        cloud = feature["properties"].get(self.cloud_property)
        if self.max_cloud is not None and (cloud is None or float(cloud) > self.max_cloud):
            return Stage.CLOUD
        return Stage.PASSED

    def _touches(self, feature: Mapping[str, Any]) -> bool:
        if self.place is None:
            return True
        if feature.get("geometry"):
            geometry = shape(feature["geometry"])
        elif feature.get("bbox"):
            geometry = box(*bbox_2d(feature["bbox"]))
        else:
            return False
        try:
            return bool(self.place.intersects(geometry))
        except GEOSException:
            return bool(self.place.intersects(make_valid(geometry)))

    @property
    def interval(self) -> str | None:
        """The dates as STAC APIs take them; None where both ends are open."""
        if self.start is None and self.end is None:
            return None
        return "/".join(".." if moment is None else _rfc3339(moment) for moment in (self.start, self.end))

    def says(self) -> str:
        """The search in words, for messages."""
        words = [f"collection {', '.join(self.collections)}" if self.collections else "all collections"]
        if self.place is not None:
            words.append(f"{'box' if self.bbox else 'region'} {' '.join(f'{v:.5g}' for v in self.place.bounds)}")
        if self.interval:
            words.append(f"dates {'/'.join('..' if m is None else f'{m:%Y-%m-%d}' for m in (self.start, self.end))}")
        if self.max_cloud is not None:
            words.append(f"cloud at most {self.max_cloud:g} %")
        return ", ".join(words)


def make_query(
    *,
    collections: Sequence[str] = (),
    bbox: Sequence[float] | None = None,
    geometry: Mapping[str, Any] | BaseGeometry | None = None,
    datetime: str,
    max_cloud: float | None = None,
    cloud_property: str = "eo:cloud_cover",
) -> Query:
    """Check the words of a user.

    Args:
        collections: ids; empty for all.
        bbox: W S E N in degrees; this or ``geometry``, or neither for the whole catalogue.
        geometry: a shapely geometry or GeoJSON (geometry, Feature or FeatureCollection) in degrees.
        datetime: see ``open_interval``.
        max_cloud: percent.
        cloud_property: where items state their cloud cover.

    Raises:
        UsageError: any of them is wrong; the message says which and what to write.
    """
    if bbox is not None and geometry is not None:
        raise UsageError("give a bbox or a region, not both")
    if max_cloud is not None and not 0 <= max_cloud <= 100:
        raise UsageError(f"cloud cover at most {max_cloud:g} % is absurd: give 0 to 100")
    if isinstance(collections, str):
        raise UsageError(f"collections must be a list of ids, not the text {collections!r}")
    start, end = open_interval(datetime)
    return Query(
        collections=tuple(collections),
        bbox=None if bbox is None else _checked_box(bbox),
        region=None if geometry is None else _checked_region(geometry),
        start=start,
        end=end,
        max_cloud=max_cloud,
        cloud_property=cloud_property,
    )


def open_interval(text: str) -> tuple[datetime | None, datetime | None]:
    """Read ``A/B``, ``A/..``, ``../B`` or one date (a year, a month, a day, a moment) as first and last moment, UTC.

    A date without a time means the whole of it, as pystac-client reads it: ``2021-06`` ends with June.

    Raises:
        UsageError: not a date, reversed, or open at both ends.
    """
    parts = [part.strip() for part in text.split("/")]
    if len(parts) != 2 or not set(parts) & set(OPEN):
        return parse_interval(text)
    if set(parts) <= set(OPEN):
        raise UsageError(f"datetime {text!r} is open at both ends: give at least one date, for instance 2021-06-01/..")
    start = None if parts[0] in OPEN else parse_interval(parts[0])[0]
    end = None if parts[1] in OPEN else parse_interval(parts[1])[1]
    return start, end


def span(properties: Mapping[str, Any]) -> tuple[datetime, datetime]:
    """First and last moment of an item, UTC.

    Raises:
        ValueError: it states neither ``datetime`` nor a start and an end.
    """
    first = properties.get("datetime") or properties.get("start_datetime")
    last = properties.get("datetime") or properties.get("end_datetime") or first
    if not isinstance(first, str) or not isinstance(last, str):
        raise ValueError("an item without datetime")
    return _moment(first), _moment(last)


def bbox_2d(values: Sequence[float]) -> tuple[float, float, float, float]:
    """(west, south, east, north) of a GeoJSON bbox that may hold heights."""
    if len(values) not in (4, 6):
        raise ValueError(f"a bbox of {len(values)} numbers")
    half = len(values) // 2
    return (float(values[0]), float(values[1]), float(values[half]), float(values[half + 1]))


def as_geojson(geometry: BaseGeometry) -> dict[str, Any]:
    """A geometry as plain GeoJSON."""
    return dict(mapping(geometry))


def _checked_box(bbox: Sequence[float]) -> tuple[float, float, float, float]:
    if len(bbox) != 4:
        raise UsageError(f"a bbox has four numbers, W S E N in degrees, not {len(bbox)}")
    west, south, east, north = (float(value) for value in bbox)
    check_bbox((west, south, east, north))
    return (west, south, east, north)


def _checked_region(geometry: Mapping[str, Any] | BaseGeometry) -> BaseGeometry:
    try:
        region = geometry if isinstance(geometry, BaseGeometry) else _from_geojson(geometry)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError, GEOSException) as error:
        raise UsageError(f"the region is not GeoJSON in degrees ({str(error) or type(error).__name__})") from None
    if region.is_empty:
        raise UsageError("the region is empty: give a polygon in degrees")
    west, south, east, north = region.bounds
    # A point or an upright line has no width, which is no fault of a region.
    check_bbox((west, south, max(east, west + 1e-9), max(north, south + 1e-9)))
    return region if region.is_valid else make_valid(region)


def _from_geojson(value: Mapping[str, Any]) -> BaseGeometry:
    if value.get("type") == "FeatureCollection":
        return union_all([_from_geojson(feature) for feature in value["features"]])
    return shape(dict(value["geometry"] if value.get("type") == "Feature" else value))


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
